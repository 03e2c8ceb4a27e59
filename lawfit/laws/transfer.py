"""Exact rescaling rules: one tuned setting carried to another horizon or batch size. Rules, not fits."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

BJORCK_TOKEN_EXPONENT: Final = 0.32  # arXiv:2409.19913, at equal batch, 760M parameters and more


def horizon_lr(
    lr: ArrayLike, tokens: ArrayLike, new_tokens: ArrayLike, *, exponent: float = BJORCK_TOKEN_EXPONENT
) -> Floats:
    """Learning rate tuned at one horizon, carried to another **at the same batch size** (Bjorck et al., 2409.19913).

    ``lr * (new_tokens / tokens)^-exponent``.
    """
    ratio = _positive("new_tokens", new_tokens) / _positive("tokens", tokens)
    return _positive("lr", lr) * ratio**-exponent


def batch_lr(lr: ArrayLike, batch_tokens: ArrayLike, new_batch_tokens: ArrayLike, *, exponent: float = 0.5) -> Floats:
    """Learning rate tuned at one batch size, carried to another.

    ``lr * (new_batch_tokens / batch_tokens)^exponent``: 0.5 for Adam-type optimizers (2205.10287, while gradient noise
    dominates), 1 for SGD. Measured slopes run from 0.25 to 1; a fit on one's own runs goes before this rule.
    """
    ratio = _positive("new_batch_tokens", new_batch_tokens) / _positive("batch_tokens", batch_tokens)
    return _positive("lr", lr) * ratio**exponent


def beta2_for_batch(beta2: ArrayLike, batch_tokens: ArrayLike, new_batch_tokens: ArrayLike) -> Floats:
    """Adam's beta2 with its half-life in tokens kept: ``beta2^(new_batch_tokens / batch_tokens)`` (2507.07101)."""
    kappa = _positive("new_batch_tokens", new_batch_tokens) / _positive("batch_tokens", batch_tokens)
    return np.asarray(_decay("beta2", beta2) ** kappa)


def beta2_half_life_tokens(beta2: ArrayLike, batch_tokens: ArrayLike) -> Floats:
    """Tokens after which a gradient's weight in Adam's second moment has halved."""
    return np.asarray(_positive("batch_tokens", batch_tokens) * np.log(0.5) / np.log(_decay("beta2", beta2)))


def ema_for_batch(rho: ArrayLike, kappa: ArrayLike) -> Floats:
    """Decay of a weight average when the batch grows by kappa: ``rho^kappa`` (2307.13813).

    For the average of the weights, not for beta2; fails when kappa is so large that the weights turn within one step.
    """
    return np.asarray(_decay("rho", rho) ** _positive("kappa", kappa))


def _positive(name: str, value: ArrayLike) -> Floats:
    array = np.asarray(value, dtype=float)
    if not np.all((array > 0) & np.isfinite(array)):
        raise ValueError(f"{name} must be positive and finite, got {array}")
    return array


def _decay(name: str, value: ArrayLike) -> Floats:
    array = np.asarray(value, dtype=float)
    if not np.all((array > 0) & (array < 1)):
        raise ValueError(f"{name} must lie between 0 and 1, got {array}")
    return array
