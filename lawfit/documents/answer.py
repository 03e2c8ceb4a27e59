"""The answer of `lawfit predict`."""

from __future__ import annotations

from typing import Any, NotRequired

from typing_extensions import TypedDict


class RecipeFields(TypedDict):
    """Everything that was held fixed in a sweep; empty means unknown."""

    name: str
    key: str
    """Hash of all that is held fixed; the name is not part of it."""
    optimizer: NotRequired[str]
    schedule: NotRequired[str]
    data: NotRequired[str]
    tokenizer: NotRequired[str]
    seq_len: NotRequired[int | None]
    """Tokens per sequence."""
    parametrization: NotRequired[str]
    params_convention: NotRequired[str]
    loss_kind: NotRequired[str]
    loss_column: NotRequired[str]
    extra: NotRequired[dict[str, str]]
    """Further settings held fixed, by name."""


class AskedTarget(TypedDict):
    """What was asked for."""

    params: float
    tokens: float
    batch_tokens: NotRequired[float | None]
    seq_len: NotRequired[int | None]
    batch_multiple: NotRequired[int | None]
    max_batch_tokens: NotRequired[float | None]
    unique_tokens: NotRequired[float | None]
    """Only where it was asked for, as those that follow."""
    epochs: NotRequired[float | None]
    active_share: NotRequired[float | None]
    experts: NotRequired[float | None]


class ValuePart(TypedDict):
    """One recommended hyperparameter."""

    value: float
    low: float
    """Bounds of a `level` interval for the optimum."""
    high: float
    level: float
    cheap_zone: dict[str, list[float] | None]
    """Share of the loss -> range inside which being off costs less than that."""
    expected_regret: float
    """Share of the loss given up on average."""
    extrapolation_decades: dict[str, float]
    """Per input, powers of ten beyond the runs; 0 inside."""
    status: str
    """ok: runs lie near; between: inside their ranges, and none near; extrapolated, at_edge, borrowed, or undetermined:
    tied to the batch in the runs."""
    yours: NotRequired[float]
    """Share of the answer that comes from these runs."""


class AtBatch(TypedDict):
    """Which form the learning rate at an imposed batch comes from."""

    form: str
    """surface: the joint surface alone; average: with a law along the batch, by a share."""
    law: NotRequired[str | None]
    """saturating, or surge: falling again beyond its noise batch; null: none."""
    law_share: NotRequired[float | None]
    """Of that law: 0 at the best batch, up to 0.5 far away."""
    why: str
    surface: float
    """Learning rate by the joint surface."""
    by_law: NotRequired[float | None]
    """By the law along the batch; null where it is not used."""


class LrPart(ValuePart):
    """The recommended peak learning rate."""

    at_batch: NotRequired[AtBatch | None]
    """Null where the batch was free."""


class BatchPart(ValuePart):
    """The recommended batch, in tokens per step."""

    sequences: NotRequired[float | None]
    """The same in sequences, where their length is known."""
    imposed: NotRequired[bool]
    """Given, or the largest allowed: interval and cheap zones are those of the best batch all the same."""


class Recommendation(TypedDict):
    """The recommended hyperparameters; null where the runs carry none: see missing."""

    lr: LrPart | None
    batch_tokens: BatchPart | None


class Regret(TypedDict):
    """What not knowing better costs on average."""

    loss_fraction: float | None
    extra_compute_fraction: NotRequired[float | None]


class PublishedRow(TypedDict):
    """What one published law would use here."""

    law: str
    label: str
    lr: float | None
    batch_tokens: float | None
    regret_on_your_runs: float | None
    """Share of the loss it costs on these runs."""
    cells_scored: NotRequired[int | None]
    in_range: NotRequired[bool | None]
    cite: str


class BacktestRow(TypedDict):
    """How one method did on scales it had not seen, scored on observed runs."""

    method: str
    mean_regret: float | None
    worst_regret: float | None
    cells: int


class EvidenceUsed(TypedDict):
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
    certificate: NotRequired[dict[str, Any] | None]
    """Whether the fit is certified, the examination in one line, reasons and warnings."""
    borrowed: list[str]
    """What comes from published laws, in plain sentences."""
    runs_changed: NotRequired[int]
    """At least so many runs came, went or were corrected since the fit; 0: none. Of a stored fit alone."""
    not_lent: NotRequired[list[str]]
    """Published laws that lend nothing, with the reason: withheld, or of another kind of recipe."""


