"""Sums of power laws: a global search by variable projection, and the derivatives that polish it.

``y = sum_k exp(c_k) prod_j x_j^-e_kj`` (a constant is a term without inputs). Given the exponents, the coefficients are
a linear least-squares problem, so a grid over exponents searches the whole space, and the normal equations of every
resample on every grid point are one matrix product: moments of the grid times weights of the resamples.

In ``theta = (c_k, e_kj)`` the model of log y is a log-sum-exp of affine functions, whose derivatives are the shares of
the terms: gradient ``sum_k p_k z_k``, Hessian ``sum_k p_k z_k z_k' - gradient gradient'``. Features z are the same in
all resamples, so gradients and Hessians are matrix products too.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lawfit.errors import FitError
from lawfit.estimate.numerics.newton import MAX_STEPS, Bools, Floats, Minima, Penalty, System, minimise
from lawfit.findings import finding

START_POINTS: Final = 8  # per exponent, for the search whose every point is followed to its minimum
RESAMPLE_POINTS: Final = 12  # per exponent, where only the best point is followed
SAME: Final = 1e-7  # relative difference of two objectives that are one minimum

_BLOCK: Final = 8192  # numbers per temporary array: a dozen of them stay in the second-level cache
_POINTS: Final = 4096  # per block of moments
_ROWS: Final = 64  # per block of eliminations
_PIVOT: Final = 1e-11  # of the original diagonal; less than this is collinear with the terms before
_SMALLEST: Final = 0.03  # exponent on a grid: flatter than this is hardly a power
_STAGES: Final = (0.1, 0.01)  # delta, before the one that is asked for
_MANY: Final = 20_000  # rows, beyond which starts are followed on a sample first
_SAMPLE: Final = 5_000
_DIRECT: Final = 8  # starts followed without stages
_WARM_BLEND: Final = 0.3


@dataclass(frozen=True, kw_only=True)
class Term:
    """One power of the sum: the centred logs of its inputs."""

    logs: Floats  # (n, inputs)
    low: tuple[float, ...]  # bounds of its exponents
    high: tuple[float, ...]


class PowerSum:
    """The problem of fitting a sum of power laws to log y with Huber's loss.

    Parameters
    ----------
    log_y : (n,)
    terms : sequence of Term
        The order of theta: for each term its log coefficient, then its exponents.
    delta : float
        Huber's threshold, in log y.
    """

    patience = MAX_STEPS

    def __init__(self, log_y: Floats, terms: Sequence[Term], delta: float) -> None:
        self.log_y, self.terms, self.delta = log_y, tuple(terms), delta
        ones = np.ones((len(log_y), 1))
        self.features = [np.hstack([ones, -term.logs]) for term in self.terms]
        ends = np.cumsum([0, *(z.shape[1] for z in self.features)])
        self.parts = [slice(int(a), int(b)) for a, b in itertools.pairwise(ends)]
        self.size = int(ends[-1])

    @cached_property
    def low(self) -> Floats:
        """Bounds of theta, for a fit: a constant below 1/200 of the smallest y is none, a power below 1/10000 at the
        centre neither."""
        least = float(self.log_y.min())
        faint = [least - np.log(1e4 if term.low else 200) for term in self.terms]
        return np.concatenate([[floor, *term.low] for floor, term in zip(faint, self.terms, strict=True)])

    @cached_property
    def high(self) -> Floats:
        """The others: no term is larger at the centre than twice the largest y."""
        most = float(self.log_y.max()) + np.log(2)
        return np.concatenate([[most, *term.high] for term in self.terms])

    @cached_property
    def pairs(self) -> dict[tuple[int, int], Floats]:
        """(terms a, b) -> (n, features of a x features of b): what a fit needs, and a prediction does not."""
        return {
            (a, b): (self.features[a][:, :, None] * self.features[b][:, None, :]).reshape(len(self.log_y), -1)
            for a, b in itertools.combinations_with_replacement(range(len(self.terms)), 2)
        }

    def with_delta(self, delta: float) -> PowerSum:
        other = copy(self)
        other.delta = delta
        return other

    def thinned(self, rows: NDArray[np.intp]) -> PowerSum:
        """The problem of only these rows."""
        terms = [Term(logs=term.logs[rows], low=term.low, high=term.high) for term in self.terms]
        other = PowerSum(self.log_y[rows], terms, self.delta)
        other.patience = self.patience
        return other

    def log_model(self, theta: Floats) -> Floats:
        """(r, n) fitted log y."""
        logs = [theta[:, part] @ z.T for part, z in zip(self.parts, self.features, strict=True)]
        return np.asarray(np.logaddexp.reduce(logs, axis=0), dtype=float)

    def jacobian(self, theta: Floats) -> Floats:
        """(n, k) derivative of the fitted log y at one theta (k,)."""
        logs = np.stack([z @ theta[part] for part, z in zip(self.parts, self.features, strict=True)])
        share = np.exp(logs - np.logaddexp.reduce(logs, axis=0))
        return np.hstack([p[:, None] * z for p, z in zip(share, self.features, strict=True)])

    def system(self, theta: Floats, weights: Floats, blend: Floats) -> System:
        """Objective and derivatives of each row; see `newton.System`."""
        rows, n = len(theta), len(self.log_y)
        total = System(
            np.zeros(rows), np.zeros((rows, self.size)), np.zeros((rows, self.size, self.size)), *np.zeros((2, rows))
        )
        width = min(n, _BLOCK)
        height = max(1, _BLOCK // width)
        for top in range(0, rows, height):
            r = slice(top, top + height)
            for left in range(0, n, width):
                self._add(total, theta, weights, blend, r, slice(left, left + width))
        for a, b in self.pairs:
            if a != b:
                upper = total.hessian[:, self.parts[a], self.parts[b]]
                total.hessian[:, self.parts[b], self.parts[a]] = upper.transpose(0, 2, 1)
        return total

    def _add(self, total: System, theta: Floats, weights: Floats, blend: Floats, r: slice, c: slice) -> None:
        """Add what the points `c` contribute to the rows `r`."""
        w = weights[r, c]
        shares = [np.exp(theta[r, part] @ z[c].T) for part, z in zip(self.parts, self.features, strict=True)]
        y = shares[0] + shares[1]
        for share in shares[2:]:
            y += share
        residual = np.log(y)
        np.subtract(self.log_y[c], residual, out=residual)
        clipped = np.clip(residual, -self.delta, self.delta)
        inside = clipped == residual
        score = w * clipped
        squares = np.einsum("ij,ij->i", score, clipped)
        curvature = w * inside
        total.objective[r] += np.einsum("ij,ij->i", score, residual) - 0.5 * squares
        total.score[r] += squares
        total.inside[r] += curvature.sum(axis=1)
        own = 1 - blend[r, None]  # share of the exact Hessian
        curvature += score
        if np.any(own < 1):
            np.copyto(residual, 1.0, where=inside)
            ratio = np.where(inside, w, score / residual)
            curvature *= own
            curvature += (1 - own) * ratio
        np.reciprocal(y, out=y)
        for share in shares:
            share *= y
        pull = np.negative(score, out=score)
        for a, z in enumerate(self.features):
            part = self.parts[a]
            mine = pull * shares[a]
            total.gradient[r, part] += mine @ z[c]
            bend = (mine @ self.pairs[a, a][c]).reshape(-1, z.shape[1], z.shape[1])
            total.hessian[r, part, part] += own[:, :, None] * bend
            np.multiply(curvature, shares[a], out=mine)
            for b in range(a, len(self.terms)):
                block = (mine * shares[b]) @ self.pairs[a, b][c]
                total.hessian[r, part, self.parts[b]] += block.reshape(-1, z.shape[1], self.features[b].shape[1])


class Grid:
    """Best coefficients on a grid of exponents, for any weights.

    Least squares of relative errors, ``sum w (1 - model / y)^2``: close to log y near the optimum, and linear in the
    coefficients. They must be positive; that of the first term may be given instead (`log_first`), and may be zero.
    """

    def __init__(self, problem: PowerSum, points: int, *, log_first: float | None = None) -> None:
        self.problem, self.log_first = problem, log_first
        self.axes = [_exponents(term, points) for term in problem.terms]
        # the first term is eliminated last: should its coefficient turn out negative, the solution without it is there
        self.order = list(range(1, len(self.axes))) + ([0] if log_first is None else [])
        picks = np.array(list(itertools.product(*(range(len(axis)) for axis in self.axes))))
        self.size = len(picks)
        self.exponents = [axis[picks[:, k]] for k, axis in enumerate(self.axes)]
        # columns of the moment matrix: (a, b) products of two terms, (a, None) of a term and the target
        self.wanted = [(a, b) for i, a in enumerate(self.order) for b in (*self.order[i:], None)]
        self.where: dict[tuple[int, int | None], NDArray[np.intp]] = {}
        begin = 0
        for a, b in self.wanted:
            width = len(self.axes[a]) * (1 if b in (None, a) else len(self.axes[b]))
            inner = 0 if b is None or b == a else picks[:, b]
            self.where[a, b] = begin + picks[:, a] * (width // len(self.axes[a])) + inner
            begin += width

    def best(self, weights: Floats) -> Floats:
        """(r, k) theta of the best point of the grid, for each row of weights; NaN where no point is feasible."""
        theta = np.empty((len(weights), self.problem.size))
        moments = self._moments(weights)
        for top in range(0, len(weights), _ROWS):
            rows = slice(top, top + _ROWS)
            cost, values = self._solve(*(m[rows] for m in moments))
            at = cost.argmin(axis=1)[:, None]
            picked = {a: np.take_along_axis(value, at, axis=1)[:, 0] for a, value in values.items()}
            theta[rows] = self._theta(picked, at[:, 0])
            theta[rows][~np.isfinite(cost.min(axis=1))] = np.nan
        return theta

    def all(self, weights: Floats) -> Floats:
        """(g, k) theta at every feasible point of the grid, the best first, for one row of weights (1, n)."""
        cost, values = self._solve(*self._moments(weights))
        theta = self._theta({a: value[0] for a, value in values.items()}, np.arange(self.size))
        order = cost[0].argsort()
        return np.asarray(theta[order][np.isfinite(cost[0][order])], dtype=float)

    def _moments(self, weights: Floats) -> tuple[Floats, Floats]:
        """Products of columns, and the squared target, summed over points with each row's weights."""
        n = len(self.problem.log_y)
        moments, squares = 0.0, 0.0
        for left in range(0, n, _POINTS):
            c = slice(left, left + _POINTS)
            inverse = np.exp(-self.problem.log_y[c])
            target = np.ones_like(inverse) if self.log_first is None else 1 - np.exp(self.log_first) * inverse
            columns = [
                np.exp(-term.logs[c] @ axis.T) * inverse[:, None]
                for term, axis in zip(self.problem.terms, self.axes, strict=True)
            ]
            products = []
            for a, b in self.wanted:
                other = target[:, None] if b is None else columns[b]
                both = columns[a] ** 2 if a == b else columns[a][:, :, None] * other[:, None, :]
                products.append(both.reshape(len(target), -1))
            moments = moments + weights[:, c] @ np.hstack(products)
            squares = squares + weights[:, c] @ target**2
        return np.asarray(moments), np.asarray(squares)

    def _solve(self, moments: Floats, squares: Floats) -> tuple[Floats, dict[int, Floats]]:
        """Gaussian elimination of all rows and grid points at once: cost (r, g), inf if infeasible; coefficients."""
        m = {pair: moments[:, place] for pair, place in self.where.items()}
        cost = np.repeat(squares[:, None], self.size, axis=1)
        feasible = np.ones(cost.shape, dtype=bool)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            for i, a in enumerate(self.order):
                pivot = m[a, a]
                enough = pivot > _PIVOT * moments[:, self.where[a, a]]
                if a == 0:
                    m[0, None] = np.where(enough & (m[0, None] > 0), m[0, None], 0.0)
                else:
                    feasible &= enough
                cost = cost - m[a, None] ** 2 / pivot
                later = self.order[i + 1 :]
                for j, b in enumerate(later):
                    ratio = m[a, b] / pivot
                    for other in (*later[j:], None):
                        m[b, other] = m[b, other] - ratio * m[a, other]
            values: dict[int, Floats] = {}
            for i in reversed(range(len(self.order))):
                a = self.order[i]
                right = m[a, None] - sum((m[a, b] * values[b] for b in self.order[i + 1 :]), np.zeros(()))
                values[a] = np.where(right == 0, 0.0, right / m[a, a])
                if a != 0:
                    feasible &= values[a] > 0
        return np.where(feasible & np.isfinite(cost), cost, np.inf), values

    def _theta(self, values: dict[int, Floats], points: NDArray[np.intp]) -> Floats:
        theta = np.empty((len(points), self.problem.size))
        with np.errstate(divide="ignore", invalid="ignore"):
            for a, part in enumerate(self.problem.parts):
                theta[:, part.start] = np.log(values[a]) if a in values else self.log_first
                theta[:, part.start + 1 : part.stop] = self.exponents[a][points]
        return theta


