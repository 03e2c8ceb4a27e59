"""A plan played before it is run: worlds drawn from what is known, the planned runs made in each of them, and judged.

In each world the laws, how far sizes and scales lie off them, and each scale's valley are drawn. The runs of the plan
get losses from it, with noise, as a trainer would. From these alone each scale's optimum is worked out again (on a
lattice of places, level, steepness and lean of the valley not known), the laws are updated, and the setting that would
then be advised at the target is charged with what it costs in that world. Its mean is what the plan realises, beside
what it promised; and intervals hold the drawn optimum as often as they say, or do not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from lawfit.advise.regret import CAP
from lawfit.estimate.lr_batch.valley import excess
from lawfit.planner.choose import Scale, State
from lawfit.planner.information import APART, FAR, Valley, symmetric_root
from lawfit.planner.knowledge import Knowledge
from lawfit.planner.planned import Planned

Floats = NDArray[np.float64]

LATTICE: Final = 33  # places along each of two directions
REACH: Final = 3.5  # sd of where a scale's optimum may lie, to either side
FINER: Final = 3.0  # a second lattice has this many sd of what the first found


@dataclass(frozen=True, kw_only=True)
class World:
    """One that may be the true one: where optima lie, and the losses that the planned runs have in it."""

    target: Floats  # (2,) ln lr and ln batch that are best at the target
    valley: Floats  # (9,) of the target
    losses: tuple[Floats, ...]  # of each `Planned`, log loss above the lowest of its scale


@dataclass(frozen=True, kw_only=True)
class Played:
    """What became of a plan in each world."""

    regrets: Floats  # (worlds,) share of the loss given up by the setting advised at last
    before: Floats  # likewise by the setting advised without the runs
    held_lr: NDArray[np.bool_]  # whether the last interval holds the drawn optimum
    held_batch: NDArray[np.bool_]
    lr_factor: Floats  # half-widths of the last intervals
    batch_factor: Floats


def draw_worlds(
    state: State, valley: Valley, target: Scale, planned: Sequence[Planned], worlds: int, *, rng: np.random.Generator
) -> list[World]:
    """Worlds drawn from what is known, as wide as promises say (`Knowledge.inflation`)."""
    known = _as_promised(state, planned)
    root = _root(known.cov)
    through_target, left = _at_scale(known, state, target)
    own = symmetric_root(left)
    places = [_at_scale(known, state, each.scale) for each in planned]
    found = []
    for _ in range(worlds):
        off = root @ rng.standard_normal(len(known.cov))
        losses = []
        for each, (through, left) in zip(planned, places, strict=True):
            away = through @ off + symmetric_root(left) @ rng.standard_normal(2)
            losses.append(_losses(valley, each, known.optimum(*each.scale) + away, rng))
        best = state.optimum(target) + through_target @ off + own @ rng.standard_normal(2)
        found.append(World(target=best, valley=valley.at(target[1]), losses=tuple(losses)))
    return found


def play(
    state: State,
    valley: Valley,
    target: Scale,
    planned: Sequence[Planned],
    worlds: Sequence[World],
    *,
    level: float,
    progress: Callable[[float], None] | None = None,
) -> Played:
    """What the runs tell in each world, and what the setting then advised at the target costs there.

    Parameters
    ----------
    level : probability of the intervals
    progress : told the share that is done
    """
    known = _as_promised(state, planned)
    row, own = _at_scale(known, state, target)
    first = state.optimum(target)
    z = float(ndtri(0.5 + level / 2))
    rows = []
    for number, world in enumerate(worlds):
        mean, cov = _learnt(known, state, valley, planned, world)
        there = row @ cov @ row.T + own
        advised = first + row @ mean
        half = z * np.sqrt(np.diag(there))
        held = np.abs(advised - world.target) <= half
        rows.append((_cost(world, advised), _cost(world, first), *held, *np.exp(half)))
        if progress is not None:
            progress((number + 1) / len(worlds))
    regrets, before, lr, batch, lr_factor, batch_factor = np.array(rows, dtype=float).T
    return Played(
        regrets=regrets, before=before, held_lr=lr > 0, held_batch=batch > 0, lr_factor=lr_factor,
        batch_factor=batch_factor,
    )  # fmt: skip


def cost_of(world: World, log_lr: float, log_batch: float) -> float:
    """Share of the loss that a setting gives up at the target of a world."""
    return _cost(world, np.array([log_lr, log_batch]))


def _cost(world: World, at: Floats) -> float:
    u, v = at - world.target
    lost = float(excess(np.array(u), np.array(v), world.valley))
    return float(np.expm1(min(lost, CAP)))


def _as_promised(state: State, planned: Sequence[Planned]) -> Knowledge:
    """What is known, with places for the sizes to be run, and its doubt as wide as promises have it."""
    known = state.knowledge.with_sizes(sorted({each.scale[0] for each in planned}))
    wider = known.inflation**2
    size, scatter = wider * known.size_var, wider * known.scatter_var
    return replace(known, cov=wider * known.cov, size_var=size, scatter_var=scatter, inflation=1.0)


def _at_scale(known: Knowledge, state: State, scale: Scale) -> tuple[Floats, Floats]:
    """(2, dim) how a scale's optimum moves with the state, given its runs so far, and (2, 2) what is left of its own.

    Runs that are there already have told the scale's own deviation in part, and to that part it follows the state no
    more: it is what they say, whatever the law.
    """
    own = known.own_var(scale[0])
    left = np.linalg.inv(np.linalg.inv(own) + state.told_at(scale))
    return np.asarray(left @ np.linalg.solve(own, known.row(*scale))), np.asarray(left)


def _losses(valley: Valley, planned: Planned, best: Floats, rng: np.random.Generator) -> Floats:
    """(runs,) log losses above the lowest, in a valley as far from the known one as those of scales are."""
    u, v = planned.log_lr - best[0], planned.log_batch - best[1]
    true = excess(u, v, valley.at(planned.scale[1]))
    steep, along, across = np.array(APART) * rng.standard_normal(3)
    leant = true * np.exp(steep + np.clip(along * u + across * v, -1.0, 1.0))
    odd = np.exp(valley.misfit * rng.standard_normal(len(true)))
    return np.asarray(leant * odd + valley.noise * rng.standard_normal(len(true)))


def _learnt(
    known: Knowledge, state: State, valley: Valley, planned: Sequence[Planned], world: World
) -> tuple[Floats, Floats]:
    """Mean (off what was known) and covariance of the state after the runs of a world."""
    mean, cov = np.zeros(len(known.cov)), known.cov
    for each, losses in zip(planned, world.losses, strict=True):
        through, left = _at_scale(known, state, each.scale)
        before = through @ cov @ through.T + left
        moved = through @ mean
        place, spread = _located(valley, each, losses, known.optimum(*each.scale) + moved, before)
        # what the runs said beyond what was known: the Gaussian that takes the one to the other
        told = np.linalg.inv(spread) - np.linalg.inv(before)
        value, vector = np.linalg.eigh((told + told.T) / 2)
        told = (vector * np.maximum(value, 0.0)) @ vector.T
        pull = np.linalg.solve(spread, place) if value.min() > 0 else (told + np.linalg.inv(before)) @ place
        gain = cov @ through.T
        told_of_law = np.linalg.solve(np.eye(2) + told @ left, told)
        pull_of_law = np.linalg.solve(np.eye(2) + told @ left, pull)
        after = np.eye(2) + told_of_law @ through @ gain
        mean = mean + gain @ np.linalg.solve(after, pull_of_law)
        cov = cov - gain @ np.linalg.solve(after, told_of_law) @ gain.T
        cov = (cov + cov.T) / 2
    return mean, cov


def _located(valley: Valley, planned: Planned, losses: Floats, centre: Floats, spread: Floats) -> tuple[Floats, Floats]:
    """Mean (off `centre`) and covariance of a scale's optimum, by its runs and what was known before them."""
    kept = losses <= losses.min() + FAR
    mean, root = np.zeros(2), symmetric_root(spread)
    cov = spread
    for reach in (REACH, FINER):
        steps = np.linspace(-reach, reach, LATTICE)
        lattice = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2) @ root + mean
        log_weight = _log_likelihood(valley, planned, losses, kept, centre + lattice)
        log_weight -= 0.5 * np.sum(lattice * np.linalg.solve(spread, lattice.T).T, axis=1)
        weight = np.exp(log_weight - log_weight.max())
        weight /= weight.sum()
        mean = weight @ lattice
        cov = (weight * (lattice - mean).T) @ (lattice - mean) + 1e-9 * np.eye(2)
        root = symmetric_root(cov)
    return mean, cov


