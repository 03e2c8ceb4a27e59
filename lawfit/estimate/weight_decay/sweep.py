"""The best weight decay along each sweep, and what such a sweep can say at all.

A slice is what was tried with everything but weight decay fixed: one scale, learning rate and batch. Its answer always
comes with the neighbours that were tried on both sides. No weight decay at all (0) is a value like any other when it
comes to which was best, but it lies at no finite place on a logarithmic axis: where it is the lower neighbour, the best
value is known to be positive, not how small it might be. Weight decay is coupled to the learning rate here
(torch.optim.AdamW); `DecayRuns.of` converts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lawfit.errors import NotEnoughData
from lawfit.estimate.numerics.scoring import group_starts
from lawfit.estimate.numerics.snapping import PARAMS_TOLERANCE, SETTING_TOLERANCE, snap_horizons
from lawfit.estimate.numerics.sweeps import FLAT_BAND, MIN_SWEEP, sweep_parabola
from lawfit.findings import Found, finding
from lawfit.laws.timescale import DecayConvention, convert_weight_decay, timescale
from lawfit.records import OptimumStatus, Run

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

COUPLED: Final = DecayConvention.COUPLED.value
INDEPENDENT: Final = DecayConvention.INDEPENDENT.value
AS_SMALL: Final = "as small as tried"
AS_LARGE: Final = "as large as tried"
NEXT_RATIO: Final = 3.0  # between values proposed beyond an edge, where the sweep has no ratio of its own


def in_one_convention(runs: Sequence[Run], usual: str = COUPLED) -> tuple[list[Run], tuple[Found, ...]]:
    """Runs with weight decay coupled to the learning rate, and a note where some had it otherwise.

    The conversion is exact: both conventions follow the schedule, so equal shrinking per step is the same training.
    `usual` holds for runs that do not state theirs.
    """
    stated = [(run, str(run.extra.get("weight_decay_kind") or usual)) for run in runs]
    kinds = Counter(kind for run, kind in stated if run.weight_decay)
    notes: list[Found] = []
    if independent := kinds[INDEPENDENT]:
        notes.append(finding("weight_decay.independent", independent=independent, runs=len(runs)))
    if strange := sorted(set(kinds) - {COUPLED, INDEPENDENT}):
        count = sum(kinds[kind] for kind in strange)
        notes.append(finding("weight_decay.unknown_kind", runs=count, kinds=strange))
    return [
        replace(run, weight_decay=run.weight_decay / run.lr) if run.weight_decay and kind == INDEPENDENT else run
        for run, kind in stated
        if not run.weight_decay or kind in (COUPLED, INDEPENDENT)
    ], tuple(notes)


@dataclass(frozen=True, kw_only=True)
class DecayRuns:
    """Runs as columns, one recipe. Weight decay coupled to the learning rate; a loss that is not finite diverged."""

    params: Floats
    tokens: Floats
    batch_tokens: Floats
    lr: Floats  # peak
    weight_decay: Floats  # 0 or positive
    loss: Floats  # nats per token
    notes: tuple[Found, ...] = ()

    @classmethod
    def of(
        cls,
        params: ArrayLike,
        tokens: ArrayLike,
        batch_tokens: ArrayLike,
        lr: ArrayLike,
        weight_decay: ArrayLike,
        loss: ArrayLike,
        *,
        convention: DecayConvention = DecayConvention.COUPLED,
        notes: Sequence[Found] = (),
    ) -> DecayRuns:
        arrays = [np.asarray(a, dtype=float).ravel() for a in (params, tokens, batch_tokens, lr, weight_decay, loss)]
        if len({len(a) for a in arrays}) != 1:
            raise ValueError(f"columns differ in length: {[len(a) for a in arrays]}")
        n, d, b, x, w, y = arrays
        for name, a in (("params", n), ("tokens", d), ("batch_tokens", b), ("lr", x)):
            if not np.all((a > 0) & np.isfinite(a)):
                raise ValueError(f"{name} must be positive and finite in every row")
        if not np.all((w >= 0) & np.isfinite(w)):
            raise ValueError("weight_decay must be zero or positive and finite in every row")
        if np.any(y[np.isfinite(y)] <= 0):
            raise ValueError("a finite loss must be positive; give NaN for a diverged run")
        coupled = convert_weight_decay(w, x, convention, DecayConvention.COUPLED) if len(x) else w
        return cls(params=n, tokens=d, batch_tokens=b, lr=x, weight_decay=coupled, loss=y, notes=tuple(notes))

    @classmethod
    def of_runs(cls, runs: Sequence[Run], notes: Sequence[Found] = ()) -> DecayRuns:
        """The runs of one recipe; those that a person excluded, or without a weight decay, are counted in a note.

        Raises
        ------
        NotEnoughData
            No run states its weight decay.
        """
        stated = [r for r in runs if r.excluded is None and r.weight_decay is not None]
        if not stated:
            raise NotEnoughData(finding("weight_decay.none_stated", runs=len(runs)))
        silent = len(runs) - len(stated)
        usable = [r for r in stated if r.loss is None or r.loss > 0]  # a loss of zero or less has no logarithm
        columns = np.array(
            [
                (r.params, r.tokens, r.batch_tokens, r.lr, r.weight_decay, np.nan if r.loss is None else r.loss)
                for r in usable
            ],
            dtype=float,
        ).reshape(-1, 6)
        said = [finding("weight_decay.silent", runs=silent)] if silent else []
        n, d, b, x, w, y = columns.T
        return cls.of(n, d, b, x, w, y, notes=[*notes, *said])

    def __len__(self) -> int:
        return len(self.loss)

    def take(self, rows: NDArray[np.bool_] | Ints) -> DecayRuns:
        return DecayRuns(
            params=self.params[rows],
            tokens=self.tokens[rows],
            batch_tokens=self.batch_tokens[rows],
            lr=self.lr[rows],
            weight_decay=self.weight_decay[rows],
            loss=self.loss[rows],
            notes=self.notes,
        )

    def slices(self) -> Iterator[DecaySlice]:
        """One per (params, tokens, batch, lr), ascending; values within the usual tolerances are one."""
        params = _snapped(self.params, PARAMS_TOLERANCE)
        tokens = self.tokens.copy()
        for size in np.unique(params):
            rows = params == size
            tokens[rows] = np.exp(snap_horizons(np.log(self.tokens[rows]), np.log(self.batch_tokens[rows])))
        batch, lr = (_snapped(column, SETTING_TOLERANCE) for column in (self.batch_tokens, self.lr))
        unique, group = np.unique(np.column_stack([params, tokens, batch, lr]), axis=0, return_inverse=True)
        order = np.argsort(group.ravel(), kind="stable")
        for at, rows in zip(unique, np.split(order, np.cumsum(np.bincount(group.ravel()))[:-1]), strict=True):
            yield _slice(self.take(rows), at) if len(rows) > 1 else _slice_of_one(self, int(rows[0]), at)


@dataclass(frozen=True, kw_only=True)
class DecaySlice:
    """Everything tried at one scale, batch and learning rate. Repeats of a weight decay are averaged in log loss."""

    params: float
    tokens: float
    batch_tokens: float
    lr: float
    weight_decay: Floats  # distinct, ascending, of finished runs; 0 first where it was tried
    log_loss: Floats
    diverged: Floats  # weight decays of which every run diverged
    runs: int

    @property
    def scale(self) -> tuple[float, float]:
        return self.params, self.tokens

    def timescale(self, weight_decay: ArrayLike) -> Floats:
        return timescale(self.batch_tokens, self.lr, weight_decay, self.tokens)

    def cost(self, weight_decay: float) -> tuple[float, bool]:
        """Observed log loss at a weight decay above the slice's lowest, and whether it lies outside what was tried.

        Interpolated in ln weight decay, and between 0 and the smallest positive value in weight decay itself. Outside
        it is the cost of the nearest value: a lower bound, hence the flag.
        """
        positive = self.weight_decay > 0
        x, y = self.weight_decay, self.log_loss
        if not positive.any():
            raise ValueError("a slice without a positive weight decay prices nothing")
        smallest = float(x[positive][0])
        if weight_decay < smallest:
            zero = float(y[0]) if not positive[0] else float(y[positive][0])
            value = zero + (float(y[positive][0]) - zero) * weight_decay / smallest
            return value - float(y.min()), bool(positive[0])
        value = float(np.interp(np.log(weight_decay), np.log(x[positive]), y[positive]))
        return value - float(y.min()), bool(weight_decay > x[-1] * (1 + SETTING_TOLERANCE))


@dataclass(frozen=True, kw_only=True)
class DecayOptimum:
    """The best weight decay of one slice."""

    params: float
    tokens: float
    batch_tokens: float
    lr: float
    weight_decay: float  # NaN with no finished run; 0 where none at all was best
    timescale: float  # infinite at 0
    low: float  # neighbours tried: the best lies between them; NaN where there is none on that side
    high: float
    loss: float
    status: OptimumStatus
    bound: str  # AS_SMALL or AS_LARGE when AT_EDGE, else ""
    next_weight_decay: tuple[float, ...]
    tried: tuple[float, ...]
    runs: int
    diverged: int

    @property
    def timescale_bracket(self) -> tuple[float, float]:
        """Timescales of the neighbours tried, between which the best one lies; 0 and infinity where there is none.

        All that a sweep with a single positive value on one side can say, and enough to contradict a law.
        """
        per_decay = self.batch_tokens / (self.lr * self.tokens)
        low = per_decay / self.high if self.high > 0 else 0.0
        return low, per_decay / self.low if self.low > 0 else np.inf

    def to_json(self) -> dict[str, Any]:
        """JSON values: what is not finite is null."""
        document: dict[str, Any] = {
            name: _finite(getattr(self, name))
            for name in ("params", "tokens", "batch_tokens", "lr", "weight_decay", "timescale", "low", "high", "loss")
        }
        return document | {
            "status": self.status.value,
            "bound": self.bound,
            "timescale_bracket": [_finite(end) for end in self.timescale_bracket],
            "next_weight_decay": list(self.next_weight_decay),
            "tried": list(self.tried),
            "runs": self.runs,
            "diverged": self.diverged,
        }


def locate_weight_decay(runs: DecayRuns) -> tuple[DecayOptimum, ...]:
    """The best weight decay along every slice in which two or more values were tried.

    A parabola in ln weight decay places it where the best value has tried and finished positive neighbours on both
    sides; otherwise it is the best value itself, with its neighbours as all that is known.
    """
    return locate_in_slices(runs.slices())


def locate_in_slices(slices: Iterable[DecaySlice]) -> tuple[DecayOptimum, ...]:
    """The same, of slices made before."""
    return tuple(_locate(part) for part in slices if len(part.weight_decay) + len(part.diverged) > 1)


def _locate(part: DecaySlice) -> DecayOptimum:
    x, y = part.weight_decay, part.log_loss
    tried = np.unique(np.concatenate([x, part.diverged]))
    if not len(x):
        return _optimum(part, np.nan, np.nan, OptimumStatus.TOO_FEW, tried, "", ())
    best = int(np.argmin(y))
    at = int(np.searchsorted(tried, x[best]))
    value, log_loss = float(x[best]), float(y[best])
    if len(tried) < MIN_SWEEP:
        beyond = (*_beyond(tried, upwards=False), *_beyond(tried, upwards=True))
        return _optimum(part, value, log_loss, OptimumStatus.TOO_FEW, tried, "", beyond)
    if float(np.ptp(y)) < FLAT_BAND:
        beyond = _beyond(tried, upwards=True)
        return _optimum(part, value, log_loss, OptimumStatus.FLAT, tried, "", beyond)
    if at in (0, len(tried) - 1):
        bound = AS_LARGE if at else AS_SMALL
        beyond = _beyond(tried, upwards=at > 0)
        return _optimum(part, value, log_loss, OptimumStatus.AT_EDGE, tried, bound, beyond)
    positive = x > 0
    if positive.sum() >= MIN_SWEEP and value > x[positive][0] and value < x[-1]:
        vertex = sweep_parabola(x[positive], np.exp(y[positive]))
        if vertex.status is OptimumStatus.INSIDE:
            return _optimum(
                part, vertex.value, float(np.log(vertex.loss)), OptimumStatus.INSIDE, tried, "", (), around=value
            )
    # between 0 (or a diverged value) and another one: inside, but where is not resolved
    beyond = _beyond(tried, upwards=False) if tried[at - 1] == 0 else ()
    return _optimum(part, value, log_loss, OptimumStatus.INSIDE, tried, "", beyond)


def _optimum(
    part: DecaySlice,
    value: float,
    log_loss: float,
    status: OptimumStatus,
    tried: Floats,
    bound: str,
    beyond: tuple[float, ...],
    *,
    around: float | None = None,
) -> DecayOptimum:
    best = value if around is None else around
    below, above = tried[tried < best * (1 - 1e-9)], tried[tried > best * (1 + 1e-9)]
    return DecayOptimum(
        params=part.params,
        tokens=part.tokens,
        batch_tokens=part.batch_tokens,
        lr=part.lr,
        weight_decay=value,
        timescale=float(part.timescale(value)) if np.isfinite(value) else np.nan,
        low=float(below[-1]) if len(below) else np.nan,
        high=float(above[0]) if len(above) else np.nan,
        loss=float(np.exp(log_loss)),
        status=status,
        bound=bound,
        next_weight_decay=beyond,
        tried=tuple(float(v) for v in tried),
        runs=part.runs,
        diverged=len(part.diverged),
    )


def _beyond(tried: Floats, *, upwards: bool) -> tuple[float, ...]:
    """Two values further on, at the sweep's own ratio; below the smallest positive value there is always room."""
    positive = tried[tried > 0]
    if not len(positive):
        return (0.1,)  # only 0 was tried: the value that most recipes start from
    ratio = float(np.exp(np.median(np.diff(np.log(positive))))) if len(positive) > 1 else NEXT_RATIO
    start = float(positive[-1] if upwards else positive[0])
    values = [start * ratio ** (k if upwards else -k) for k in (1, 2)]
    return tuple(values if upwards else reversed(values))


