"""The hyperbola through steps at several batches (arXiv 1812.06162), with an interval for its critical batch.

For a given doubling batch b / a the curve ``steps = a + b / batch`` has one free level, so its fit in logs is a search
along one line: global, without a starting point, and the same scan gives the interval, which is open on a side where
the batches tried do not bend the curve.

That steps follow a hyperbola is an assumption, and the tables of Zhang et al. bend a little more sharply. So the same
fit is made with other bends, ``(1 + (B_s / B)^p)^(1 / p)``; the critical batch is the hyperbola's, whose definitions
convert exactly, and its interval is widened by how far the bends that the steps allow would move it. The bend is a
property of the recipe: sizes share it, so it moves the level of a law and hardly its exponent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lawfit.errors import FitError
from lawfit.estimate.critical.batch import CriticalBatch, CriticalStatus
from lawfit.estimate.numerics.sweeps import same_value
from lawfit.findings import Found, finding
from lawfit.laws.critical_batch import DOUBLING, Definition, Hyperbola

Floats = NDArray[np.float64]

MIN_BATCHES: Final = 3  # two parameters, and one more to see whether they describe the rest
ZOOMS: Final = 7  # of the scan: to 1e-9 of its first step, finer than a minimum shows in doubles
ZOOM_POINTS: Final = 41
SCAN_POINTS: Final = 400
SCAN_REACH: Final = 1e3  # the doubling batch is looked for this far beyond the batches tried
BENDS: Final = (0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.35, 1.5)  # p; a hyperbola is 1
BEND_PRIOR: Final = 0.2  # sd of p around 1; Zhang's four tables prefer 1.2 to 1.3
LEAST_SD: Final = 1e-6  # of log steps: noise-free tables have a fit as well


@dataclass(frozen=True, kw_only=True)
class Bend:
    """The curve with one sharpness p, and how likely it is."""

    sharpness: float
    scale_tokens: float
    weight: float


@dataclass(frozen=True, kw_only=True)
class HyperbolaFit:
    """Steps to one target loss against the batch, at one model size.

    `doubling_low` and `doubling_high` are the hyperbola's own; `critical` gives those that allow for its bend.
    """

    curve: Hyperbola
    doubling_low: float  # of a `level` interval, tokens; 0 where open
    doubling_high: float  # infinite where open
    level: float
    doubling_log_sd: float  # infinite where an end is open
    status: CriticalStatus
    next_batch_tokens: tuple[float, ...]  # what to try where an end is open
    bends: tuple[Bend, ...]  # how sharply the curve may turn, adding up to 1
    residual_sd: float  # of ln steps
    batches: Floats  # tokens per step, ascending
    log_residuals: Floats  # ln steps - ln fitted steps, one per batch
    params: float | None
    target_loss: float | None
    notes: tuple[Found, ...]  # which batches did not enter, and why

    def critical(self, definition: Definition = DOUBLING, *, estimator: str = "E4") -> CriticalBatch:
        """The critical batch by a definition, with the interval carried through it."""
        value = self.curve.critical_batch_tokens(definition)
        moves = np.array([np.log(float(definition.of_bend(b.scale_tokens, b.sharpness)) / value) for b in self.bends])
        weights = np.array([bend.weight for bend in self.bends])
        down, up = (float(np.sqrt(weights @ np.where(side, moves, 0.0) ** 2)) for side in (moves < 0, moves > 0))
        share = definition.fraction * self.curve.doubling_batch_tokens / value  # d ln value / d ln doubling
        reference = definition.reference_batch_tokens
        return CriticalBatch(
            definition=definition,
            value_tokens=value,
            low_tokens=_widened(value, float(definition.of_doubling(self.doubling_low)), down, self.level),
            high_tokens=_widened(value, float(definition.of_doubling(self.doubling_high)), up, self.level),
            level=self.level,
            status=self.status,
            estimator=estimator,
            params=self.params,
            tokens=float(self.curve.tokens(reference)) if reference else self.curve.tokens_min,
            loss=self.target_loss,
            log_sd=share * self.doubling_log_sd,
            form_log_sd=float(np.hypot(down, up)),
        )


def fit_hyperbola(
    batch_tokens: ArrayLike,
    steps: ArrayLike,
    *,
    level: float = 0.9,
    params: float | None = None,
    target_loss: float | None = None,
    from_best: bool = False,
) -> HyperbolaFit:
    """``steps = a + b / batch`` by least squares in logs, with a profile interval for the doubling batch b / a.

    Parameters
    ----------
    batch_tokens : (n,) positive floats, tokens per step
        Repeats of one batch (within 0.2 %) count by their fewest steps: the best of a sweep at that batch (E4).
    steps : (n,) positive floats
        Optimizer steps to one and the same target loss, at one model size.
    from_best : bool
        Leave out batches below the one that needs the fewest tokens. With weight decay held fixed, small batches need
        more tokens than middle ones, which no hyperbola does; what is asked is where larger ones stop paying.

    Raises
    ------
    FitError
        Fewer than 3 different batches (of those that are not left out).
    """
    batch, needed = fewest_steps(batch_tokens, steps)
    notes: tuple[Found, ...] = ()
    if from_best and len(batch) >= MIN_BATCHES:
        batch, needed, notes = _from_best(batch, needed)
    if len(batch) < MIN_BATCHES:
        raise FitError(finding("critical.few_batches", batches=len(batch), needed=MIN_BATCHES))
    log_steps = np.log(needed)
    log_doubling, log_steps_min = best_curve(batch, log_steps)
    least = float(_misfit(np.array([log_doubling]), batch, log_steps)[0])
    dof = len(batch) - 2
    variance = max(least / dof, LEAST_SD**2)
    low, high = _profile_interval(log_doubling, least, variance, dof, level, batch, log_steps)
    doubling = float(np.exp(log_doubling))
    curve = Hyperbola(steps_min=float(np.exp(log_steps_min)), tokens_min=float(np.exp(log_steps_min) * doubling))
    bends = _bends(batch, log_steps)
    status, beyond = _status(doubling, low, high, batch)
    return HyperbolaFit(
        curve=curve,
        doubling_low=low,
        doubling_high=high,
        level=level,
        doubling_log_sd=_sd_of(low, high, dof, level),
        status=status,
        next_batch_tokens=beyond,
        bends=bends,
        residual_sd=float(np.sqrt(variance)),
        batches=batch,
        log_residuals=log_steps - log_steps_min - np.log1p(doubling / batch),
        notes=notes,
        params=params,
        target_loss=target_loss,
    )


def best_curve(batch: Floats, log_steps: Floats) -> tuple[float, float]:
    """(ln doubling batch, ln of the fewest steps) of the hyperbola that fits best: the global minimum of a scan."""
    log_scan = np.log(np.geomspace(batch[0] / SCAN_REACH, batch[-1] * SCAN_REACH, SCAN_POINTS))
    at = int(np.argmin(_misfit(log_scan, batch, log_steps)))
    log_doubling = _refine(log_scan, at, batch, log_steps)
    return log_doubling, float(np.mean(log_steps - np.log1p(np.exp(log_doubling) / batch)))


def share_bends(fits: Sequence[HyperbolaFit]) -> tuple[HyperbolaFit, ...]:
    """Curves of one recipe bend alike: each gets the evidence of all. Targets of one size are one piece of evidence."""
    if not fits:
        return ()
    prior = _bend_prior()
    targets = Counter(fit.params for fit in fits)
    log_weight = prior.copy()
    for fit in fits:
        own = np.log([max(bend.weight, 1e-300) for bend in fit.bends])
        log_weight += (own - prior) / targets[fit.params]
    weights = np.exp(log_weight - log_weight.max())
    weights /= weights.sum()
    return tuple(
        replace(fit, bends=tuple(replace(b, weight=float(w)) for b, w in zip(fit.bends, weights, strict=True)))
        for fit in fits
    )


def fewest_steps(batch_tokens: ArrayLike, steps: ArrayLike) -> tuple[Floats, Floats]:
    """Distinct batches ascending, and the fewest steps at each."""
    batch, needed = (np.asarray(x, dtype=float).ravel() for x in (batch_tokens, steps))
    if len(batch) != len(needed):
        raise ValueError(f"one number of steps per batch, got {len(batch)} batches and {len(needed)} numbers")
    for name, array in (("batch_tokens", batch), ("steps", needed)):
        if not np.all((array > 0) & np.isfinite(array)):
            raise ValueError(f"{name} must be positive and finite in every row")
    if not len(batch):
        return batch, needed
    index = same_value(batch)
    fewest = np.full(index.max() + 1, np.inf)
    np.minimum.at(fewest, index, needed)
    return np.exp(np.bincount(index, weights=np.log(batch)) / np.bincount(index)), fewest


def _from_best(batch: Floats, needed: Floats) -> tuple[Floats, Floats, tuple[Found, ...]]:
    tokens = batch * needed
    best = int(np.argmin(tokens))
    if len(batch) - best < MIN_BATCHES:
        raise FitError(finding("critical.few_larger", batch_tokens=batch[best], larger=len(batch) - 1 - best))
    waste = float(tokens[:best].max(initial=0.0) / tokens[best])
    notes = (finding("critical.below_best", batches=best, waste=waste),) if best else ()
    return batch[best:], needed[best:], notes


def _bend_prior() -> Floats:
    return np.asarray(np.log(np.gradient(BENDS)) - 0.5 * ((np.array(BENDS) - 1) / BEND_PRIOR) ** 2)


def _bends(batch: Floats, log_steps: Floats) -> tuple[Bend, ...]:
    """The best curve of each sharpness, weighted by prior and misfit (Gaussian errors of unknown size)."""
    log_scan = np.log(np.geomspace(batch[0] / SCAN_REACH, batch[-1] * SCAN_REACH, SCAN_POINTS))
    scales, misfits = [], []
    for p in BENDS:
        at = int(np.argmin(_misfit(log_scan, batch, log_steps, p)))
        scales.append(_refine(log_scan, at, batch, log_steps, p))
        misfits.append(float(_misfit(np.array([scales[-1]]), batch, log_steps, p)[0]))
    floor = len(batch) * LEAST_SD**2
    log_weight = _bend_prior() - 0.5 * max(len(batch) - 2, 0) * np.log(np.array(misfits) + floor)
    weights = np.exp(log_weight - log_weight.max())
    return tuple(
        Bend(sharpness=p, scale_tokens=float(np.exp(scale)), weight=float(weight))
        for p, scale, weight in zip(BENDS, scales, weights / weights.sum(), strict=True)
    )


def _widened(value: float, end: float, by: float, level: float) -> float:
    """One end of an interval, moved out in logs by what is not known about the form; an open end stays open."""
    from scipy.special import ndtri

    if not (0 < end < np.inf):
        return end
    reach = float(np.hypot(np.log(end / value), ndtri(0.5 + level / 2) * by))
    return value * float(np.exp(reach if end > value else -reach))


def _misfit(log_doubling: Floats, batch: Floats, log_steps: Floats, sharpness: float = 1.0) -> Floats:
    """Sum of squared log residuals for each doubling batch, the level of the curve being free."""
    left = log_steps - np.log1p((np.exp(log_doubling)[:, None] / batch) ** sharpness) / sharpness
    return np.asarray(((left - left.mean(axis=1, keepdims=True)) ** 2).sum(axis=1))


def _refine(log_scan: Floats, at: int, batch: Floats, log_steps: Floats, sharpness: float = 1.0) -> float:
    """The minimum between the neighbours of the best point of the scan, by scans that are each 20 times finer."""
    low, high = log_scan[max(0, at - 1)], log_scan[min(len(log_scan) - 1, at + 1)]
    for _ in range(ZOOMS):
        finer = np.linspace(low, high, ZOOM_POINTS)
        best = int(np.argmin(_misfit(finer, batch, log_steps, sharpness)))
        low, high = finer[max(0, best - 1)], finer[min(ZOOM_POINTS - 1, best + 1)]
    return float(0.5 * (low + high))


def _profile_interval(
    best: float, least: float, variance: float, dof: int, level: float, batch: Floats, log_steps: Floats
) -> tuple[float, float]:
    """Doubling batches whose misfit is not significantly larger; 0 or infinity where the scan never leaves them."""
    from scipy.stats import t

    allowed = least + variance * float(t.ppf(0.5 + level / 2, dof)) ** 2
    ends = []
    for limit, step in ((np.log(batch[0] / SCAN_REACH), -1.0), (np.log(batch[-1] * SCAN_REACH), 1.0)):
        path = np.linspace(best, max(limit, best) if step > 0 else min(limit, best), SCAN_POINTS)
        beyond = np.flatnonzero(_misfit(path, batch, log_steps) > allowed)
        if not len(beyond):
            ends.append(np.inf * step)
            continue
        inside, outside = path[beyond[0] - 1], path[beyond[0]]
        for _ in range(50):
            middle = 0.5 * (inside + outside)
            if float(_misfit(np.array([middle]), batch, log_steps)[0]) > allowed:
                outside = middle
            else:
                inside = middle
        ends.append(float(inside))
    return float(np.exp(ends[0])), float(np.exp(ends[1]))


def _sd_of(low: float, high: float, dof: int, level: float) -> float:
    """The sd of a normal as wide as the interval: it already holds Student's quantile for few batches."""
    from scipy.special import ndtri

    if low <= 0 or not np.isfinite(high) or dof < 1:
        return float("inf")
    return float((np.log(high) - np.log(low)) / (2 * ndtri(0.5 + level / 2)))


def _status(doubling: float, low: float, high: float, batch: Floats) -> tuple[CriticalStatus, tuple[float, ...]]:
    ratio = float(np.exp(np.median(np.diff(np.log(batch)))))
    above = tuple(float(batch[-1] * ratio**k) for k in (1, 2))
    below = tuple(float(batch[0] / ratio**k) for k in (1, 2))
    if low <= 0 and not np.isfinite(high):
        return CriticalStatus.TOO_FEW, (*reversed(below), *above)
    if not np.isfinite(high) or doubling > batch[-1]:
        return CriticalStatus.ABOVE_TRIED, above
    if low <= 0 or doubling < batch[0]:
        return CriticalStatus.BELOW_TRIED, below
    return CriticalStatus.INSIDE, ()
