"""Shapes of learning-rate schedules: the multiplier of the peak as a function of progress through the run.

Progress is a share of the run, 0 at its first step and 1 at its end, in tokens or in steps. A shape starts at 1;
`warmed_up` puts a linear rise before it. What a trainer runs, step by step, is for the trainer to say
(`lawfit.train.schedules`); these are the continuous shapes that laws and conversions speak of.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from functools import partial
from types import MappingProxyType
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


def rex(progress: ArrayLike, *, floor: float = 0.0) -> Floats:
    """``(1 - x) / (1/2 + (1 - x) / 2)`` (Chen et al., arXiv 2107.04197; formula from memory)."""
    left = 1 - _share("progress", progress)
    return _to_floor(left / (0.5 + 0.5 * left), floor)


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
    capped: float,
    exponent: float = POWER_EXPONENT,
    cooldown: float = 0.0,
    floor: float = 0.0,
) -> Floats:
    """Power scheduler (arXiv 2408.13359): 1 while the cap holds, then a power of the tokens seen, then a linear fall.

    Progress counts from the first token, warmup included, since the power law does: `warmed_up` does not fit.

    Parameters
    ----------
    capped : share of the run in (0, 1]
        Where the power law meets the cap; from `power_lr`: ``(batch a / cap)^(-1 / b) / tokens``.
    cooldown : share of the run in [0, 1)
        Length of the final fall, which starts from the rate that the power law has there.
    """
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


def refined(gradient_norms: ArrayLike, *, adaptive: bool) -> Floats:
    """Linear decay refined by the gradients of a past run (Defazio et al., arXiv 2310.07831; formula from memory).

    ``eta_t ~ w_t sum_{p > t} w_p`` with ``w_t = 1 / |g_t|^2``, or ``1 / |g_t|_1`` for Adam and its family. Norms that
    do not change give linear decay to zero. Smooth them first: a median filter over some percent of the run.

    Parameters
    ----------
    gradient_norms : (steps,) positive floats
        2-norms, or 1-norms when `adaptive`.

    Returns
    -------
    (steps,) floats, the largest of them 1 and the last 0
    """
    norms = np.asarray(gradient_norms, dtype=float)
    if norms.ndim != 1 or norms.size < 2:
        raise ValueError(f"gradient_norms must be a series of 2 or more steps, got shape {norms.shape}")
    if not np.all((norms > 0) & np.isfinite(norms)):
        raise ValueError("gradient_norms must all be positive and finite")
    weights = (norms / norms.min()) ** (-1.0 if adaptive else -2.0)
    after = np.append(np.cumsum(weights[:0:-1])[::-1], 0.0)
    rates = weights * after
    return np.asarray(rates / rates.max())


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


SHAPES: Final[Mapping[str, Callable[..., Floats]]] = MappingProxyType(
    {"cosine": cosine, "linear": linear, "wsd": wsd, "rex": rex, "uba": uba, "constant": constant}
)


def named_shape(text: str) -> Shape:
    """A shape from its name and its numbers: ``cosine``, ``cosine:floor=0.1``, ``wsd:cooldown=0.2,fall=1-sqrt``.

    Raises
    ------
    ValueError
        No such shape, a number that it does not have, or one that it needs and that is not there.
    """
    name, _, words = text.partition(":")
    if name not in SHAPES:
        raise ValueError(f"no schedule '{name}'; there are {', '.join(SHAPES)}")
    wanted = {key: p for key, p in inspect.signature(SHAPES[name]).parameters.items() if key != "progress"}
    given: dict[str, float | Fall] = {}
    for word in filter(None, words.split(",")):
        key, _, value = word.partition("=")
        if key not in wanted:
            raise ValueError(f"{name} has no '{key}'; it takes {', '.join(wanted) or 'nothing'}")
        try:
            given[key] = Fall(value) if key == "fall" else float(value)
        except ValueError:
            kinds = ", ".join(Fall) if key == "fall" else "a number such as 0.1"
            raise ValueError(f"'{word}' in the schedule {text}: {key} is {kinds}") from None
    if missing := [key for key, p in wanted.items() if p.default is p.empty and key not in given]:
        raise ValueError(f"{name} also needs {', '.join(missing)}: {name}:{missing[0]}=0.2")
    shape = partial(SHAPES[name], **given)
    shape(0.5)  # numbers out of range speak up here
    return shape


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
