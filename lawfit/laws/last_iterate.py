"""Which peak a schedule wants, by a bound on its last step: rates carried from one schedule and horizon to another.

For subgradient descent on a convex function the last iterate of a schedule ``g eta_t`` is at most

``(1 / (2 g S)) (d^2 + g^2 sum eta_t^2 G_t^2)
+ (g / 2) sum_{k<T} (eta_k / S_{k+1}) (1 / S_k) sum_{t>=k} eta_t^2 G_t^2``,  S_k = sum_{t>=k} eta_t,

above the minimum, with d the distance to it and G_t bounds on the gradients (Defazio et al., arXiv 2310.07831; Schaipp
et al., arXiv 2501.18965, who find that it resembles the losses of language models; formula from memory, tested against
descents). The best g is d / G times a number of the schedule alone, so the ratio of two schedules' peaks needs neither.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def bound(rates: ArrayLike, *, distance: float = 1.0, gradient_bound: ArrayLike = 1.0) -> float:
    """Most that the last iterate can lie above the minimum.

    Parameters
    ----------
    rates : (steps,) positive floats
        Learning rates of the run, step by step; a last rate of 0 belongs to no step: leave it out.
    """
    spread, drift = _parts(rates, gradient_bound)
    total = float(np.sum(_rates(rates)))
    return (distance**2 + spread) / (2 * total) + drift / 2


def best_scale(rates: ArrayLike, *, distance: float = 1.0, gradient_bound: ArrayLike = 1.0) -> float:
    """Factor on all `rates` that makes `bound` least: the best peak when the largest of them is 1."""
    spread, drift = _parts(rates, gradient_bound)
    total = float(np.sum(_rates(rates)))
    return float(distance / np.sqrt(spread + total * drift))


def peak_ratio(rates: ArrayLike, new_rates: ArrayLike) -> float:
    """Best peak of a new schedule over that of an old one, on the same problem with gradients of constant size.

    Both are multipliers of their peaks, step by step, so a longer run has more of them. At one shape the ratio goes as
    1 / sqrt(steps), up to a logarithm where the shape does not fall to zero.
    """
    return best_scale(new_rates) / best_scale(rates)


def _parts(rates: ArrayLike, gradient_bound: ArrayLike) -> tuple[float, float]:
    """``sum eta^2 G^2`` and the sum over k of the bound."""
    eta = _rates(rates)
    squares = np.broadcast_to(np.asarray(gradient_bound, dtype=float), eta.shape) ** 2 * eta**2
    if not np.all((squares > 0) & np.isfinite(squares)):
        raise ValueError("gradient_bound must be positive and finite")
    from_here = np.cumsum(eta[::-1])[::-1]
    squares_from_here = np.cumsum(squares[::-1])[::-1]
    terms = eta[:-1] / from_here[1:] / from_here[:-1] * squares_from_here[:-1]
    return float(squares_from_here[0]), float(np.sum(terms))


def _rates(rates: ArrayLike) -> Floats:
    eta = np.asarray(rates, dtype=float)
    if eta.ndim != 1 or eta.size < 1 or not np.all((eta > 0) & np.isfinite(eta)):
        raise ValueError("rates must be a series of positive finite learning rates; leave out steps at rate 0")
    return eta
