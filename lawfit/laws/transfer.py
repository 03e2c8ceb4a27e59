"""Exact rescaling rules: one tuned setting carried to another horizon or batch size. Rules, not fits.

Every rule takes the ratio of two batches or of two horizons, so it holds in sequences as well as in tokens, as long as
both are in the same unit. Only a half-life is in tokens itself. Width and depth are in `lawfit.laws.parametrization`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lawfit.laws.timescale import DecayConvention

Floats = NDArray[np.float64]

BJORCK_TOKEN_EXPONENT: Final = 0.32  # arXiv 2409.19913: joint fit at equal batch, 760M parameters and more
# The same source, one fit per size (parameters): small models lose more of their learning rate to a longer horizon.
BJORCK_EXPONENT_BY_PARAMS: Final[Mapping[float, float]] = MappingProxyType(
    {50e6: 0.7029, 125e6: 0.6531, 350e6: 0.3799, 760e6: 0.3155, 1.3e9: 0.3171, 2.7e9: 0.4184}
)
# arXiv 2501.18965: minimising the last-iterate bound at a fixed cooldown share gives a peak ~ 1 / sqrt(steps).
WSD_TOKEN_EXPONENT: Final = 0.5
POWER_LINES_TIMESCALE_EXPONENT: Final = -0.527  # arXiv 2505.13738: best timescale ~ (tokens / params)^-0.527

SQRT: Final = 0.5  # Adam and its family, while gradient noise dominates (arXiv 2205.10287, 2006.09092)
LINEAR: Final = 1.0  # SGD (arXiv 2006.09092)


def horizon_lr(
    lr: ArrayLike, tokens: ArrayLike, new_tokens: ArrayLike, *, exponent: ArrayLike = BJORCK_TOKEN_EXPONENT
) -> Floats:
    """Learning rate tuned at one horizon, carried to another **at the same batch size** (Bjorck et al., 2409.19913).

    ``lr * (new_tokens / tokens)^-exponent``. With a batch that grows with the horizon the exponent is another one, even
    of the other sign: apply `batch_lr` too.
    """
    ratio = _positive("new_tokens", new_tokens) / _positive("tokens", tokens)
    return np.asarray(_positive("lr", lr) * ratio ** -_finite("exponent", exponent))


def horizon_exponent(params: ArrayLike) -> Floats:
    """Exponent of `horizon_lr` at a model size: interpolated in log params below 760M, the joint 0.32 from there on.

    Below 50M parameters nothing was measured: the value of 50M.
    """
    sizes = np.array([size for size in BJORCK_EXPONENT_BY_PARAMS if size < 760e6] + [760e6])
    exponents = np.array([BJORCK_EXPONENT_BY_PARAMS[size] for size in sizes[:-1]] + [BJORCK_TOKEN_EXPONENT])
    return np.asarray(np.interp(np.log(_positive("params", params)), np.log(sizes), exponents))


def batch_lr(
    lr: ArrayLike, batch_tokens: ArrayLike, new_batch_tokens: ArrayLike, *, exponent: ArrayLike = SQRT
) -> Floats:
    """Learning rate tuned at one batch size, carried to another.

    ``lr * (new_batch_tokens / batch_tokens)^exponent``: `SQRT` for Adam-type optimizers, `LINEAR` for SGD. Measured
    slopes run from 0.25 to 1; a fit on one's own runs goes before this rule.
    """
    ratio = _positive("new_batch_tokens", new_batch_tokens) / _positive("batch_tokens", batch_tokens)
    return np.asarray(_positive("lr", lr) * ratio ** _finite("exponent", exponent))


def beta2_for_batch(beta2: ArrayLike, batch_tokens: ArrayLike, new_batch_tokens: ArrayLike) -> Floats:
    """Adam's beta2 with its half-life in tokens kept: ``beta2^(new_batch_tokens / batch_tokens)`` (2507.07101)."""
    kappa = _positive("new_batch_tokens", new_batch_tokens) / _positive("batch_tokens", batch_tokens)
    return np.asarray(_decay("beta2", beta2) ** kappa)


def beta2_half_life_tokens(beta2: ArrayLike, batch_tokens: ArrayLike) -> Floats:
    """Tokens after which a gradient's weight in Adam's second moment has halved: ``B ln(1/2) / ln(beta2)``."""
    return np.asarray(_positive("batch_tokens", batch_tokens) * np.log(0.5) / np.log(_decay("beta2", beta2)))


def beta2_of_half_life(half_life_tokens: ArrayLike, batch_tokens: ArrayLike) -> Floats:
    """The inverse: ``2^(-batch / half-life)``. The sweeps of arXiv 2507.07101 use a half-life of 1e7 tokens."""
    return np.asarray(
        0.5 ** (_positive("batch_tokens", batch_tokens) / _positive("half_life_tokens", half_life_tokens))
    )


