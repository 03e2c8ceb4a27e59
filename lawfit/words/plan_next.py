"""What the planner says: why these runs, and why none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from lawfit.units import format_flops, format_quantity
from lawfit.words import Sentence

_TELLS: Final[Mapping[str, str]] = {
    "level": "tells where the laws lie",
    "params": "tells how the optimum moves with size",
    "tokens": "tells how the optimum moves with the horizon",
    "bend": "tells whether the laws bend on the way to the target",
    "few_tokens": "tells what few tokens per parameter do",
    "size": "tells how far single sizes lie off the laws",
}


def budget_words(amount: float, unit: str) -> str:
    """``1e19 FLOPs``, ``20 GPU-hours``, ``64 runs``, ``$200``."""
    if unit == "$":
        return f"${amount:,.6g}"
    if unit == "flops":
        return f"{format_flops(amount)} FLOPs"
    return f"{amount:,.6g} {'GPU-hours' if unit == 'gpu-hours' else unit}"


def _too_little(data: Mapping[str, Any]) -> str:
    return (
        f"{budget_words(data['amount'], data['unit'])} buys no grid of nine runs at any scale that tells something of "
        "this target; name a larger budget"
    )


WORDS: Final[Mapping[str, Sentence]] = {
    "why": lambda data: f"{'a new size: ' if data['new_size'] else ''}{_TELLS[data['part']]}",
    "too_little": _too_little,
    "nothing_to_learn": "nothing worth running: no grid within this budget and these sizes cuts the expected regret at "
    "the target noticeably ({regret:pct}, of which {floor:pct} is the target's own deviation)",
    "nothing_yet": "there is no fit that may be used, so this is a first sweep, around what published laws say; fit "
    "after it and plan again",
    "one_grid": "the budget buys little more than one grid; a larger one would spread over several scales",
}


def scale_words(params: float, tokens: float) -> str:
    """``3.2M on 120M``."""
    return f"{format_quantity(params)} on {format_quantity(tokens)}"
