"""Fit of the Multi-Power Law to loss curves of a few schedules, so that the curve of any other can be told.

Floor, total and annealing terms are linear; the four other numbers are searched over a grid with these solved in closed
form, and the best points are polished with a Huber loss on the relative error, as the source does on the logarithm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Final, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from lawfit.errors import FitError, NotEnoughData
from lawfit.findings import finding
from lawfit.laws.multi_power import Course, MultiPowerLaw, annealed

Floats = NDArray[np.float64]
Law = TypeVar("Law")

HUBER: Final = 1e-3  # relative errors beyond this count by their size, not their square
_FARTHEST: Final = 100.0  # of a logarithm
_STARTS: Final = 4
_AGREE: Final = 1e-3  # starts whose losses differ by less, relatively, found one optimum
# alpha, C, beta, gamma: where the grid looks, and how far the polish may go. Beyond it the law no longer depends on C
# and beta one by one, only on their product.
_GRID: Final = (np.linspace(0.2, 0.8, 7), np.geomspace(0.05, 50, 7), np.linspace(0.2, 1.4, 5), np.linspace(0.1, 1.1, 5))
_BOUNDS: Final = ((0.05, 1e-8, 0.05, 0.0), (1.5, 1e4, 3.0, 2.0))


@dataclass(frozen=True, kw_only=True)
class CurveFit(Generic[Law]):
    """The law and how far to trust it."""

    law: Law
    mean_error: float  # mean absolute error on the fitted curves, as a share of the loss
    starts_agree: bool
    at_bound: tuple[str, ...]  # numbers that the curves do not fix


def fit_multi_power(courses: Sequence[Course], losses: Sequence[Floats]) -> CurveFit[MultiPowerLaw]:
    """Fit the law to runs of one model, batch and data under different schedules.

    Parameters
    ----------
    courses : runs, at least two
        At least one of them with a falling learning rate.
    losses : (n_i,) positive floats each
        Loss at each step of its course, nats per token, smoothed.

    Raises
    ------
    NotEnoughData
        One run only, or no learning rate falls: what a fall gains does not show.
    FitError
        No point of the grid gives the terms their signs.
    """
    require_falling_courses(courses, losses)
    return _polish(courses, np.concatenate(losses), _search(courses, np.concatenate(losses)))


def require_falling_courses(courses: Sequence[Course], losses: Sequence[Floats]) -> None:
    """Curves that can tell what a fall of the learning rate gains."""
    if len(courses) < 2 or len(courses) != len(losses):
        raise NotEnoughData(finding("schedules.few_courses", courses=len(courses), curves=len(losses)))
    if not any(np.any(np.diff(course.lr) < 0) for course in courses):
        raise NotEnoughData(finding("schedules.nothing_falls"))
    for course, loss in zip(courses, losses, strict=True):
        if loss.shape != course.steps.shape or not np.all((loss > 0) & np.isfinite(loss)):
            raise ValueError("each course needs a positive finite loss at each of its steps")


def _terms(courses: Sequence[Course], shape: Sequence[float] | Floats) -> Floats:
    """(n, 3): what L0, A and B multiply."""
    alpha, *rest = shape
    total = np.concatenate([(course.sums + course.warmup_sum) ** -alpha for course in courses])
    falls = np.concatenate([annealed(course, *rest) for course in courses])
    return np.column_stack([np.ones_like(total), total, -falls])


def _linear(courses: Sequence[Course], loss: Floats, shape: Sequence[float] | Floats) -> tuple[Floats, float]:
    """(L0, A, B) of least squares of the relative error, and its sum of squares."""
    design = _terms(courses, shape) / loss[:, None]
    scale = np.abs(design).max(0)
    coefficients = np.linalg.lstsq(design / np.where(scale > 0, scale, 1), np.ones_like(loss), rcond=None)[0]
    coefficients = coefficients / np.where(scale > 0, scale, 1)
    return coefficients, float(np.sum((design @ coefficients - 1) ** 2))


def _search(courses: Sequence[Course], loss: Floats) -> list[Floats]:
    thin = [_thinned(course) for course in courses]
    kept = np.concatenate([[0], np.cumsum([course.steps.size for course in courses])])
    few = np.concatenate([loss[a:b][_rows(b - a)] for a, b in pairwise(kept)])
    found = []
    for shape in product(*_GRID):
        coefficients, squares = _linear(thin, few, shape)
        if np.all(coefficients > 0):
            found.append((squares, np.array([*coefficients, *shape])))
    if not found:
        raise FitError(finding("schedules.no_law", law="Multi-Power Law"))
    return [theta for _, theta in sorted(found, key=lambda point: point[0])[:_STARTS]]


def _rows(count: int) -> NDArray[np.int64]:
    return np.unique(np.linspace(0, count - 1, 60).round().astype(np.int64))


def _thinned(course: Course) -> Course:
    rows = _rows(course.steps.size)
    return Course(steps=course.steps[rows], lr=course.lr[rows], warmup_sum=course.warmup_sum)


def _polish(courses: Sequence[Course], loss: Floats, starts: Sequence[Floats]) -> CurveFit[MultiPowerLaw]:
    from scipy.optimize import least_squares

    def residuals(theta: Floats) -> Floats:
        weights = np.exp(np.clip(theta[:3], -_FARTHEST, _FARTHEST))  # a trial step may be absurd
        return np.asarray(_terms(courses, theta[3:]) @ weights / loss - 1)

    low, high = (
        np.concatenate([np.full(3, sign * np.inf), bound]) for sign, bound in zip((-1, 1), _BOUNDS, strict=True)
    )
    solved = [
        least_squares(
            residuals,
            np.concatenate([np.log(start[:3]), start[3:]]),
            bounds=(low, high),
            loss="huber",
            f_scale=HUBER,
            x_scale="jac",
        )
        for start in starts
    ]
    costs = np.array([one.cost for one in solved])
    best = solved[int(np.argmin(costs))].x
    names = ("alpha", "C", "beta", "gamma")
    numbers = dict(zip(("L0", "A", "B"), np.exp(best[:3]).tolist(), strict=True))
    numbers.update(zip(names, best[3:].tolist(), strict=True))
    on_bound = np.isclose(best[3:], _BOUNDS[0], rtol=1e-3, atol=1e-6) | np.isclose(best[3:], _BOUNDS[1], rtol=1e-3)
    return CurveFit(
        law=MultiPowerLaw(**numbers),
        mean_error=float(np.mean(np.abs(residuals(best)))),
        starts_agree=bool(np.all(costs <= costs.min() * (1 + _AGREE))),
        at_bound=tuple(name for name, bound in zip(names, on_bound, strict=True) if bound),
    )