def ema_for_batch(rho: ArrayLike, kappa: ArrayLike) -> Floats:
    """Decay of a weight average when the batch grows by kappa: ``rho^kappa`` (2307.13813).

    For the average of the weights, not for beta2, and together with the learning rate (`LINEAR` for SGD, `SQRT` for
    Adam). It fails when kappa is so large that the weights turn within one step: see `ema_gap`.
    """
    return np.asarray(_decay("rho", rho) ** _positive("kappa", kappa))


def ema_gap(rho: ArrayLike, kappa: ArrayLike) -> Floats:
    """By which share the weight of one new step differs from kappa old ones: 0 is exact, 1 is useless.

    ``1 - (1 - rho^kappa) / (kappa (1 - rho))``: the rule assumes that the kappa old steps barely move the average.
    """
    new = 1 - ema_for_batch(rho, kappa)
    return np.asarray(np.abs(1 - new / (_positive("kappa", kappa) * (1 - _decay("rho", rho)))))


@dataclass(frozen=True, kw_only=True)
class Adam:
    """The settings of Adam that depend on the batch."""

    lr: float
    beta1: float
    beta2: float
    eps: float

    def __post_init__(self) -> None:
        _positive("lr", self.lr)
        _positive("eps", self.eps)
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 0 and below 1, got {getattr(self, name)}")


def adam_sde(adam: Adam, kappa: float) -> Adam:
    """All four settings of Adam at kappa times the batch, so that its noise acts alike (Malladi et al., 2205.10287).

    ``lr sqrt(kappa)``, ``1 - beta -> kappa (1 - beta)`` for both betas, ``eps / sqrt(kappa)``. A beta of 0 stays 0.
    The rule for eps is from memory, the others were read in a second source.

    Raises
    ------
    ValueError
        kappa is so large that a beta would fall below 0: the averages would have to be shorter than one step.
    """
    root = float(np.sqrt(_positive("kappa", kappa)))
    return Adam(
        lr=adam.lr * root,
        beta1=_sde_beta("beta1", adam.beta1, kappa),
        beta2=_sde_beta("beta2", adam.beta2, kappa),
        eps=adam.eps / root,
    )


def _sde_beta(name: str, beta: float, kappa: float) -> float:
    if beta == 0:  # no average: nothing to rescale
        return 0.0
    share = kappa * (1 - beta)
    if share >= 1:
        raise ValueError(
            f"{name} {beta:g} must average over more than {kappa:g} steps to shrink with a batch {kappa:g} times as "
            f"large; the largest factor it allows is below {1 / (1 - beta):.4g}"
        )
    return 1 - share


def weight_decay_for(
    weight_decay: ArrayLike,
    *,
    batch_ratio: ArrayLike = 1.0,
    tokens_ratio: ArrayLike = 1.0,
    lr_ratio: ArrayLike = 1.0,
    params_ratio: ArrayLike = 1.0,
    timescale_exponent: float = 0.0,
    convention: DecayConvention = DecayConvention.COUPLED,
) -> Floats:
    """Weight decay after a change of batch, horizon, learning rate and size, by the AdamW timescale.

    ``timescale = batch / (lr * weight_decay * tokens)`` stays (Wang and Aitchison, arXiv 2405.13698), or moves as
    ``(tokens / params)^timescale_exponent``: `POWER_LINES_TIMESCALE_EXPONENT` for language models, where keeping it
    holds along the batch only. All ratios are new over old.

    Parameters
    ----------
    weight_decay : zero or positive floats
    lr_ratio : positive floats
        Of the peak learning rates of the matrices that decay. Not used when `convention` is independent.
    """
    decay = np.asarray(weight_decay, dtype=float)
    if not np.all((decay >= 0) & np.isfinite(decay)):
        raise ValueError(f"weight_decay must be zero or positive and finite, got {decay}")
    tokens = _positive("tokens_ratio", tokens_ratio)
    timescale = (tokens / _positive("params_ratio", params_ratio)) ** _finite("timescale_exponent", timescale_exponent)
    per_step = _positive("batch_ratio", batch_ratio) / (tokens * timescale)
    rate = _positive("lr_ratio", lr_ratio) if convention is DecayConvention.COUPLED else 1.0
    return np.asarray(decay * per_step / rate)


def _positive(name: str, value: ArrayLike) -> Floats:
    array = np.asarray(value, dtype=float)
    if not np.all((array > 0) & np.isfinite(array)):
        raise ValueError(f"{name} must be positive and finite, got {array}")
    return array


def _finite(name: str, value: ArrayLike) -> Floats:
    array = np.asarray(value, dtype=float)
    if not np.all(np.isfinite(array)):
        raise ValueError(f"{name} must be finite, got {array}")
    return array


def _decay(name: str, value: ArrayLike) -> Floats:
    array = np.asarray(value, dtype=float)
    if not np.all((array > 0) & (array < 1)):
        raise ValueError(f"{name} must lie between 0 and 1, got {array}")
    return array
