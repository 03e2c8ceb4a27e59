"""Critical batch size: the trade between steps and tokens, the definitions of "critical", and their exact conversions.

With steps S and tokens E = batch * S to one target loss, the hyperbola ``(S / S_min - 1) (E / E_min - 1) = 1``
(McCandlish et al., arXiv 1812.06162) has one scale, ``E_min / S_min``: the batch at which both are twice their minimum.
Every definition of a critical batch in the literature is an affine function of it, so a number without its definition
means little: that of Zhang et al. (arXiv 2410.21676) is a third to a quarter of the doubling batch of the same data.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lawfit.findings import Finding, finding
from lawfit.units import parse_quantity

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Definition:
    """Which batch is called critical: the one that needs `fraction` more tokens than a reference batch does.

    More tokens than at the reference and more steps than linear scaling from the reference are the same thing, since
    tokens = batch * steps; the literature says "extra data" without a reference and "extra steps" with one.
    """

    fraction: float  # 1: twice the tokens; 0.2: 20 % more
    reference_batch_tokens: float = 0.0  # 0: the limit of an infinitesimal batch

    def __post_init__(self) -> None:
        if not (0 < self.fraction < np.inf):
            raise ValueError(f"the extra fraction must be positive and finite, got {self.fraction}")
        if not (0 <= self.reference_batch_tokens < np.inf):
            raise ValueError(f"the reference batch must be 0 or more tokens, got {self.reference_batch_tokens}")

    @property
    def kind(self) -> str:
        """``extra_data`` (against the infinitesimal batch) or ``extra_steps`` (against linear scaling)."""
        return "extra_steps" if self.reference_batch_tokens else "extra_data"

    def of_doubling(self, doubling_batch_tokens: ArrayLike) -> Floats:
        """Critical batch by this definition from the doubling batch: ``fraction * B + (1 + fraction) * reference``.

        From ``a + b / B = (1 + fraction) (a + b / B0) B0 / B`` with doubling batch b / a. Zero and infinity are let
        through: they are the ends of intervals that stay open.
        """
        doubling = np.asarray(doubling_batch_tokens, dtype=float)
        if not np.all(doubling >= 0):
            raise ValueError(f"a critical batch must not be negative, got {doubling}")
        return np.asarray(self.fraction * doubling + (1 + self.fraction) * self.reference_batch_tokens)

    def to_doubling(self, batch_tokens: ArrayLike) -> Floats:
        """The doubling batch from a critical batch by this definition.

        Raises
        ------
        ValueError
            The number cannot come from this definition: it lies at or below ``(1 + fraction) * reference``.
        """
        batch = np.asarray(batch_tokens, dtype=float)
        least = (1 + self.fraction) * self.reference_batch_tokens
        if not np.all(batch > least):
            small = finding("rules.too_small", batch_tokens=np.min(batch), definition=self.words(), least_tokens=least)
            raise ValueError(small)
        return np.asarray((batch - least) / self.fraction)

    @classmethod
    def parse(cls, text: str) -> Definition:
        """``doubling``, ``zhang``, or ``FRACTION@REFERENCE``: that fraction more steps than linear scaling from there.

        REFERENCE is a batch in tokens (``131072``, ``0.5M``) or sequences times tokens of each (``256x512``); without
        one, that fraction more tokens than a very small batch would need.

        Raises
        ------
        ValueError
            Anything else.
        """
        if text in NAMED:
            return NAMED[text]
        fraction, at, reference = text.partition("@")
        if re.fullmatch(r"[0-9.]+(?:e-?[0-9]+)?", fraction) is None or bool(at) != bool(reference):
            raise ValueError(f"'{text}' is no definition of a critical batch: {DEFINITIONS}")
        return cls(
            fraction=parse_quantity(fraction),
            reference_batch_tokens=math.prod(parse_quantity(part) for part in reference.split("x")) if at else 0.0,
        )

    def words(self) -> Finding:
        """``20 % more steps than linear scaling from a batch of 131,072 tokens``."""
        return finding(
            "rules.critical_batch", fraction=self.fraction, reference_batch_tokens=self.reference_batch_tokens
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "fraction": self.fraction,
            "reference_batch_tokens": self.reference_batch_tokens,
            "words": self.words().to_json(),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Definition:
        """Inverse of `to_json`; also of the table ``definition`` in the catalogue of published laws."""
        return cls(
            fraction=float(document["fraction"]), reference_batch_tokens=float(document["reference_batch_tokens"])
        )

    def of_bend(self, scale_tokens: ArrayLike, sharpness: ArrayLike) -> Floats:
        """Critical batch on ``S = S_min (1 + (B_s / B)^p)^(1 / p)``: a curve that bends otherwise than a hyperbola.

        Tokens to the target are ``S_min (B^p + B_s^p)^(1 / p)``; p = 1 is the hyperbola.
        """
        p, scale = np.asarray(sharpness, dtype=float), _positive("scale_tokens", scale_tokens)
        at_reference = (self.reference_batch_tokens / scale) ** p + 1
        return np.asarray(scale * ((1 + self.fraction) ** p * at_reference - 1) ** (1 / p))


DOUBLING: Final = Definition(fraction=1.0)  # arXiv 1812.06162, 2001.08361, 2505.13738
ZHANG: Final = Definition(fraction=0.2, reference_batch_tokens=256.0 * 512.0)  # arXiv 2410.21676: 256 sequences of 512

NAMED: Final = {"doubling": DOUBLING, "zhang": ZHANG}
DEFINITIONS: Final = "doubling, zhang, or FRACTION@REFERENCE such as 0.2@256x512"


def convert(batch_tokens: ArrayLike, given: Definition, wanted: Definition) -> Floats:
    """A critical batch by one definition as one by another, exactly (both hold on the same hyperbola)."""
    return wanted.of_doubling(given.to_doubling(batch_tokens))


@dataclass(frozen=True, kw_only=True)
class Hyperbola:
    """Steps and tokens to one target loss as functions of the batch."""

    steps_min: float  # at a very large batch
    tokens_min: float  # at a very small batch

    def __post_init__(self) -> None:
        for name in ("steps_min", "tokens_min"):
            if not (0 < getattr(self, name) < np.inf):
                raise ValueError(f"{name} must be positive and finite, got {getattr(self, name)}")

    @property
    def doubling_batch_tokens(self) -> float:
        """Batch at which steps and tokens are both twice their minimum."""
        return self.tokens_min / self.steps_min

    def critical_batch_tokens(self, definition: Definition = DOUBLING) -> float:
        return float(definition.of_doubling(self.doubling_batch_tokens))

    def steps(self, batch_tokens: ArrayLike) -> Floats:
        """``S_min (1 + B_c / B)``."""
        return np.asarray(self.steps_min + self.tokens_min / _positive("batch_tokens", batch_tokens))

    def tokens(self, batch_tokens: ArrayLike) -> Floats:
        """``E_min (1 + B / B_c)``."""
        return np.asarray(self.tokens_min + self.steps_min * _positive("batch_tokens", batch_tokens))

    def tokens_of_steps(self, steps: ArrayLike) -> Floats:
        """Tokens that the target costs in so many steps: the hyperbola itself; infinite at `steps_min` and below."""
        excess = _positive("steps", steps) / self.steps_min - 1
        with np.errstate(divide="ignore"):
            return np.where(excess > 0, self.tokens_min * (1 + 1 / np.maximum(excess, 0)), np.inf)

    @classmethod
    def through(cls, steps: float, tokens: float, doubling_batch_tokens: float) -> Hyperbola:
        """The hyperbola of a known doubling batch through one run: ``S_min = S / (1 + B_c / B)`` (arXiv 2001.08361)."""
        batch = tokens / steps
        return cls(
            steps_min=steps / (1 + doubling_batch_tokens / batch),
            tokens_min=tokens / (1 + batch / doubling_batch_tokens),
        )


def tokens_at_batch(tokens_min: ArrayLike, batch_tokens: ArrayLike, doubling_batch_tokens: ArrayLike) -> Floats:
    """Tokens that reach the loss of `tokens_min` small-batch tokens at a batch: ``D_min (1 + B / B_c)``.

    The law of B_c takes D_min (arXiv 2505.13738), so the caller evaluates it there, not at the answer.
    """
    share = _positive("batch_tokens", batch_tokens) / _positive("doubling_batch_tokens", doubling_batch_tokens)
    return _positive("tokens_min", tokens_min) * (1 + share)


@dataclass(frozen=True, kw_only=True)
class ThreeTerm:
    """``L = E + A / params^alpha + B / batch^beta + C / steps^gamma`` (Schaipp, arXiv 2607.01487).

    Unlike the hyperbola it has an optimal batch at given tokens. Where every run has one size, ``params_scale`` is 0
    and its term is part of the floor.
    """

    floor: float  # nats per token
    params_scale: float
    params_exponent: float
    batch_scale: float
    batch_exponent: float
    steps_scale: float
    steps_exponent: float

    def __call__(self, params: ArrayLike, batch_tokens: ArrayLike, steps: ArrayLike) -> Floats:
        """Loss in nats per token."""
        return (
            self.base(params)
            + self.batch_scale * _positive("batch_tokens", batch_tokens) ** -self.batch_exponent
            + self.steps_scale * _positive("steps", steps) ** -self.steps_exponent
        )

    def base(self, params: ArrayLike) -> Floats:
        """What no batch and no number of steps can go below at this size."""
        return self.floor + self.params_scale * _positive("params", params) ** -self.params_exponent

    def optimal_batch_tokens(self, tokens: ArrayLike) -> Floats:
        """Batch of lowest loss at given tokens: ``(beta B / (gamma C))^(1/(beta+gamma)) D^(gamma/(beta+gamma))``.

        Raises
        ------
        ValueError
            One of the two terms vanishes, so the optimum does not lie inside.
        """
        both = self.batch_exponent + self.steps_exponent
        weight = self.batch_exponent * self.batch_scale, self.steps_exponent * self.steps_scale
        if not (min(weight) > 0 and np.isfinite(both)):
            raise ValueError("a law without a batch term or without a steps term has no optimal batch")
        log_batch = (
            np.log(weight[0]) - np.log(weight[1]) + self.steps_exponent * np.log(_positive("tokens", tokens))
        ) / both
        return np.asarray(np.exp(log_batch))

    def steps_to(self, loss: ArrayLike, params: ArrayLike, batch_tokens: ArrayLike) -> Floats:
        """Steps to a loss at a batch; infinite where the batch is too small to reach it ever."""
        left = (
            np.asarray(loss, dtype=float)
            - self.base(params)
            - self.batch_scale * _positive("batch_tokens", batch_tokens) ** -self.batch_exponent
        )
        with np.errstate(divide="ignore"):
            return np.where(left > 0, (self.steps_scale / np.maximum(left, 0)) ** (1 / self.steps_exponent), np.inf)


def _positive(name: str, value: ArrayLike) -> Floats:
    array = np.asarray(value, dtype=float)
    if not np.all((array > 0) & np.isfinite(array)):
        raise ValueError(f"{name} must be positive and finite, got {array}")
    return array
