"""A simulated world in which the best learning rate saturates with the batch as nothing of the joint surface does."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lawfit.simulate import REFERENCE_TOKENS, Truth


@dataclass(frozen=True, kw_only=True)
class NoiseBatchTruth(Truth):
    """The noise batch grows with the horizon on its own, not with the best batch, as on the Step Law grid."""

    noise_batch_tokens: float = 3e5  # at the reference horizon
    noise_exponent: float = 0.8

    def __post_init__(self) -> None:
        if self.batch_params or self.batch_curvature:
            raise ValueError("the best batch depends on the horizon alone here, as the valley does not know params")

    def log_share(self, tokens: float) -> float:
        """ln of the noise batch over the best batch."""
        best = self.batch_tokens * (tokens / REFERENCE_TOKENS) ** self.batch_tokens_exponent
        noise = self.noise_batch_tokens * (tokens / REFERENCE_TOKENS) ** self.noise_exponent
        return float(np.log(noise / best))

    def optimum(self, params: float, tokens: float) -> tuple[float, float]:
        """`lr` and its exponents are those of the ceiling."""
        ceiling, batch = super().optimum(params, tokens)
        return ceiling * float(np.exp(-np.logaddexp(0.0, self.log_share(tokens)))), batch

    def floor(self, v: np.ndarray, tokens: float) -> np.ndarray:
        """ln of the best learning rate at v = ln batch/batch*, over the one at the best batch."""
        share = self.log_share(tokens)
        return np.asarray(np.logaddexp(0.0, share) - np.logaddexp(0.0, share - v))

    def excess(self, u: np.ndarray, v: np.ndarray, tokens: float = REFERENCE_TOKENS) -> np.ndarray:
        return super().excess(u - self.floor(v, tokens) + self.best_lr_shift(v), v, tokens)


@dataclass(frozen=True, kw_only=True)
class SurgeBatchTruth(NoiseBatchTruth):
    """The rate rises to a noise batch of its own and falls again beyond it (arXiv 2405.14578)."""

    def optimum(self, params: float, tokens: float) -> tuple[float, float]:
        """`lr` and its exponents are those of the peak over all batches."""
        ceiling, batch = Truth.optimum(self, params, tokens)
        return ceiling / float(np.cosh(0.5 * self.log_share(tokens))), batch

    def floor(self, v: np.ndarray, tokens: float) -> np.ndarray:
        share = self.log_share(tokens)
        return np.asarray(np.log(np.cosh(0.5 * share)) - np.log(np.cosh(0.5 * (share - v))))
