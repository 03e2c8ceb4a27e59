"""Learning-rate schedules: the multiplier of the peak at every step of a run.

Four have settings of their own in a pack; the others say their numbers in their names (``uba:phi=0.5``), as
`lawfit.laws.named_schedules` reads them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from lawfit.laws import named_schedules
from lawfit.laws.schedules import Shape

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
NAMED = ("rex", "uba", "power", "wsd_s")  # a table of rates is a file, which the id of a run does not hold


def multipliers(name: str, steps: int, *, warmup_steps: int = 0, floor: float = 0.0, cooldown: float = 0.2) -> Floats:
    """Multiplier of the peak learning rate for each step.

    Parameters
    ----------
    name : one of `SCHEDULES`, or of `NAMED` with its numbers, but for the floor
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

    Raises
    ------
    ValueError
        No such schedule, numbers that it cannot have, or a warmup that does not fit.
    """
    if not 0 <= warmup_steps < steps:
        raise ValueError(f"warmup of {warmup_steps} steps does not fit into {steps} steps")
    decay_steps = steps - warmup_steps
    if name not in SCHEDULES:
        return _named(name, steps, warmup_steps, floor)
    x = np.arange(decay_steps, dtype=np.float64) / decay_steps
    rise = np.arange(1, warmup_steps + 1, dtype=np.float64) / (warmup_steps + 1)
    return np.concatenate([rise, SCHEDULES[name](x, floor, min(1.0, cooldown * steps / decay_steps))])


def ends_on_the_way(name: str, steps: int) -> tuple[int, ...]:
    """After how many steps a decay ends before the last one does (wsd_s): there a usable model stands."""
    if not name.startswith("wsd_s:"):
        return ()
    ends = named_schedules.split(name)[1].get("ends", "").split(named_schedules.ENDS)
    return tuple(round(float(end) * steps) for end in ends[:-1])


def named(text: str, steps: int, *, warmup_steps: int = 0, floor: float = 0.0) -> Shape:
    """The shape of a schedule of `NAMED` that a run can follow, at a cost that does not grow with its steps.

    Raises
    ------
    ValueError
        As of `multipliers`.
    """
    if not 0 <= warmup_steps < steps:
        raise ValueError(f"warmup of {warmup_steps} steps does not fit into {steps} steps")
    name, words = named_schedules.split(text)
    if name in SCHEDULES:
        raise ValueError(f"{name} has its numbers as settings of the run (final_fraction, cooldown_fraction)")
    if "floor" in words:
        raise ValueError("the floor of a run is its final_fraction or final_lr: leave it out of the schedule")
    if name == "wsd_s" and floor == 0:
        raise ValueError("its decays never reach 0: give them a floor by final_fraction or final_lr")
    shape = named_schedules.named_shape(text, floor=floor)
    if name == "wsd_s":  # a decay is lowest where it ends: of all steps of the warmup these tell whether one began
        ends = np.array([*(float(end) for end in words["ends"].split(named_schedules.ENDS)), warmup_steps / steps])
        around = np.floor(ends * steps)[:, None] + np.arange(-2, 3)
        if np.any(shape(_begun(np.clip(around, 0, warmup_steps), steps)) < 1):
            raise ValueError(f"its first decay begins before the warmup of {warmup_steps} steps is over")
    return shape


def _begun(step: Floats, steps: int) -> Floats:
    """Progress at the first instant of a step: one that begins where a decay ends is the first one back at the peak."""
    return np.minimum(np.nextafter(step / steps, 2), 1)


def _named(text: str, steps: int, warmup_steps: int, floor: float) -> Floats:
    shape = named(text, steps, warmup_steps=warmup_steps, floor=floor)
    rise = np.arange(1, warmup_steps + 1, dtype=np.float64) / (warmup_steps + 1)
    if text.partition(":")[0] not in named_schedules.FROM_FIRST_STEP:
        return np.concatenate([rise, shape(np.arange(steps - warmup_steps) / (steps - warmup_steps))])
    f = shape(_begun(np.arange(steps, dtype=np.float64), steps))
    return np.concatenate([rise * f[warmup_steps], f[warmup_steps:]])
