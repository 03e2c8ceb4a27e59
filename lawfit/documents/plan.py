"""The answer of `lawfit plan`."""

from __future__ import annotations

from typing import Any, NotRequired

from typing_extensions import TypedDict

from lawfit.documents.answer import CriticalBatchPart, ExpectedLossPart, RecipeFields, Recommendation, WeightDecayPart


class Interval(TypedDict):
    """A number with the bounds of its `level` interval; null where it has none on that side."""

    value: float
    low: float | None
    high: float | None
    level: float


class Budget(TypedDict):
    """The compute that is planned with."""

    flops: float
    """Training, and serving where it was asked for."""
    training_flops: float
    inference_flops: float
    convention: dict[str, str]
    """What these FLOPs count, and what comes on top."""
    extrapolation_decades: float
    """Powers of ten beyond the runs of the loss law; 0 inside."""
    gpu_hours: float | None
    seconds: float | None
    """Wall-clock of the training, where the speed was given."""


class PlannedScale(TypedDict):
    """The run that is planned."""

    params: float
    tokens: float
    tokens_per_param: float
    steps: float | None
    """At the recommended batch."""
    why: str
    """How it was chosen."""
    cost: float | None
    """Share of the loss given up against the best split of the same budget."""
    extrapolation_decades: dict[str, float]


class BestSplit(TypedDict):
    """The compute-optimal split, over all resamples of the loss law."""

    flops: float
    params: Interval
    """Value: of least expected regret."""
    tokens: Interval
    tokens_per_param: Interval
    loss: Interval
    """At each resample's own optimum, nats per token."""
    central_params: float
    """Where the central fit is lowest."""
    params_exponent: Interval
    """a of params* ~ flops^a around this budget."""
    cheap_zone: dict[str, list[float]]
    """Share of the loss -> parameters that give up less than the value does and this share, on average over the laws
    that fit: they hold the value."""
    expected_regret: float
    """Share of the loss given up on average at the value."""
    params_by_forms: NotRequired[dict[str, float | None]]
    """The best size by the forms of the law together, without IsoFLOP profiles."""
    forms: NotRequired[list[dict[str, Any]]]
    """Each route that is averaged (a form of the law, or isoflop): its best size and exponent alone, its share, and the
    factor by which it was off about best sizes of larger runs."""
    budget: NotRequired[Interval | None]
    """Where a loss, a size or tokens were asked from."""


class SameLoss(TypedDict):
    """What another size needs for the plan's loss; null where it never gets there."""

    tokens: float | None
    flops: float | None
    compute_ratio: float | None


class Alternative(TypedDict):
    """The same budget on another size."""

    params: float
    tokens: float
    tokens_per_param: float
    loss: float
    """Nats per token, by the central fit."""
    cost: float
    """Share of the loss against the plan."""
    cost_low: float | None
    cost_high: float | None
    planned: bool
    same_loss: SameLoss


class TimeRow(TypedDict):
    """A batch (and size) that reaches the plan's loss; ratios are to the plan."""

    batch_tokens: float
    tokens: float
    steps: float
    flops: float
    compute_ratio: float
    time_ratio: float
    """Of serial time, in proportion to params x steps."""


class BatchRow(TimeRow):
    """A batch at the planned size."""

    of_critical: float
    """In units of the critical batch."""
    compute_ratio_low: float | None
    compute_ratio_high: float | None
    seconds: float | None


class FrontierRow(TimeRow):
    """A size and batch that no other pair beats in both compute and serial time."""

    params: float


class TimePart(TypedDict):
    """Time against compute at the plan's loss."""

    definition: dict[str, Any]
    """The critical batch that it rests on, twice the tokens."""
    least_tokens: float
    """That a very small batch would need."""
    least_steps: float
    """That a very large batch would need."""
    tokens_per_second: float | None
    step_seconds: float | None
    batches: list[BatchRow]
    fastest: BatchRow | None
    frontier: list[FrontierRow]


class PlanSettings(TypedDict):
    """What `lawfit predict` answers at the planned scale."""

    recommendation: Recommendation
    weight_decay: WeightDecayPart | None
    critical_batch: CriticalBatchPart | None
    expected_loss: ExpectedLossPart | None
    missing: dict[str, str]
    prediction_id: str


class HelpfulRun(TypedDict):
    """A run no dearer than the dearest that would narrow the best size, given those before it."""

    params: float
    tokens: float
    flops: float
    known: float | None
    """Factor either way within which the best size is then known, about."""


class Plan(TypedDict):
    """A plan: the document that `lawfit plan --json` prints. Costs are fractions of the loss."""

    schema: str
    recipe: RecipeFields
    asked: dict[str, float]
    budget: Budget
    plan: PlannedScale
    optimum: BestSplit | None
    """Null where the runs do not say it: see missing.optimum."""
    third: NotRequired[dict[str, Any] | None]
    """The further input that was asked for; of unique tokens, how often each is best seen."""
    best_share: NotRequired[dict[str, Any] | None]
    """Share of active experts of the lowest loss at the budget; null without a law of it."""
    isoflop: NotRequired[dict[str, Any] | None]
    """The best size by the minima of IsoFLOP profiles, without a form of the law; null: missing.isoflop."""
    alternatives: list[Alternative]
    settings: PlanSettings
    time: TimePart | None
    """Null without a critical batch: see missing.time."""
    missing: dict[str, str]
    runs_that_would_help: list[HelpfulRun]
    evidence: dict[str, Any]
    warnings: list[str]
