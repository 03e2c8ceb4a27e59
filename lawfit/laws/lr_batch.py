"""How the best learning rate goes with the batch at one size and horizon: the forms of the field, no data.

All are local views of one curve: rising while gradient noise dominates, flat (or falling) beyond a batch that the noise
sets. Batch and noise batch are in one unit, tokens per step here; learning rates are peaks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

POWER_SCHEDULER_SEQ_LEN: Final = 4096.0  # tokens of a sequence in arXiv 2408.13359, which counts sequences


@dataclass(frozen=True, kw_only=True)
class Power:
    """``lr = const * batch^exponent``: 1 for SGD, 0.5 by the Adam SDE, 0.25 to 0.34 as measured with Adam."""

    const: float
    exponent: float

    def __call__(self, batch_tokens: ArrayLike) -> Floats:
        return np.asarray(self.const * _positive("batch_tokens", batch_tokens) ** self.exponent)

    def slope(self, batch_tokens: ArrayLike) -> Floats:
        """d ln lr / d ln batch: the exponent of a rescaling rule there."""
        return np.full_like(_positive("batch_tokens", batch_tokens), self.exponent)


@dataclass(frozen=True, kw_only=True)
class Saturating:
    """``lr = lr_max / (1 + noise_batch / batch)^sharpness`` (McCandlish et al., arXiv 1812.06162).

    sharpness is 1 for SGD; the source's appendix suggests 0.5 to 1 for Adam.
    """

    lr_max: float
    noise_batch_tokens: float
    sharpness: float = 1.0

    def __call__(self, batch_tokens: ArrayLike) -> Floats:
        ratio = self.noise_batch_tokens / _positive("batch_tokens", batch_tokens)
        return np.asarray(self.lr_max * (1 + ratio) ** -self.sharpness)

    def slope(self, batch_tokens: ArrayLike) -> Floats:
        """From `sharpness` at small batches to 0 at large ones; half of it at the noise batch."""
        batch = _positive("batch_tokens", batch_tokens)
        return np.asarray(self.sharpness * self.noise_batch_tokens / (batch + self.noise_batch_tokens))


@dataclass(frozen=True, kw_only=True)
class Surge:
    """``lr = 2 lr_max / (sqrt(noise_batch / batch) + sqrt(batch / noise_batch))`` (Li et al., arXiv 2405.14578).

    Derived for sign descent: a root below the noise batch, the peak there, a fall above. That noise batch is not the
    one of `Saturating`, and it grows as training goes on.
    """

    lr_max: float
    noise_batch_tokens: float

    def __call__(self, batch_tokens: ArrayLike) -> Floats:
        root = np.sqrt(_positive("batch_tokens", batch_tokens) / self.noise_batch_tokens)
        return np.asarray(2 * self.lr_max / (root + 1 / root))

    def slope(self, batch_tokens: ArrayLike) -> Floats:
        """From 0.5 at small batches through 0 at the noise batch to -0.5."""
        batch = _positive("batch_tokens", batch_tokens)
        return np.asarray(0.5 * (self.noise_batch_tokens - batch) / (self.noise_batch_tokens + batch))


Form = Power | Saturating | Surge


SATURATING: Final = "saturating"
SURGE: Final = "surge"


@dataclass(frozen=True, kw_only=True)
class Bend:
    """How a form lies below its ceiling, against ``x = ln noise batch - ln batch``."""

    log: Callable[[Floats], Floats]  # ln of rate over ceiling
    slope: Callable[[Floats], Floats]  # its derivative in x


BENDS: Final[Mapping[str, Bend]] = MappingProxyType(
    {
        SATURATING: Bend(
            log=lambda x: np.asarray(-np.logaddexp(0, x)),
            slope=lambda x: np.asarray(-1 / (1 + np.exp(-x))),
        ),
        SURGE: Bend(
            log=lambda x: np.asarray(np.log(2) - np.logaddexp(x / 2, -x / 2)),
            slope=lambda x: np.asarray(-0.5 * np.tanh(x / 2)),
        ),
    }
)


@dataclass(frozen=True, kw_only=True)
class AcrossScales:
    """``lr = const params^a tokens^b bend(noise_batch / batch)``, ``noise_batch = noise_const tokens^r``.

    A form along the batch at every scale, with a noise batch that grows with the horizon (arXiv 2410.05838):
    ``1 / (1 + noise_batch / batch)`` where it saturates; where it surges (arXiv 2405.14578) ``2 / (x + 1 / x)`` with x
    the root of ``noise_batch / batch``. Limits of the first are laws that look contradictory: far below the noise batch
    the rate is proportional to the batch and goes as ``tokens^(b - r)``, as in arXiv 2408.13359; far above, the batch
    does not matter and the rate goes as ``tokens^b``.
    """

    form: str = SATURATING  # of `BENDS`
    const: float
    params_exponent: float
    tokens_exponent: float
    noise_const: float  # tokens per step
    noise_tokens_exponent: float

    def __call__(self, params: ArrayLike, tokens: ArrayLike, batch_tokens: ArrayLike) -> Floats:
        log_lr = self.params_exponent * np.log(_positive("params", params))
        log_lr = log_lr + self.tokens_exponent * np.log(_positive("tokens", tokens))
        ahead = np.log(self.noise_batch_tokens(tokens)) - np.log(_positive("batch_tokens", batch_tokens))
        return np.asarray(self.const * np.exp(log_lr + BENDS[self.form].log(ahead)))

    def noise_batch_tokens(self, tokens: ArrayLike) -> Floats:
        """Batch at which the rate is half of what it saturates at, or at which it peaks."""
        return np.asarray(self.noise_const * _positive("tokens", tokens) ** self.noise_tokens_exponent)

    def at(self, params: float, tokens: float) -> Saturating | Surge:
        """The curve of one scale."""
        ceiling = self.const * params**self.params_exponent * tokens**self.tokens_exponent
        noise = float(self.noise_batch_tokens(tokens))
        if self.form == SURGE:
            return Surge(lr_max=ceiling, noise_batch_tokens=noise)
        return Saturating(lr_max=ceiling, noise_batch_tokens=noise)


@dataclass(frozen=True, kw_only=True)
class PowerScheduler:
    """``lr = batch * factor * tokens^exponent`` at the best batches of each horizon (Shen et al., arXiv 2408.13359).

    Proportional to the batch, in **sequences of 4,096 tokens** as in the source; base learning rates of muP.
    """

    factor: float
    exponent: float

    def __call__(self, batch_tokens: ArrayLike, tokens: ArrayLike) -> Floats:
        sequences = _positive("batch_tokens", batch_tokens) / POWER_SCHEDULER_SEQ_LEN
        return np.asarray(sequences * self.factor * _positive("tokens", tokens) ** self.exponent)


@dataclass(frozen=True, kw_only=True)
class StochasticOracle:
    """Steps to a small gradient, ``K(b) = steps_min b / (b - batch_min)`` (Sato and Iiduka, arXiv 2201.11989).

    The source's ``K = A b / (eps^2 b - B)`` with ``steps_min = A / eps^2`` and ``batch_min = B / eps^2``; its constants
    are from memory. Unlike the hyperbola of McCandlish the cost ``K b`` in gradients has an optimum inside. One curve
    per player of a GAN.
    """

    steps_min: float  # at a very large batch
    batch_min: float  # samples; at this batch and below the target is never reached

    def __post_init__(self) -> None:
        for name in ("steps_min", "batch_min"):
            _positive(name, getattr(self, name))

    @classmethod
    def of_constants(cls, A: float, B: float, eps_squared: float) -> StochasticOracle:
        """From the letters of the source."""
        return cls(steps_min=A / eps_squared, batch_min=B / eps_squared)

    def steps(self, batch: ArrayLike) -> Floats:
        """Steps to the target; infinite where the batch is too small ever to reach it."""
        size = _positive("batch", batch)
        excess = size - self.batch_min
        with np.errstate(divide="ignore"):
            return np.where(excess > 0, self.steps_min * size / np.maximum(excess, 0), np.inf)

    def cost(self, batch: ArrayLike) -> Floats:
        """Gradients of single samples that the target takes: steps * batch."""
        return np.asarray(self.steps(batch) * _positive("batch", batch))

    @property
    def best_batch(self) -> float:
        """Where `cost` is least: ``2 batch_min``. It takes ``2 steps_min`` steps."""
        return 2 * self.batch_min


def token_ratio(
    tokens: Callable[[Floats], Floats], tokens_of_other: Callable[[Floats], Floats], batch_tokens: ArrayLike
) -> Floats:
    """Tokens of one optimizer over those of another, to one loss at one batch: ``D_AdamW(L, B) / D_Muon(L, B)``.

    A measure that needs no critical batch (arXiv 2505.02222): above 1 the other one needs less data, and when it grows
    with the batch the other one also stands larger batches.

    Parameters
    ----------
    tokens, tokens_of_other : functions of (n,) tokens per step
        Tokens to the target loss, for instance `Hyperbola.tokens`.
    """
    batch = _positive("batch_tokens", batch_tokens)
    return _positive("tokens", tokens(batch)) / _positive("tokens_of_other", tokens_of_other(batch))


def max_initial_lr(depth: ArrayLike, width: ArrayLike, *, const: float, exponent: float) -> Floats:
    """Largest rate from which a fresh ReLU network still trains: ``const (depth width)^-exponent``.

    Iyer, Hanin and Rolnick, arXiv 2212.07295: constant width, wide against the depth. Both numbers are fitted per
    setting; none is published.
    """
    return np.asarray(const * (_positive("depth", depth) * _positive("width", width)) ** -exponent)


def _positive(name: str, value: ArrayLike) -> Floats:
    array = np.asarray(value, dtype=float)
    if not np.all((array > 0) & np.isfinite(array)):
        raise ValueError(f"{name} must be positive and finite, got {array}")
    return array
