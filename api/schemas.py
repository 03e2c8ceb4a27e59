"""Response models: what OpenAPI tells a client. Later versions add keys, so models allow more."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Document(BaseModel):
    """A JSON document whose named keys are promised."""

    model_config = ConfigDict(extra="allow")


class RecipeOut(Document):
    """Everything that was held fixed in a sweep; empty means unknown."""

    name: str
    key: str = Field(description="Hash of all that is held fixed; the name is not part of it")
    optimizer: str = ""
    schedule: str = ""
    data: str = ""
    tokenizer: str = ""
    seq_len: int | None = Field(default=None, description="Tokens per sequence")
    parametrization: str = ""
    params_convention: str = ""
    loss_kind: str = ""
    loss_column: str = ""


class RecipeListed(RecipeOut):
    """A recipe, and what the store holds for it."""

    runs: int
    diverged: int
    excluded: int
    fits: int


class RecipesOut(Document):
    """All recipes of the store."""

    recipes: list[RecipeListed]


class TargetOut(Document):
    """What was asked for."""

    params: float
    tokens: float
    batch_tokens: float | None = None
    seq_len: int | None = None
    batch_multiple: int | None = None
    max_batch_tokens: float | None = None
    unique_tokens: float | None = Field(default=None, description="Only where it was asked for, as those that follow")
    epochs: float | None = None
    active_share: float | None = None
    experts: float | None = None


class ValueOut(Document):
    """One recommended hyperparameter."""

    value: float
    low: float | None = Field(description="Bounds of a `level` interval for the optimum")
    high: float | None
    level: float
    cheap_zone: dict[str, tuple[float, float] | None] = Field(
        description="Share of the loss -> range inside which being off costs less than that"
    )
    expected_regret: float | None = Field(description="Share of the loss given up on average")
    extrapolation_decades: dict[str, float] = Field(description="Per input, powers of ten beyond the runs; 0 inside")
    status: str = Field(
        description="ok, extrapolated, at_edge, borrowed, or undetermined: tied to the batch in the runs"
    )
    yours: float | None = Field(default=None, description="Share of the answer that comes from these runs")


class AtBatchOut(Document):
    """Which form the learning rate at an imposed batch comes from."""

    form: str = Field(description="surface: the joint surface alone; average: with a law along the batch, by a share")
    law: str | None = Field(
        default=None, description="saturating, or surge: falling again beyond its noise batch; null: none"
    )
    law_share: float | None = Field(default=None, description="Of that law: 0 at the best batch, up to 0.5 far away")
    why: str
    surface: float = Field(description="Learning rate by the joint surface")
    by_law: float | None = Field(default=None, description="By the law along the batch; null where it is not used")


class LrOut(ValueOut):
    """The recommended peak learning rate."""

    at_batch: AtBatchOut | None = Field(default=None, description="Null where the batch was free")


class BatchOut(ValueOut):
    """The recommended batch, in tokens per step."""

    sequences: float | None = Field(default=None, description="The same in sequences, where their length is known")
    imposed: bool = Field(
        default=False,
        description="Given, or the largest allowed: interval and cheap zones are those of the best batch all the same",
    )


class RecommendationOut(Document):
    """The recommended hyperparameters; null where the runs carry none: see missing."""

    lr: LrOut | None
    batch_tokens: BatchOut | None


class RegretOut(Document):
    """What not knowing better costs on average."""

    loss_fraction: float | None
    extra_compute_fraction: float | None = None


class PublishedOut(Document):
    """What one published law would use here."""

    law: str
    label: str
    lr: float | None
    batch_tokens: float | None
    regret_on_your_runs: float | None = Field(description="Share of the loss it costs on these runs")
    cells_scored: int | None = None
    in_range: bool | None = None
    cite: str


class BacktestRow(Document):
    """How one method did on scales it had not seen, scored on observed runs."""

    method: str
    mean_regret: float | None
    worst_regret: float | None
    cells: int


class EvidenceOut(Document):
    """What the answer rests on."""

    fit_id: str
    data_hash: str
    code_version: str
    created_at: str
    runs_used: int
    runs_rejected: int
    rejected: list[dict[str, Any]]
    diverged: int
    cells: int
    certificate: dict[str, Any] | None = Field(
        default=None, description="Whether the fit is certified, the examination in one line, reasons and warnings"
    )
    borrowed: list[str] = Field(description="What comes from published laws, in plain sentences")
    not_lent: list[str] = Field(
        default_factory=list,
        description="Published laws that lend nothing, with the reason: withheld, or of another kind of recipe",
    )


class FurtherOut(Document):
    """A further number about the run."""

    value: float
    low: float | None = Field(description="Bounds of a `level` interval")
    high: float | None
    level: float
    extrapolation_decades: dict[str, float] = Field(description="Per input, powers of ten beyond the runs; 0 inside")
    status: str = Field(description="ok, extrapolated or borrowed (in part from published laws)")
    fit_id: str = Field(description="The fit it comes from: GET /v1/fits/{id}")
    notes: list[str] = Field(description="What to know before using it, in plain sentences")


class WeightDecayOut(FurtherOut):
    """Weight decay for the recommended learning rate and batch, coupled as in torch.optim.AdamW."""

    independent: float = Field(description="The same where it is not multiplied by the learning rate")
    timescale: dict[str, float] = Field(description="Share of the run over which updates are averaged, with interval")


class CriticalBatchOut(FurtherOut):
    """Critical batch size in tokens per step."""

    definition: dict[str, Any] = Field(description="Extra tokens (fraction) against which batch; without it no number")
    from_recipe: str | None = Field(
        default=None, description="Another recipe that it was measured in, different in its schedule alone"
    )
    route: str = Field(description="steps_to_target, loss_curves or data_laws: how it was measured")


class ExpectedLossOut(FurtherOut):
    """Loss in nats per token of the best run at the target."""

    run_low: float | None = Field(description="Bounds for one more run, its own noise included")
    run_high: float | None
    forms: list[dict[str, Any]] = Field(
        default_factory=list,
        description="Forms of the law that were tried: share in the average, error on the larger runs, why rejected",
    )
    forms_missing: str = Field(default="", description="Why forms were not compared")
    third: dict[str, Any] | None = Field(
        default=None, description="The further input that was asked for: its form, what runs cover, the loss without it"
    )
    given: list[str] = Field(default_factory=list, description="Which runs the loss is for: epochs, experts")
    asymptote: list[dict[str, Any]] = Field(
        default_factory=list, description="Loss with the asymptote free, lent by published laws, held lower and higher"
    )
    choice: dict[str, Any] | None = Field(default=None, description="Which of both choices moves the loss most")
    lines: list[str] = Field(default_factory=list, description="The same in plain sentences")


class HeldSettingOut(Document):
    """A setting that varies in the runs, and the level that the answer holds at."""

    name: str
    level: str = Field(description="Empty where each scale is taken at its own")
    levels: list[str] = Field(description="Those in the runs; unknown for runs that do not say")
    why: str


class SizesOut(Document):
    """Sizes and scales that the answer rests on, and how far they lie off the law."""

    sizes: int
    scales: int
    size_sd: dict[str, float] = Field(description="How far a size lies off the law: sd of ln, by quantity")
    scale_sd: dict[str, float] = Field(description="How far a scale lies off its size: sd of ln, by quantity")
    bends: dict[str, Any] | None = Field(description="The size or scale without which the law changes most")
    prior: dict[str, list[dict[str, Any]]] | None = Field(
        description="Quantity -> answers were sizes expected half or twice as far off the law"
    )
    promises: dict[str, Any] | None = Field(description="What was stated of sizes left out, against what runs show")
    words: list[str] = Field(description="The same in plain sentences")


class PredictionOut(Document):
    """A recommendation: the document that `lawfit predict --json` prints. Regrets are fractions of the loss."""

    schema_: str = Field(alias="schema")
    id: str
    recipe: RecipeOut
    target: TargetOut
    settings: list[HeldSettingOut] = Field(default_factory=list)
    recommendation: RecommendationOut
    expected_regret: RegretOut | None
    choices: dict[str, Any] | None = Field(
        default=None,
        description="What each choice of the analysis alone would answer, the one that moves it most first",
    )
    sizes: SizesOut | None = Field(
        default=None, description="Sizes and scales of the fit; null without a law of learning rate and batch"
    )
    weight_decay: WeightDecayOut | None = None
    critical_batch: CriticalBatchOut | None = None
    expected_loss: ExpectedLossOut | None = None
    missing: dict[str, str] = Field(
        default_factory=dict, description="Which of these three is null, and why; lr and batch_tokens where they are"
    )
    lacking: list[dict[str, Any]] = Field(
        default_factory=list, description="Where no learning rate is given: what the runs lack, and runs to add"
    )
    published: list[PublishedOut]
    evidence: EvidenceOut
    backtest: list[BacktestRow]
    warnings: list[str]


class TransferAxisOut(Document):
    """How the best learning rate of one recipe moves along one axis, all else held."""

    name: str = Field(description="width, params or tokens")
    exponent: float = Field(description="The best learning rate is proportional to the axis to this power")
    low: float
    high: float
    verdict: str = Field(description="flat (within noise), moves, or open (not settled)")
    first: float
    last: float
    cost_of_keeping: float = Field(description="Share of loss at `last` of the learning rate best at `first`")
    worst_cost: float = Field(description="The same at the worse end of the interval")
    by_batch: list[dict[str, float]] = Field(description="The exponent at other batches, where it depends on the batch")
    at: dict[str, float] = Field(description="The setting of everything else at which the line is drawn")
    line: list[dict[str, float]]
    words: str
    cost_words: str


class TransferRecipeOut(Document):
    """One recipe's best learning rates, sweep by sweep, and how they move."""

    recipe: str
    parametrization: str
    size: str = Field(description="width, or params where the runs state no width")
    axes: dict[str, TransferAxisOut] = Field(description="size and tokens, where these runs determine them")
    missing: dict[str, str]
    sweeps: list[dict[str, Any]]
    notes: list[str]


class TransferOut(Document):
    """The transfer view: the document that `lawfit transfer --json` prints."""

    schema_: str = Field(alias="schema")
    level: float
    recipes: list[TransferRecipeOut]
    comparisons: list[dict[str, Any]] = Field(description="Recipes that differ in their parametrization alone")
    without: dict[str, str] = Field(description="Recipe -> what an answer would take")


class FitOut(Document):
    """A stored fit; it never changes."""

    id: str
    recipe_key: str
    recipe_name: str
    kind: str
    status: str
    data_hash: str
    code_version: str
    created_at: str
    options: dict[str, Any]
    exclusions: dict[str, str] = Field(description="run -> reason it was left out")
    payload: dict[str, Any] = Field(description="Parameters, cells, backtest, diagnostics")


class HealthOut(Document):
    """Whether the process, or the service, is well."""

    status: str
    version: str
