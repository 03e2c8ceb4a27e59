"""The AdamW timescale: over which share of the run the weights average their updates, and weight decay from it.

AdamW keeps an exponential moving average of its updates, with a memory of 1 / (lr * weight_decay) steps (Wang and
Aitchison, arXiv 2405.13698). In units of the run, ``tau = batch / (lr * weight_decay * tokens)``. The best tau falls
with tokens per parameter as ``c (tokens / params)^m`` (Power Lines, arXiv 2505.13738), so weight decay follows from it.

Two conventions of weight decay are in use. *Coupled* (torch.optim.AdamW): each step shrinks the weights by
``lr * weight_decay``. *Independent*: by ``weight_decay`` alone. With a schedule both are times its multiplier at that
step; a decay that ignores the schedule altogether has no exact counterpart. Batch and tokens are in one unit: tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


class DecayConvention(StrEnum):
    """What one step of weight decay multiplies the weights by."""

    COUPLED = "coupled"  # 1 - lr * weight_decay: torch.optim.AdamW
    INDEPENDENT = "independent"  # 1 - weight_decay


def timescale(
    batch_tokens: ArrayLike,
    lr: ArrayLike,
    weight_decay: ArrayLike,
    tokens: ArrayLike,
    convention: DecayConvention = DecayConvention.COUPLED,
) -> Floats:
    """``tau = batch / (lr * weight_decay * tokens)``; ``batch / (weight_decay * tokens)`` when independent.

    Dimensionless; infinite without weight decay. `lr` (peak) is not used in the independent convention.
    """
    decay = np.asarray(weight_decay, dtype=float)
    if not np.all((decay >= 0) & np.isfinite(decay)):
        raise ValueError(f"weight_decay must be zero or positive and finite, got {decay}")
    per_step = decay * _rate(lr, convention)
    with np.errstate(divide="ignore"):
        return np.asarray(_positive("batch_tokens", batch_tokens) / (per_step * _positive("tokens", tokens)))


def weight_decay_of(
    tau: ArrayLike,
    batch_tokens: ArrayLike,
    lr: ArrayLike,
    tokens: ArrayLike,
    convention: DecayConvention = DecayConvention.COUPLED,
) -> Floats:
    """Weight decay that gives a timescale, the inverse of `timescale`: proportional to the batch, all else fixed."""
    per_step = _positive("batch_tokens", batch_tokens) / (_positive("tau", tau) * _positive("tokens", tokens))
    return np.asarray(per_step / _rate(lr, convention))


def convert_weight_decay(
    weight_decay: ArrayLike, lr: ArrayLike, given: DecayConvention, wanted: DecayConvention
) -> Floats:
    """The same shrinking per step in the other convention: ``independent = lr * coupled``, with the peak lr."""
    decay = np.asarray(weight_decay, dtype=float)
    return decay if given is wanted else np.asarray(decay * _rate(lr, given) / _rate(lr, wanted))


@dataclass(frozen=True, kw_only=True)
class TimescaleLaw:
    """``tau = const * (tokens / params)^exponent``."""

    const: float
    exponent: float

    def tau(self, params: ArrayLike, tokens: ArrayLike) -> Floats:
        """The best timescale at a scale."""
        ratio = np.log(_positive("tokens", tokens)) - np.log(_positive("params", params))
        return np.asarray(self.const * np.exp(self.exponent * ratio))

    def weight_decay(
        self,
        params: ArrayLike,
        tokens: ArrayLike,
        batch_tokens: ArrayLike,
        lr: ArrayLike,
        convention: DecayConvention = DecayConvention.COUPLED,
    ) -> Floats:
        """The best weight decay at a scale, for this batch and peak learning rate."""
        return weight_decay_of(self.tau(params, tokens), batch_tokens, lr, tokens, convention)

    def to_json(self) -> dict[str, float]:
        return {"const": self.const, "exponent": self.exponent}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> TimescaleLaw:
        return cls(const=float(document["const"]), exponent=float(document["exponent"]))


def _rate(lr: ArrayLike, convention: DecayConvention) -> Floats:
    return np.ones(()) if convention is DecayConvention.INDEPENDENT else _positive("lr", lr)


def _positive(name: str, value: ArrayLike) -> Floats:
    array = np.asarray(value, dtype=float)
    if not np.all((array > 0) & np.isfinite(array)):
        raise ValueError(f"{name} must be positive and finite, got {array}")
    return array
