"""Which runs to make for a budget: those that cut the expected regret at the target most for what they cost.

Greedy, one grid at one scale after the other, each chosen as if those before had been made. Three orders are tried, by
what a grid brings for its cost, by what it brings at all, and between, and the one that ends lowest is taken.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lawfit.advise.regret import CAP
from lawfit.ask import Target
from lawfit.estimate.lr_batch.valley import excess
from lawfit.planner.information import Design, Valley, information, seen_through, symmetric_root
from lawfit.planner.knowledge import SAME, Knowledge
from lawfit.planner.means import Means
from lawfit.units import training_flops

Floats = NDArray[np.float64]
Scale = tuple[float, float]  # params, tokens

# Three of each is the least that shows a minimum inside; finer steps tell more where the optimum is known well.
DESIGNS: Final = tuple(
    Design(rates=rates, batches=batches, lr_step=step, batch_step=step, seeds=seeds)
    for (rates, batches, seeds), step in itertools.product(
        ((3, 3, 1), (4, 3, 1), (5, 4, 1), (3, 3, 2), (5, 4, 2)), (1.5, 2.0, 3.0)
    )
)
MOST_SHARE: Final = 0.05  # of the target's FLOPs in one run: beyond it, the target itself is within reach
FINER: Final = 2.0  # between neighbouring sizes, and horizons
TOKENS_PER_PARAM: Final = (2.0, 1000.0)
COST_POWERS: Final = (1.0, 0.5, 0.0)  # by which a gain is divided: each is tried
LEAST_GAIN: Final = 0.01  # of what could be gained at all: less is not worth a grid
_NORMALS: Final = 128


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """What is expected at the target."""

    regret: float  # expected share of loss given up by the advised setting
    floor: float  # of it, what no run at other scales can take away
    lr_factor: float  # the interval of the learning rate is its value over and times this
    batch_factor: float


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """One grid at one scale."""

    scale: Scale
    design: Design
    centre: tuple[float, float]  # ln lr, ln batch
    flops: float
    cost: float  # of the budget
    part: str  # of what is open, the one that it tells most of
    new_size: bool
    after: Outlook  # with all that were chosen before


@dataclass(frozen=True, kw_only=True)
class State:
    """What would be known after some grids."""

    knowledge: Knowledge
    told: Mapping[Scale, Floats] = field(default_factory=dict)  # information of the runs at each scale so far

    def told_at(self, scale: Scale) -> Floats:
        """(2, 2) of the scale's own runs, and of those at scales that differ by a hair."""
        near = [found for each, found in self.told.items() if np.max(np.abs(np.log(np.divide(each, scale)))) < SAME]
        return np.asarray(sum(near, np.zeros((2, 2))))


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The target and all that judges a grid."""

    target: Target
    valley: Valley
    means: Means

    def outlook(self, knowledge: Knowledge) -> Outlook:
        row = knowledge.row(self.target.params, self.target.tokens)
        law, own = row @ knowledge.cov @ row.T, knowledge.own_var(self.target.params)
        wider = knowledge.inflation**2
        factor = np.exp(_z(self.target.level) * np.sqrt(wider * np.diag(law + own)))
        return Outlook(
            regret=self._regret(wider * (law + own)),
            floor=self._regret(wider * own),
            lr_factor=float(factor[0]),
            batch_factor=float(factor[1]),
        )

    def _regret(self, cov: Floats) -> float:
        return float(self.regrets(cov[None])[0])

    def regrets(self, covariances: Floats) -> Floats:
        """(many,) expected share of loss given up, for covariances (many, 2, 2) of where the optimum is."""
        away = _normals() @ symmetric_root(covariances)  # (many, normals, 2)
        lost = excess(away[..., 0], away[..., 1], self.valley.at(self.target.tokens))
        return np.asarray(np.expm1(np.minimum(lost, CAP)).mean(axis=1))


def choose(asked: Asked, state: State, scales: Sequence[Scale]) -> tuple[list[Chosen], State]:
    """The grids to make, in the order in which they were chosen, and what would then be known.

    Parameters
    ----------
    scales : where runs can be made
    """
    begun = replace(state, knowledge=state.knowledge.with_sizes(sorted({size for size, _ in scales})))
    ends = [_greedy(asked, begun, scales, power) for power in COST_POWERS] if scales else [([], begun)]
    return min(ends, key=lambda end: end[0][-1].after.regret if end[0] else np.inf)


def scales_in_reach(asked: Asked, known: Sequence[Scale], largest: float | None, smallest: float) -> list[Scale]:
    """Sizes and horizons at which a first grid is within the budget, those of the runs among them."""
    target = asked.target
    most = MOST_SHARE * training_flops(target.params, target.tokens)
    sizes = _between(smallest, min(largest or np.inf, target.params), [size for size, _ in known])
    horizons = _between(
        min([tokens for _, tokens in known] or [smallest * 10]), target.tokens, [tokens for _, tokens in known]
    )
    least = min(design.runs for design in DESIGNS)
    return [
        (size, tokens)
        for size, tokens in itertools.product(sizes, horizons)
        if TOKENS_PER_PARAM[0] <= tokens / size <= TOKENS_PER_PARAM[1]
        and training_flops(size, tokens) <= most
        and asked.means.cost(least * training_flops(size, tokens), least) <= asked.means.amount
    ]


def _between(low: float, high: float, own: Sequence[float]) -> list[float]:
    """Those of the runs, and between and beyond them others, `FINER` apart; two digits are enough for those."""
    own = sorted(x for x in own if x <= high)
    own = [x for k, x in enumerate(own) if k == 0 or np.log(x / own[k - 1]) > SAME]
    steps = max(0, int(np.log(high / low) / np.log(FINER) + 1e-9))
    made = [float(f"{low * FINER**k:.2g}") for k in range(steps + 1)]
    apart = 0.4 * np.log(FINER)
    return sorted({*own, *(x for x in made if all(abs(np.log(x / y)) > apart for y in own))})


def _greedy(asked: Asked, state: State, scales: Sequence[Scale], power: float) -> tuple[list[Chosen], State]:
    left, found = asked.means.amount, list[Chosen]()
    before = asked.outlook(state.knowledge)
    worth = LEAST_GAIN * (before.regret - before.floor)
    while True:
        options = _options(asked, state, scales, left)
        gains = [before.regret - each.regret for each in options]
        values = [gain / each.cost**power for gain, each in zip(gains, options, strict=True)]
        if not options or max(gains) < worth:
            return found, state
        # of those that bring something: a grid that tells next to nothing is cheap, too
        best = max((k for k, gain in enumerate(gains) if gain >= worth), key=values.__getitem__)
        one = options[best]
        after = one.then(state)
        found.append(_chosen(asked, one, state, after))
        state, before, left = after, found[-1].after, left - one.cost


@dataclass(frozen=True, kw_only=True)
class _Option:
    scale: Scale
    design: Design
    row: Floats
    of_runs: Floats  # information at the scale that these runs bring
    more: Floats  # what that adds for the laws
    cost: float
    regret: float  # after it

    def then(self, state: State) -> State:
        before = state.told.get(self.scale, np.zeros((2, 2)))
        told = {**state.told, self.scale: before + self.of_runs}
        return State(knowledge=state.knowledge.told(self.row, self.more), told=told)


def _options(asked: Asked, state: State, scales: Sequence[Scale], left: float) -> list[_Option]:
    """Every design at every scale that is still within the budget, with the expected regret after it."""
    knowledge, target = state.knowledge, asked.target
    at = knowledge.row(target.params, target.tokens)
    law, own = at @ knowledge.cov @ at.T, knowledge.own_var(target.params)
    rows = np.array([knowledge.row(*scale) for scale in scales])  # (scales, 2, dim)
    own_there = np.array([knowledge.own_var(size) for size, _ in scales])
    there = rows @ knowledge.cov @ np.swapaxes(rows, 1, 2)
    beside = at @ knowledge.cov @ np.swapaxes(rows, 1, 2)  # (scales, 2, 2)
    known = np.array([state.told_at(scale) for scale in scales])
    spread = np.linalg.inv(np.linalg.inv(there + own_there) + known)
    valley = np.array([asked.valley.at(tokens) for _, tokens in scales])
    found: list[_Option] = []
    for design in DESIGNS:
        costs = [asked.means.cost(design.runs * training_flops(*scale), design.runs) for scale in scales]
        brought = information(valley, design, spread, noise=asked.valley.noise, misfit=asked.valley.misfit)
        more = seen_through(known + brought, own_there) - seen_through(known, own_there)
        less = beside @ np.linalg.solve(np.eye(2) + more @ there, more) @ np.swapaxes(beside, 1, 2)
        regrets = asked.regrets(knowledge.inflation**2 * (law + own - (less + np.swapaxes(less, 1, 2)) / 2))
        found += [
            _Option(
                scale=scale,
                design=design,
                row=rows[k],
                of_runs=brought[k],
                more=more[k],
                cost=costs[k],
                regret=float(regrets[k]),
            )
            for k, scale in enumerate(scales)
            if costs[k] <= left
        ]
    return found


def _chosen(asked: Asked, one: _Option, before: State, after: State) -> Chosen:
    target = asked.target.params, asked.target.tokens
    parts, then = before.knowledge.parts(*target), after.knowledge.parts(*target)
    fell = {part: float(np.sum(parts[part] - then[part])) for part in parts}
    lr, batch = after.knowledge.optimum(*one.scale)
    known = {size for size, _ in before.told}
    return Chosen(
        scale=one.scale,
        design=one.design,
        centre=(float(lr), float(batch)),
        flops=one.design.runs * training_flops(*one.scale),
        cost=one.cost,
        part=max(fell, key=fell.__getitem__),
        new_size=one.scale[0] not in known,
        after=asked.outlook(after.knowledge),
    )


def told_by_fit(knowledge: Knowledge, model: Mapping[str, Any]) -> dict[Scale, Floats]:
    """Scale -> information (2, 2) that the runs of a fit had of its optimum: what is known there, less what the others
    tell."""
    weights = np.array([member["weight"] for member in model["members"]])
    weights = weights / weights.sum()
    found = {}
    for k, (params, tokens) in enumerate(model["scales"]):
        cov = np.tensordot(weights, np.array([m["scales"]["cov"][k] for m in model["members"]]), axes=1)
        row = knowledge.row(params, tokens)
        others = row @ knowledge.cov @ row.T + knowledge.own_var(params)
        value, vector = np.linalg.eigh(np.linalg.inv(cov) - np.linalg.inv(others))
        found[(float(params), float(tokens))] = np.asarray((vector * np.maximum(value, 0.0)) @ vector.T)
    return found


def _normals() -> Floats:
    half = np.random.default_rng(1).standard_normal((_NORMALS // 2, 2))
    return np.concatenate([half, -half])


def _z(level: float) -> float:
    from scipy.special import ndtri

    return float(ndtri(0.5 + level / 2))
