"""Sweeps of weight decay beside the grids of a plan, where runs leave it open: are they worth their runs?

What counts is the timescale tau = batch / (lr x decay x tokens) (`laws.timescale`). A decay that is held is off by
what the recipe's value is off, and by every error of the learning rate and the batch that are advised; one that
follows from a known timescale corrects these errors, too. A sweep at one scale tells the timescale there; at the
target it is as far off as scales deviate, and as the published law's exponent, and its silence on size, leave open:
so a scale of as many tokens per parameter tells most. Costs are those of the timescale's valley, ``k u^2`` for u = ln
tau - ln tau*, which is a part of the valley in the learning rate at a held decay; k is not known before a sweep, and
is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from lawfit.estimate.lr_batch.valley import excess
from lawfit.estimate.numerics.optimum_law import SCATTER_PRIOR
from lawfit.estimate.weight_decay.timescale import RESOLVED_SD
from lawfit.estimate.weight_decay.valley import cost_of_timescale
from lawfit.laws.lent import TIMESCALE_SD, published_timescale
from lawfit.laws.timescale import timescale
from lawfit.planner.choose import LEAST_GAIN, Asked, Chosen, Scale, State, choose
from lawfit.planner.information import Valley
from lawfit.planner.pace import Packs

Floats = NDArray[np.float64]

STEP: Final = 3.0  # between neighbouring values
PLACES: Final = (-2, -1, 1, 2)  # of the values, in steps from the middle one; the runs have the held value already
SEEDS: Final = (1, 2)
MOST_OF_BUDGET: Final = 0.1
# What is not known before a sweep, as sd of natural logs; ours. Level of the best timescale (Power Lines and our own
# sweep have 0.22 and 0.18 at 20 tokens per parameter); how far the decay that people hold lies off the best; the drift
# of the timescale with size at one ratio of tokens to parameters, for each factor e.
LEVEL_SD: Final = 0.5
HELD_SD: Final = 1.1
SIZE_SD: Final = 0.05
# What a scale's sweep says beside the law of all: 13 of 14 sweeps of our own, each fitted alone, were off by 0.25 (root
# of the mean square, their own errors of about 0.2 in it), and one by 1.3: so two sizes are swept.
ALONE_SD: Final = 0.25
OTHER_SIZE: Final = 1.5  # times, at least, between the two
STIFFNESS: Final = (0.004, 1.0)  # of log loss for a factor e, and its sd: `estimate.weight_decay.valley`
SKEW: Final = -0.6  # likewise
# Expected share of the loss: scales that differ twice as much as is believed would take that much of a gain away
# (tests/benchmarks/decay_sweeps.py).
LEAST: Final = 2e-4
MOST_OF_VALLEY: Final = 0.9  # of the learning rate's valley at a held decay, that is the timescale's
_DRAWS: Final = 48  # of the stiffness
_OPTIMA: Final = 16  # places of the optimum in a sweep


@dataclass(frozen=True, kw_only=True)
class DecaySweep:
    """Some weight decays at the learning rate and batch of a run that is there."""

    scale: Scale
    lr: float
    batch_tokens: float
    weight_decays: tuple[float, ...]  # coupled to the learning rate
    seeds: int
    packs: Packs
    cost: float  # of the budget

    @property
    def runs(self) -> int:
        return self.packs.all_runs


@dataclass(frozen=True, kw_only=True)
class DecayThere:
    """What is expected of weight decay at the target without a sweep, as shares of the loss."""

    held: float  # given up by the decay that all runs have
    published: float  # by the published timescale
    published_decay: float  # that has it at the learning rate and batch that are advised, coupled to the former
    off: Floats  # (draws, 2) mean and variance of u at the held decay
    stiffness: Floats  # (draws,)
    errors: float  # variance of ln batch - ln lr that are advised

    @property
    def sure(self) -> Floats:
        """(draws,) given up by the held decay even where nothing but what is known of it is off: what a sweep is
        measured by, as it must pay although people may have held the best one."""
        return self.stiffness * (self.errors + self.off[:, 0] ** 2)


@dataclass(frozen=True, kw_only=True)
class Decay:
    """Whether a plan has a sweep of weight decay, by what numbers."""

    there: DecayThere
    sweeps: tuple[DecaySweep, ...]  # the best, at two sizes; empty: none bring anything within the budget
    gain: float  # expected share of the loss at the target, over the better of the held decay and a published law's
    lost: float  # expected regret that the grids lose by what it takes of the budget
    least: float  # that it must bring over that to be planned
    grids: Sequence[Chosen]  # with what the sweep leaves, where it is planned

    @property
    def pays(self) -> bool:
        return bool(self.sweeps) and self.gain - self.lost >= self.least


def decay_beside(
    asked: Asked,
    state: State,
    scales: Sequence[Scale],
    grids: Sequence[Chosen],
    decay: float,
    settings: Sequence[tuple[Scale, float, float]],
    *,
    without_laws: Sequence[str] = (),
) -> Decay | None:
    """A sweep beside the grids of a plan; None where no published timescale may be asked.

    Parameters
    ----------
    scales, grids : that could be run, and that were chosen without a sweep
    decay : that all runs have, coupled to the learning rate
    settings : scale, learning rate and batch of runs that are there: the best known of each scale
    """
    target = asked.target
    published = published_timescale([target.params], [target.tokens], without_laws)
    if not published:
        return None
    now = asked.outlook(state)
    there = at_target(asked, grids[-1].then, decay, published[0])
    before = grids[-2].after.regret if len(grids) > 1 else now.regret
    price = (before - grids[-1].after.regret) / grids[-1].cost
    least = max(LEAST, LEAST_GAIN * (now.regret - now.floor))
    sweeps, gain = best_sweeps(asked, there, decay, settings, price=price)
    if not sweeps:
        return Decay(there=there, sweeps=(), gain=0.0, lost=0.0, least=least, grids=grids)
    cost = sum(each.cost for each in sweeps)
    less = replace(asked, means=replace(asked.means, amount=asked.means.amount - cost))
    spent = sum(each.cost for each in grids)
    left = grids if spent <= less.means.amount else choose(less, state, scales)
    after = left[-1].after.regret if left else now.regret
    lost = max(after - grids[-1].after.regret, 0.0)
    return Decay(there=there, sweeps=sweeps, gain=gain, lost=lost, least=least, grids=left)


def at_target(asked: Asked, then: State, decay: float, published: float) -> DecayThere:
    """What weight decay gives up at the target, after the grids of a plan.

    Parameters
    ----------
    then : what is known after them
    decay : that all runs have, coupled to the learning rate
    published : timescale at the target, of a published law
    """
    target = asked.target
    log_lr, log_batch = then.optimum((target.params, target.tokens))
    stiffness, steep = _stiffness(asked.valley, target.tokens)
    held = float(timescale(np.exp(log_batch), np.exp(log_lr), decay, target.tokens))
    off = _off(float(np.log(held / published)), stiffness / steep)
    cov = asked.covariance(then)
    errors = float(cov[0, 0] + cov[1, 1] - 2 * cov[0, 1])
    costs = stiffness * (errors + off[:, 0] ** 2 + off[:, 1])
    return DecayThere(
        held=float(costs.mean()),
        published=float(stiffness.mean() * LEVEL_SD**2),
        published_decay=decay * held / published,
        off=off,
        stiffness=stiffness,
        errors=errors,
    )


def best_sweeps(
    asked: Asked, there: DecayThere, decay: float, settings: Sequence[tuple[Scale, float, float]], *, price: float
) -> tuple[tuple[DecaySweep, ...], float]:
    """The sweeps at two sizes that bring most at the target for their price, and what they bring; none where none do.

    Parameters
    ----------
    settings : scale, learning rate and batch of runs that a sweep can go on from: the best known of each scale
    price : expected regret that the budget would cut elsewhere, for each unit of it
    """
    values = decay_values(decay, float(there.off[:, 0].mean()))
    log_over_held = np.log([decay, *values]) - np.log(decay)
    least = min(float(there.sure.mean()), there.published)
    best: tuple[tuple[DecaySweep, ...], float] = ((), 0.0)
    worth = 0.0
    for seeds in SEEDS:
        measured = _measured(asked.valley, there, log_over_held, seeds)
        each = [_sweep(asked, setting, values, seeds) for setting in settings]
        each = [sweep for sweep in each if sweep.cost <= MOST_OF_BUDGET * asked.means.amount]
        for one, other in combinations(each, 2):
            cost = one.cost + other.cost
            apart = abs(np.log(one.scale[0] / other.scale[0]))
            if cost > MOST_OF_BUDGET * asked.means.amount or apart < np.log(OTHER_SIZE):
                continue
            gain = least - _left(asked, there, measured, (one.scale, other.scale))
            if gain - price * cost > worth:
                best, worth = ((one, other), gain), gain - price * cost
    return best


def _sweep(asked: Asked, setting: tuple[Scale, float, float], values: tuple[float, ...], seeds: int) -> DecaySweep:
    scale, lr, batch = setting
    packs = Packs(params=scale[0], tokens=scale[1], batches=(batch,), runs=len(values) * seeds)
    cost = asked.means.cost(packs)
    return DecaySweep(
        scale=scale, lr=lr, batch_tokens=batch, weight_decays=values, seeds=seeds, packs=packs, cost=cost
    )  # fmt: skip


def _left(asked: Asked, there: DecayThere, measured: Floats, scales: Sequence[Scale]) -> float:
    """Share of the loss that weight decay gives up at the target after sweeps at some scales, averaged."""
    target = asked.target
    ratio = np.mean([np.log(target.tokens / target.params) - np.log(tokens / params) for params, tokens in scales])
    size = np.mean([np.log(target.params / params) for params, _ in scales])
    drift = SCATTER_PRIOR**2 + (TIMESCALE_SD * ratio) ** 2 + (SIZE_SD * size) ** 2
    told = there.stiffness * ((measured + ALONE_SD**2) / len(scales) + drift)
    # a sweep whose valley is too flat to see leaves the decay as it was
    return float(np.where(measured < RESOLVED_SD**2, told, there.sure).mean())


def _measured(valley: Valley, there: DecayThere, log_over_held: Floats, seeds: int) -> Floats:
    """(draws,) variance of ln tau* by a sweep; the level of its losses is not known, the stiffness to what it is."""
    normal = ndtri((np.arange(_OPTIMA) + 0.5) / _OPTIMA)
    places = there.off[:, :1] + np.sqrt(there.off[:, 1:]) * normal  # (draws, places)
    u = places[..., None] - log_over_held  # (draws, places, runs): twice the decay is half the timescale
    k = there.stiffness[:, None, None]
    high = cost_of_timescale(u, k, SKEW)
    slope = (cost_of_timescale(u + 1e-3, k, SKEW) - cost_of_timescale(u - 1e-3, k, SKEW)) / 2e-3
    runs = np.array([1, *([seeds] * (len(log_over_held) - 1))])  # the held value's run is there
    weight = runs / (valley.noise**2 + (valley.misfit * high) ** 2)
    beside = np.stack([np.ones_like(high), high], axis=-1)
    weighted = weight[..., None] * beside
    known = np.swapaxes(weighted, -1, -2) @ beside + np.diag([0.0, 1 / STIFFNESS[1] ** 2])
    across = np.sum(weighted * slope[..., None], axis=-2)
    told = np.sum(weight * slope**2, axis=-1)
    told = told - np.sum(across * np.linalg.solve(known, across[..., None])[..., 0], axis=-1)
    return np.asarray(1 / np.maximum(told.mean(axis=1), 1e-9))


def _off(held: float, part: Floats) -> Floats:
    """(draws, 2) mean and variance of u at the held decay, whose learning rates were tuned at it.

    Two things are known: how far the published timescale says that it is off, and that of a decay off by `HELD_SD` a
    learning rate tuned at it takes up all but a share, the smaller the more of its valley is the timescale's.
    """
    tuned = ((1 - part) * HELD_SD) ** 2
    weight = tuned / (tuned + LEVEL_SD**2)
    return np.stack([weight * held, weight * LEVEL_SD**2], axis=1)


def _stiffness(valley: Valley, tokens: float) -> tuple[Floats, float]:
    """(draws,) of the timescale's valley, and the steepness of the learning rate's at a held decay, per squared nat."""
    step = np.array([-0.7, 0.7])
    steep = float(np.mean(excess(step, np.zeros(2), valley.at(tokens))) / 0.49)
    drawn = STIFFNESS[0] * np.exp(STIFFNESS[1] * ndtri((np.arange(_DRAWS) + 0.5) / _DRAWS))
    return np.minimum(drawn, MOST_OF_VALLEY * steep), steep


def decay_values(decay: float, off: float) -> tuple[float, ...]:
    """Weight decays around the best that is foretold, on a ladder that has the held one, which is there already."""
    middle = round(off / np.log(STEP))
    places = [middle + place for place in PLACES] if middle == 0 else range(middle - 2, middle + 3)
    return tuple(float(f"{decay * STEP**place:.2g}") for place in places if place)
