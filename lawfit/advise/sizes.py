"""Sizes and scales of a fit, in numbers and in the words that every card, page, report and notebook shows.

Four sizes at fourteen horizons are four observations of how the optimum moves with parameters. So it is said how far
sizes lie off the law, which of them bends it, how far the answer hangs on what was expected of them, and whether sizes
that were left out lay where they were foretold.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from lawfit.estimate.numerics.certificate import BENDS
from lawfit.units import counted, format_lr, format_percent, format_quantity

ENOUGH: Final = 3  # sizes that show an optimum: fewer say nothing of how far sizes lie off a law through them
KNOWN: Final = {
    "size": "the target is of a size that has runs: they tell its deviation, as far as they go",
    "scale": "the target is a scale of the runs: they tell its deviation, as far as they go",
}
WORTH_SAYING: Final = 0.1  # standard errors that the law moves by: below, no size or scale counts at all
UNCHECKED: Final = "no size could be left out and foretold, so what is promised here is not checked"
_WRITE: Final[Mapping[str, tuple[str, Callable[[float], str]]]] = {
    "lr": ("learning rate", format_lr),
    "batch_tokens": ("batch", format_quantity),
}
_FAR: Final = {"0.5": "half as far", "1": "as far", "2": "twice as far"}


def sizes_of(
    payload: Mapping[str, Any], choices: Mapping[str, Any] | None = None, known: str = ""
) -> dict[str, Any] | None:
    """What the sizes of a fit say; None for a fit of another law, or of before sizes had deviations of their own.

    Parameters
    ----------
    payload : of a fit of learning rate and batch
    choices : `choices_at` the target, whose rows "spread" say how the answer moves with the prior; None: no target
    known : "scale", "size" or "": what of the target has runs

    Returns
    -------
    dict
        ``sizes``, ``scales``, ``size_sd`` and ``scale_sd`` (sd of ln, by quantity), ``bends`` (the size or scale that
        counts most), ``prior`` (quantity -> answers under other priors), ``promises`` and ``words``.
    """
    spread = payload.get("spread")
    if not spread:
        return None
    most = next(iter((payload.get("certificate") or {}).get("influence") or []), None)
    prior = {
        quantity: row["answers"]
        for quantity in _WRITE
        for row in (choices or {}).get(quantity) or []
        if row["name"] == "spread" and row["answers"]
    }
    kept = (payload.get("backtest") or {}).get("promises")
    words = [_spread_words(spread, _sizes_shown(payload["cells"]))]
    words += [_most_words(most)] if most and abs(most["shift"]) >= WORTH_SAYING else []
    words += [_prior_words(prior)] if prior else []
    words += [KNOWN[known]] if known else []
    words.append(_promise_words(kept) if kept else UNCHECKED)
    return {**spread, "bends": most, "prior": prior or None, "promises": kept, "words": words}


def _sizes_shown(cells: Sequence[Mapping[str, Any]]) -> int:
    """How many sizes have a scale with settings enough to show an optimum."""
    return len({cell["params"] for cell in cells if cell["optimum"]["status"] != "too_few"})


def _spread_words(spread: Mapping[str, Any], shown: int) -> str:
    """How many sizes and scales there are, and how far they lie off the law."""
    count = f"{counted(spread['sizes'], 'size')}, {counted(spread['scales'], 'scale')}"
    size, scale = ([f"{math.exp(spread[sd][quantity]):.2f}" for quantity in _WRITE] for sd in ("size_sd", "scale_sd"))
    off = f"off the law by a factor of {size[0]} in learning rate and {size[1]} in batch (one standard deviation)"
    beside = f"a scale off its size by {scale[0]} and {scale[1]}"
    if shown < ENOUGH:
        return f"{count}: too few show an optimum to tell how far sizes lie off the law; taken to be {off}, {beside}"
    return f"{count}: a size lies {off}, {beside}"


def _most_words(most: Mapping[str, Any]) -> str:
    """The size or scale without which the law would change most, and by how much."""
    group, parameter = most["group"], most["parameter"]
    kind = "size" if group.endswith("at all horizons") else "scale"
    moves = f"without it the {parameter} moves from {most['value']:.3g} to {most['value_without']:.3g}"
    moves += f" ({abs(most['shift']):.1f} standard errors)"
    if abs(most["shift"]) <= BENDS:
        return f"no size or scale bends the law; {group} counts most: {moves}"
    if parameter.endswith("level"):
        return f"the level rests on the {kind} {group}: {moves}"
    return f"the {kind} {group} bends the law: {moves}"


def _prior_words(prior: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """How the answer, and the width of its interval, move with how far sizes are expected to lie off the law."""
    each = next(iter(prior.values()))
    far = [_FAR.get(answer["choice"], f"{answer['choice']} times as far") for answer in each]
    values = "; ".join(
        f"{name} {_listed([write(answer['value']) for answer in prior[quantity]])}"
        for quantity, (name, write) in _WRITE.items()
        if quantity in prior
    )
    widths = [answer["relative_width"] for answers in prior.values() for answer in answers]
    return (
        f"were sizes expected {_listed(far)} off the law as usual: {values}; intervals {min(widths):.2f} to "
        f"{max(widths):.2f} times as wide (centre of the leading analysis)"
    )


def _listed(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}" if len(words) > 1 else "".join(words)


def _promise_words(kept: Mapping[str, Any]) -> str:
    """What was stated of sizes left out, against what the runs there show."""
    inside, miss, factor = kept["inside"], kept["miss_in_sd"], kept["factor"]
    said = (
        f"each size left out in turn: {100 * kept['level']:g} % intervals held the optimum at {inside['lr']} (learning "
        f"rate) and {inside['batch_tokens']} (batch) of {counted(kept['scales'], 'scale')}, off by {miss['lr']:.2g} "
        f"and {miss['batch_tokens']:.2g} stated standard deviations"
    )
    if kept["stated_cost"] is not None:
        said += f"; stated cost {format_percent(kept['stated_cost'])}, found {format_percent(kept['realised_cost'])}"
    if max(factor.values()) == 1.0:
        return said + "; intervals stay as they are"
    return said + f"; intervals are widened for it, by {factor['lr']:.2f} and {factor['batch_tokens']:.2f}"
