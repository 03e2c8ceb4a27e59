"""Many small robust fits at once: damped Newton iterations on a Huber loss, one row of a batch per fit.

A resample, a start of a global search and a fit without one group of runs differ only in their weights and where they
begin, so all of them are rows of one batch and every step is a handful of array operations.

The objective of a row is the SUM over points of ``w rho(log y - m(theta))``, Huber's rho with threshold delta
(averaged, it would be small enough for optimisers to stop early: the lesson of arXiv 2404.10102). Steps start on the
convex side, with the weights of iterated least squares, and end as Newton steps on the exact Hessian, where convergence
is quadratic. A row has converged when its remaining Newton step is a small fraction of its own standard errors, never
because the passes ran out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

DISTANCE: Final = 1e-5  # a Newton step this many standard errors long is nothing
ALMOST: Final = 1e-3  # where rounding lets no step go downhill any more, this near still counts as there
MAX_STEPS: Final = 300
_RESIDUAL_FLOOR: Final = 1e-11  # of log y; data without noise are fitted to rounding, not for ever
_RIDGE: Final = 1e-12  # of the diagonal: keeps a direction without any information solvable
_FIRST_RIDGE: Final = 1e-3
_SHARES: Final = (0.5, 0.2, 0.05, 0.01)  # of a step that went too far
_GIVE_UP: Final = 1e12


class System(NamedTuple):
    """Objective and derivatives of each row at its own point."""

    objective: Floats  # (r,)
    gradient: Floats  # (r, k)
    hessian: Floats  # (r, k, k): between that of iterated least squares (blend 1) and the exact one (blend 0)
    inside: Floats  # (r,) weight of the points whose residual is within delta
    score: Floats  # (r,) weighted sum of squared clipped residuals


class Problem(Protocol):
    """What is fitted."""

    @property
    def low(self) -> Floats: ...  # (k,) bounds of the parameters

    @property
    def high(self) -> Floats: ...

    @property
    def patience(self) -> int: ...  # steps after which what has not converged is left as it is

    def system(self, theta: Floats, weights: Floats, blend: Floats) -> System: ...


@dataclass(frozen=True, kw_only=True)
class Penalty:
    """``precision / 2 (theta - centre)^2`` on single parameters, in units of the objective."""

    precision: Floats  # (k,)
    centre: Floats  # (k,) or (r, k)

    def take(self, rows: NDArray[np.intp]) -> Penalty:
        return self if self.centre.ndim == 1 else Penalty(precision=self.precision, centre=self.centre[rows])


@dataclass(frozen=True, kw_only=True)
class Minima:
    """Where each row ended."""

    theta: Floats  # (r, k)
    objective: Floats  # (r,)
    distance: Floats  # (r,) length of the remaining Newton step, in standard errors of the row
    converged: Bools  # (r,)
    at_bound: Bools  # (r, k) the parameter lies on its bound and would leave it
    steps: NDArray[np.intp]  # (r,)

    def best_of(self, other: Minima) -> Minima:
        """Row by row the lower of two searches for the same minimum."""
        first = self.objective <= other.objective
        pick = first[:, None]
        return Minima(
            theta=np.where(pick, self.theta, other.theta),
            objective=np.where(first, self.objective, other.objective),
            distance=np.where(first, self.distance, other.distance),
            converged=np.where(first, self.converged, other.converged),
            at_bound=np.where(pick, self.at_bound, other.at_bound),
            steps=self.steps + other.steps,
        )

    def take(self, rows: NDArray[np.intp]) -> Minima:
        return Minima(
            theta=self.theta[rows],
            objective=self.objective[rows],
            distance=self.distance[rows],
            converged=self.converged[rows],
            at_bound=self.at_bound[rows],
            steps=self.steps[rows],
        )

    def with_rows(self, rows: NDArray[np.intp], other: Minima) -> Minima:
        """The same with other minima in some rows."""
        found = self.take(np.arange(len(self.objective)))
        for name, values in vars(found).items():
            values[rows] = getattr(other, name)
        return found


def minimise(
    problem: Problem,
    start: Floats,
    weights: Floats,
    *,
    frozen: Bools | None = None,
    penalty: Penalty | None = None,
    blend: float = 1.0,
) -> Minima:
    """Minimise every row from its own start.

    Parameters
    ----------
    start : (r, k)
    weights : (r, n) non-negative, or anything that broadcasts to it
    frozen : (k,) bool
        Parameters that keep their starting value.
    blend : float in [0, 1]
        1 for starts that may be far away, 0 for those that are nearly there.
    """
    return _Iteration(problem, start, weights, frozen, penalty, blend).run()


class _Iteration:
    """State of a batch between steps."""

    def __init__(
        self,
        problem: Problem,
        start: Floats,
        weights: Floats,
        frozen: Bools | None,
        penalty: Penalty | None,
        blend: float,
    ) -> None:
        self.problem, self.penalty = problem, penalty
        rows, size = start.shape
        self.weights = np.broadcast_to(np.asarray(weights, dtype=float), (rows, weights.shape[-1]))
        self.mean_weight = self.weights.mean(axis=1)  # a mean is a sum with weights 1 / n: the same fit
        self.theta = np.clip(start, problem.low, problem.high)
        self.frozen = np.zeros(size, dtype=bool) if frozen is None else frozen
        self.blend = np.full(rows, float(blend))
        self.ridge = np.zeros(rows)
        self.at = self._evaluate(np.arange(rows), self.theta)
        self.distance = np.full(rows, np.inf)
        self.at_bound = np.zeros((rows, size), dtype=bool)
        self.steps = np.zeros(rows, dtype=np.intp)

    def run(self) -> Minima:
        active = np.flatnonzero(np.isfinite(self.at.objective))
        for _ in range(self.problem.patience):
            if not len(active):
                break
            active = self._step(active)
        return Minima(
            theta=self.theta,
            objective=self.at.objective,
            distance=self.distance,
            converged=(self.distance < DISTANCE) | (self._stalled() & (self.distance < ALMOST)),
            at_bound=self.at_bound,
            steps=self.steps,
        )

    def _stalled(self) -> Bools:
        return self.ridge >= _GIVE_UP

    def _evaluate(self, rows: NDArray[np.intp], theta: Floats) -> System:
        at = self.problem.system(theta, self.weights[rows], self.blend[rows])
        if self.penalty is None:
            return at
        precision = self.penalty.precision
        centre = np.broadcast_to(self.penalty.centre, self.theta.shape)[rows]
        off = theta - centre
        return at._replace(
            objective=at.objective + 0.5 * (off**2) @ precision,
            gradient=at.gradient + off * precision,
            hessian=at.hessian + np.diag(precision),
        )

    def _step(self, rows: NDArray[np.intp]) -> NDArray[np.intp]:
        """One trial step of each of `rows`; those that need more."""
        theta = self.theta[rows]
        step, decrement, pinned = self._solve(rows)
        self.at_bound[rows] = pinned & ~self.frozen
        downhill = np.isfinite(step).all(axis=1) & (decrement > 0)
        # objective units to squared standard errors: information over variance of the score (sandwich of an M-estimate)
        floor = _RESIDUAL_FLOOR**2 * self.at.inside[rows]
        unit = self.at.inside[rows] / np.maximum((self.at.score[rows] + floor) * self.mean_weight[rows], 1e-300)
        exact = (self.ridge[rows] == 0) & (self.blend[rows] == 0)
        distance = np.sqrt(np.maximum(decrement, 0) * unit)
        known = exact & (downhill | (decrement == 0))
        self.distance[rows[known]] = distance[known]
        done = known & (distance < DISTANCE)
        trial = np.clip(np.where(downhill[:, None], theta + step, theta), self.problem.low, self.problem.high)
        trying = downhill & ~done
        accepted = np.zeros(len(rows), dtype=bool)
        if trying.any():
            accepted[trying] = self._try(rows[trying], trial[trying])
        again = trying & ~accepted
        if again.any():
            accepted[again] = self._search_line(rows[again], step[again])
        rejected = rows[~done & ~accepted]
        self.ridge[rejected] = np.maximum(8 * self.ridge[rejected], _FIRST_RIDGE)
        kept = rows[~done]
        return np.asarray(kept[~self._stalled()[kept]], dtype=np.intp)

    def _try(self, rows: NDArray[np.intp], trial: Floats) -> Bools:
        """Move where the objective does not rise."""
        before = self._less_blend(rows)
        at = self._evaluate(rows, trial)
        with np.errstate(invalid="ignore"):
            better = at.objective <= self.at.objective[rows]
        self._move(rows[better], trial[better], System(*(part[better] for part in at)))
        self.blend[rows[~better]] = before[~better]
        return better

    def _search_line(self, rows: NDArray[np.intp], step: Floats) -> Bools:
        """Where a whole step is too long, the best of a few shares of it: valleys bend, and losses have kinks."""
        shares = np.repeat(_SHARES, len(rows))
        many = np.tile(rows, len(_SHARES))
        trial = self.theta[many] + shares[:, None] * np.tile(step, (len(_SHARES), 1))
        trial = np.clip(trial, self.problem.low, self.problem.high)
        before = self._less_blend(rows)
        at = self._evaluate(many, trial)
        objective = np.where(np.isfinite(at.objective), at.objective, np.inf).reshape(len(_SHARES), -1)
        best = objective.argmin(axis=0)
        better = objective.min(axis=0) < self.at.objective[rows]
        pick = (best * len(rows) + np.arange(len(rows)))[better]
        self._move(rows[better], trial[pick], System(*(part[pick] for part in at)))
        self.blend[rows[~better]] = before[~better]
        return np.asarray(better, dtype=bool)

    def _less_blend(self, rows: NDArray[np.intp]) -> Floats:
        """Go towards the exact Hessian; the blends before, for rows that do not get there."""
        before = self.blend[rows].copy()
        self.blend[rows] = np.where(before > 0.05, before / 5, 0.0)
        return before

    def _move(self, rows: NDArray[np.intp], theta: Floats, at: System) -> None:
        self.theta[rows] = theta
        for mine, new in zip(self.at, at, strict=True):
            mine[rows] = new
        self.steps[rows] += 1
        self.ridge[rows] = np.where(self.ridge[rows] > _FIRST_RIDGE / 10, self.ridge[rows] / 10, 0.0)

    def _solve(self, rows: NDArray[np.intp]) -> tuple[Floats, Floats, Bools]:
        """Damped step, its decrement, and which parameters stay: frozen, or on a bound they would leave."""
        theta, gradient, hessian = self.theta[rows], self.at.gradient[rows], self.at.hessian[rows]
        pinned = ((theta <= self.problem.low) & (gradient >= 0)) | ((theta >= self.problem.high) & (gradient <= 0))
        pinned |= self.frozen
        gradient = np.where(pinned, 0.0, gradient)
        diagonal = np.abs(np.einsum("rii->ri", hessian))
        scale = np.sqrt(np.where(pinned | (diagonal == 0), 1.0, diagonal))
        scaled = hessian / scale[:, :, None] / scale[:, None, :]
        scaled = np.where(pinned[:, :, None] | pinned[:, None, :], 0.0, scaled)
        corner = np.arange(theta.shape[1])
        scaled[:, corner, corner] += np.where(pinned, 1.0, _RIDGE + self.ridge[rows, None])
        bad = ~np.isfinite(scaled).all(axis=(1, 2))
        scaled[bad] = np.eye(theta.shape[1])
        step = -np.linalg.solve(scaled, (gradient / scale)[:, :, None])[:, :, 0] / scale
        step[bad] = np.nan
        return step, -(step * gradient).sum(axis=1), pinned
