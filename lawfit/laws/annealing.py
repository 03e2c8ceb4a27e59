"""The loss along a run with a falling learning rate: the annealing law (Tissue et al., arXiv 2408.11029).

``L(t) = L0 + A S1^-alpha - C S2``: a power of the summed learning rate S1, less what the falls of the rate have gained.
S2 sums them with a memory: in the source ``S2 = sum_{i<=t} m_i, m_i = lambda m_{i-1} + (eta_{i-1} - eta_i)``; here the
same in continuous time, where a fall counts ``memory (1 - exp(-(t - t_fall) / memory))`` steps, ``memory`` = 1 / (1 -
lambda). Fewer numbers than the Multi-Power Law, and linear in the falls: a deep decay gains without end.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lawfit.laws.multi_power import Course

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class AnnealingLaw:
    """The five numbers of the law, of one model, batch and data."""

    L0: float  # nats per token
    A: float
    alpha: float
    C: float
    memory_steps: float  # over which a fall comes to count: 1 / (1 - lambda)

    def loss(self, course: Course) -> Floats:
        """Loss at each step of a course, nats per token."""
        total = self.A * (course.sums + course.warmup_sum) ** -self.alpha
        return np.asarray(self.L0 + total - self.C * annealed_area(course, np.array([self.memory_steps]))[0])


def annealed_area(course: Course, memory_steps: Floats) -> Floats:
    """(memories, n) S2 at each step of a course, for each memory: learning rate times steps.

    Between two logged steps a fall is spread evenly, so it is counted from the middle.
    """
    memory = memory_steps[:, None]
    apart = np.diff(course.steps) / memory
    falls = course.lr[:-1] - course.lr[1:]
    waiting = np.zeros((len(memory_steps), course.steps.size))  # of each fall, what does not count yet
    for i, fall in enumerate(falls):
        waiting[:, i + 1] = waiting[:, i] * np.exp(-apart[:, i]) + fall * np.exp(-apart[:, i] / 2)
    return np.asarray(memory * (np.concatenate([[0.0], np.cumsum(falls)]) - waiting))
