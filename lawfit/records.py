"""The nouns of lawfit: what is ingested, stored, fitted and predicted. Frozen, complete when made."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import chain, repeat
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from lawfit.documents import Answer
from lawfit.packed import ROWS_AT_ONCE, Column

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


@dataclass(frozen=True, kw_only=True, slots=True)
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


@dataclass(frozen=True, kw_only=True, eq=False)
class RunColumns(Sequence[Run]):
    """Many runs, kept by columns: a run is made when it is asked for."""

    run_keys: Sequence[str]
    numbers: Mapping[str, npt.NDArray[np.float64]]  # params, tokens, batch_tokens, lr and loss; nan: diverged
    others: Mapping[str, Column]  # weight_decay, steps, seed
    extra: Mapping[str, Column]  # None: nothing is said
    lines: npt.NDArray[np.int64]
    sources: Callable[[Iterable[int]], list[str]]  # of lines

    def __len__(self) -> int:
        return len(self.lines)

    @overload
    def __getitem__(self, at: int) -> Run: ...
    @overload
    def __getitem__(self, at: slice) -> list[Run]: ...
    def __getitem__(self, at: int | slice) -> Run | list[Run]:
        if isinstance(at, int):
            at = range(len(self))[at]
            return self[at : at + 1][0]
        fields, extra = self.fields(at), [column[at] for column in self.extra.values()]
        said = [
            {name: value for name, value in zip(self.extra, values, strict=True) if value is not None}
            for values in zip(*extra, strict=True)
        ]
        made = zip(*fields.values(), said or repeat({}), strict=False)
        return [Run(**dict(zip((*fields, "extra"), values, strict=True))) for values in made]

    def __iter__(self) -> Iterator[Run]:
        return chain.from_iterable(self[at : at + ROWS_AT_ONCE] for at in range(0, len(self), ROWS_AT_ONCE))

    def fields(self, some: slice) -> dict[str, list[Any]]:
        """What stands in the fields of some of the runs, less `extra`."""
        fields: dict[str, list[Any]] = {"run_key": list(self.run_keys[some])}
        fields |= {name: column[some].tolist() for name, column in self.numbers.items()}
        fields["loss"] = [None if loss != loss else loss for loss in fields["loss"]]
        fields["status"] = [RunStatus.DIVERGED if loss is None else RunStatus.FINISHED for loss in fields["loss"]]
        fields |= {name: column[some] for name, column in self.others.items()}
        fields["source"] = self.sources(self.lines[some].tolist())
        return fields


def run_keys(runs: Sequence[Run]) -> Sequence[str]:
    """Their keys, of which no run has to be made."""
    return runs.run_keys if isinstance(runs, RunColumns) else [run.run_key for run in runs]


def diverged(runs: Sequence[Run]) -> int:
    """How many of them did."""
    if isinstance(runs, RunColumns):
        return int(np.count_nonzero(np.isnan(runs.numbers["loss"])))
    return sum(run.status is RunStatus.DIVERGED for run in runs)


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """Runs of one recipe, as a file gave them."""

    recipe: Recipe
    runs: Sequence[Run]
    exact: bool = False  # keys are hashes of all that was held fixed, so that equal recipes are one sweep


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One metric along one run."""

    run_key: str
    metric: str  # "train_loss", "validation_loss", "grad_norm", ...
    steps: Sequence[int]  # ascending; an array.array of millions of points takes a tenth of a tuple
    numbers: Sequence[float]


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
class LossSweep:
    """Losses of sizes under one recipe, as a file gave them."""

    recipe: Recipe
    rows: tuple[SizedLoss, ...]


@dataclass(frozen=True, kw_only=True)
class Changes:
    """What one write of sweeps did (or, on a dry run, would do) to the store."""

    inserted: int
    updated: int
    unchanged: int
    recipes: tuple[Recipe, ...]  # those that the runs now belong to, as they stand in the store
    notes: tuple[str, ...]  # plain sentences: what was updated, which recipes were kept apart
    curves: tuple[CurveChange, ...] = ()

    @property
    def total(self) -> int:
        """How many were given."""
        return self.inserted + self.updated + self.unchanged


