"""The nouns of lawfit: what is ingested, stored, fitted and predicted. Frozen, complete when made."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from lawfit.units import format_quantity

LARGEST_TARGET: Final = 1e18  # parameters, or tokens; beyond it products of powers leave the range of floats

MODEL_VERSION = 2  # of what a stored fit says about its surface; raised when predictions need something new in it
Json = Any  # a value that json.dumps accepts: the payload of a fit, the extra columns of a run


class RunStatus(StrEnum):
    """How a run ended."""

    FINISHED = "finished"  # has a finite loss
    DIVERGED = "diverged"  # loss is NULL, and the run is evidence for an upper bound of the learning rate


class OptimumStatus(StrEnum):
    """Whether a sweep shows its minimum."""

    INSIDE = "inside"  # runs on both sides are worse
    AT_EDGE = "at_edge"  # the best is on the border of what was tried: a bound, not an optimum
    FLAT = "flat"  # the runs do not tell the settings apart
    TOO_FEW = "too_few"  # not enough runs to say


class FitStatus(StrEnum):
    """Whether a fit may be used without being asked for by id."""

    OK = "ok"
    SPARSE = "sparse"  # exponents come (in part) from published laws or a vague prior; the runs anchor the level
    UNCERTIFIED = "uncertified"  # no answer in the runs, or none that was found; stored, not used by default


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything held fixed in a sweep. An empty string (or None) means unknown; unknown equals only unknown.

    Runs of different recipes are never pooled silently. The shape of a model does not split a recipe.
    """

    name: str  # how people call it; not part of its identity
    optimizer: str = ""  # "adamw", "muon", ...
    schedule: str = ""  # "cosine to 1e-5", "wsd", ...
    data: str = ""  # corpus
    tokenizer: str = ""
    seq_len: int | None = None  # tokens per sequence
    parametrization: str = ""  # "standard", "mup", ...
    params_convention: str = ""  # one of units.PARAMS_CONVENTIONS
    loss_kind: str = ""  # what the loss is, e.g. "train_cross_entropy_nats"
    loss_column: str = ""  # which column of the log was taken as the loss
    extra: Mapping[str, str] = field(default_factory=dict)  # further settings held fixed ("beta2": "0.95")

    @property
    def key(self) -> str:
        """Hash of all that is held fixed; the name is not part of it."""
        content = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "name"}
        content["extra"] = dict(self.extra)
        return content_hash(content)


@dataclass(frozen=True, kw_only=True)
class Scale:
    """One size of training run."""

    params: float
    tokens: float

    def __post_init__(self) -> None:
        for name in ("params", "tokens"):
            value = getattr(self, name)
            if not (value > 0 and value < float("inf")):
                raise ValueError(f"{name} must be a positive number, got {value}")


# further input of a loss law -> what it is, for help texts; one of them is asked for
THIRD_INPUTS: Final[Mapping[str, str]] = {
    "unique_tokens": "Different tokens there are: what the loss is where the run repeats them.",
    "epochs": "Times that each token is seen, instead of unique tokens.",
    "active_share": "Share of the experts that work on a token, 1 for a dense model.",
    "experts": "Number of experts, 1 for a dense model.",
}


def third_words(name: str, value: float) -> str:
    """A further input as people say it: ``40B unique tokens``."""
    number = format_quantity(value) if name == "unique_tokens" else f"{value:.4g}"
    return {
        "unique_tokens": f"{number} unique tokens",
        "epochs": f"{number} epoch{'' if value == 1 else 's'}",
        "active_share": f"an active share of {number}",
        "experts": f"{number} expert{'' if value == 1 else 's'}",
    }[name]


@dataclass(frozen=True, kw_only=True)
class ThirdInputs:
    """What a loss law may know of a run beside its scale; None: as in ordinary runs (fresh tokens, usual experts)."""

    unique_tokens: float | None = None
    epochs: float | None = None
    active_share: float | None = None
    experts: float | None = None

    def require_one(self) -> None:
        """That at most one is given, with a value that can be.

        Raises
        ------
        ValueError
        """
        given = self.given()
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)}: a law of the loss takes one of them; give one")
        for name, value in given.items():
            low, high = (0.0, 1.0) if name == "active_share" else (1.0, LARGEST_TARGET)
            if not low <= value <= high or value <= 0:
                raise ValueError(f"{name} must lie between {low:g} and {high:g}, got {value:g}")

    def given(self) -> dict[str, float]:
        """Those that are asked for."""
        return {name: value for name in THIRD_INPUTS if (value := getattr(self, name)) is not None}


