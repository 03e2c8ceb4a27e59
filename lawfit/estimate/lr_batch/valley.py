"""The convex valley of a stored fit, evaluated for many plausible worlds at once (plain numpy, no fitting).

One world is one draw: an optimum (a, b) in (ln lr, ln batch) and the nine coefficients of a sum of three exponentials
(`estimate.shapes.Exponentials`), whose terms are those of the fit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lawfit.estimate.numerics.shapes import STRAIGHT_BEYOND, bent_exponential

Floats = NDArray[np.float64]

FAR_SHARE: Final = 0.5  # of a law along the batch, far from the best batch
FLOOR_AT: Final = (-1.0, -0.75, -0.5, -0.25, 0.25, 0.5, 0.75, 1.0)  # ln of a batch over the best one
_NEWTON_STEPS: Final = 40
_TOGETHER: Final = 6  # after which nearly all have arrived


def excess(u: Floats, v: Floats, q: Floats) -> Floats:
    """Excess of log loss at displacement (u, v); q is (..., 9), broadcast against u and v."""
    return excess_of(q, max(np.ndim(u), np.ndim(v)))(u, v)


def excess_of(q: Floats, axes: int) -> Callable[[Floats, Floats], Floats]:
    """`excess` of the same valleys, to be asked often, at displacements of so many axes."""
    log_amplitude, by_u, by_v = _terms(q, axes)
    amplitude = np.exp(log_amplitude)

    def at(u: Floats, v: Floats) -> Floats:
        first, second, third = amplitude * bent_exponential(by_u * u + by_v * v)[0]
        return np.asarray(first + second + third)

    return at


def _terms(q: Floats, axes: int) -> tuple[Floats, Floats, Floats]:
    """(3, ...) ln amplitude of each term, and what its exponent is by u and by v, to meet arrays of so many axes."""
    each = np.moveaxis(q.reshape(*[1] * (axes + 1 - q.ndim), *q.shape), -1, 0)
    return each[0::3], each[1::3], each[2::3]


def best_lr_shift(v: Floats, q: Floats) -> Floats:
    """``ln lr`` that is best at ``v = ln batch - b``, relative to a. Newton on a convex function, with halved steps."""
    v = np.asarray(v, dtype=float)
    u = np.zeros(np.broadcast_shapes(v.shape, q.shape[:-1]))
    u, moving = _newton(u, v, q, _TOGETHER)
    if not moving.any():
        return u
    if u.ndim != 1:
        return _newton(u, v, q, _NEWTON_STEPS)[0]
    far = np.flatnonzero(moving)  # worlds that take many more steps: a few of thousands, which go on alone
    there = np.broadcast_to(v, u.shape)[far], np.broadcast_to(q, (*u.shape, q.shape[-1]))[far]
    u[far] = _newton(u[far], *there, _NEWTON_STEPS)[0]
    return u


def _newton(u: Floats, v: Floats, q: Floats, most: int) -> tuple[Floats, NDArray[np.bool_]]:
    """After some steps, and which still move."""
    moving = np.ones(u.shape, dtype=bool)
    log_amplitude, by_u, by_v = _terms(q, u.ndim)
    pull, of_batch = np.exp(log_amplitude) * by_u, by_v * v
    level = pull[0] + pull[1] + pull[2]
    grown = np.empty(np.broadcast_shapes(pull.shape, of_batch.shape, u.shape))
    for _ in range(most):
        np.multiply(by_u, u, out=grown)
        grown += of_batch
        np.minimum(grown, STRAIGHT_BEYOND, out=grown)
        np.exp(grown, out=grown)
        grown *= pull
        slope = grown[0] - level + grown[1] + grown[2]
        grown *= by_u
        step = slope / (grown[0] + 1e-9 + grown[1] + grown[2])
        u = u - np.maximum(np.minimum(step, 0.5), -0.5)
        moving = np.abs(step) >= 1e-6
        if not moving.any():
            break
    return u, moving


def steepened(valley: Mapping[str, Any], tokens: float) -> tuple[Floats, Floats]:
    """((9,), (9, 9)) the stored valley at a horizon, and its covariance."""
    return steepened_by(valley, horizon_of(valley, tokens))


def horizon_of(valley: Mapping[str, Any], tokens: float) -> float:
    """ln of a horizon over that in the middle of the runs; of one beyond the runs' that of the nearest of theirs.

    The steepness moves as a power of the horizon within the horizons of the runs, and stays what it is beyond.
    """
    return float(np.clip(np.log(tokens), *valley["log_tokens"])) - float(valley["centre_log_tokens"])


def steepened_by(valley: Mapping[str, Any], horizon: float) -> tuple[Floats, Floats]:
    """`steepened` at what `horizon_of` says."""
    q, cov = np.array(valley["q"]), np.array(valley["cov"])
    moved = np.zeros((len(q), len(q) + 1))
    moved[:, :-1] = np.eye(len(q))
    moved[::3, -1] = horizon  # ln amplitudes
    return q + moved[:, -1] * float(valley["steepness"]), moved @ cov @ moved.T


def law_share(r: Floats) -> Floats:
    """Share of a law along the batch at ``r = ln batch - ln best batch``: none there, half far away."""
    return np.asarray(FAR_SHARE * -np.expm1(-2.0 * np.square(r)))


def along_floor(r: Floats, floor: Floats, q: Floats, centre_q: Floats, shift: Floats | None = None) -> Floats:
    """By how much the best ln lr moves at ``r = ln batch - ln best batch``, for worlds of several analyses.

    Within one nat of the best batch each analysis has its own answer (`floor`, at `FLOOR_AT`), to which the valley's
    draw adds what it differs from the central one; beyond, the convex valley that all share goes on from there. The
    tilt of a narrow window is told best by the analysis that fits it, and a polynomial runs wild outside.

    Parameters
    ----------
    r : (worlds,)
    floor : (worlds, len FLOOR_AT)
    q, centre_q : (worlds, 9), (9,)
    shift : (worlds,) ``best_lr_shift(r, q)``, where it is known
    """
    near = np.clip(r, -1.0, 1.0)
    points = np.concatenate([FLOOR_AT[: len(FLOOR_AT) // 2], [0.0], FLOOR_AT[len(FLOOR_AT) // 2 :]])
    half = len(FLOOR_AT) // 2
    table = np.concatenate([floor[:, :half], np.zeros((len(floor), 1)), floor[:, half:]], axis=1)
    at = np.clip(np.searchsorted(points, near, side="right") - 1, 0, len(points) - 2)
    share = (near - points[at]) / (points[at + 1] - points[at])
    rows = np.arange(len(near))
    own = table[rows, at] * (1 - share) + table[rows, at + 1] * share
    return np.asarray(own + (best_lr_shift(r, q) if shift is None else shift) - best_lr_shift(near, centre_q))
