"""Loss against parameters and tokens: formulas and their inversions, no data.

The additive law ``L = E + A params^-alpha + B tokens^-beta`` (Hoffmann et al., arXiv 2203.15556) has everything in
closed form; `Repetition` adds what repeated tokens and excess parameters are still worth (arXiv 2305.16264). Loss is in
nats per token; `params` follows the convention of the runs that a law was fitted on; FLOPs are ``6 params tokens``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

FLOPS_PER_PARAM_TOKEN: Final = 6.0  # forward and backward pass of a dense transformer (arXiv 2001.08361)


@dataclass(frozen=True, kw_only=True)
class AdditiveLaw:
    """``loss = E + A params^-alpha + B tokens^-beta``; arrays of coefficients stand for many laws at once."""

    E: Floats | float  # nats per token that no model and no data remove
    A: Floats | float
    alpha: Floats | float
    B: Floats | float
    beta: Floats | float

    def loss(self, params: ArrayLike, tokens: ArrayLike) -> Floats:
        """Nats per token; scales broadcast against the coefficients."""
        by_params = self.A * np.exp(-self.alpha * np.log(params))
        by_tokens = self.B * np.exp(-self.beta * np.log(tokens))
        return np.asarray(self.E + by_params + by_tokens, dtype=float)

    @property
    def params_exponent(self) -> Floats:
        """a of ``params* ~ flops^a``: beta / (alpha + beta)."""
        return np.asarray(self.beta / (np.asarray(self.alpha) + self.beta), dtype=float)

    @property
    def tokens_exponent(self) -> Floats:
        """b of ``tokens* ~ flops^b``: alpha / (alpha + beta)."""
        return np.asarray(self.alpha / (np.asarray(self.alpha) + self.beta), dtype=float)

    def _log_balance(self) -> Floats:
        """ln G of arXiv 2203.15556, eq. 4: ``G = (alpha A / (beta B))^(1 / (alpha + beta))``."""
        numerator = np.log(self.alpha) + np.log(self.A)
        return np.asarray(
            (numerator - np.log(self.beta) - np.log(self.B)) / (np.asarray(self.alpha) + self.beta), dtype=float
        )

    def optimum(self, flops: ArrayLike) -> tuple[Floats, Floats]:
        """(params*, tokens*) of lowest loss at a training budget, ``6 params tokens = flops``."""
        log_product = np.log(flops) - math.log(FLOPS_PER_PARAM_TOKEN)
        log_params = self._log_balance() + self.params_exponent * log_product
        return np.exp(log_params), np.exp(log_product - log_params)

    def params_for_tokens(self, tokens: ArrayLike) -> Floats:
        """The size for which this many tokens are compute-optimal."""
        return np.exp((self._log_balance() + self.params_exponent * np.log(tokens)) / self.tokens_exponent)

    def tokens_for(self, loss: ArrayLike, params: ArrayLike) -> Floats:
        """Tokens at which `params` parameters reach a loss; inf where they never do."""
        left = np.asarray(loss, dtype=float) - self.E - self.A * np.exp(-self.alpha * np.log(params))
        return _inverse_power(left, self.B, self.beta)

    def params_for(self, loss: ArrayLike, tokens: ArrayLike) -> Floats:
        """Parameters that reach a loss on `tokens` tokens; inf where none do."""
        left = np.asarray(loss, dtype=float) - self.E - self.B * np.exp(-self.beta * np.log(tokens))
        return _inverse_power(left, self.A, self.alpha)

    def flops_for(self, loss: ArrayLike) -> Floats:
        """Smallest training budget that reaches a loss; inf at or below the asymptote.

        On the compute-optimal path ``loss - E = c (flops / 6)^-(alpha beta / (alpha + beta))``.
        """
        log_g = self._log_balance()
        scale = self.A * np.exp(-self.alpha * log_g) + self.B * np.exp(self.beta * log_g)
        left = np.asarray(loss, dtype=float) - self.E
        return FLOPS_PER_PARAM_TOKEN * _inverse_power(left, scale, self.alpha * self.params_exponent)


@dataclass(frozen=True, kw_only=True)
class Repetition:
    """The additive law where tokens repeat (Muennighoff et al., arXiv 2305.16264).

    Repeated tokens count as ``D_eff = U + U R_D (1 - exp(-(D / U - 1) / R_D))``, and parameters beyond those that are
    compute-optimal for the unique tokens decay alike. Assumes that repetition never harms.
    """

    law: AdditiveLaw
    tokens_scale: float  # R*_D: repeats after which a token's worth has decayed by e
    params_scale: float  # R*_N

    def effective_tokens(self, tokens: ArrayLike, unique_tokens: ArrayLike) -> Floats:
        unique = np.minimum(unique_tokens, tokens)
        repeats = np.asarray(tokens, dtype=float) / unique - 1
        return np.asarray(unique * (1 - self.tokens_scale * np.expm1(-repeats / self.tokens_scale)), dtype=float)

    def effective_params(self, params: ArrayLike, unique_tokens: ArrayLike) -> Floats:
        base = np.minimum(params, self.law.params_for_tokens(unique_tokens))
        excess = np.asarray(params, dtype=float) / base - 1
        return np.asarray(base * (1 - self.params_scale * np.expm1(-excess / self.params_scale)), dtype=float)

    def loss(self, params: ArrayLike, tokens: ArrayLike, unique_tokens: ArrayLike) -> Floats:
        """Nats per token after `tokens` tokens, of which `unique_tokens` are different."""
        return self.law.loss(
            self.effective_params(params, np.minimum(unique_tokens, tokens)),
            self.effective_tokens(tokens, unique_tokens),
        )


@dataclass(frozen=True, kw_only=True)
class KaplanLaw:
    """``loss = [(params_scale / params)^(alpha / beta) + tokens_scale / tokens]^beta`` (arXiv 2001.08361, eq. 1.5)."""

    params_scale: float  # N_c
    alpha: float  # a_N
    tokens_scale: float  # D_c
    beta: float  # a_D

    def loss(self, params: ArrayLike, tokens: ArrayLike) -> Floats:
        by_params = self.alpha / self.beta * (math.log(self.params_scale) - np.log(params))
        by_tokens = math.log(self.tokens_scale) - np.log(tokens)
        return np.asarray(np.exp(self.beta * np.logaddexp(by_params, by_tokens)), dtype=float)


# Coefficients and how they were checked: laws that others fitted, with params counted in total unless said otherwise.
CHINCHILLA: Final = AdditiveLaw(E=1.69, A=406.4, alpha=0.34, B=410.7, beta=0.28)  # 2203.15556, rounded; V2
EPOCH: Final = AdditiveLaw(E=1.8172, A=482.01, alpha=0.3478, B=2085.43, beta=0.3658)  # 2404.10102; V2
DATA_CONSTRAINED: Final = Repetition(  # 2305.16264; V1, the authors' repository
    law=AdditiveLaw(
        E=math.exp(0.6254804), A=math.exp(6.255414), alpha=0.3526596, B=math.exp(7.3049974), beta=0.3526596
    ),
    tokens_scale=15.387756,
    params_scale=5.309743,
)
KAPLAN: Final = KaplanLaw(params_scale=6.4e13, alpha=0.076, tokens_scale=1.8e13, beta=0.103)  # non-embedding; V2
EPOCH_SE: Final[Mapping[str, float]] = {"E": 0.03, "A": 124.58, "B": 1293.23, "alpha": 0.02, "beta": 0.02}


def _inverse_power(left: ArrayLike, scale: Floats | float, exponent: Floats | float) -> Floats:
    """x with ``scale * x^-exponent = left``; inf where nothing is left to remove."""
    left = np.asarray(left, dtype=float)
    reached = left > 0
    log_left = np.log(np.where(reached, left, 1.0))
    return np.where(reached, np.exp((np.log(scale) - log_left) / exponent), np.inf)
