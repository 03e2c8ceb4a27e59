"""Plain words for statuses, scales and recipes, the same in every figure, report and page."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from lawfit.units import format_quantity

STATUS_WORDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "ok": "inside the range of your runs",
        "extrapolated": "beyond your runs: trust the interval, not the digits",
        "at_edge": "your best runs lie at the edge of what was tried",
        "borrowed": "mostly from published laws: few runs of yours bear on it",
    }
)
OPTIMUM_WORDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "inside": "inside the sweep",
        "at_edge": "at the edge of the sweep, so a bound",
        "flat": "the runs do not tell settings apart",
        "too_few": "too few runs to say",
    }
)
QUANTITY_WORDS: Final[Mapping[str, str]] = MappingProxyType({"lr": "Peak learning rate", "batch_tokens": "Batch size"})
INPUT_WORDS: Final[Mapping[str, str]] = MappingProxyType(
    {"params": "parameters", "tokens": "tokens", "batch_tokens": "batch"}
)


def scale_words(params: float, tokens: float) -> str:
    """``429M parameters, 40B tokens``."""
    return f"{format_quantity(params)} parameters, {format_quantity(tokens)} tokens"


def is_simulated(recipe: Mapping[str, Any]) -> bool:
    """Whether the runs of a recipe come from `lawfit simulate` or the demo, and not from training."""
    return "simulated" in (recipe.get("optimizer"), recipe.get("data"))


def recipe_words(recipe: Mapping[str, Any]) -> str:
    """What the recipe holds fixed, as far as it is known."""
    known = [str(recipe[field]) for field in ("optimizer", "schedule", "data", "parametrization") if recipe.get(field)]
    if recipe.get("seq_len"):
        known.append(f"{recipe['seq_len']:,} tokens per sequence")
    if recipe.get("params_convention"):
        known.append(f"parameters counted as {recipe['params_convention'].replace('_', '-')}")
    return "; ".join(known)
