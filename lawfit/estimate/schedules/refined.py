"""The schedule that the gradients of a past run ask for, and what it gains (arXiv 2310.07831).

How the rate should go depends on how large the gradients are along the run; that is like from one run to the next of
the same kind, so one run's log refines the schedule of the next. What it gains is told by the bound that it minimises.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lawfit.errors import NotEnoughData
from lawfit.findings import Finding, as_json, finding
from lawfit.laws.last_iterate import best_scale, bound
from lawfit.laws.refinement import SMOOTHING, refined_run
from lawfit.laws.schedules import linear

Floats = NDArray[np.float64]

FEWEST: Final = 10  # logged norms
SHOWN: Final = 1000  # points of the schedule that are written down: straight between them
_COARSE: Final = 50  # logged norms; with fewer a warmup of some percent is between two of them


def refine(
    steps: Floats, norms: Floats, *, adaptive: bool, smoothing: float | None = None, length: int | None = None
) -> dict[str, Any]:
    """Refine linear decay by the gradient norms of one run.

    Parameters
    ----------
    steps : (n,) positive whole numbers, ascending
    norms : (n,) positive floats
        2-norms, or 1-norms when `adaptive`.
    smoothing : share of the run under the running median; `SMOOTHING` if None
    length : steps of the run to come, onto which the shape is stretched; as many as were logged if None

    Raises
    ------
    NotEnoughData
        Fewer than `FEWEST` norms.
    ValueError
        A smoothing outside [0, 1], or a run of fewer than two steps.
    """
    if len(norms) < FEWEST:
        raise NotEnoughData(finding("schedules.few_norms", norms=len(norms), needed=FEWEST))
    share = SMOOTHING if smoothing is None else smoothing
    logged = round(float(steps[-1]))
    multipliers = refined_run(steps, norms, adaptive=adaptive, smoothing=share)
    total = logged if length is None else length
    if total < 2:
        raise ValueError(f"a run of {total} steps has no schedule; 2 or more are needed")
    at = np.unique(np.linspace(1, total, min(SHOWN, total)).round())
    peak = 1 + int(np.argmax(multipliers))
    at = np.unique(np.append(at, max(1.0, round(peak * total / logged))))
    of_log = 1 + (at - 1) * (logged - 1) / (total - 1)
    every = np.arange(1, logged + 1)
    values = np.interp(of_log, every, multipliers)
    values /= values.max()
    gradients = np.exp(np.interp(of_log, steps, np.log(norms)))
    return {
        "weights": "1 / norm" if adaptive else "1 / norm^2",
        "adaptive": adaptive,
        "smoothing": share,
        "norms": len(norms),
        "logged_steps": logged,
        "steps": total,
        "warmup": (peak - 1) / logged,
        "mean_multiplier": float(multipliers.mean()),
        "bound_over_linear": _bound_over_linear(multipliers, np.exp(np.interp(every, steps, np.log(norms)))),
        "schedule": [
            {"step": int(step), "multiplier": float(value), "gradient_norm": float(norm)}
            for step, value, norm in zip(at, values, gradients, strict=True)
        ],
        "notes": as_json(_notes(len(norms), adaptive, total / logged)),
    }


def _bound_over_linear(multipliers: Floats, norms: Floats) -> float:
    """The bound on the last step, each at its own best peak, over that of linear decay with the same gradients."""
    places = np.unique(np.linspace(0, len(multipliers) - 1, 4 * SHOWN).round().astype(np.intp))
    places = places[multipliers[places] > 0]
    sizes = norms[places]
    straight = linear(np.arange(len(places)) / len(places))
    least = [
        bound(best_scale(rates, gradient_bound=sizes) * rates, gradient_bound=sizes)
        for rates in (multipliers[places], straight)
    ]
    return float(least[0] / least[1])


def _notes(norms: int, adaptive: bool, stretched: float) -> list[Finding]:
    said = [finding("schedules.as_logged")]
    if not adaptive:
        said.append(finding("schedules.two_norms"))
    if norms < _COARSE:
        said.append(finding("schedules.coarse", norms=norms))
    if not 0.99 < stretched < 1.01:
        said.append(finding("schedules.stretched", times=stretched))
    return said