def _slice(rows: DecayRuns, at: Floats) -> DecaySlice:
    finished = np.isfinite(rows.loss)
    values = _distinct(rows.weight_decay)
    done, log_loss, gone = [], [], []
    for value in np.unique(values):
        mine = values == value
        if (mine & finished).sum() * 2 > mine.sum():  # as elsewhere: half of the seeds lost is a diverged setting
            done.append(value)
            log_loss.append(float(np.log(rows.loss[mine & finished]).mean()))
        else:
            gone.append(value)
    params, tokens, batch, lr = (float(value) for value in at)
    return DecaySlice(
        params=params,
        tokens=tokens,
        batch_tokens=batch,
        lr=lr,
        weight_decay=np.array(done),
        log_loss=np.array(log_loss),
        diverged=np.array(gone),
        runs=len(rows),
    )


def _slice_of_one(runs: DecayRuns, row: int, at: Floats) -> DecaySlice:
    """`_slice` of a single run: of a grid that varies no weight decay, there are as many as runs."""
    loss, decay = runs.loss[row], runs.weight_decay[row : row + 1].copy()
    finished = bool(np.isfinite(loss))
    nothing = np.empty(0)
    params, tokens, batch, lr = at.tolist()
    return DecaySlice(
        params=params,
        tokens=tokens,
        batch_tokens=batch,
        lr=lr,
        weight_decay=decay if finished else nothing,
        log_loss=np.log(runs.loss[row : row + 1]) if finished else nothing,
        diverged=nothing if finished else decay,
        runs=1,
    )


def _distinct(values: Floats) -> Floats:
    """Weight decays, those within the tolerance of each other as one; 0 stays 0."""
    merged = np.zeros(len(values))
    positive = values > 0
    if positive.any():
        merged[positive] = _snapped(values[positive], SETTING_TOLERANCE)
    return merged


def _snapped(values: Floats, tolerance: float) -> Floats:
    """Values, each replaced by the lowest of those within the tolerance of it."""
    order = np.argsort(values, kind="stable")
    starts = group_starts(np.log(values[order]), tolerance)
    lowest = np.empty(len(values))
    lowest[order] = np.repeat(values[order][starts], np.diff([*starts, len(values)]))
    return lowest


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