def global_minima(
    problem: PowerSum,
    weights: Floats,
    *,
    points: int = START_POINTS,
    log_first: float | None = None,
    frozen: Bools | None = None,
    penalty: Penalty | None = None,
) -> Minima:
    """Minima that all feasible points of a grid lead to, for one row of weights; `log_first` as in `Grid`.

    Far from the data every residual lies beyond delta and the objective is a cone without curvature, so delta shrinks
    in stages, each starting where the one before ended. That could lead every start past a minimum that only a small
    delta has, so the points of the grid that fit best are followed without stages as well. Of very many rows a sample
    shows where the minima are; each is then followed on all rows.

    Raises
    ------
    FitError
        No point of the grid has positive coefficients: y does not fall with the inputs.
    """
    if len(problem.log_y) > _MANY:
        rows = np.sort(np.random.default_rng(0).permutation(len(problem.log_y))[:_SAMPLE])
        found = global_minima(
            problem.thinned(rows), weights[:, rows], points=points, log_first=log_first, frozen=frozen, penalty=penalty
        )
        ends, origin = np.unique(np.round(found.theta, 4), axis=0, return_inverse=True)
        return minimise(problem, ends, weights, frozen=frozen, penalty=penalty).take(origin.ravel())
    start = Grid(problem, points, log_first=log_first).all(weights)  # the best first
    direct = start[:_DIRECT]
    if not len(start):
        raise FitError(finding("numerics.nothing_falls"))
    for delta in (d for d in _STAGES if d > problem.delta):
        start = minimise(problem.with_delta(delta), start, weights, frozen=frozen, penalty=penalty).theta
    return minimise(problem, np.concatenate([start, direct]), weights, frozen=frozen, penalty=penalty)


