"""The terms of a law in parameters and tokens: what multiplies its coefficients at a scale."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LAW_TERMS: Final = ("const", "params", "tokens", "curvature", "few_tokens")
TERMS: Final = len(LAW_TERMS)
N_LAW: Final = 2 * TERMS
# Runs of few tokens per parameter end before the loss curve has settled; from about half of Chinchilla's 20 downwards
# the laws may have another slope.
FEW_TOKENS_PER_PARAM: Final = 10.0
_FEW_WIDTH: Final = 0.5  # of the bend, in ln tokens per parameter


def law_design(params: Floats, tokens: Floats, centre: tuple[float, float]) -> Floats:
    """(scales, 5): 1, n, d, z^2 and f of each scale."""
    log_params, log_tokens = np.log(np.atleast_1d(params)), np.log(np.atleast_1d(tokens))
    n, d = log_params - centre[0], log_tokens - centre[1]
    return np.column_stack([np.ones_like(n), n, d, ((n + d) / 2) ** 2, few_tokens(log_tokens - log_params)])


def few_tokens(log_tokens_per_param: Floats) -> Floats:
    """By how much (ln) there are fewer than `FEW_TOKENS_PER_PARAM`, rounded off around nought."""
    short = (np.log(FEW_TOKENS_PER_PARAM) - log_tokens_per_param) / _FEW_WIDTH
    return np.asarray(_FEW_WIDTH * np.logaddexp(0.0, short))