@dataclass(frozen=True, kw_only=True)
class Correction:
    """A field of a run that a person changed."""

    change: int  # number of the change; what was changed together has the same
    recipe: str  # name
    run_key: str
    field: str  # "lr", "loss", ...; "extra.NAME" of what has no field of its own
    before: Json
    after: Json
    reason: str
    made_at: str  # ISO 8601, UTC
    undone_at: str | None = None


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
    options: Mapping[str, Json] = dataclasses.field(hash=False)
    exclusions: Mapping[str, Json] = dataclasses.field(hash=False)  # run_key -> reason
    payload: Mapping[str, Json] = dataclasses.field(hash=False)  # parameters, ensemble, backtest, diagnostics

    def to_json(self) -> dict[str, Json]:
        return dataclasses.asdict(self)


@dataclass(frozen=True, kw_only=True)
class StoredPrediction:
    """A recommendation as it was given, so that its id brings back the same numbers."""

    id: str  # content hash of the whole answer, the fit's id among it
    fit_id: str
    target: Mapping[str, Json]
    answer: Answer  # the document that was printed
    created_at: str  # ISO 8601, UTC


@dataclass(frozen=True, kw_only=True)
class Launch:
    """One command that trains runs, from its start to its end."""

    id: str
    backend: str
    host: str
    process: str  # tells it from all other processes of its machine; "" where that cannot be
    logs: str  # folder
    command: str  # template of a trainer of the user's own; "": lawfit's
    began_at: str  # ISO 8601, UTC
    ended_at: str | None = None


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One time that a job was started."""

    launch_id: str
    host: str
    place: str  # "gpu 0", "cpu"
    began_at: str  # ISO 8601, UTC
    ended_at: str | None = None  # None: it runs, or nobody saw its end
    reason: str = ""  # why it ended: done, out_of_memory, killed, ... (launch/endings.py), launcher_lost
    said: str = ""  # the same in words
    seconds: float = 0.0  # wall time
    gpus: float = 0.0  # how many, or which share of one
    kwh: float | None = None  # of its GPUs, where they tell it


@dataclass(frozen=True, kw_only=True)
class TrainingJob:
    """What a launch starts: a pack of runs, or one run of a trainer of the user's own."""

    id: str  # hash of its runs
    launch: Launch  # the last that had it
    name: str
    runs: tuple[str, ...]  # ids
    state: str  # queued, running, cancelling, ended, stopped, split, failed, given_up or cancelled
    created_at: str  # ISO 8601, UTC, as all times here
    place: str = ""
    attempts: tuple[Attempt, ...] = ()
    tokens: float = 0.0  # trained
    tokens_total: float = 0.0
    problem: str | None = None  # why it failed
    tail: str = ""  # of what it said last
    dollars_per_gpu_hour: float | None = None
    started_at: str | None = None
    finished_at: str | None = None
    lost: bool = False  # its launch was killed: the same command goes on with it

    @property
    def gpu_hours(self) -> float:
        """Wall time of all attempts, times GPUs."""
        return sum(attempt.seconds * attempt.gpus for attempt in self.attempts) / 3600

    @property
    def dollars(self) -> float | None:
        return None if self.dollars_per_gpu_hour is None else self.gpu_hours * self.dollars_per_gpu_hour

    @property
    def kwh(self) -> float | None:
        """Energy of its GPUs; None where no attempt tells."""
        told = [attempt.kwh for attempt in self.attempts if attempt.kwh is not None]
        return sum(told) if told else None

    def to_json(self) -> dict[str, Json]:
        """As documents show it: with what it cost, and `lost` for a state."""
        document = dataclasses.asdict(self)
        lost, launch = document.pop("lost"), document.pop("launch")
        document["state"] = "lost" if lost else self.state
        document |= {"launch_id": launch["id"], **{name: launch[name] for name in ("backend", "host", "logs")}}
        return document | {"gpu_hours": self.gpu_hours, "dollars": self.dollars, "kwh": self.kwh}


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
    of: str = "runs"  # or "curves", "targets" or "losses": what a row is

    def to_json(self) -> dict[str, Json]:
        return dataclasses.asdict(self)


def content_hash(content: Json, length: int = 16) -> str:
    """Hex digest of a JSON value, the same in every process and on every machine."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:length]
