"""What Triton does in fewer passes over memory than the compiler: attention with its norms and rotation, SwiGLU, norms.

Elsewhere than on a GPU with bf16, and for shapes that the kernels do not take, the same in plain torch.
"""

# ruff: noqa: ARG001  (torch passes what belongs to an operator by name and place, used or not)
from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from lawfit.train.operators import operator, shapes_of

POSITIONS = 64  # the kernels' block: sequences must be multiples of it
SIZES = (16, 32, 64)  # of a head; for larger ones torch's own kernels are made


def attends(device: torch.device, dtype: torch.dtype, size: int, length: int) -> bool:
    """Whether the kernels take attention with heads of this size in sequences of this length."""
    return device.type == "cuda" and dtype == torch.bfloat16 and size in SIZES and length % POSITIONS == 0


def rms_norm(x: Tensor, gain: Tensor | None = None) -> Tensor:
    y = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)
    return y if gain is None else y * gain


def rotate(x: Tensor, rope: Tensor) -> Tensor:
    """Rotary position embedding of (..., T, head size), halves paired."""
    a, b = x.chunk(2, dim=-1)
    cos, sin = rope[0], rope[1]
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)


def attention(qkv: Tensor, gains: Tensor, rope: Tensor, heads: int) -> Tensor:
    """Causal attention within sequences, with the rotation of queries and keys and, in some models, their norms.

    Parameters
    ----------
    qkv : (K, b T, 3 d) queries, keys and values of all heads, side by side
    gains : (K, 2 size) fp32, of the norms of queries and of keys; (K, 0) without norms
    rope : (2, T, size / 2) cosines and sines, fp32
    heads : int

    Returns
    -------
    (K, b T, d)
    """
    k, n, width = qkv.shape[0], qkv.shape[1], qkv.shape[2] // 3
    length, size = rope.shape[1], width // heads
    if attends(qkv.device, qkv.dtype, size, length):
        mixed: Tensor = torch.ops.lawfit.attention(qkv, gains, rope, heads)[0]
        return mixed
    split = qkv.view(k, n // length, length, 3, heads, size).permute(3, 0, 1, 4, 2, 5)
    q, key, v = split[0].float(), split[1].float(), split[2]  # each (K, b, h, T, size)
    if gains.shape[1]:
        of_q, of_k = gains[:, None, None, None].chunk(2, dim=-1)
        q, key = rms_norm(q, of_q), rms_norm(key, of_k)
    q, key = (rotate(z, rope).to(v.dtype).flatten(0, 1) for z in (q, key))
    mixed = functional.scaled_dot_product_attention(q, key, v.flatten(0, 1), is_causal=True)
    return mixed.transpose(1, 2).reshape(k, n, width)


def embed(table: Tensor, gain: Tensor, tokens: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The residual stream where it begins, (K, n, d) fp32, and its RMS norm in a precision, for the first branch.

    Parameters
    ----------
    table : (K, V, d) fp32
    gain : (K, d) fp32
    tokens : (K, n) int64
    """
    if table.is_cuda and dtype == torch.bfloat16:
        first, normed = torch.ops.lawfit.embed(table, gain, tokens)
        return first, normed
    first = table[torch.arange(len(tokens), device=tokens.device)[:, None], tokens]
    return first, rms_norm(first, gain[:, None]).to(dtype)


def add_norm(x: Tensor, branch: Tensor, gain: Tensor) -> tuple[Tensor, Tensor]:
    """The residual stream after a branch, and what the next one reads: its RMS norm in the precision of `branch`.

    Parameters
    ----------
    x : (K, n, d) fp32
    branch : (K, n, d)
    gain : (K, d) fp32
    """
    if _has_kernels(branch):
        total, normed = torch.ops.lawfit.add_norm(x, branch, gain)
        return total, normed
    total = x + branch
    return total, rms_norm(total, gain[:, None]).to(branch.dtype)


def swiglu(gate_up: Tensor) -> Tensor:
    """silu(gate) * up; (K, n, 2 f) with gate and up side by side -> (K, n, f)."""
    if _has_kernels(gate_up):
        product: Tensor = torch.ops.lawfit.swiglu(gate_up)
        return product
    gate, up = gate_up.chunk(2, dim=-1)
    return functional.silu(gate) * up


def _has_kernels(x: Tensor) -> bool:
    return x.is_cuda and x.dtype == torch.bfloat16


@operator("attention(Tensor qkv, Tensor gains, Tensor rope, int heads) -> (Tensor, Tensor, Tensor)")
def _attention(qkv: Tensor, gains: Tensor, rope: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    from lawfit.train import attention_kernels  # Triton, which comes with torch's builds for a GPU

    return attention_kernels.attention(qkv.contiguous(), gains, rope, heads)


@shapes_of("attention")
def _(qkv: Tensor, gains: Tensor, rope: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    k, n, width = qkv.shape[0], qkv.shape[1], qkv.shape[2] // 3
    sums = torch.empty(k * n * heads, dtype=torch.float32, device=qkv.device)
    return qkv.new_empty(k, n, width), qkv.new_empty(k, n, 2 * width), sums


@operator(
    "attention_gradient(Tensor by_mixed, Tensor qkv, Tensor gains, Tensor rope, Tensor mixed, Tensor turned, "
    "Tensor sums, int heads) -> (Tensor, Tensor)"
)
def _attention_gradient(
    by_mixed: Tensor, qkv: Tensor, gains: Tensor, rope: Tensor, mixed: Tensor, turned: Tensor, sums: Tensor, heads: int
) -> tuple[Tensor, Tensor]:
    from lawfit.train import attention_kernels

    return attention_kernels.attention_gradient(
        by_mixed.contiguous(), qkv.contiguous(), gains, rope, mixed, turned, sums, heads
    )


@shapes_of("attention_gradient")
def _(
    by_mixed: Tensor, qkv: Tensor, gains: Tensor, rope: Tensor, mixed: Tensor, turned: Tensor, sums: Tensor, heads: int
) -> tuple[Tensor, Tensor]:
    return qkv.new_empty(qkv.shape), gains.new_empty(gains.shape)


def _keep_attention(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    qkv, gains, rope, ctx.heads = inputs
    ctx.save_for_backward(qkv, gains, rope, *output)
    ctx.set_materialize_grads(False)  # nobody takes a gradient of what is kept


def _attention_backward(ctx: Any, by_mixed: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, None, None]:
    by_qkv, by_gains = torch.ops.lawfit.attention_gradient(by_mixed, *ctx.saved_tensors, ctx.heads)
    return by_qkv, by_gains, None, None


torch.library.register_autograd("lawfit::attention", _attention_backward, setup_context=_keep_attention)


@operator("swiglu(Tensor gate_up) -> Tensor")
def _swiglu(gate_up: Tensor) -> Tensor:
    from lawfit.train import kernels

    return kernels.swiglu(gate_up.contiguous())


@shapes_of("swiglu")
def _(gate_up: Tensor) -> Tensor:
    return gate_up.new_empty(*gate_up.shape[:-1], gate_up.shape[-1] // 2)


@operator("swiglu_gradient(Tensor by_product, Tensor gate_up) -> Tensor")
def _swiglu_gradient(by_product: Tensor, gate_up: Tensor) -> Tensor:
    from lawfit.train import kernels

    return kernels.swiglu_gradient(by_product.contiguous(), gate_up.contiguous())


@shapes_of("swiglu_gradient")
def _(by_product: Tensor, gate_up: Tensor) -> Tensor:
    return gate_up.new_empty(gate_up.shape)


def _keep_swiglu(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _swiglu_backward(ctx: Any, by_product: Tensor) -> Tensor:
    by_gate_up: Tensor = torch.ops.lawfit.swiglu_gradient(by_product, *ctx.saved_tensors)
    return by_gate_up


torch.library.register_autograd("lawfit::swiglu", _swiglu_backward, setup_context=_keep_swiglu)


@operator("add_norm(Tensor x, Tensor branch, Tensor gain) -> (Tensor, Tensor)")
def _add_norm(x: Tensor, branch: Tensor, gain: Tensor) -> tuple[Tensor, Tensor]:
    from lawfit.train import kernels

    return kernels.add_norm(x.contiguous(), branch.contiguous(), gain)


@shapes_of("add_norm")
def _(x: Tensor, branch: Tensor, gain: Tensor) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), branch.new_empty(branch.shape)


@operator(
    "add_norm_gradient(Tensor? by_total, Tensor by_normed, Tensor total, Tensor gain) -> (Tensor, Tensor, Tensor)"
)
def _add_norm_gradient(
    by_total: Tensor | None, by_normed: Tensor, total: Tensor, gain: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    from lawfit.train import kernels

    by_total = None if by_total is None else by_total.contiguous()
    return kernels.add_norm_gradient(by_total, by_normed.contiguous(), total, gain)


@shapes_of("add_norm_gradient")
def _(by_total: Tensor | None, by_normed: Tensor, total: Tensor, gain: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return total.new_empty(total.shape), by_normed.new_empty(by_normed.shape), gain.new_empty(gain.shape)


def _keep_add_norm(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(output[0], inputs[2])
    ctx.set_materialize_grads(False)  # the last layer's sum goes nowhere but into its norm


def _add_norm_backward(ctx: Any, by_total: Tensor | None, by_normed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    by: tuple[Tensor, Tensor, Tensor] = torch.ops.lawfit.add_norm_gradient(by_total, by_normed, *ctx.saved_tensors)
    return by


torch.library.register_autograd("lawfit::add_norm", _add_norm_backward, setup_context=_keep_add_norm)


@operator("embed(Tensor table, Tensor gain, Tensor tokens) -> (Tensor, Tensor)")
def _embed(table: Tensor, gain: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    from lawfit.train import kernels

    return kernels.embed(table, gain, tokens.contiguous())


@shapes_of("embed")
def _(table: Tensor, gain: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    shape = (*tokens.shape, table.shape[2])
    return table.new_empty(shape), table.new_empty(shape, dtype=torch.bfloat16)


@operator(
    "embed_gradient(Tensor by_first, Tensor by_normed, Tensor first, Tensor gain, Tensor tokens, int vocab) "
    "-> (Tensor, Tensor)"
)
def _embed_gradient(
    by_first: Tensor, by_normed: Tensor, first: Tensor, gain: Tensor, tokens: Tensor, vocab: int
) -> tuple[Tensor, Tensor]:
    from lawfit.train import kernels

    return kernels.embed_gradient(by_first.contiguous(), by_normed.contiguous(), first, gain, tokens, vocab)


@shapes_of("embed_gradient")
def _(
    by_first: Tensor, by_normed: Tensor, first: Tensor, gain: Tensor, tokens: Tensor, vocab: int
) -> tuple[Tensor, Tensor]:
    return first.new_empty(len(first), vocab, first.shape[2]), gain.new_empty(gain.shape)


def _keep_embed(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
    table, gain, tokens = inputs
    ctx.vocab = table.shape[1]
    ctx.save_for_backward(output[0], gain, tokens.contiguous())


def _embed_backward(ctx: Any, by_first: Tensor, by_normed: Tensor) -> tuple[Tensor, Tensor, None]:
    by_table, by_gain = torch.ops.lawfit.embed_gradient(by_first, by_normed, *ctx.saved_tensors, ctx.vocab)
    return by_table, by_gain, None


torch.library.register_autograd("lawfit::embed", _embed_backward, setup_context=_keep_embed)