class LawPart(TypedDict):
    """A further number about the run."""

    value: float
    low: float | None
    """Bounds of a `level` interval."""
    high: float | None
    level: float
    extrapolation_decades: dict[str, float]
    """Per input, powers of ten beyond the runs; 0 inside."""
    status: str
    """ok, extrapolated or borrowed (in part from published laws)."""
    fit_id: str
    """The fit it comes from: GET /v1/fits/{id}."""
    notes: list[str]
    """What to know before using it, in plain sentences."""
    lines: NotRequired[list[str]]
    """The same at length."""
    from_recipe: NotRequired[str | None]
    """Another recipe that it was measured in, different in its schedule alone."""


class WeightDecayPart(LawPart):
    """Weight decay for the recommended learning rate and batch, coupled as in torch.optim.AdamW."""

    independent: float
    """The same where it is not multiplied by the learning rate."""
    timescale: dict[str, float]
    """Share of the run over which updates are averaged, with interval."""
    at: NotRequired[dict[str, float]]
    """The learning rate and batch that it goes with."""


class CriticalBatchPart(LawPart):
    """Critical batch size in tokens per step."""

    definition: dict[str, Any]
    """Extra tokens (fraction) against which batch; without it no number."""
    route: str
    """steps_to_target, loss_curves or data_laws: how it was measured."""
    law: dict[str, Any]
    """The input that it follows most, with its exponent, and what it rests on."""
    shares: NotRequired[dict[str, float]]
    """Of the laws in tokens, in parameters and in both."""
    left_out: NotRequired[dict[str, Any] | None]
    """How it foretold the largest size, left out."""
    noise_scale: NotRequired[dict[str, Any] | None]
    """The gradient noise scale beside it."""
    restated: NotRequired[dict[str, Any] | None]
    """The same by a further definition."""
    certified: NotRequired[bool]


class ExpectedLossPart(LawPart):
    """Loss in nats per token of the best run at the target."""

    run_low: float | None
    """Bounds for one more run, its own noise included."""
    run_high: float | None
    forms: NotRequired[list[dict[str, Any]]]
    """Forms of the law that were tried: share in the average, error on the larger runs, why rejected."""
    forms_missing: NotRequired[str]
    """Why forms were not compared."""
    third: NotRequired[dict[str, Any] | None]
    """The further input that was asked for: its form, what runs cover, the loss without it."""
    given: NotRequired[list[str]]
    """Which runs the loss is for: epochs, experts."""
    asymptote: NotRequired[list[dict[str, Any]]]
    """Loss with the asymptote free, lent by published laws, held lower and higher."""
    choice: NotRequired[dict[str, Any] | None]
    """Which of both choices moves the loss most."""


class HeldLevel(TypedDict):
    """A setting that varies in the runs, and the level that the answer holds at."""

    name: str
    level: str
    """Empty where each scale is taken at its own."""
    levels: list[str]
    """Those in the runs; unknown for runs that do not say."""
    also: list[str]
    """Columns that go with it."""
    why: str


class SizesUsed(TypedDict):
    """Sizes and scales that the answer rests on, and how far they lie off the law."""

    sizes: int
    scales: int
    size_sd: dict[str, float]
    """How far a size lies off the law: sd of ln, by quantity."""
    scale_sd: dict[str, float]
    """How far a scale lies off its size: sd of ln, by quantity."""
    bends: dict[str, Any] | None
    """The size or scale without which the law changes most."""
    prior: dict[str, list[dict[str, Any]]] | None
    """Quantity -> answers were sizes expected half or twice as far off the law."""
    promises: dict[str, Any] | None
    """What was stated of sizes left out, against what runs show."""
    words: list[str]
    """The same in plain sentences."""


class Answer(TypedDict):
    """A recommendation: the document that `lawfit predict --json` prints. Regrets are fractions of the loss."""

    schema: str
    id: str
    recipe: RecipeFields
    target: AskedTarget
    settings: NotRequired[list[HeldLevel]]
    recommendation: Recommendation
    expected_regret: Regret | None
    choices: NotRequired[dict[str, Any] | None]
    """What each choice of the analysis alone would answer, the one that moves it most first."""
    sizes: NotRequired[SizesUsed | None]
    """Sizes and scales of the fit; null without a law of learning rate and batch."""
    weight_decay: NotRequired[WeightDecayPart | None]
    critical_batch: NotRequired[CriticalBatchPart | None]
    expected_loss: NotRequired[ExpectedLossPart | None]
    runs_that_would_help: NotRequired[list[dict[str, Any]]]
    """Runs to add, those that help this answer most first."""
    missing: NotRequired[dict[str, str]]
    """Which of these three is null, and why; lr and batch_tokens where they are."""
    lacking: NotRequired[list[dict[str, Any]]]
    """Where no learning rate is given: what the runs lack, and runs to add."""
    published: list[PublishedRow]
    evidence: EvidenceUsed
    backtest: list[BacktestRow]
    warnings: list[str]
