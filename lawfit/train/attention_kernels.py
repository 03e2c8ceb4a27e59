"""Causal attention in Triton for many short sequences with small heads: RMS norm and RoPE of queries and keys included.

Queries, keys and values are read where the matrix product left them, and their gradients written where the next one
reads them. As in FlashAttention-2 (arXiv 2307.08691), with the gradients of keys and of queries in a pass each: their
sums have a fixed order, and for heads of 32 and 64 on Hopper both passes together take less time than cuDNN's one.
To be imported on a GPU only.
"""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

from __future__ import annotations

import torch
import triton
from torch import Tensor
from triton import language as tl

OUTER = 64  # positions that a program answers for; sequences are multiples of it
ROWS = 64  # heads of tokens that a program turns at a time
# Programs are numbered along one axis: the others end at 65,535, and a large pack has more heads of sequences.
LOG2_E = 1.4426950408889634
# Limits of registers (maxnreg) below are those at which one more program fits on a multiprocessor, and nothing spills.


def attention(qkv: Tensor, gains: Tensor, rope: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Causal attention within sequences.

    Parameters
    ----------
    qkv : (K, n, 3 d) contiguous, n a multiple of the T positions
    gains : (K, 2 size) fp32, of the norms of queries and of keys; (K, 0) without norms
    rope : (2, T, size / 2) fp32
    heads : int

    Returns
    -------
    (K, n, d), what is mixed; (K, n, 2 d), queries and keys as they were turned; (K n heads,) fp32, log2 of the sums
    """
    k, n, width = qkv.shape[0], qkv.shape[1], qkv.shape[2] // 3
    length, size = rope.shape[1], width // heads
    turned = qkv.new_empty(k, n, 2 * width)
    _turn[(n * heads // ROWS, k, 2)](
        qkv, turned, gains, rope, gains.stride(0), n, length, heads, size, gains.shape[1] > 0, ROWS
    )  # fmt: skip
    mixed = qkv.new_empty(k, n, width)
    sums = torch.empty(k * n * heads, dtype=torch.float32, device=qkv.device)
    _attention[(k * n * heads // OUTER,)](
        turned, qkv, mixed, sums, size**-0.5 * LOG2_E, length, heads, size, OUTER, _inner(size),
        maxnreg=64 if size == 32 else None,
    )  # fmt: skip
    return mixed, turned, sums


def attention_gradient(
    by_mixed: Tensor, qkv: Tensor, gains: Tensor, rope: Tensor, mixed: Tensor, turned: Tensor, sums: Tensor, heads: int
) -> tuple[Tensor, Tensor]:
    """Gradients by `qkv` and by `gains`."""
    k, n, width = mixed.shape
    length, size = rope.shape[1], width // heads
    gradient, dots = torch.empty_like(qkv), torch.empty_like(sums)
    grid, scale = (k * n * heads // OUTER,), size**-0.5
    _query_gradient[grid](
        turned, qkv, mixed, by_mixed, gradient, sums, dots, scale, scale * LOG2_E, length, heads, size, OUTER,
        _inner(size),
    )  # fmt: skip
    _key_value_gradient[grid](
        turned,
        qkv,
        by_mixed,
        gradient,
        sums,
        dots,
        scale,
        scale * LOG2_E,
        length,
        heads,
        size,
        OUTER,
        _inner(size),
        maxnreg=168 if size == 64 else None,
    )
    programs, has_norms = n * heads // ROWS, gains.shape[1] > 0
    parts = torch.empty(k, 2, programs, size, dtype=torch.float32, device=qkv.device)
    _turn_back[(programs, k, 2)](
        qkv, gradient, gains, parts, rope, gains.stride(0), n, length, heads, size, has_norms, ROWS, num_warps=2
    )
    return gradient, parts.sum(2).view(k, 2 * size) if has_norms else gains.new_empty(k, 0)


def _inner(size: int) -> int:
    """Positions that a program looks at in one go."""
    return 32 if size <= 32 else 64


@triton.jit
def _turn(
    qkv, turned, gains, rope, gains_stride, n, length,
    HEADS: tl.constexpr, SIZE: tl.constexpr, NORM: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Norm and rotation of some heads of tokens: queries where the last index of the program is 0, keys where 1."""
    run, keys = tl.program_id(1), tl.program_id(2)
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    token, head = row // HEADS, row % HEADS
    half = tl.arange(0, SIZE // 2)
    line = run.to(tl.int64) * n + token
    at = (line * (3 * HEADS * SIZE) + keys * HEADS * SIZE + head * SIZE)[:, None] + half[None, :]
    a, b = tl.load(qkv + at).to(tl.float32), tl.load(qkv + at + SIZE // 2).to(tl.float32)
    if NORM:
        scale = tl.rsqrt((tl.sum(a * a, 1) + tl.sum(b * b, 1)) / SIZE + 1e-6)[:, None]
        gain = gains + run * gains_stride + keys * SIZE + half
        a, b = a * scale * tl.load(gain)[None, :], b * scale * tl.load(gain + SIZE // 2)[None, :]
    angle = rope + (token % length)[:, None] * (SIZE // 2) + half[None, :]
    cos, sin = tl.load(angle), tl.load(angle + length * (SIZE // 2))
    to = turned + (line * (2 * HEADS * SIZE) + keys * HEADS * SIZE + head * SIZE)[:, None] + half[None, :]
    tl.store(to, a * cos - b * sin)
    tl.store(to + SIZE // 2, a * sin + b * cos)


@triton.jit
def _turn_back(
    qkv, gradient, gains, parts, rope, gains_stride, n, length,
    HEADS: tl.constexpr, SIZE: tl.constexpr, NORM: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """The gradients of turned queries or keys become those of what was turned, in place."""
    run, keys = tl.program_id(1), tl.program_id(2)
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    token, head = row // HEADS, row % HEADS
    half = tl.arange(0, SIZE // 2)
    line = run.to(tl.int64) * n + token
    at = (line * (3 * HEADS * SIZE) + keys * HEADS * SIZE + head * SIZE)[:, None] + half[None, :]
    by_a, by_b = tl.load(gradient + at).to(tl.float32), tl.load(gradient + at + SIZE // 2).to(tl.float32)
    angle = rope + (token % length)[:, None] * (SIZE // 2) + half[None, :]
    cos, sin = tl.load(angle), tl.load(angle + length * (SIZE // 2))
    by_a, by_b = by_a * cos + by_b * sin, by_b * cos - by_a * sin
    if NORM:
        a, b = tl.load(qkv + at).to(tl.float32), tl.load(qkv + at + SIZE // 2).to(tl.float32)
        scale = tl.rsqrt((tl.sum(a * a, 1) + tl.sum(b * b, 1)) / SIZE + 1e-6)[:, None]
        a, b = a * scale, b * scale
        part = parts + ((run * 2 + keys).to(tl.int64) * tl.num_programs(0) + tl.program_id(0)) * SIZE + half
        tl.store(part, tl.sum(by_a * a, 0))
        tl.store(part + SIZE // 2, tl.sum(by_b * b, 0))
        gain = gains + run * gains_stride + keys * SIZE + half
        by_a, by_b = by_a * tl.load(gain)[None, :], by_b * tl.load(gain + SIZE // 2)[None, :]
        along = ((tl.sum(by_a * a, 1) + tl.sum(by_b * b, 1)) / SIZE)[:, None]
        by_a, by_b = (by_a - a * along) * scale, (by_b - b * along) * scale
    tl.store(gradient + at, by_a)
    tl.store(gradient + at + SIZE // 2, by_b)


@triton.jit
def _attention(
    turned, qkv, mixed, sums, log2_scale, length,
    HEADS: tl.constexpr, SIZE: tl.constexpr, OUTER: tl.constexpr, INNER: tl.constexpr,
):  # fmt: skip
    """Some queries of one head of one sequence; the longest programs come first."""
    blocks = length // OUTER
    first, pair = (blocks - 1 - tl.program_id(0) % blocks) * OUTER, tl.program_id(0) // blocks
    sequence, head = (pair // HEADS).to(tl.int64), pair % HEADS
    WIDTH: tl.constexpr = HEADS * SIZE
    mine, other, within = first + tl.arange(0, OUTER), tl.arange(0, INNER), tl.arange(0, SIZE)
    queries = turned + sequence * length * (2 * WIDTH) + head * SIZE + within[None, :]
    keys, values = queries + WIDTH, qkv + sequence * length * (3 * WIDTH) + 2 * WIDTH + head * SIZE + within[None, :]
    query = tl.load(queries + mine[:, None] * (2 * WIDTH))
    top = tl.full([OUTER], -float("inf"), tl.float32)
    total = tl.zeros([OUTER], tl.float32)
    answer = tl.zeros([OUTER, SIZE], tl.float32)
    for start in range(0, first, INNER):
        here = (start + other)[:, None]
        score = tl.dot(query, tl.trans(tl.load(keys + here * (2 * WIDTH))))
        new_top = tl.maximum(top, tl.max(score, 1) * log2_scale)
        weight = tl.exp2(score * log2_scale - new_top[:, None])
        fade = tl.exp2(top - new_top)
        total = total * fade + tl.sum(weight, 1)
        answer = tl.dot(weight.to(query.dtype), tl.load(values + here * (3 * WIDTH)), answer * fade[:, None])
        top = new_top
    for start in range(first, first + OUTER, INNER):  # the diagonal
        here = (start + other)[:, None]
        score = tl.dot(query, tl.trans(tl.load(keys + here * (2 * WIDTH))))
        score = tl.where(mine[:, None] >= (start + other)[None, :], score, -float("inf"))
        new_top = tl.maximum(top, tl.max(score, 1) * log2_scale)
        weight = tl.exp2(score * log2_scale - new_top[:, None])
        fade = tl.exp2(top - new_top)
        total = total * fade + tl.sum(weight, 1)
        answer = tl.dot(weight.to(query.dtype), tl.load(values + here * (3 * WIDTH)), answer * fade[:, None])
        top = new_top
    to = mixed + sequence * length * WIDTH + mine[:, None] * WIDTH + head * SIZE + within[None, :]
    tl.store(to, answer / total[:, None])
    tl.store(sums + (sequence * HEADS + head) * length + mine, top + tl.log2(total))


@triton.jit
def _query_gradient(
    turned, qkv, mixed, by_mixed, gradient, sums, dots, scale, log2_scale, length,
    HEADS: tl.constexpr, SIZE: tl.constexpr, OUTER: tl.constexpr, INNER: tl.constexpr,
):  # fmt: skip
    """Gradients of some queries, and the dots of `mixed` with its gradients, which keys and values need too."""
    blocks = length // OUTER
    first, pair = (blocks - 1 - tl.program_id(0) % blocks) * OUTER, tl.program_id(0) // blocks
    sequence, head = (pair // HEADS).to(tl.int64), pair % HEADS
    WIDTH: tl.constexpr = HEADS * SIZE
    mine, other, within = first + tl.arange(0, OUTER), tl.arange(0, INNER), tl.arange(0, SIZE)
    queries = turned + sequence * length * (2 * WIDTH) + head * SIZE + within[None, :]
    keys, values = queries + WIDTH, qkv + sequence * length * (3 * WIDTH) + 2 * WIDTH + head * SIZE + within[None, :]
    query = tl.load(queries + mine[:, None] * (2 * WIDTH))
    output = sequence * length * WIDTH + mine[:, None] * WIDTH + head * SIZE + within[None, :]
    by = tl.load(by_mixed + output)
    dot = tl.sum(tl.load(mixed + output).to(tl.float32) * by.to(tl.float32), 1)
    place = (sequence * HEADS + head) * length + mine
    tl.store(dots + place, dot)
    log_sum = tl.load(sums + place)
    by_query = tl.zeros([OUTER, SIZE], tl.float32)
    for start in range(0, first, INNER):
        here = (start + other)[:, None]
        key, value = tl.load(keys + here * (2 * WIDTH)), tl.load(values + here * (3 * WIDTH))
        weight = tl.exp2(tl.dot(query, tl.trans(key)) * log2_scale - log_sum[:, None])
        by_score = weight * (tl.dot(by, tl.trans(value)) - dot[:, None])
        by_query = tl.dot(by_score.to(key.dtype), key, by_query)
    for start in range(first, first + OUTER, INNER):  # the diagonal
        here = (start + other)[:, None]
        key, value = tl.load(keys + here * (2 * WIDTH)), tl.load(values + here * (3 * WIDTH))
        weight = tl.exp2(tl.dot(query, tl.trans(key)) * log2_scale - log_sum[:, None])
        weight = tl.where(mine[:, None] >= (start + other)[None, :], weight, 0.0)
        by_score = weight * (tl.dot(by, tl.trans(value)) - dot[:, None])
        by_query = tl.dot(by_score.to(key.dtype), key, by_query)
    to = gradient + sequence * length * (3 * WIDTH) + mine[:, None] * (3 * WIDTH) + head * SIZE + within[None, :]
    tl.store(to, by_query * scale)


@triton.jit
def _key_value_gradient(
    turned, qkv, by_mixed, gradient, sums, dots, scale, log2_scale, length,
    HEADS: tl.constexpr, SIZE: tl.constexpr, OUTER: tl.constexpr, INNER: tl.constexpr,
):  # fmt: skip
    """Gradients of some keys and values of one head of one sequence."""
    blocks = length // OUTER
    first, pair = tl.program_id(0) % blocks * OUTER, tl.program_id(0) // blocks
    sequence, head = (pair // HEADS).to(tl.int64), pair % HEADS
    WIDTH: tl.constexpr = HEADS * SIZE
    mine, other, within = first + tl.arange(0, OUTER), tl.arange(0, INNER), tl.arange(0, SIZE)
    queries = turned + sequence * length * (2 * WIDTH) + head * SIZE + within[None, :]
    key = tl.load(queries + WIDTH + mine[:, None] * (2 * WIDTH))
    own = sequence * length * (3 * WIDTH) + mine[:, None] * (3 * WIDTH) + head * SIZE + within[None, :]
    value = tl.load(qkv + own + 2 * WIDTH)
    output = by_mixed + sequence * length * WIDTH + head * SIZE + within[None, :]
    place = (sequence * HEADS + head) * length
    by_key, by_value = tl.zeros([OUTER, SIZE], tl.float32), tl.zeros([OUTER, SIZE], tl.float32)
    for start in range(first, first + OUTER, INNER):  # the diagonal
        there = start + other
        query, by = tl.load(queries + there[:, None] * (2 * WIDTH)), tl.load(output + there[:, None] * WIDTH)
        log_sum, dot = tl.load(sums + place + there), tl.load(dots + place + there)
        weight = tl.exp2(tl.dot(key, tl.trans(query)) * log2_scale - log_sum[None, :])
        weight = tl.where(there[None, :] >= mine[:, None], weight, 0.0)
        by_value = tl.dot(weight.to(key.dtype), by, by_value)
        by_score = weight * (tl.dot(value, tl.trans(by)) - dot[None, :])
        by_key = tl.dot(by_score.to(key.dtype), query, by_key)
    for start in range(first + OUTER, length, INNER):
        there = start + other
        query, by = tl.load(queries + there[:, None] * (2 * WIDTH)), tl.load(output + there[:, None] * WIDTH)
        log_sum, dot = tl.load(sums + place + there), tl.load(dots + place + there)
        weight = tl.exp2(tl.dot(key, tl.trans(query)) * log2_scale - log_sum[None, :])
        by_value = tl.dot(weight.to(key.dtype), by, by_value)
        by_score = weight * (tl.dot(value, tl.trans(by)) - dot[None, :])
        by_key = tl.dot(by_score.to(key.dtype), query, by_key)
    tl.store(gradient + own + WIDTH, by_key * scale)
    tl.store(gradient + own + 2 * WIDTH, by_value)
