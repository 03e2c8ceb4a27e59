"""The document of a plan, as OpenAPI tells it. Later versions add keys, so models allow more."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from .schemas import CriticalBatchOut, Document, ExpectedLossOut, RecipeOut, RecommendationOut, WeightDecayOut


class IntervalOut(Document):
    """A number with the bounds of its `level` interval; null where it has none on that side."""

    value: float
    low: float | None
    high: float | None
    level: float


class BudgetOut(Document):
    """The compute that is planned with."""

    flops: float = Field(description="Training, and serving where it was asked for")
    training_flops: float
    inference_flops: float
    convention: dict[str, str] = Field(description="What these FLOPs count, and what comes on top")
    extrapolation_decades: float = Field(description="Powers of ten beyond the runs of the loss law; 0 inside")
    gpu_hours: float | None
    seconds: float | None = Field(description="Wall-clock of the training, where the speed was given")


class ScaleOut(Document):
    """The run that is planned."""

    params: float
    tokens: float
    tokens_per_param: float
    steps: float | None = Field(description="At the recommended batch")
    why: str = Field(description="How it was chosen")
    cost: float | None = Field(description="Share of the loss given up against the best split of the same budget")
    extrapolation_decades: dict[str, float]


class OptimumOut(Document):
    """The compute-optimal split, over all resamples of the loss law."""

    flops: float
    params: IntervalOut = Field(description="Value: of least expected regret")
    tokens: IntervalOut
    tokens_per_param: IntervalOut
    loss: IntervalOut = Field(description="At each resample's own optimum, nats per token")
    central_params: float = Field(description="Where the central fit is lowest")
    params_exponent: IntervalOut = Field(description="a of params* ~ flops^a around this budget")
    cheap_zone: dict[str, tuple[float, float]] = Field(
        description="Share of the loss -> parameters within which the central fit gives up less"
    )
    expected_regret: float = Field(description="Share of the loss given up on average at the value")
    params_by_forms: dict[str, float | None] = Field(
        default_factory=dict, description="The best size by the forms of the law together, without IsoFLOP profiles"
    )
    forms: list[dict[str, Any]] = Field(
        default_factory=list,
        description="Each route that is averaged (a form of the law, or isoflop): its best size and exponent alone, "
        "its share, and the factor by which it was off about best sizes of larger runs",
    )
    budget: IntervalOut | None = Field(default=None, description="Where a loss, a size or tokens were asked from")


class SameLossOut(Document):
    """What another size needs for the plan's loss; null where it never gets there."""

    tokens: float | None
    flops: float | None
    compute_ratio: float | None


class AlternativeOut(Document):
    """The same budget on another size."""

    params: float
    tokens: float
    tokens_per_param: float
    loss: float = Field(description="Nats per token, by the central fit")
    cost: float = Field(description="Share of the loss against the plan")
    cost_low: float | None
    cost_high: float | None
    planned: bool
    same_loss: SameLossOut


class TimeRow(Document):
    """A batch (and size) that reaches the plan's loss; ratios are to the plan."""

    batch_tokens: float
    tokens: float
    steps: float
    flops: float
    compute_ratio: float
    time_ratio: float = Field(description="Of serial time, in proportion to params x steps")


class BatchRow(TimeRow):
    """A batch at the planned size."""

    of_critical: float = Field(description="In units of the critical batch")
    compute_ratio_low: float | None
    compute_ratio_high: float | None
    seconds: float | None


class FrontierRow(TimeRow):
    """A size and batch that no other pair beats in both compute and serial time."""

    params: float


class TimeOut(Document):
    """Time against compute at the plan's loss."""

    definition: dict[str, Any] = Field(description="The critical batch that it rests on, twice the tokens")
    least_tokens: float = Field(description="That a very small batch would need")
    least_steps: float = Field(description="That a very large batch would need")
    tokens_per_second: float | None
    step_seconds: float | None
    batches: list[BatchRow]
    fastest: BatchRow | None
    frontier: list[FrontierRow]


class SettingsOut(Document):
    """What `lawfit predict` answers at the planned scale."""

    recommendation: RecommendationOut
    weight_decay: WeightDecayOut | None
    critical_batch: CriticalBatchOut | None
    expected_loss: ExpectedLossOut | None
    missing: dict[str, str]
    prediction_id: str


class HelpfulRun(Document):
    """A run no dearer than the dearest that would narrow the best size, given those before it."""

    params: float
    tokens: float
    flops: float
    known: float | None = Field(description="Factor either way within which the best size is then known, about")


class PlanOut(Document):
    """A plan: the document that `lawfit plan --json` prints. Costs are fractions of the loss."""

    schema_: str = Field(alias="schema")
    recipe: RecipeOut
    asked: dict[str, float]
    budget: BudgetOut
    plan: ScaleOut
    optimum: OptimumOut | None = Field(description="Null where the runs do not say it: see missing.optimum")
    third: dict[str, Any] | None = Field(
        default=None, description="The further input that was asked for; of unique tokens, how often each is best seen"
    )
    best_share: dict[str, Any] | None = Field(
        default=None, description="Share of active experts of the lowest loss at the budget; null without a law of it"
    )
    isoflop: dict[str, Any] | None = Field(
        default=None,
        description="The best size by the minima of IsoFLOP profiles, without a form of the law; null: missing.isoflop",
    )
    alternatives: list[AlternativeOut]
    settings: SettingsOut
    time: TimeOut | None = Field(description="Null without a critical batch: see missing.time")
    missing: dict[str, str]
    runs_that_would_help: list[HelpfulRun]
    evidence: dict[str, Any]
    warnings: list[str]
