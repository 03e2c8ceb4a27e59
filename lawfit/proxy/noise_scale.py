"""The gradient noise scale: the batch at which noise and gradient weigh the same (McCandlish et al., arXiv 1812.06162).

With G the true gradient and S the covariance of the gradient of one token, E |g_B|^2 = |G|^2 + tr(S) / B. Two batch
sizes give two equations; their solutions are unbiased but noisy, so each is averaged over many steps and divided once
(laws.md, section 7: the average of the ratios is biased).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]


def noise_scale(small_squares: Floats, large_squares: Floats, small_tokens: float, large_tokens: float) -> float | None:
    """Simple noise scale tr(S) / |G|^2.

    Parameters
    ----------
    small_squares, large_squares : (n,) floats
        Squared gradient norms of n steps at each of two batch sizes.
    small_tokens, large_tokens : float
        The batch sizes.

    Returns
    -------
    float or None, tokens
        None where the averages leave no positive gradient or noise: too few steps for so much noise.
    """
    if not 0 < small_tokens < large_tokens:
        raise ValueError(f"the batches must be positive and rise, got {small_tokens} and {large_tokens} tokens")
    small, large = float(np.mean(small_squares)), float(np.mean(large_squares))
    gradient = (large_tokens * large - small_tokens * small) / (large_tokens - small_tokens)
    noise = (small - large) / (1 / small_tokens - 1 / large_tokens)
    return noise / gradient if gradient > 0 and noise > 0 else None