@dataclass(frozen=True, kw_only=True)
class Target(ThirdInputs):
    """What a recommendation is asked for: a scale, and what the batch must respect."""

    params: float
    tokens: float
    batch_tokens: float | None = None  # the batch is given, only the learning rate is asked for
    seq_len: int | None = None  # tokens per sequence, to count the batch in sequences
    batch_multiple: int | None = None  # the batch must be a multiple of this many sequences (or tokens without seq_len)
    max_batch_tokens: float | None = None  # what the machines can run
    level: float = 0.9

    def __post_init__(self) -> None:
        Scale(params=self.params, tokens=self.tokens)
        for name in ("params", "tokens"):
            if not 1 <= getattr(self, name) <= LARGEST_TARGET:
                raise ValueError(
                    f"{name} of a target must lie between 1 and {LARGEST_TARGET:g}, got {getattr(self, name):g}"
                )
        for name in ("batch_tokens", "seq_len", "batch_multiple", "max_batch_tokens"):
            value = getattr(self, name)
            if value is not None and not (value > 0 and value < float("inf")):
                raise ValueError(f"{name} must be a positive number, got {value}")
        if not 0.5 <= self.level < 1:
            raise ValueError(f"level must lie in [0.5, 1), got {self.level}")
        self.require_one()


@dataclass(frozen=True, kw_only=True)
class ScheduleQuestion:
    """What is asked of loss curves under a few schedules."""

    runs: str = "*"  # pattern of the curves' names that belong together: one model, batch and data
    schedules: tuple[str, ...] = ()  # to tell, as `laws.schedules.named_shape` reads them; empty: the usual ones
    lr: float | None = None  # peak; None: the curves'
    steps: int | None = None  # of the run, warmup included; None: the longest curve's
    warmup_steps: int | None = None  # where the warmup is not in the log


@dataclass(frozen=True, kw_only=True)
class RefineQuestion:
    """What is asked of the gradient norms along a run."""

    run: str | None = None  # pattern of its name, where the file has several
    column: str | None = None  # of the norms; None: found by its name
    adaptive: bool = False  # 1-norms, of a run by Adam or its family
    smoothing: float | None = None  # share of the run; None: the usual
    steps: int | None = None  # of the run to come; None: as long as the one that was logged


