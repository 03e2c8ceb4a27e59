"""Shapes of learning-rate schedules: the multiplier of the peak as a function of progress through the run.

Progress is a share of the run, 0 at its first step and 1 at its end, in tokens or in steps. A shape starts at 1;
`warmed_up` puts a linear rise before it. What a trainer runs, step by step, is for the trainer to say
(`lawfit.proxy.schedules`); these are the continuous shapes that laws and conversions speak of.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Shape = Callable[[ArrayLike], Floats]  # of progress in [0, 1]; floors and the like are bound with functools.partial

POWER_EXPONENT: Final = -0.51  # arXiv 2408.13359: of tokens, in the schedule that the source recommends
POWER_FACTOR: Final = 4.0  # the same; its fitted optimum law has 4.6
POWER_CAP: Final = 0.02  # the same: largest learning rate

_MEAN_POINTS: Final = 2**17  # midpoints; the root in 1 - sqrt(u) costs the most: 1e-8


def cosine(progress: ArrayLike, *, floor: float = 0.0) -> Floats:
    """Half a cosine from 1 to `floor`."""
    return _to_floor(0.5 * (1 + np.cos(np.pi * _share("progress", progress))), floor)


def linear(progress: ArrayLike, *, floor: float = 0.0) -> Floats:
    """Straight from 1 to `floor`."""
    return _to_floor(1 - _share("progress", progress), floor)


def constant(progress: ArrayLike) -> Floats:
    """1 throughout."""
    return np.ones_like(_share("progress", progress))


def rex(progress: ArrayLike, *, beta: float = 0.5, floor: float = 0.0) -> Floats:
    """``(1 - x) / (1 - beta + beta (1 - x))`` (Chen et al., arXiv 2107.04197).

    The source has beta = 1/2 (so restate init2winit and pytorch-optimizer), axolotl trains with 0.9; 0 is linear decay,
    and towards 1 the rate holds longer before it falls.
    """
    if not 0 <= beta < 1:
        raise ValueError(f"beta must lie in [0, 1), got {beta}")
    left = 1 - _share("progress", progress)
    return _to_floor(left / (1 - beta + beta * left), floor)


def uba(progress: ArrayLike, *, phi: float, floor: float = 0.0) -> Floats:
    """``2 (1 + cos pi x) / (2 phi + (2 - phi)(1 + cos pi x))`` (Tang et al., arXiv 2505.24452; formula from memory).

    One phase. phi = 2 is the cosine, phi towards 0 is constant; phi grows with the condition number of the problem.
    """
    if not 0 < phi < np.inf:
        raise ValueError(f"phi must be positive and finite, got {phi}")
    rise = 1 + np.cos(np.pi * _share("progress", progress))
    return _to_floor(2 * rise / (2 * phi + (2 - phi) * rise), floor)


class Fall(StrEnum):
    """How the learning rate falls in the cooldown of WSD; u is the progress through the cooldown."""

    LINEAR = "linear"
    ROOT = "1-sqrt"  # 1 - sqrt(u)
    EXPONENTIAL = "exponential"  # floor^u: a fixed half-life, arXiv 2404.06395
    INVERSE = "inverse"  # 1 / f is linear: 1 / (u / floor + 1 - u), arXiv 2410.05192 (formula from memory)


def wsd(progress: ArrayLike, *, cooldown: float, floor: float = 0.0, fall: Fall = Fall.LINEAR) -> Floats:
    """1, then down to `floor` over the last `cooldown` of the run (warmup, stable, decay; arXiv 2404.06395).

    With `warmed_up` the run of this shape begins after the warmup: a cooldown of share c of all is c / (1 - warmup).
    """
    if not 0 < cooldown <= 1:
        raise ValueError(f"cooldown must lie in (0, 1], got {cooldown}")
    return _fall(np.clip((_share("progress", progress) - (1 - cooldown)) / cooldown, 0, 1), floor, fall)


def wsd_s(progress: ArrayLike, *, ends: Sequence[float], cooldown: float, floor: float) -> Floats:
    """WSD-S (Wen et al., arXiv 2410.05192): several decays in one run, each going on from the decayed weights.

    Each decay takes the last `cooldown` of what has been trained when it ends, and falls as `Fall.INVERSE`; after it
    the rate is back at the peak.

    Parameters
    ----------
    ends : shares of the run in (0, 1], ascending, the last of them 1
        Where a decay ends and a usable model is kept.
    """
    x = _share("progress", progress)
    stops = np.asarray(ends, dtype=float)
    if not (stops.size and np.all(np.diff(stops) > 0) and stops[0] > 0 and stops[-1] == 1):
        raise ValueError(f"ends must rise within (0, 1] up to 1, got {list(ends)}")
    if not 0 < cooldown <= 1:
        raise ValueError(f"cooldown must lie in (0, 1], got {cooldown}")
    starts = stops * (1 - cooldown)
    if late := [end for end, start in zip(stops[:-1], starts[1:], strict=True) if start < end]:
        raise ValueError(
            f"the decay after the one that ends at {late[0]:g} would begin before that; shorten the cooldown"
        )
    mine = np.minimum(np.searchsorted(stops, x, side="left"), stops.size - 1)
    return _fall(np.clip((x - starts[mine]) / (stops[mine] - starts[mine]), 0, 1), floor, Fall.INVERSE)


def power(
    progress: ArrayLike,
    *,
    capped: float | None = None,
    sequences: float | None = None,
    tokens: float | None = None,
    exponent: float = POWER_EXPONENT,
    cooldown: float = 0.0,
    floor: float = 0.0,
) -> Floats:
    """Power scheduler (arXiv 2408.13359): 1 while the cap holds, then a power of the tokens seen, then a linear fall.

    Progress counts from the first token, warmup included, since the power law does: `warmed_up` does not fit.

    Parameters
    ----------
    capped : share of the run in (0, 1]
        Where the power law meets the cap. Or, instead:
    sequences, tokens : positive floats
        Batch in sequences of 4,096 tokens, and tokens of the run: with the constants that the source recommends
        (`power_lr`) the law meets the cap after ``(sequences a / cap)^(-1 / b)`` tokens.
    cooldown : share of the run in [0, 1)
        Length of the final fall, which starts from the rate that the power law has there.
    """
    if (capped is None) == (sequences is None) or (sequences is None) != (tokens is None):
        raise ValueError("power takes capped, or else sequences (of 4,096 tokens a step) with tokens: one of the two")
    if sequences is not None and tokens is not None:
        if not (0 < sequences < np.inf and 0 < tokens < np.inf):
            raise ValueError(f"sequences and tokens must be positive and finite, got {sequences} and {tokens}")
        capped = min(1.0, (sequences * POWER_FACTOR / POWER_CAP) ** (-1 / exponent) / tokens)
    assert capped is not None
    if not 0 < capped <= 1:
        raise ValueError(f"capped must lie in (0, 1], got {capped}")
    if not 0 <= cooldown < 1:
        raise ValueError(f"cooldown must lie in [0, 1), got {cooldown}")
    x = _share("progress", progress)
    stable = np.minimum(x, 1 - cooldown)
    body = np.minimum(1.0, (np.maximum(stable, capped) / capped) ** exponent)
    return np.asarray(body * wsd(x, cooldown=cooldown, floor=floor)) if cooldown else np.asarray(body)


def power_lr(
    tokens_seen: ArrayLike,
    batch_sequences: ArrayLike,
    *,
    factor: float = POWER_FACTOR,
    exponent: float = POWER_EXPONENT,
    cap: float = POWER_CAP,
) -> Floats:
    """The power scheduler in absolute rates: ``min(cap, batch * factor * tokens_seen^exponent)`` (arXiv 2408.13359).

    Parameters
    ----------
    tokens_seen : positive floats
        Tokens, warmup included.
    batch_sequences : positive floats
        **Sequences of 4,096 tokens** per step, as in the source; tokens per step / 4096.

    Returns
    -------
    Base learning rates of a muP model whose base width is 256.
    """
    seen, batch = np.asarray(tokens_seen, dtype=float), np.asarray(batch_sequences, dtype=float)
    for name, value in (("tokens_seen", seen), ("batch_sequences", batch)):
        if not np.all((value > 0) & np.isfinite(value)):
            raise ValueError(f"{name} must be positive and finite, got {value}")
    return np.asarray(np.minimum(cap, batch * factor * seen**exponent))


def table(steps: ArrayLike, multipliers: ArrayLike) -> Shape:
    """A schedule that was written down, straight between its points: of a refinement, or of what a run logged.

    Parameters
    ----------
    steps : (n,) ascending, from the first step; the last one is the end of the run
    multipliers : (n,) of the peak, in [0, 1]; scaled so that the largest is 1
    """
    at, values = np.asarray(steps, dtype=float), np.asarray(multipliers, dtype=float)
    if at.ndim != 1 or at.size < 2 or at.shape != values.shape:
        raise ValueError(f"a schedule needs two steps or more with a multiplier each, got {at.size} and {values.size}")
    if not (np.all(np.isfinite(at)) and at[0] >= 0 and np.all(np.diff(at) > 0)):
        raise ValueError("the steps of a schedule must ascend")
    if not (np.all(np.isfinite(values)) and np.all(values >= 0) and values.max() > 0):
        raise ValueError("the multipliers of a schedule must be zero or above, and one of them above")
    return lambda progress: np.asarray(np.interp(_share("progress", progress) * at[-1], at, values / values.max()))


def warmed_up(shape: Shape, progress: ArrayLike, *, warmup: float) -> Floats:
    """A linear rise from 0 over the first `warmup` of the run, then the shape over the rest of it."""
    if not 0 <= warmup < 1:
        raise ValueError(f"warmup must be a share of the run in [0, 1), got {warmup}")
    x = _share("progress", progress)
    body = shape(np.clip((x - warmup) / (1 - warmup), 0, 1))
    return np.asarray(np.where(x < warmup, x / (warmup or 1.0), body))


def mean(shape: Shape, *, warmup: float = 0.0) -> float:
    """Mean multiplier over the run: what the peak times the steps must be multiplied by to get the summed rate."""
    midpoints = (np.arange(_MEAN_POINTS) + 0.5) / _MEAN_POINTS
    return warmup / 2 + (1 - warmup) * float(np.mean(shape(midpoints)))


def _fall(u: Floats, floor: float, fall: Fall) -> Floats:
    if fall is Fall.LINEAR:
        return _to_floor(1 - u, floor)
    if fall is Fall.ROOT:
        return _to_floor(1 - np.sqrt(u), floor)
    if not 0 < floor <= 1:
        raise ValueError(f"a fall that is {fall} needs a floor above 0, up to 1, got {floor}: it never reaches 0")
    return np.asarray(floor**u if fall is Fall.EXPONENTIAL else 1 / (u / floor + 1 - u))


def _to_floor(f: Floats, floor: float) -> Floats:
    if not 0 <= floor <= 1:
        raise ValueError(f"floor must be a share of the peak in [0, 1], got {floor}")
    return np.asarray(floor + (1 - floor) * f)


def _share(name: str, value: ArrayLike) -> Floats:
    array = np.asarray(value, dtype=float)
    if not np.all((array >= 0) & (array <= 1)):
        raise ValueError(f"{name} must lie in [0, 1], got {array}")
    return array
