"""muP and CompleteP: what each kind of parameter is multiplied by when a model grows wider or deeper.

With them the learning rate tuned on a small model holds at a larger width (muP: Yang et al., arXiv 2203.03466) and
depth (CompleteP: Dey et al., arXiv 2505.01618), data, batch and horizon unchanged. They do not carry it over batch or
horizon: combine them with `lawfit.laws.transfer`.

All multipliers are for Adam-type optimizers and are relative to the base model, whose own are all 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from lawfit.laws.timescale import DecayConvention


class Rules(StrEnum):
    """Which table of multipliers."""

    MUP = "mup"  # arXiv 2203.03466, as tabulated by its public nanoGPT port: read in a primary source
    COMPLETEP = "completep"  # arXiv 2505.01618, alpha = 1: from memory


class Kind(StrEnum):
    """What a parameter does, which decides how it scales."""

    EMBEDDING = "embedding"  # token and position tables: their input does not grow with the width
    HIDDEN = "hidden"  # matrices between two widths
    VECTOR = "vector"  # gains and biases of the blocks
    OUTPUT = "output"  # the head: from the width to the vocabulary


@dataclass(frozen=True, kw_only=True)
class Multipliers:
    """Factors for one kind of parameter, to be applied to the value that the base model uses."""

    lr: float = 1.0
    init_std: float = 1.0
    weight_decay: float = 1.0
    eps: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Growth:
    """From a base model to a larger one.

    Both models are of one family: same kinds of layers, same head size (more heads, not wider ones).
    """

    rules: Rules
    base_width: int
    width: int
    base_depth: int = 1  # layers (transformer blocks); only CompleteP uses the depth
    depth: int = 1
    convention: DecayConvention = DecayConvention.COUPLED  # of weight decay

    def __post_init__(self) -> None:
        for name in ("base_width", "width", "base_depth", "depth"):
            if not getattr(self, name) >= 1:
                raise ValueError(f"{name} must be 1 or more, got {getattr(self, name)}")
        if self.rules is Rules.MUP and self.depth != self.base_depth:
            raise ValueError(
                f"muP carries nothing from {self.base_depth} layers to {self.depth}: use completep, or one depth"
            )

    @property
    def width_ratio(self) -> float:
        """m_d of the papers."""
        return self.width / self.base_width

    @property
    def depth_ratio(self) -> float:
        """m_L of CompleteP."""
        return self.depth / self.base_depth

    def of(self, kind: Kind) -> Multipliers:
        """Factors of the learning rate, the standard deviation of the initial values, weight decay and Adam's eps.

        Weight decay of hidden matrices keeps ``lr * weight_decay``, the shrinking per step (arXiv 2405.13698,
        2505.01618): times the width ratio when coupled to the learning rate, nothing to do when independent.
        """
        eps = self._eps(kind)
        if kind is not Kind.HIDDEN:
            return Multipliers(eps=eps)
        return Multipliers(
            lr=1 / self.width_ratio,
            init_std=1 / float(np.sqrt(self.width_ratio)),  # variance / m_d
            weight_decay=self.width_ratio if self.convention is DecayConvention.COUPLED else 1.0,
            eps=eps,
        )

    def _eps(self, kind: Kind) -> float:
        """Gradients shrink as 1 / m_d, in the blocks also as 1 / m_L: eps with them (the table of muP has no eps)."""
        if self.rules is Rules.MUP:
            return 1.0
        in_blocks = kind in (Kind.HIDDEN, Kind.VECTOR)
        return 1 / (self.width_ratio * (self.depth_ratio if in_blocks else 1.0))

    @property
    def output_multiplier(self) -> float:
        """Factor of the logits: 1 / m_d, on top of the tuned constant of the base model."""
        return 1 / self.width_ratio

    @property
    def residual_multiplier(self) -> float:
        """Factor of what each block adds to the residual stream: 1 / m_L under CompleteP (alpha = 1)."""
        return 1 / self.depth_ratio

    def attention_scale(self, head_size: int) -> float:
        """Attention logits are divided by the head size, not by its root: ``q . k / d_head``."""
        if not head_size >= 1:
            raise ValueError(f"head_size must be 1 or more, got {head_size}")
        return 1 / head_size