@dataclass(frozen=True, kw_only=True)
class PlanQuestion(ThirdInputs):
    """What a plan is asked for: a budget, or a size, an amount of data or a loss, one or two of them."""

    flops: float | None = None  # training compute, 6 params tokens
    params: float | None = None
    tokens: float | None = None
    loss: float | None = None  # nats per token to reach
    gpu_hours: float | None = None  # instead of flops, with flops_per_second
    gpus: int | None = None
    days: float | None = None  # of wall-clock: with gpus, instead of flops
    flops_per_second: float | None = None  # what one GPU sustains in training: its peak times its utilisation
    step_seconds: float | None = None  # no step is quicker, however small its batch
    tokens_per_second: float | None = None  # of all GPUs together at this size
    inference_tokens: float | None = None  # tokens to serve later, at 2 params FLOPs each, paid from the same budget
    seq_len: int | None = None
    batch_multiple: int | None = None
    max_batch_tokens: float | None = None
    level: float = 0.9

    def __post_init__(self) -> None:
        for asked in dataclasses.fields(self):
            value = getattr(self, asked.name)
            if asked.name != "level" and value is not None and not (value > 0 and value < float("inf")):
                raise ValueError(f"{asked.name} must be a positive number, got {value}")
        if not 0.5 <= self.level < 1:
            raise ValueError(f"level must lie in [0.5, 1), got {self.level}")
        self.require_one()
        budgets = [words for words, given in self._budgets().items() if given]
        if len(budgets) > 1:
            raise ValueError(f"the budget is given twice, as {' and as '.join(budgets)}; give one of them")
        if (self.gpu_hours or self.days) and self.flops_per_second is None:
            raise ValueError(
                "GPU time becomes compute with flops_per_second, what one GPU sustains in training (its peak times its "
                "utilisation, for instance 4e14)"
            )
        if self.days and not self.gpus:
            raise ValueError("days become compute with gpus, their number")
        if self.gpus and self.flops_per_second is None:
            raise ValueError("gpus need flops_per_second, what one of them sustains in training (for instance 4e14)")
        if self.gpus and self.tokens_per_second:
            raise ValueError(
                "tokens_per_second and gpus with flops_per_second both say how quick training is; give one"
            )
        if self.budget is not None and self.loss is not None:
            raise ValueError("a budget and a loss leave nothing to plan: give the one, and the other is the answer")
        named = [name for name in ("params", "tokens", "loss") if getattr(self, name) is not None]
        named = ["a budget"] * (self.budget is not None) + named
        if not named and self.gpus:
            raise ValueError(
                "gpus alone are no budget: give days as well, how long they train, or params, tokens or a loss"
            )
        if not named:
            raise ValueError("a plan needs a budget (flops, or GPU time), or params, tokens or a loss to start from")
        if len(named) > 2:
            raise ValueError(f"{', '.join(named)} together say more than a run can be; give one or two of them")
        if self.inference_tokens is not None and not (self.budget is not None or named == ["loss"]):
            raise ValueError("inference_tokens are paid from a budget, or weighed against one loss: give one of these")
        for name in ("params", "tokens"):
            value = getattr(self, name)
            if value is not None and not 1 <= value <= LARGEST_TARGET:
                raise ValueError(f"{name} of a plan must lie between 1 and {LARGEST_TARGET:g}, got {value:g}")

    @property
    def budget(self) -> float | None:
        """Compute in FLOPs, from whichever way it was given."""
        if self.flops is not None or self.flops_per_second is None:
            return self.flops
        if self.gpu_hours is not None:
            return 3600.0 * self.gpu_hours * self.flops_per_second
        return (
            None if self.days is None or self.gpus is None else 86400.0 * self.days * self.gpus * self.flops_per_second
        )

    def _budgets(self) -> dict[str, bool]:
        return {
            "flops": self.flops is not None,
            "gpu_hours": self.gpu_hours is not None,
            "gpus and days": self.days is not None,
        }


