"""E6: the gradient noise scale with an interval (McCandlish et al., arXiv 1812.06162)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lawfit.errors import FitError
from lawfit.findings import finding

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class NoiseScale:
    """E6: the gradient noise scale over some steps of a run."""

    value_tokens: float  # tr(S) / |G|^2, in the unit of the batches given
    low_tokens: float
    high_tokens: float  # infinite where the gradient cannot be told from zero
    level: float
    gradient_square: float
    noise_trace: float
    blocks: int


def fit_noise_scale(
    small_squares: ArrayLike,
    large_squares: ArrayLike,
    small_tokens: float,
    large_tokens: float,
    *,
    level: float = 0.9,
    blocks: int = 12,
) -> NoiseScale:
    """Simple noise scale from squared gradient norms at two batch sizes (McCandlish et al., arXiv 1812.06162).

    Numerator and denominator are averaged apart and divided once: the average of ratios is biased. The interval is
    Fieller's, over means of consecutive blocks, since neighbouring steps are alike, and wider where neighbouring blocks
    are alike too. What it measures is a bound of
    usefulness for SGD; under Adam it was found orders of magnitude below the critical batch (arXiv 2505.23971), so
    it stands beside E4 and E5 and is never pooled with them.

    Raises
    ------
    FitError
        Fewer steps than blocks, or averages that leave no positive gradient or noise.
    """
    if not 0 < small_tokens < large_tokens:
        raise ValueError(f"the batches must be positive and rise, got {small_tokens} and {large_tokens} tokens")
    small, large = np.asarray(small_squares, dtype=float).ravel(), np.asarray(large_squares, dtype=float).ravel()
    if len(small) != len(large):
        raise ValueError(f"one square per step at each batch, got {len(small)} and {len(large)}")
    if len(small) < blocks or blocks < 3:
        raise FitError(finding("critical.few_steps", steps=len(small), blocks=blocks))
    gradient = (large_tokens * large - small_tokens * small) / (large_tokens - small_tokens)
    noise = (small - large) / (1 / small_tokens - 1 / large_tokens)
    pairs = np.array([[part.mean() for part in np.array_split(x, blocks)] for x in (noise, gradient)])
    mean_noise, mean_gradient = float(noise.mean()), float(gradient.mean())
    if not (mean_gradient > 0 and mean_noise > 0):
        raise FitError(finding("critical.not_positive", gradient_square=mean_gradient, noise_trace=mean_noise))
    low, high = _fieller(mean_noise, mean_gradient, _covariance_of_means(pairs), blocks - 1, level)
    return NoiseScale(
        value_tokens=mean_noise / mean_gradient,
        low_tokens=low,
        high_tokens=high,
        level=level,
        gradient_square=mean_gradient,
        noise_trace=mean_noise,
        blocks=blocks,
    )


def _covariance_of_means(blocks: Floats) -> Floats:
    """(2, 2) covariance of the mean of (2, n) block means, for first-order dependence between neighbouring blocks."""
    n = blocks.shape[1]
    apart = blocks - blocks.mean(axis=1, keepdims=True)
    own = (apart**2).sum(axis=1) + 1e-300
    alike = float(((apart[:, 1:] * apart[:, :-1]).sum(axis=1) / own).max()) + 1 / n  # its bias is -1 / n
    return np.asarray(np.cov(blocks) / n * (1 + 2 * max(alike, 0.0)))


def _fieller(top: float, bottom: float, cov: Floats, dof: int, level: float) -> tuple[float, float]:
    """Fieller's interval of a ratio of means; open above where the denominator may be zero."""
    from scipy.stats import t

    square = float(t.ppf(0.5 + level / 2, dof)) ** 2
    a = bottom**2 - square * cov[1, 1]
    b = top * bottom - square * cov[0, 1]
    c = top**2 - square * cov[0, 0]
    root = np.sqrt(max(b * b - a * c, 0.0))
    low = float(c / (b + root)) if c > 0 and b + root > 0 else 0.0  # (b - root) / a, also where a is zero or less
    return low, float((b + root) / a) if a > 0 else float("inf")