def _log_likelihood(
    valley: Valley, planned: Planned, losses: Floats, kept: NDArray[np.bool_], places: Floats
) -> Floats:
    """(places,) of the kept runs, had the optimum been there; level, steepness and lean averaged over."""
    u = planned.log_lr[kept] - places[:, :1]
    v = planned.log_batch[kept] - places[:, 1:]
    high = excess(u, v, valley.at(planned.scale[1]))
    variance = valley.noise**2 + (valley.misfit * high) ** 2
    beside = np.stack([np.ones_like(high), high, high * u, high * v], axis=-1)
    weighted = beside / variance[..., None]
    known = np.swapaxes(weighted, -1, -2) @ beside + np.diag([1e-6, *(1 / np.square(APART))])
    off = losses[kept] - high
    across = np.einsum("pri,pr->pi", weighted, off)
    explained = np.sum(across * np.linalg.solve(known, across[..., None])[..., 0], axis=1)
    square = np.sum(off**2 / variance, axis=1) - explained
    return np.asarray(-0.5 * (square + np.log(variance).sum(axis=1) + np.linalg.slogdet(known)[1]))


def _root(cov: Floats) -> Floats:
    value, vector = np.linalg.eigh((cov + cov.T) / 2)
    return np.asarray(vector * np.sqrt(np.maximum(value, 0.0)))