@dataclass(frozen=True, kw_only=True)
class Run:
    """One finished (or diverged) training run."""

    run_key: str  # identity inside its recipe: the log's own run id, or a hash of its settings
    params: float
    tokens: float
    batch_tokens: float  # tokens per step
    lr: float  # peak
    status: RunStatus
    loss: float | None  # nats per token; None exactly when diverged
    weight_decay: float | None = None
    steps: int | None = None
    seed: int | None = None
    extra: Mapping[str, Json] = field(default_factory=dict)  # columns that were not recognised
    source: str = ""  # file and line it came from
    excluded: str | None = None  # reason, when a person took it out of every fit

    def __post_init__(self) -> None:
        if (self.loss is None) != (self.status is RunStatus.DIVERGED):
            raise ValueError(f"run {self.run_key}: a diverged run has no loss, a finished run has one")


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """Runs of one recipe, as a file gave them."""

    recipe: Recipe
    runs: tuple[Run, ...]
    exact: bool = False  # keys are hashes of all that was held fixed, so that equal recipes are one sweep


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One metric along one run."""

    run_key: str
    metric: str  # "train_loss", "validation_loss", "grad_norm", ...
    steps: tuple[int, ...]  # ascending
    numbers: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class CurveChange:
    """What one write of a curve did (or, on a dry run, would do)."""

    run_key: str
    metric: str
    new_steps: tuple[int, ...]  # that were not stored before
    replaced: int  # points of the thinned curve that a fuller log replaced; 0 where nothing was
    differs: bool  # has the stored steps with other numbers, so the stored curve stayed


@dataclass(frozen=True, kw_only=True)
class StepsToTarget:
    """How many steps one batch size took to a target loss, mostly the best of a small sweep. It has no final loss."""

    run_key: str  # identity inside its recipe, as of a run
    params: float
    batch_tokens: float  # tokens per step
    steps: float  # read between two evaluations, it need not be whole
    target_loss: float  # nats per token
    lr: float | None = None
    weight_decay: float | None = None
    extra: Mapping[str, Json] = field(default_factory=dict)
    source: str = ""  # file and line it came from


@dataclass(frozen=True, kw_only=True)
class SizedLoss:
    """The loss that one size reached on so many tokens, with settings that its source chose and does not say."""

    run_key: str  # identity inside its recipe, as of a run
    params: float
    tokens: float
    loss: float  # in the recipe's unit, positive
    extra: Mapping[str, Json] = field(default_factory=dict)  # unique_tokens, active_fraction, ...
    source: str = ""  # file and line it came from


@dataclass(frozen=True, kw_only=True)
class TargetSweep:
    """Steps to targets under one recipe, as a file gave them."""

    recipe: Recipe
    rows: tuple[StepsToTarget, ...]


@dataclass(frozen=True, kw_only=True)
class Changes:
    """What one write of sweeps did (or, on a dry run, would do) to the store."""

    inserted: int
    updated: int
    unchanged: int
    recipes: tuple[Recipe, ...]  # those that the runs now belong to, as they stand in the store
    notes: tuple[str, ...]  # plain sentences: what was updated, which recipes were kept apart


@dataclass(frozen=True, kw_only=True)
class RecipeSummary:
    """A recipe and what the store holds for it."""

    recipe: Recipe
    runs: int  # all of them: finished, diverged, excluded
    diverged: int
    excluded: int
    fits: int


@dataclass(frozen=True, kw_only=True)
class Optimum:
    """Where the loss of one cell is smallest, as one estimator sees it. Stored with the fit that used it."""

    params: float
    tokens: float
    estimator: str  # "e1", "e2", "e3", "surface", ...
    status: OptimumStatus
    lr: float | None = None  # None where the estimator has no answer
    batch_tokens: float | None = None
    loss: float | None = None
    detail: Mapping[str, Json] = field(default_factory=dict)  # bounds, number of runs, what the estimator adds


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A stored fit: immutable, and enough to make its predictions again."""

    id: str  # content hash of data, code version and options: the same fit twice is the same row
    recipe_key: str
    recipe_name: str
    kind: str  # "lr_batch"
    status: FitStatus
    data_hash: str  # of the runs it saw
    code_version: str
    created_at: str  # ISO 8601, UTC
    options: Mapping[str, Json]
    exclusions: Mapping[str, str]  # run_key -> reason
    payload: Mapping[str, Json]  # parameters, ensemble, backtest, diagnostics

    def to_json(self) -> dict[str, Json]:
        return dataclasses.asdict(self)


@dataclass(frozen=True, kw_only=True)
class StoredPrediction:
    """A recommendation as it was given, so that its id brings back the same numbers."""

    id: str  # content hash of the whole answer, the fit's id among it
    fit_id: str
    target: Mapping[str, Json]
    answer: Mapping[str, Json]  # the JSON document that was printed
    created_at: str  # ISO 8601, UTC


@dataclass(frozen=True, kw_only=True)
class Rejection:
    """One row (or file) that was not taken, and why."""

    file: str
    line: int | None  # 1-based, the header being line 1
    column: str | None
    reason: str


@dataclass(frozen=True, kw_only=True)
class IngestReport:
    """What one `ingest` did. `inserted + updated + unchanged + rejected rows == rows`.

    A row is a run; in a table of curves, a point of one; in one of steps to a target, a batch size.
    """

    file: str
    format: str
    rows: int
    inserted: int
    updated: int
    unchanged: int
    diverged: int  # of the accepted rows
    rejections: tuple[Rejection, ...]
    columns: Mapping[str, str]  # field -> column it was read from, with the convention, as shown to the user
    recipes: tuple[str, ...]  # names
    notes: tuple[str, ...] = ()  # plain sentences: which loss column counts, which guess was made, what was updated
    dry_run: bool = False
    curve_points: int = 0  # added to the curves of runs
    of: str = "runs"  # or "curves" or "targets": what a row is

    def to_json(self) -> dict[str, Json]:
        return dataclasses.asdict(self)


def content_hash(content: Json, length: int = 16) -> str:
    """Hex digest of a JSON value, the same in every process and on every machine."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:length]
