"""The answer of `lawfit transfer`."""

from __future__ import annotations

from typing import Any

from typing_extensions import TypedDict


class TransferAxis(TypedDict):
    """How the best learning rate of one recipe moves along one axis, all else held."""

    name: str
    """width, params or tokens."""
    exponent: float
    """The best learning rate is proportional to the axis to this power."""
    low: float
    high: float
    verdict: str
    """flat (within noise), moves, or open (not settled)."""
    first: float
    last: float
    cost_of_keeping: float
    """Share of loss at `last` of the learning rate best at `first`."""
    worst_cost: float
    """The same at the worse end of the interval."""
    by_batch: list[dict[str, float]]
    """The exponent at other batches, where it depends on the batch."""
    at: dict[str, float]
    """The setting of everything else at which the line is drawn."""
    line: list[dict[str, float]]
    words: str
    cost_words: str


class TransferRecipe(TypedDict):
    """One recipe's best learning rates, sweep by sweep, and how they move."""

    recipe: str
    parametrization: str
    size: str
    """width, or params where the runs state no width."""
    axes: dict[str, TransferAxis]
    """size and tokens, where these runs determine them."""
    missing: dict[str, str]
    sweeps: list[dict[str, Any]]
    notes: list[str]


class Transfer(TypedDict):
    """The transfer view: the document that `lawfit transfer --json` prints."""

    schema: str
    level: float
    recipes: list[TransferRecipe]
    comparisons: list[dict[str, Any]]
    """Recipes that differ in their parametrization alone."""
    without: dict[str, str]
    """Recipe -> what an answer would take."""
