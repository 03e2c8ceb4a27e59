"""The loss along a run under any learning-rate schedule: the Multi-Power Law (Luo et al., arXiv 2503.12811).

``L(t) = L0 + A (S1 + SW)^-alpha - B sum_k (eta_{k-1} - eta_k) G(eta_k^-gamma S_k(t))``, ``G(x) = 1 - (C x + 1)^-beta``:
a power of the summed learning rate, less what each fall of the rate has gained by then. S1 is the sum after the
warmup, SW that of the warmup, S_k(t) the sum from step k to t. All of it is of one model, batch and data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

_BLOCK: Final = 10**6  # numbers at a time


@dataclass(frozen=True, kw_only=True)
class Course:
    """A run's learning rate after its warmup, as logged: straight between two logged steps."""

    steps: Floats  # (n,) ascending
    lr: Floats  # (n,) at these steps
    warmup_sum: float  # SW: summed learning rate of all steps before the first

    def __post_init__(self) -> None:
        if self.steps.ndim != 1 or self.steps.shape != self.lr.shape or self.steps.size < 2:
            raise ValueError(f"steps and lr must be series of one length, got {self.steps.shape} and {self.lr.shape}")
        if not np.all(np.diff(self.steps) > 0):
            raise ValueError("steps must ascend")
        if not (np.all((self.lr > 0) & np.isfinite(self.lr)) and 0 < self.warmup_sum < np.inf):
            raise ValueError("learning rates and the warmup's sum must be positive and finite")

    @classmethod
    def of(cls, steps: ArrayLike, lr: ArrayLike, *, warmup_steps: float) -> Course:
        """From logged columns, after a linear warmup to the first rate.

        Steps between the warmup's end and the first logged step are taken to run at the first logged rate.
        """
        step, rate = np.asarray(steps, dtype=float), np.asarray(lr, dtype=float)
        if rate.size == 0 or not 0 <= warmup_steps <= step[0]:
            raise ValueError(f"a warmup of {warmup_steps:g} steps does not end before the first logged step")
        return cls(steps=step, lr=rate, warmup_sum=float(rate[0] * (step[0] - warmup_steps / 2)))

    @property
    def sums(self) -> Floats:
        """(n,) summed learning rate from the first logged step to each."""
        pieces = np.diff(self.steps) * (self.lr[1:] + self.lr[:-1]) / 2
        return np.concatenate([[0.0], np.cumsum(pieces)])


@dataclass(frozen=True, kw_only=True)
class MultiPowerLaw:
    """The seven numbers of the law, by the letters of the source."""

    L0: float  # nats per token
    A: float
    alpha: float
    B: float
    C: float
    beta: float
    gamma: float

    def loss(self, course: Course) -> Floats:
        """Loss at each step of a course, nats per token."""
        total = self.A * (course.sums + course.warmup_sum) ** -self.alpha
        return np.asarray(self.L0 + total - self.B * annealed(course, self.C, self.beta, self.gamma))


def annealed(course: Course, C: float, beta: float, gamma: float) -> Floats:
    """What the falls of the rate have gained by each step, in units of B: ``sum_k (eta_{k-1} - eta_k) G(...)``."""
    sums = course.sums
    drops = course.lr[:-1] - course.lr[1:]
    moved = np.flatnonzero(drops)
    # Between two logged steps a fall is spread evenly: the sum since then is counted from the middle.
    middle, rate = (sums[moved] + sums[moved + 1]) / 2, C * course.lr[moved + 1] ** -gamma
    gained = np.empty(sums.size)
    rows = max(1, _BLOCK // max(moved.size, 1))  # at a time: steps times falls need not fit into memory
    for start in range(0, sums.size, rows):
        since = np.maximum(sums[start : start + rows, None] - middle, 0)
        gained[start : start + rows] = (1 - (rate * since + 1) ** -beta) @ drops[moved]
    return gained
