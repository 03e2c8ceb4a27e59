"""A schedule refined by the gradients of a past run (Defazio et al., arXiv 2310.07831, Algorithm 1).

For a run whose gradients had the sizes G_t, the bound on the last step of descent (`last_iterate`) is least at
``eta_t ~ w_t sum_{p > t} w_p`` with ``w_t = 1 / G_t^2``: linear decay where they did not change, with a warmup where
they shrank at the start, and a quicker fall where they grew at the end. For Adam and its family the source takes
1-norms, and ``w_t = 1 / |g_t|_1``. Weights and sums are those of Algorithm 1, said to be so in the authors' repository
(facebookresearch/adaptive_scheduling) by whoever read it; how the norms are smoothed before (a median over a share of
the run, held at the first value and mirrored at the last) is from memory.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

SMOOTHING: Final = 0.05  # share of the run that a median is taken over; ours
LEAST_WIDTH: Final = 5  # logged norms under the median, however few there are
MOST_POINTS: Final = 2000  # that are smoothed: a run that is logged at each step is thinned to medians of neighbours


def refined(gradient_norms: ArrayLike, *, adaptive: bool) -> Floats:
    """``eta_t ~ w_t sum_{p > t} w_p``, with ``w_t = 1 / |g_t|^2``, or ``1 / |g_t|_1`` for Adam and its family.

    Parameters
    ----------
    gradient_norms : (steps,) positive floats
        2-norms, or 1-norms when `adaptive`; smoothed, since a single wild step would get a rate of its own.

    Returns
    -------
    (steps,) floats, the largest of them 1 and the last 0
    """
    norms = _series(gradient_norms)
    weights = (norms / norms.min()) ** (-1.0 if adaptive else -2.0)
    after = np.append(np.cumsum(weights[:0:-1])[::-1], 0.0)
    rates = weights * after
    return np.asarray(rates / rates.max())


def refined_run(steps: ArrayLike, gradient_norms: ArrayLike, *, adaptive: bool, smoothing: float = SMOOTHING) -> Floats:
    """The same for a run that is logged at some of its steps: the multiplier at each step from 1 to the last.

    The norms are smoothed as they are logged, and straight in their logarithms between two lines.

    Parameters
    ----------
    steps : (n,) positive whole numbers, ascending
    gradient_norms : (n,) positive floats
    smoothing : share of the run, from 0 (none) to 1

    Returns
    -------
    (last step,) floats
    """
    at, norms = np.asarray(steps, dtype=float), _series(gradient_norms)
    if at.shape != norms.shape or at[0] < 1 or not np.all(np.diff(at) > 0):
        raise ValueError("steps must ascend from 1 or later, one for each gradient norm")
    if not 0 <= smoothing <= 1:
        raise ValueError(f"smoothing must be a share of the run in [0, 1], got {smoothing}")
    at, norms = _thinned(at, norms)
    smooth = median_filtered(norms, max(LEAST_WIDTH, round(smoothing * norms.size)) if smoothing else 1)
    every = np.arange(1, round(at[-1]) + 1)
    return refined(np.exp(np.interp(every, at, np.log(smooth))), adaptive=adaptive)


def median_filtered(series: ArrayLike, width: int) -> Floats:
    """Running median, with the first value held before the start and the end mirrored behind it.

    Parameters
    ----------
    width : 1 or more
        Values under the median; an even number is made odd by one more, so that it stands over its own place.
    """
    values = np.asarray(series, dtype=float)
    half = min(width // 2, values.size - 1)
    padded = np.concatenate([np.full(half, values[0]), values, values[::-1][:half]])
    return np.asarray(np.median(np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1), axis=1))


def _thinned(at: Floats, norms: Floats) -> tuple[Floats, Floats]:
    """Medians of neighbours, where there are too many lines; the last step stays the last."""
    if at.size <= MOST_POINTS:
        return at, norms
    groups = np.array_split(np.arange(at.size), MOST_POINTS)
    middle = np.array([float(np.median(norms[rows])) for rows in groups])
    return np.array([*(float(np.mean(at[rows])) for rows in groups[:-1]), at[-1]]), middle


def _series(gradient_norms: ArrayLike) -> Floats:
    norms = np.asarray(gradient_norms, dtype=float)
    if norms.ndim != 1 or norms.size < 2:
        raise ValueError(f"gradient_norms must be a series of 2 or more steps, got shape {norms.shape}")
    if not np.all((norms > 0) & np.isfinite(norms)):
        raise ValueError("gradient_norms must all be positive and finite")
    return norms
