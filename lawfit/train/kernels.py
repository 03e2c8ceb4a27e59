"""Triton kernels. To be imported on a GPU only: torch's builds for a CPU come without Triton."""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

from __future__ import annotations

import torch
import triton
from torch import Tensor
from triton import language as tl

LARGEST_BLOCK = 2**14  # logits in the registers of one program; a larger vocabulary is read in several blocks
GRADIENT_WARPS = 2  # of the norm's gradient, 8 to 17 % faster than 4 with as many lines
GRADIENT_PROGRAMS = 1024  # of the norm's gradient at least, where there are lines for them: fewer leave a GPU idle


def get_ready() -> None:
    """Have Triton find its driver, which it does not do well in several threads."""
    triton.runtime.driver.active.get_current_target()


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
        num_warps=min(32, max(1, block // 1024)),
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


def embed(table: Tensor, gain: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Lines of a table, (K, n, d) fp32, and their RMS norms times `gain` in bf16; see `fused.embed`."""
    (k, n), width = tokens.shape, table.shape[2]
    first = table.new_empty(k, n, width)
    normed = torch.empty_like(first, dtype=torch.bfloat16)
    block, rows = _tile(width)
    _embed[(triton.cdiv(n, rows), k)](
        table, gain, tokens, first, normed, table.stride(0), gain.stride(0), n, width, block, rows
    )
    return first, normed


@triton.jit
def _embed(
    table, gain, tokens, first, normed, table_stride, gain_stride, n,
    WIDTH: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    run = tl.program_id(1).to(tl.int64)
    row, column = tl.program_id(0) * ROWS + tl.arange(0, ROWS), tl.arange(0, BLOCK)
    inside = (row < n)[:, None] & (column < WIDTH)[None, :]
    token = tl.load(tokens + run * n + row, mask=row < n, other=0)
    x = tl.load(table + run * table_stride + token[:, None] * WIDTH + column[None, :], mask=inside, other=0.0)
    at = (run * n + row)[:, None] * WIDTH + column[None, :]
    tl.store(first + at, x, mask=inside)
    scale = tl.rsqrt(tl.sum(x * x, 1) / WIDTH + 1e-6)
    gains = tl.load(gain + run * gain_stride + column, mask=column < WIDTH, other=0.0)
    tl.store(normed + at, x * scale[:, None] * gains[None, :], mask=inside)


def add_norm(x: Tensor, branch: Tensor, gain: Tensor) -> tuple[Tensor, Tensor]:
    """`x + branch` in fp32, and its RMS norm times `gain` in the precision of `branch`; (K, n, d), gain (K, d)."""
    k, n, width = x.shape
    total, normed = torch.empty_like(x), torch.empty_like(branch)
    block, rows = _tile(width)
    _add_norm[(triton.cdiv(n, rows), k)](x, branch, gain, total, normed, gain.stride(0), n, width, block, rows)
    return total, normed


def add_norm_gradient(
    by_total: Tensor | None, by_normed: Tensor, total: Tensor, gain: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients by `x`, by `branch` (the same, in its precision), and by `gain`."""
    k, n, width = total.shape
    block, rows, tiles = _gradient_tiles(width, k * n)
    programs = triton.cdiv(n, rows * tiles)
    by_x, by_branch = torch.empty_like(total), torch.empty_like(by_normed)
    parts = torch.empty(k, programs, width, dtype=torch.float32, device=total.device)
    _add_norm_gradient[(programs, k)](
        by_normed if by_total is None else by_total, by_normed, total, gain, by_x, by_branch, parts, by_x, by_x,
        gain.stride(0), n, 0, width, block, rows, tiles, by_total is not None, False, num_warps=GRADIENT_WARPS,
    )  # fmt: skip
    return by_x, by_branch, parts.sum(1)


def embed_gradient(
    by_first: Tensor, by_normed: Tensor, first: Tensor, gain: Tensor, tokens: Tensor, vocab: int
) -> tuple[Tensor, Tensor]:
    """Gradients by the table and by `gain`; the lines of the table are summed by atomics, in no fixed order."""
    k, n, width = first.shape
    block, rows, tiles = _gradient_tiles(width, k * n)
    programs = triton.cdiv(n, rows * tiles)
    by_table = first.new_zeros(k, vocab, width)
    parts = first.new_empty(k, programs, width)
    _add_norm_gradient[(programs, k)](
        by_first, by_normed, first, gain, first, by_normed, parts, tokens, by_table, gain.stride(0), n, vocab,
        width, block, rows, tiles, True, True, num_warps=GRADIENT_WARPS,
    )  # fmt: skip
    return by_table, parts.sum(1)


def _tile(width: int) -> tuple[int, int]:
    """Columns, a power of 2, and rows that a program takes at a time."""
    block = triton.next_power_of_2(width)
    return block, max(1, 2048 // block)


def _gradient_tiles(width: int, lines: int) -> tuple[int, int, int]:
    """Columns, rows at a time, and how often: a program adds up their share of the gradient of a gain."""
    block = triton.next_power_of_2(width)
    rows, tiles = (2048 // block, 16) if block <= 256 else (max(1, 1024 // block), 8)
    while tiles > 1 and lines < GRADIENT_PROGRAMS * rows * tiles:  # a small run alone
        tiles //= 2
    return block, rows, tiles


@triton.jit
def _add_norm(
    x, branch, gain, total, normed, gain_stride, n, WIDTH: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr
):
    run = tl.program_id(1)
    row, column = tl.program_id(0) * ROWS + tl.arange(0, ROWS), tl.arange(0, BLOCK)
    inside = (row < n)[:, None] & (column < WIDTH)[None, :]
    at = (run.to(tl.int64) * n + row)[:, None] * WIDTH + column[None, :]
    new = tl.load(x + at, mask=inside, other=0.0) + tl.load(branch + at, mask=inside, other=0.0).to(tl.float32)
    tl.store(total + at, new, mask=inside)
    scale = tl.rsqrt(tl.sum(new * new, 1) / WIDTH + 1e-6)
    gains = tl.load(gain + run * gain_stride + column, mask=column < WIDTH, other=0.0)
    tl.store(normed + at, new * scale[:, None] * gains[None, :], mask=inside)


@triton.jit
def _add_norm_gradient(
    by_total, by_normed, total, gain, by_x, by_branch, parts, tokens, by_table, gain_stride, n, vocab,
    WIDTH: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr, TILES: tl.constexpr, HAS_BY_TOTAL: tl.constexpr,
    EMBEDS: tl.constexpr,
):  # fmt: skip
    """Where it `EMBEDS`, the sum is lines of a table: their gradient goes there instead of to x and the branch."""
    run, column = tl.program_id(1), tl.arange(0, BLOCK)
    gains = tl.load(gain + run * gain_stride + column, mask=column < WIDTH, other=0.0)[None, :]
    by_gain = tl.zeros([ROWS, BLOCK], tl.float32)  # summed over rows at the end: a sum here waits for all warps
    for tile in range(TILES):
        row = (tl.program_id(0) * TILES + tile) * ROWS + tl.arange(0, ROWS)
        inside = (row < n)[:, None] & (column < WIDTH)[None, :]
        at = (run.to(tl.int64) * n + row)[:, None] * WIDTH + column[None, :]
        new = tl.load(total + at, mask=inside, other=0.0)
        by = tl.load(by_normed + at, mask=inside, other=0.0).to(tl.float32)
        scale = tl.rsqrt(tl.sum(new * new, 1) / WIDTH + 1e-6)[:, None]
        unit = new * scale
        by_gain += by * unit
        by = by * gains
        by = (by - unit * (tl.sum(by * unit, 1) / WIDTH)[:, None]) * scale
        if HAS_BY_TOTAL:
            by += tl.load(by_total + at, mask=inside, other=0.0)
        if EMBEDS:
            line = run.to(tl.int64) * vocab + tl.load(tokens + run.to(tl.int64) * n + row, mask=row < n, other=0)
            to = by_table + line[:, None] * WIDTH + column[None, :]
            tl.atomic_add(to, by, mask=inside, sem="relaxed")
        else:
            tl.store(by_x + at, by, mask=inside)
            tl.store(by_branch + at, by, mask=inside)
    tl.store(
        parts + (run.to(tl.int64) * tl.num_programs(0) + tl.program_id(0)) * WIDTH + column,
        tl.sum(by_gain, 0),
        mask=column < WIDTH,
    )


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


def adamw_(
    rows: Tensor, grads: Tensor, first: Tensor, second: Tensor, settings: Tensor, decayed: Tensor, rates: Tensor
) -> None:
    """A step of AdamW in one pass over memory, in place; what it computes stands in `optimizers.advance`.

    Parameters
    ----------
    rows, grads, first, second : (K, P) fp32, rows contiguous
    settings : (K, 10) fp32
        Learning rate, decay to be multiplied by `rates`, other decay, beta1, beta2, eps, what gradients are multiplied
        by, corrections of the first and second moment, and 1 where the run is alive.
    decayed, rates : (P,) fp32
    """
    k, size = rows.shape
    _adamw[(k * triton.cdiv(size, 1024),)](
        rows, grads, first, second, settings.contiguous(), decayed, rates, k, size, 1024
    )


@triton.jit
def _adamw(rows, grads, first, second, settings, decayed, rates, k, size, BLOCK: tl.constexpr):
    """Columns of one run; programs of the same columns are neighbours, so that `decayed` and `rates` are read once."""
    run, block = tl.program_id(0) % k, tl.program_id(0) // k
    own = settings + run * 10
    if tl.load(own + 9) == 0.0:
        return
    lr, by_rate, decay = tl.load(own), tl.load(own + 1), tl.load(own + 2)
    beta1, beta2, eps = tl.load(own + 3), tl.load(own + 4), tl.load(own + 5)
    factor, correction1, correction2 = tl.load(own + 6), tl.load(own + 7), tl.load(own + 8)
    column = block * BLOCK + tl.arange(0, BLOCK)
    inside = column < size
    at = run.to(tl.int64) * size + column
    gradient = tl.load(grads + at, mask=inside, other=0.0) * factor
    m, v = tl.load(first + at, mask=inside, other=0.0), tl.load(second + at, mask=inside, other=0.0)
    m = m - (m - gradient) * (1 - beta1)
    v = v - (v - gradient * gradient) * (1 - beta2)
    direction = (m / correction1) / (tl.sqrt(v) / tl.sqrt(correction2) + eps)
    rate = tl.load(rates + column, mask=inside, other=0.0)
    shrink = (by_rate * rate + decay) * tl.load(decayed + column, mask=inside, other=0.0)
    row = tl.load(rows + at, mask=inside, other=0.0)
    tl.store(rows + at, row * (1 - shrink) - lr * rate * direction, mask=inside)
    tl.store(first + at, m, mask=inside)
    tl.store(second + at, v, mask=inside)
