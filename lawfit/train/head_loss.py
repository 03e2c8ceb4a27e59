"""Cross-entropy of K linear heads, some runs or tokens at a time: the logits of all tokens are never kept.

The gradients of a slice are taken while its logits are there, so that these are written once and overwritten in place
by their own gradient; what is kept for the backward pass is the gradients of the inputs, which are small. (As in
Hsu et al., arXiv 2410.10989, for one model; here for K at once, under torch.compile and CUDA graphs.)
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from lawfit.train.operators import operator, shapes_of

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
    mean, losses, _, _ = torch.ops.lawfit.head_loss(x, heads, targets, x.requires_grad)
    return mean, losses


@operator("head_loss(Tensor x, Tensor heads, Tensor targets, bool gradients) -> (Tensor, Tensor, Tensor, Tensor)")
def _head_loss(x: Tensor, heads: Tensor, targets: Tensor, gradients: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Mean of each run, losses of the tokens, and the gradients of the means by `x` and `heads` (empty without)."""
    (k, n, _), vocab = x.shape, heads.shape[2]
    runs = max(1, SLICE_LOGITS // (n * vocab))  # at a time, with all their tokens; else parts of one run
    length = -(-n // -(-n * vocab // SLICE_LOGITS))
    losses = torch.empty(k, n, dtype=torch.float32, device=x.device)
    x_grad, heads_grad = (z.new_empty(z.shape if gradients else 0) for z in (x, heads))
    buffer = x.new_empty(min(k, runs) * length * vocab)
    for first in range(0, k, runs):
        rows = slice(first, min(first + runs, k))
        sums: Tensor | None = None  # the parts of one run add up in fp32: bf16 would lose the later ones
        for start in range(0, n, length):
            here = slice(start, min(start + length, n))
            part = x[rows, here]
            logits = buffer[: part.shape[0] * part.shape[1] * vocab].view(*part.shape[:2], vocab)
            torch.bmm(part, heads[rows], out=logits)
            _cross_entropy_(logits, targets[rows, here], losses[rows, here], 1.0 / n)
            if not gradients:
                continue
            torch.bmm(logits, heads[rows].mT, out=x_grad[rows, here])
            if length == n:
                torch.bmm(part.mT, logits, out=heads_grad[rows])
            else:
                product = torch.bmm(part.mT, logits)
                sums = product.float() if sums is None else sums.add_(product)
        if sums is not None:
            heads_grad[rows] = sums
    return losses.mean(1), losses, x_grad, heads_grad


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


@shapes_of("head_loss")
def _(x: Tensor, heads: Tensor, targets: Tensor, gradients: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    losses = torch.empty(targets.shape, dtype=torch.float32, device=x.device)
    x_grad, heads_grad = (z.new_empty(z.shape if gradients else 0) for z in (x, heads))
    return losses.new_empty(len(x)), losses, x_grad, heads_grad


def _keep_gradients(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:  # noqa: ARG001, by name
    ctx.save_for_backward(*output[2:])
    ctx.set_materialize_grads(False)  # of what is kept, and of the tokens' own losses


def _backward(ctx: Any, by_mean: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, None, None]:
    x_grad, heads_grad = ctx.saved_tensors
    weight = by_mean[:, None, None].to(x_grad.dtype)  # one pass over memory: a product of two types would take two
    return x_grad * weight, heads_grad * weight, None, None


torch.library.register_autograd("lawfit::head_loss", _backward, setup_context=_keep_gradients)
