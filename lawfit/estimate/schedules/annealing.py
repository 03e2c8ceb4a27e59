"""Fit of the annealing law (arXiv 2408.11029) to loss curves of a few schedules.

Floor, total and falls are linear; exponent and memory are searched over a grid with these solved in closed form, and
the best points are polished with a Huber loss on the relative error, as for the Multi-Power Law.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lawfit.errors import FitError
from lawfit.estimate.schedules.multi_power import HUBER, CurveFit, require_falling_courses
from lawfit.findings import finding
from lawfit.laws.annealing import AnnealingLaw, annealed_area
from lawfit.laws.multi_power import Course

Floats = NDArray[np.float64]

_STARTS: Final = 4
_AGREE: Final = 1e-3  # starts whose losses differ by less, relatively, found one optimum
_ALPHA: Final = np.linspace(0.1, 1.2, 23)
_MEMORY: Final = np.geomspace(3, 1e5, 31)  # steps; the source has 100 to 1000
_BOUNDS: Final = ((0.01, np.log(1.0)), (3.0, np.log(1e6)))  # alpha, ln memory


def fit_annealing(courses: Sequence[Course], losses: Sequence[Floats]) -> CurveFit[AnnealingLaw]:
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
    loss = np.concatenate(losses)
    sums = np.concatenate([course.sums + course.warmup_sum for course in courses])
    areas = np.concatenate([annealed_area(course, _MEMORY) for course in courses], axis=1)
    found = []
    for alpha in _ALPHA:
        for memory, area in zip(_MEMORY, areas, strict=True):
            design = np.column_stack([np.ones_like(loss), sums**-alpha, -area]) / loss[:, None]
            scale = np.abs(design).max(axis=0)
            coefficients = np.linalg.lstsq(design / scale, np.ones_like(loss), rcond=None)[0] / scale
            if np.all(coefficients > 0):
                squares = float(np.sum((design @ coefficients - 1) ** 2))
                found.append((squares, np.array([*np.log(coefficients), alpha, np.log(memory)])))
    if not found:
        raise FitError(finding("schedules.no_law", law="annealing law"))
    starts = [theta for _, theta in sorted(found, key=lambda point: point[0])[:_STARTS]]
    return _polish(courses, loss, sums, starts)


def _polish(courses: Sequence[Course], loss: Floats, sums: Floats, starts: Sequence[Floats]) -> CurveFit[AnnealingLaw]:
    from scipy.optimize import least_squares

    def residuals(theta: Floats) -> Floats:
        area = np.concatenate([annealed_area(course, np.exp(theta[4:]))[0] for course in courses])
        floor, total, fall = np.exp(theta[:3])
        return np.asarray((floor + total * sums ** -theta[3] - fall * area) / loss - 1)

    low, high = (np.array([*np.full(3, sign * np.inf), *b]) for sign, b in zip((-1, 1), _BOUNDS, strict=True))
    solved = [
        least_squares(residuals, start, bounds=(low, high), loss="huber", f_scale=HUBER, x_scale="jac")
        for start in starts
    ]
    costs = np.array([one.cost for one in solved])
    best = solved[int(np.argmin(costs))].x
    on_bound = np.isclose(best[3:], _BOUNDS[0], rtol=1e-3, atol=1e-3) | np.isclose(best[3:], _BOUNDS[1], rtol=1e-3)
    floor, total, fall = np.exp(best[:3]).tolist()
    return CurveFit(
        law=AnnealingLaw(L0=floor, A=total, alpha=float(best[3]), C=fall, memory_steps=float(np.exp(best[4]))),
        mean_error=float(np.mean(np.abs(residuals(best)))),
        starts_agree=bool(np.all(costs <= costs.min() * (1 + _AGREE) + 1e-15)),
        at_bound=tuple(n for n, bound in zip(("alpha", "memory_steps"), on_bound, strict=True) if bound),
    )