def resampled_minima(
    problem: PowerSum,
    weights: Floats,
    estimate: Floats,
    *,
    points: int = RESAMPLE_POINTS,
    log_first: float | None = None,
    frozen: Bools | None = None,
    penalty: Penalty | None = None,
) -> tuple[Minima, Bools]:
    """The minimum of each row of weights, searched twice: from its own best point of a grid, and from `estimate`.

    Where the two end apart, a third search decides, from the lower of them with a wide delta that shrinks in stages.
    Returns the lowest of all, and whether two searches ended there.
    """
    warm = minimise(
        problem, np.tile(estimate, (len(weights), 1)), weights, frozen=frozen, penalty=penalty, blend=_WARM_BLEND
    )
    start = Grid(problem, points, log_first=log_first).best(weights)
    start = np.where(np.isnan(start), estimate, start)
    cold = minimise(problem, start, weights, frozen=frozen, penalty=penalty)
    found, agree = cold.best_of(warm), same_minimum(cold.objective, warm.objective)
    apart = np.flatnonzero(~agree)
    if not len(apart):
        return found, agree
    rows, mine = weights[apart], None if penalty is None else penalty.take(apart)
    start = found.theta[apart]
    for delta in (*(d for d in _STAGES if d > problem.delta), problem.delta):
        third = minimise(problem.with_delta(delta), start, rows, frozen=frozen, penalty=mine)
        start = third.theta
    agree[apart] = same_minimum(third.objective, found.objective[apart])
    return found.with_rows(apart, found.take(apart).best_of(third)), agree


def same_minimum(first: Floats, second: Floats) -> Bools:
    """Whether two objectives are the same up to what the tolerance of a step leaves."""
    return np.asarray(np.abs(first - second) <= SAME * np.minimum(np.abs(first), np.abs(second)) + 1e-300, dtype=bool)


def best_start(found: Minima) -> int:
    """The lowest start; of several that ended in one minimum, one that converged there: rounding may favour another."""
    lowest = int(np.nanargmin(found.objective))
    there = np.flatnonzero(same_minimum(found.objective, found.objective[lowest]) & found.converged)
    return int(there[0]) if len(there) else lowest


def _exponents(term: Term, points: int) -> Floats:
    """(g, inputs) exponents to try: geometric between the bounds, all combinations of the term's inputs."""
    axes = [np.geomspace(max(low, _SMALLEST), high, points) for low, high in zip(term.low, term.high, strict=True)]
    return np.array(list(itertools.product(*axes)), dtype=float).reshape(points ** len(axes), len(axes))
