"""Which batch to run: given, capped or free, in whole sequences."""

from __future__ import annotations

import math

import numpy as np

from lawfit.advise.draws import Worlds
from lawfit.advise.regret import CHEAP, at_batch, best_batch, best_setting, cheap_batch_zone, expected_regret
from lawfit.ask import Target
from lawfit.estimate.lr_batch.valley import best_lr_shift, excess
from lawfit.findings import Finding, finding
from lawfit.units import six_digits


def check_batch(target: Target, seq_len: int | None) -> None:
    """Refuse a batch that cannot be run, with the number."""
    if target.batch_tokens is not None and seq_len is not None and 1 <= target.batch_tokens < seq_len:
        raise ValueError(
            f"the given batch, {target.batch_tokens:g} tokens, is less than one sequence of {seq_len:,} tokens; "
            "batches are counted in tokens per step"
        )
    for name, words in (("batch_tokens", "the given batch"), ("max_batch_tokens", "the largest batch allowed")):
        asked = getattr(target, name)
        if asked is not None and asked < 1:
            raise ValueError(
                f"{words}, {asked:g} tokens, is less than one token; batches are counted in tokens per step"
            )
    if target.batch_tokens is None:
        return
    if target.batch_tokens > target.tokens:
        raise ValueError(
            f"the given batch, {target.batch_tokens:g} tokens, is larger than the whole run of {target.tokens:g} tokens"
        )
    if target.max_batch_tokens is not None and target.batch_tokens > target.max_batch_tokens:
        raise ValueError(
            f"the given batch, {target.batch_tokens:g} tokens, is larger than the largest allowed, "
            f"{target.max_batch_tokens:g}"
        )


def choose_batch(worlds: Worlds, target: Target, seq_len: int | None) -> tuple[float, bool, list[Finding]]:
    """ln of the batch to run, in tokens per step; whether it was imposed (given or capped); and what had to give."""
    unit = float(target.batch_multiple or 1) * (seq_len or 1) if target.batch_multiple or seq_len else None
    notes: list[Finding] = []
    if target.batch_tokens is not None:
        count = target.batch_tokens / unit if unit is not None and target.batch_multiple is not None else 1.0
        if abs(count - round(count)) > 1e-6:
            notes.append(finding("advice.no_multiple", unit_tokens=unit))
        return math.log(target.batch_tokens), True, notes
    cap = target.max_batch_tokens
    if unit is not None and unit > target.tokens:
        raise ValueError(f"one step's unit of {unit:g} tokens is larger than the whole run of {target.tokens:g} tokens")
    if cap is not None and unit is not None and cap < unit:
        raise ValueError(
            f"the largest batch allowed, {cap:g} tokens, is smaller than one step's unit of {unit:g} tokens"
        )
    cap = min(cap or math.inf, target.tokens)  # a step cannot hold more than the whole run
    free = best_batch(worlds)
    chosen = max(free, 0.0)
    capped = free > math.log(cap)
    if capped:
        chosen = math.log(cap)
        notes.append(finding("advice.batch_capped", best_tokens=math.exp(free), most_tokens=cap))
    if unit is not None:
        chosen, dear = _whole_units(worlds, chosen, unit, cap)
        notes += dear
    return chosen, capped, notes


def _whole_units(worlds: Worlds, log_batch: float, unit: float, cap: float) -> tuple[float, list[Finding]]:
    """ln of the multiple of `unit` tokens to run instead, and a note where no multiple is cheap.

    Of the neighbours, one within the zone that costs less than the smallest of `CHEAP`, and there the one with the
    smaller expected regret, its own best learning rate included. The zone is an interval around the batch (unless a cap
    forbids it), so where both neighbours lie outside so does every other multiple.
    """
    count = math.exp(log_batch) / unit
    options = {max(1, math.floor(count + 1e-9)), max(1, math.ceil(count - 1e-9))}
    allowed = [math.log(n * unit) for n in sorted(options) if n * unit <= cap * (1 + 1e-9)] or [math.log(unit)]
    low, high = cheap_batch_zone(worlds, CHEAP[0])
    cheap = [z for z in allowed if low <= z <= high]
    several = len(cheap or allowed) > 1

    def regret(z: float) -> float:
        there = at_batch(worlds, z)  # in which the setting is looked for, once the batch is chosen
        return expected_regret(worlds, best_setting(there, z)[0], z)

    chosen = min(cheap or allowed, key=regret) if several else (cheap or allowed)[0]
    if cheap or not low <= log_batch <= high:  # outside before: by its cap, which is said
        return chosen, []
    v = np.array(chosen - worlds.centre_log_batch)
    cost = math.expm1(float(excess(best_lr_shift(v, worlds.centre_valley), v, worlds.centre_valley)))
    ends = {"low_tokens": math.exp(low), "high_tokens": math.exp(high), "batch_tokens": math.exp(chosen)}
    return chosen, [finding("advice.no_cheap_multiple", unit_tokens=unit, share=CHEAP[0], **ends, cost=cost)]


def in_sequences(batch_tokens: float, seq_len: int) -> float | int:
    """A batch counted in sequences."""
    value = batch_tokens / seq_len
    return round(value) if abs(value - round(value)) < 1e-6 * max(value, 1) else six_digits(value)
