"""Triton kernels. To be imported on a GPU only: torch's builds for a CPU come without Triton."""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

from __future__ import annotations

import torch
import triton
from torch import Tensor
from triton import language as tl

LARGEST_BLOCK = 2**14  # logits in the registers of one program; a larger vocabulary is read in several blocks


def cross_entropy_(logits: Tensor, targets: Tensor, losses: Tensor, scale: float) -> None:
    """Cross-entropy in fp32, and its gradient times `scale` in place of the logits: each is read and written once.

    Parameters
    ----------
    logits : (K, n, V) contiguous
    targets : (K, n) integers; tokens next to each other, as in a slice
    losses : (K, n) fp32, written; likewise
    """
    k, n, vocab = logits.shape
    block = min(LARGEST_BLOCK, triton.next_power_of_2(vocab))
    _cross_entropy[(n, k)](
        logits, targets, losses, targets.stride(0), losses.stride(0), scale, vocab, block,
        num_warps=min(32, max(1, block // 512)),
    )  # fmt: skip


@triton.jit
def _cross_entropy(
    logits, targets, losses, targets_stride, losses_stride, scale, VOCAB: tl.constexpr, BLOCK: tl.constexpr
):
    """One token of one run."""
    token, run = tl.program_id(0), tl.program_id(1)
    row = logits + (run.to(tl.int64) * tl.num_programs(0) + token) * VOCAB
    target = tl.load(targets + run * targets_stride + token)
    at_target = tl.load(row + target).to(tl.float32)
    columns = tl.arange(0, BLOCK)
    if VOCAB <= BLOCK:
        z = tl.load(row + columns, mask=columns < VOCAB, other=-float("inf")).to(tl.float32)
        top = tl.max(z, 0)
        powers = tl.exp(z - top)
        total = tl.sum(powers, 0)
        gradient = powers / total - (columns == target).to(tl.float32)
        tl.debug_barrier()  # every thread has read the target's logit
        tl.store(row + columns, gradient * scale, mask=columns < VOCAB)
    else:
        top, total = -float("inf"), 0.0
        for start in range(0, VOCAB, BLOCK):
            inside = start + columns < VOCAB
            z = tl.load(row + start + columns, mask=inside, other=-float("inf")).to(tl.float32)
            new_top = tl.maximum(top, tl.max(z, 0))
            total = total * tl.exp(top - new_top) + tl.sum(tl.exp(z - new_top), 0)
            top = new_top
        for start in range(0, VOCAB, BLOCK):
            inside = start + columns < VOCAB
            z = tl.load(row + start + columns, mask=inside, other=-float("inf")).to(tl.float32)
            gradient = tl.exp(z - top) / total - (start + columns == target).to(tl.float32)
            tl.store(row + start + columns, gradient * scale, mask=inside)
    tl.store(losses + run * losses_stride + token, top + tl.log(total) - at_target)


def swiglu(gate_up: Tensor) -> Tensor:
    """silu(gate) * up in one pass; (..., 2 f) contiguous -> (..., f)."""
    product = gate_up.new_empty(*gate_up.shape[:-1], gate_up.shape[-1] // 2)
    _swiglu[(triton.cdiv(product.numel(), 1024),)](gate_up, product, product.numel(), product.shape[-1], 1024)
    return product


def swiglu_gradient(by_product: Tensor, gate_up: Tensor) -> Tensor:
    """Gradient by gate and up."""
    gradient = torch.empty_like(gate_up)
    size = by_product.numel()
    _swiglu_gradient[(triton.cdiv(size, 1024),)](by_product, gate_up, gradient, size, by_product.shape[-1], 1024)
    return gradient


@triton.jit
def _swiglu(gate_up, product, size, F: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    at = i // F * (2 * F) + i % F
    gate = tl.load(gate_up + at, mask=i < size, other=0.0).to(tl.float32)
    up = tl.load(gate_up + at + F, mask=i < size, other=0.0).to(tl.float32)
    tl.store(product + i, gate * tl.sigmoid(gate) * up, mask=i < size)


@triton.jit
def _swiglu_gradient(by_product, gate_up, gradient, size, F: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    at = i // F * (2 * F) + i % F
    by = tl.load(by_product + i, mask=i < size, other=0.0).to(tl.float32)
    gate = tl.load(gate_up + at, mask=i < size, other=0.0).to(tl.float32)
    up = tl.load(gate_up + at + F, mask=i < size, other=0.0).to(tl.float32)
    share = tl.sigmoid(gate)
    silu = gate * share
    tl.store(gradient + at, by * up * (share + silu * (1 - share)), mask=i < size)
    tl.store(gradient + at + F, by * silu, mask=i < size)
