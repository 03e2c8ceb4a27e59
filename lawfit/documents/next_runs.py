"""The answer of `lawfit plan next`: which runs to make, and what they are expected to bring."""

from __future__ import annotations

from typing_extensions import TypedDict


class NextTarget(TypedDict):
    """What the runs are for."""

    params: float
    tokens: float
    level: float


class NextBudget(TypedDict):
    """What there is to spend, and what is spent."""

    amount: float
    unit: str
    """flops, gpu-hours, runs or $"""
    spent: float
    runs: int
    flops: float
    gpu_hours: float | None
    dollars: float | None


class ExpectedThere(TypedDict):
    """What is expected of the setting advised at the target."""

    expected_regret: float
    """Share of the loss given up."""
    floor: float
    """Of it, what no run at other scales takes away: the target's own deviation."""
    lr_factor: float
    """The interval of the learning rate is its value over, and times, this."""
    batch_factor: float


class NextGrid(TypedDict):
    """Learning rates crossed with batches at one scale."""

    params: float
    tokens: float
    lr: list[float]
    batch_tokens: list[float]
    """Tokens per step."""
    seeds: list[int]
    runs: int
    flops: float
    why: str
    after: ExpectedThere
    """With these runs and those of the grids before it."""


class NextRuns(TypedDict):
    """The whole of it."""

    schema: str
    id: str
    recipe: str | None
    """Null: published laws alone were asked."""
    fit_id: str | None
    target: NextTarget
    budget: NextBudget
    now: ExpectedThere
    after: ExpectedThere
    grids: list[NextGrid]
    warnings: list[str]
