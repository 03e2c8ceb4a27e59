"""Learning-rate schedules: the multiplier of the peak at every step of a run. Formulas: laws.md, section 18."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def linear(x: Floats, floor: float, _: float) -> Floats:
    """Straight from 1 to `floor`."""
    return floor + (1 - floor) * (1 - x)


def cosine(x: Floats, floor: float, _: float) -> Floats:
    """Half a cosine from 1 to `floor`."""
    return floor + (1 - floor) * 0.5 * (1 + np.cos(math.pi * x))


def constant(x: Floats, _floor: float, _: float) -> Floats:
    """1 throughout."""
    return np.ones_like(x)


def wsd(x: Floats, floor: float, cooldown: float) -> Floats:
    """1, then straight to `floor` over the last `cooldown` of the run (warmup, stable, decay)."""
    return 1 - (1 - floor) * np.clip((x - (1 - cooldown)) / cooldown, 0, 1)


Schedule = Callable[[Floats, float, float], Floats]  # (progress after warmup in [0, 1), floor, cooldown share)
SCHEDULES: Mapping[str, Schedule] = MappingProxyType(
    {"linear": linear, "cosine": cosine, "wsd": wsd, "constant": constant}
)


def multipliers(name: str, steps: int, *, warmup_steps: int = 0, floor: float = 0.0, cooldown: float = 0.2) -> Floats:
    """Multiplier of the peak learning rate for each step.

    Parameters
    ----------
    steps : int, at least 1
    warmup_steps : int in [0, steps)
        Step `i` of the warmup (from 0) runs at (i + 1) / (warmup_steps + 1): no step at zero, and the first step
        after it is the first at the peak.
    floor : float in [0, 1]
        Multiplier that the schedule falls to. It would be reached at step `steps`, one after the last, so that
        a decay to zero wastes no step.
    cooldown : float in (0, 1]
        WSD only: the share of the whole run, warmup included, in which the rate falls.

    Returns
    -------
    (steps,) floats in (0, 1], except that `floor` 0 with one step gives 1
    """
    if not 0 <= warmup_steps < steps:
        raise ValueError(f"warmup of {warmup_steps} steps does not fit into {steps} steps")
    decay_steps = steps - warmup_steps
    x = np.arange(decay_steps, dtype=np.float64) / decay_steps
    rise = np.arange(1, warmup_steps + 1, dtype=np.float64) / (warmup_steps + 1)
    return np.concatenate([rise, SCHEDULES[name](x, floor, min(1.0, cooldown * steps / decay_steps))])
