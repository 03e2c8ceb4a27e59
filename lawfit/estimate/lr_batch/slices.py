"""The best learning rate of every sweep of a recipe (one size, horizon and batch), all fitted at once.

In x = ln lr the log loss of slice i is ``floor_i + h(x - a_i; q) + noise``: one valley for the recipe, steep towards
instability and flatter towards undertraining,

    h(u) = A (exp(-p u) - 1 + p u) / p^2 + B (exp(r u) - 1 - r u) / r^2        (curvature A + B at the optimum),

an optimum of its own for each slice, and noise that differs from slice to slice. No published law lends anything: the
question is whether the optimum moves, and a loan would answer it. Floors and optima are eliminated slice by slice
(Schur complement), so a step is a few array operations whatever the number of slices.

How far above its lowest loss a run may lie to enter is a choice that moves the answer (far from the optimum no one
valley holds): the fit is made for the three narrowest windows that hold a valley's worth of runs, averaged, and their
disagreement is part of the uncertainty.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lawfit.errors import NotEnoughData
from lawfit.estimate.observe.observations import Observations
from lawfit.findings import finding
from lawfit.records import OptimumStatus

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
Bools = NDArray[np.bool_]

WINDOWS: Final = (0.0075, 0.015, 0.03, 0.06, 0.12, 0.25)  # of log loss above the lowest of the slice
WINDOWS_USED: Final = 3
RUNS_INSIDE: Final = 5.0  # that a window holds in the typical slice, or it is too narrow to show a valley
MIN_RUNS: Final = 3  # learning rates that finished, for a slice to show a valley
MIN_INSIDE: Final = 4  # learning rates nearest to the best that enter however narrow the window
EDGE_SLACK: Final = 0.05  # ln units: an optimum this close to the last learning rate tried has not been bracketed
# ln A, ln B, ln p, ln r: twice or half the best learning rate costs some 0.3 % of loss, give or take a factor of 4.5
_PRIOR_MEAN: Final = np.array([np.log(0.006), np.log(0.006), 0.0, 0.0])
_PRIOR_SD: Final = np.array([1.5, 1.5, 0.4, 0.4])
_CENTRE_SD: Final = 3.0  # nats around the middle of what a slice tried: one without a valley stays near
_NOISE: Final = 0.002  # sd of log loss before the runs speak
_NOISE_RUNS: Final = 3.0  # runs that the typical noise counts for against a slice's own residuals
_NOISE_FLOOR: Final = 1e-5
_STEEPEST: Final = 6.0  # e-folds beyond which an exponential goes on straight: far outside every window
# A valley has another shape than ours, and not quite the same at each size: sd (ln lr) by which that misplaces all
# optima together, and each by itself. Set on simulated sweeps with other valleys (tests/benchmarks/lr_transfer.py,
# seed 1; the figures reported come from another seed).
_MISSHAPEN_TOGETHER: Final = 0.1
_MISSHAPEN: Final = 0.05
_ROUNDS: Final = 4
_MOST_STEPS: Final = 200
_NEAR: Final = 0.03  # standard errors from the minimum: far below what an interval could show


@dataclass(frozen=True, kw_only=True)
class LrSlices:
    """Sweeps of the learning rate, one row per slice."""

    params: Floats  # (slices,)
    tokens: Floats
    batch_tokens: Floats
    runs: Ints
    lowest: Floats  # nats per token, of the runs
    best_tried: Floats  # learning rate of that run
    log_lr: Floats  # ln of the fitted best learning rate
    log_sd: Floats  # of `log_lr`, apart from what all slices share
    shared_log_sd: float
    log_loss: Floats  # fitted ln of the loss at the optimum
    status: tuple[OptimumStatus, ...]
    edge: tuple[str, ...]  # "low" or "high" where the best learning rate is at the edge of what was tried
    valley: Floats  # (4,) ln A, ln B, ln p, ln r, mean over windows
    noise: Floats  # (slices,) sd of log loss
    converged: bool

    def __len__(self) -> int:
        return len(self.params)

    @property
    def inside(self) -> Bools:
        return np.array([status is OptimumStatus.INSIDE for status in self.status], dtype=bool)


def cost_of_shift(valley: Floats, shift: float) -> float:
    """Share of loss given up by a learning rate `shift` nats above the best one (below it: negative)."""
    return float(np.expm1(_valley(np.array([shift]), valley)[0][0]))


def fit_lr_slices(observed: Observations) -> LrSlices:
    """The best learning rate of every (params, tokens, batch) with `MIN_RUNS` or more finished learning rates.

    Raises
    ------
    NotEnoughData
        There is no such slice.
    """
    points = _Points.of(observed)
    fits = [_fit(points, window) for window in points.windows()]
    centres = np.array([fit.centre for fit in fits])
    centre = centres.mean(axis=0)
    # what the windows disagree on: as a whole (shared), and slice by slice
    apart = centres - centre
    together = apart.mean(axis=1)
    own = np.mean([fit.own for fit in fits], axis=0) + (apart - together[:, None]).var(axis=0) + _MISSHAPEN**2
    shared = np.mean([fit.shared for fit in fits]) + together.var() + _MISSHAPEN_TOGETHER**2
    status, edge = points.status(centre, fits[0].noise)
    return LrSlices(
        params=points.params,
        tokens=points.tokens,
        batch_tokens=points.batch_tokens,
        runs=points.counts,
        lowest=np.exp(points.lowest),
        best_tried=np.exp(points.best),
        log_lr=centre,
        log_sd=np.sqrt(own),
        shared_log_sd=float(np.sqrt(shared)),
        log_loss=np.mean([fit.floor for fit in fits], axis=0),
        status=status,
        edge=edge,
        valley=np.mean([fit.valley for fit in fits], axis=0),
        noise=np.mean([fit.noise for fit in fits], axis=0),
        converged=all(fit.converged for fit in fits),
    )


@dataclass(frozen=True, kw_only=True)
class _Points:
    """Runs sorted by slice."""

    params: Floats
    tokens: Floats
    batch_tokens: Floats
    slice: Ints  # (n,)
    x: Floats  # (n,) ln lr
    y: Floats  # (n,) log loss
    seeds: Floats  # (n,) runs behind each
    tried_high: Floats  # (slices,) ln of the largest learning rate tried, diverged runs included

    @classmethod
    def of(cls, observed: Observations) -> _Points:
        keys, index = np.unique(np.column_stack([observed.cell, observed.log_batch]), axis=0, return_inverse=True)
        index = index.ravel()
        enough = np.flatnonzero(np.bincount(index) >= MIN_RUNS)
        if not len(enough):
            raise NotEnoughData(finding("lr_batch.no_sweep", needed=MIN_RUNS))
        number = np.full(len(keys), -1, dtype=np.intp)
        number[enough] = np.arange(len(enough))
        rows = np.flatnonzero(number[index] >= 0)
        rows = rows[np.lexsort((observed.log_lr[rows], number[index[rows]]))]
        place = number[index[rows]]
        cell = keys[enough, 0].astype(int)
        high = np.full(len(enough), -np.inf)
        np.maximum.at(high, place, observed.log_lr[rows])
        for at in range(len(observed.diverged_cell)):
            same = (cell == observed.diverged_cell[at]) & (
                np.abs(keys[enough, 1] - observed.diverged_log_batch[at]) < 1e-3
            )
            high[same] = np.maximum(high[same], observed.diverged_log_lr[at])
        return cls(
            params=observed.params[cell],
            tokens=observed.tokens[cell],
            batch_tokens=np.array([float(f"{b:.9g}") for b in np.exp(keys[enough, 1])]),  # not 8192.000000001
            slice=place,
            x=observed.log_lr[rows],
            y=observed.log_loss[rows],
            seeds=observed.seeds[rows],
            tried_high=high,
        )

    def __len__(self) -> int:
        return len(self.params)

    @property
    def counts(self) -> Ints:
        return np.bincount(self.slice, minlength=len(self)).astype(np.intp)

    @property
    def lowest(self) -> Floats:
        found = np.full(len(self), np.inf)
        np.minimum.at(found, self.slice, self.y)
        return found

    @property
    def best(self) -> Floats:
        """(slices,) ln lr of the lowest loss."""
        order = np.lexsort((self.y, self.slice))
        first = np.searchsorted(self.slice[order], np.arange(len(self)))
        return self.x[order][first]

    def total(self, values: Floats) -> Floats:
        return np.bincount(self.slice, weights=values, minlength=len(self)).astype(np.float64)

    def windows(self) -> tuple[float, ...]:
        """The narrowest of `WINDOWS` that hold enough runs of the typical slice."""
        above = self.y - self.lowest[self.slice]
        wanted = min(RUNS_INSIDE, float(np.median(self.counts)))
        held = [w for w in WINDOWS if np.median(self.total((above <= w).astype(float))) >= wanted]
        return tuple(held[:WINDOWS_USED]) or (WINDOWS[-1],)

    def within(self, window: float) -> Bools:
        """Runs close enough in loss, and the `MIN_INSIDE` nearest in learning rate to the best one."""
        distance = np.abs(self.x - self.best[self.slice])
        order = np.lexsort((distance, self.slice))
        rank = np.empty(len(order), dtype=np.intp)
        starts = np.searchsorted(self.slice[order], np.arange(len(self)))
        rank[order] = np.arange(len(order)) - starts[self.slice[order]]
        return (self.y <= self.lowest[self.slice] + window) | (rank < MIN_INSIDE)

    def take(self, rows: Bools) -> _Points:
        return _Points(
            params=self.params,
            tokens=self.tokens,
            batch_tokens=self.batch_tokens,
            slice=self.slice[rows],
            x=self.x[rows],
            y=self.y[rows],
            seeds=self.seeds[rows],
            tried_high=self.tried_high,
        )

    def status(self, centre: Floats, noise: Floats) -> tuple[tuple[OptimumStatus, ...], tuple[str, ...]]:
        """Whether each slice brackets its optimum: an optimum outside what was tried is never one."""
        low = np.full(len(self), np.inf)
        np.minimum.at(low, self.slice, self.x)
        highest = np.full(len(self), -np.inf)
        np.maximum.at(highest, self.slice, self.y)
        found, edges = [], []
        for at in range(len(self)):
            best = min(centre[at], self.best[at]), max(centre[at], self.best[at])
            edge = ""
            if best[0] < low[at] + EDGE_SLACK:
                edge = "low"
            elif best[1] > self.tried_high[at] - EDGE_SLACK:
                edge = "high"
            flat = highest[at] - self.lowest[at] < 3 * noise[at]
            found.append(OptimumStatus.FLAT if flat else OptimumStatus.AT_EDGE if edge else OptimumStatus.INSIDE)
            edges.append(edge)
        return tuple(found), tuple(edges)


@dataclass(frozen=True, kw_only=True)
class _Fit:
    centre: Floats  # (slices,)
    own: Floats  # (slices,) variance of `centre`, less what is shared
    shared: float
    floor: Floats
    valley: Floats
    noise: Floats
    converged: bool


def _fit(points: _Points, window: float) -> _Fit:
    """The posterior mode for one window: damped Newton steps, with the noise of the slices updated in between."""
    middle = points.total(points.x) / points.counts
    chosen = points.take(points.within(window))
    at = _Place(centre=points.best, floor=points.lowest, valley=_PRIOR_MEAN)
    noise = np.full(len(points), _NOISE)
    for _ in range(_ROUNDS):
        at, _done = _mode(chosen, at, noise, middle)
        noise = _noise(chosen, at)
    at, converged = _mode(chosen, at, noise, middle)
    system = _System.at(chosen, at, noise, middle, curved=False)
    pull = system.pull[:, 1]  # of the optima
    common = np.einsum("sk,kl,sl->s", pull, np.linalg.inv(system.left), pull)
    shared = float(common.min())
    return _Fit(
        centre=at.centre,
        own=system.inverse[:, 1, 1] + common - shared,
        shared=shared,
        floor=at.floor,
        valley=at.valley,
        noise=noise,
        converged=converged,
    )


@dataclass(frozen=True, kw_only=True)
class _Place:
    """One point of the search."""

    centre: Floats  # (slices,)
    floor: Floats  # (slices,)
    valley: Floats  # (4,)


def _mode(points: _Points, at: _Place, noise: Floats, middle: Floats) -> tuple[_Place, bool]:
    current = _objective(points, at, noise, middle)
    damping = 1e-3
    for _ in range(_MOST_STEPS):
        system = _System.at(points, at, noise, middle, curved=True)
        if system.distance < _NEAR:
            return at, True
        for _ in range(15):
            trial = system.moved(at, damping)
            value = _objective(points, trial, noise, middle)
            if value < current:
                break
            damping = max(damping * 6, 1e-6)
        else:
            return at, False  # no way down although this is not the bottom
        at, current = trial, value
        damping = max(damping / 8, 1e-10)
    return at, False


def _valley(u: Floats, q: Floats) -> tuple[Floats, Floats, Floats]:
    """h, dh/du (n,) and dh/dq (4, n)."""
    by_q = np.empty((4, len(u)))
    h, by_u = np.zeros_like(u), np.zeros_like(u)
    for at, sign in ((0, -1.0), (1, 1.0)):
        amplitude, rate = np.exp(q[at]), np.exp(q[at + 2])
        e = sign * rate * u
        near = np.minimum(e, _STEEPEST)
        grown = np.expm1(near)
        bent = grown - near + grown * (e - near)
        h += amplitude * bent / rate**2
        by_u += sign * amplitude * grown / rate
        by_q[at] = amplitude * bent / rate**2
        by_q[at + 2] = amplitude * (grown * e - 2 * bent) / rate**2
    return h, by_u, by_q


def _residuals(points: _Points, at: _Place) -> tuple[Floats, Floats, Floats]:
    """Residuals (n,), and the derivatives of the prediction by the optimum (n,) and by the valley (4, n)."""
    h, by_u, by_q = _valley(points.x - at.centre[points.slice], at.valley)
    return points.y - h - at.floor[points.slice], -by_u, by_q


def _objective(points: _Points, at: _Place, noise: Floats, middle: Floats) -> float:
    e = _residuals(points, at)[0] / noise[points.slice]
    robust = 2 * (np.sqrt(1 + e**2) - 1)
    off = (at.valley - _PRIOR_MEAN) / _PRIOR_SD
    return float(points.seeds @ robust + off @ off + (((at.centre - middle) / _CENTRE_SD) ** 2).sum())


@dataclass(frozen=True, kw_only=True)
class _System:
    """Normal equations with the floor and the optimum of each slice eliminated."""

    block: Floats  # (slices, 2, 2) information on (floor, optimum)
    inverse: Floats
    pull: Floats  # (slices, 2, 4) how these two follow the valley
    left: Floats  # (4, 4) information on the valley
    gradient: Floats  # (4,)
    own: Floats  # (slices, 2) gradient of floor and optimum
    distance: float  # of the remaining step, in standard errors

    @classmethod
    def at(cls, points: _Points, at: _Place, noise: Floats, middle: Floats, *, curved: bool) -> _System:
        """`curved`: second derivatives of the robust loss (quick steps), else its weights (for the covariance)."""
        e, by_centre, by_valley = _residuals(points, at)
        sd = noise[points.slice]
        bend = 1 + (e / sd) ** 2
        slope = points.seeds / np.sqrt(bend) / sd**2 * e
        weight = points.seeds / (bend * np.sqrt(bend) if curved else np.sqrt(bend)) / sd**2
        total = points.total
        block = np.empty((len(points), 2, 2))
        block[:, 0, 0] = total(weight) + 1e-12 / noise**2
        block[:, 0, 1] = block[:, 1, 0] = total(weight * by_centre)
        block[:, 1, 1] = total(weight * by_centre**2) + 1 / _CENTRE_SD**2
        cross = np.stack(
            [[total(weight * row) for row in by_valley], [total(weight * by_centre * row) for row in by_valley]]
        ).transpose(2, 0, 1)  # (slices, 2, 4)
        own = np.column_stack([total(slope), total(slope * by_centre) - (at.centre - middle) / _CENTRE_SD**2])
        inverse = np.asarray(np.linalg.inv(block), dtype=float)
        pull = inverse @ cross
        left = (by_valley * weight) @ by_valley.T + np.diag(1 / _PRIOR_SD**2) - np.einsum("sik,sil->kl", cross, pull)
        gradient = by_valley @ slope - (at.valley - _PRIOR_MEAN) / _PRIOR_SD**2 - np.einsum("sik,si->k", pull, own)
        far = float(gradient @ np.linalg.solve(left, gradient)) + float(np.einsum("si,sij,sj->", own, inverse, own))
        return cls(
            block=block,
            inverse=inverse,
            pull=pull,
            left=left,
            gradient=gradient,
            own=own,
            distance=float(np.sqrt(max(far, 0.0))),
        )

    def moved(self, at: _Place, damping: float) -> _Place:
        valley = np.linalg.solve(self.left + damping * np.diag(np.diag(self.left)), self.gradient)
        damped = self.block.copy()
        damped[:, [0, 1], [0, 1]] *= 1 + damping
        local = np.linalg.solve(damped, self.own[:, :, None])[:, :, 0] - self.pull @ valley
        return _Place(
            centre=at.centre + np.clip(local[:, 1], -1.5, 1.5),
            floor=at.floor + local[:, 0],
            valley=at.valley + np.clip(valley, -1.0, 1.0),
        )


def _noise(points: _Points, at: _Place) -> Floats:
    """(slices,) sd of log loss: each slice's own residuals, pulled towards the typical slice."""
    e = _residuals(points, at)[0] * np.sqrt(points.seeds)
    spare = np.maximum(points.counts - 2.0, 0.5)  # a floor and an optimum each
    squares = points.total(e**2)
    several = points.counts > 2
    typical = float(np.median(squares[several] / spare[several])) if several.any() else _NOISE**2
    typical = (_NOISE_RUNS * _NOISE**2 + spare.sum() * typical) / (_NOISE_RUNS + spare.sum())
    own = (_NOISE_RUNS * typical + squares) / (_NOISE_RUNS + spare)
    return np.asarray(np.maximum(np.sqrt(own), _NOISE_FLOOR))
