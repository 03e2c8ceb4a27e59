"""Cross-entropy of K linear heads, a slice of the tokens at a time: the logits of all tokens are never kept.

The gradients of a slice are taken while its logits are there, so that these are written once and overwritten in place
by their own gradient; what is kept for the backward pass is the gradients of the inputs, which are small. (As in
Hsu et al., arXiv 2410.10989, for one model; here for K at once, under torch.compile and CUDA graphs.)
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

SLICE_LOGITS = 2**28  # at a time, 512 MiB in bf16; with 2**25 a step on an H200 took 6 % longer than with 2**27


def head_loss(x: Tensor, heads: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy of the logits `x @ heads`, computed in fp32.

    Parameters
    ----------
    x : (K, n, d) what the heads read, in the precision of matrix products
    heads : (K, d, V)
    targets : (K, n) int64

    Returns
    -------
    (K,) fp32, nats per token
        The mean of each run over its n tokens.
    (K, n) fp32, nats per token
        The tokens' own losses, for looking at: only the mean has a gradient.
    """
    mean, losses, _, _ = torch.ops.lawfit.head_loss(x, heads, targets)
    return mean, losses


@torch.library.custom_op(
    "lawfit::head_loss",
    mutates_args=(),
    schema="(Tensor x, Tensor heads, Tensor targets) -> (Tensor, Tensor, Tensor, Tensor)",
)
def _head_loss(x: Tensor, heads: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Mean of each run, losses of the tokens, and the gradients of the means by `x` and `heads`."""
    k, n, _ = x.shape
    vocab = heads.shape[2]
    slices = -(-n * k * vocab // SLICE_LOGITS)
    length = -(-n // slices)
    losses = torch.empty(k, n, dtype=torch.float32, device=x.device)
    x_grad = torch.empty_like(x, memory_format=torch.contiguous_format)
    heads_grad: Tensor | None = None
    buffer = x.new_empty(k * length * vocab)
    for start in range(0, n, length):
        here = slice(start, min(start + length, n))
        part = x[:, here]
        logits = buffer[: k * part.shape[1] * vocab].view(k, part.shape[1], vocab)
        torch.bmm(part, heads, out=logits)
        _cross_entropy_(logits, targets[:, here], losses[:, here], 1.0 / n)
        torch.bmm(logits, heads.mT, out=x_grad[:, here])
        product = torch.bmm(part.mT, logits)
        # the parts add up in fp32: bf16 would lose the later ones
        heads_grad = product if heads_grad is None else heads_grad.float().add_(product)
    assert heads_grad is not None
    return losses.mean(1), losses, x_grad, heads_grad.to(heads.dtype)


def _cross_entropy_(logits: Tensor, targets: Tensor, losses: Tensor, scale: float) -> None:
    """Write the losses of the tokens, and overwrite the logits by `scale` times their gradients."""
    if logits.is_cuda:
        from lawfit.train import kernels  # Triton, which comes with torch's builds for a GPU

        kernels.cross_entropy_(logits, targets, losses, scale)
        return
    logs = functional.log_softmax(logits.float(), dim=2)
    which = targets[:, :, None]
    losses.copy_(-logs.gather(2, which)[:, :, 0])
    gradients = logs.exp_().scatter_add_(2, which, torch.full_like(which, -1.0, dtype=torch.float32))
    logits.copy_(gradients * scale)


@_head_loss.register_fake
def _(x: Tensor, heads: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    losses = torch.empty(targets.shape, dtype=torch.float32, device=x.device)
    contiguous = torch.contiguous_format
    return (
        losses.new_empty(len(x)),
        losses,
        torch.empty_like(x, memory_format=contiguous),
        torch.empty_like(heads, memory_format=contiguous),
    )


def _keep_gradients(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:  # noqa: ARG001, by name
    ctx.save_for_backward(*output[2:])


def _backward(ctx: Any, by_mean: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, None]:
    x_grad, heads_grad = ctx.saved_tensors
    weight = by_mean[:, None, None]
    return (x_grad * weight).to(x_grad.dtype), (heads_grad * weight).to(heads_grad.dtype), None


_head_loss.register_autograd(_backward, setup_context=_keep_gradients)
