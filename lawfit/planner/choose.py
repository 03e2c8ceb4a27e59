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
from lawfit.planner.pace import Packs
from lawfit.units import training_flops

Floats = NDArray[np.float64]
Scale = tuple[float, float]  # params, tokens
_Path = tuple[tuple[Scale, Design], ...]

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
# Where no grid brings that much: a single run more or less must not make a plan a refusal, so less is named, too, and
# said to be little.
LEAST_GAINS: Final = (LEAST_GAIN, LEAST_GAIN / 10)
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
    packs: Packs
    cost: float  # of the budget
    part: str  # of what is open, the one that it tells most of
    new_size: bool
    after: Outlook  # with all that were chosen before
    then: State  # likewise: what would be known


@dataclass(frozen=True, kw_only=True)
class State:
    """What would be known after some grids."""

    knowledge: Knowledge
    told: Mapping[Scale, Floats] = field(default_factory=dict)  # information of the runs at each scale so far
    found: Mapping[Scale, Floats] = field(default_factory=dict)  # (2,) ln lr and ln batch that are best by all runs

    def optimum(self, scale: Scale) -> Floats:
        """(2,) ln lr and ln batch: a scale's own where it has runs, else what the laws say."""
        near = [best for each, best in self.found.items() if _one(each, scale)]
        return near[0] if near else self.knowledge.optimum(*scale)

    def told_at(self, scale: Scale) -> Floats:
        """(2, 2) of the scale's own runs, and of those at scales that differ by a hair."""
        near = [found for each, found in self.told.items() if _one(each, scale)]
        return np.asarray(sum(near, np.zeros((2, 2))))


def _one(scale: Scale, other: Scale) -> bool:
    """Whether scales differ by a hair at most."""
    return bool(np.max(np.abs(np.log(np.divide(scale, other)))) < SAME)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The target and all that judges a grid."""

    target: Target
    further: tuple[Target, ...] = ()  # whose regret counts alike; intervals are told of `target` alone
    valley: Valley
    means: Means
    least_batch: float = 0.0  # tokens per step: one sequence

    @property
    def targets(self) -> tuple[Target, ...]:
        return (self.target, *self.further)

    def covariance(self, state: State) -> Floats:
        """(2, 2) of (ln lr, ln batch) that are best at the target, as wide as promises are."""
        wider: float = state.knowledge.inflation**2
        return np.asarray(wider * _Targets(self, state).covariances(0, np.zeros((1, 2, 2)))[0])

    def outlook(self, state: State) -> Outlook:
        at = _Targets(self, state)
        spread = at.covariances(0, np.zeros((1, 2, 2)))[0]
        factor = np.exp(_z(self.target.level) * state.knowledge.inflation * np.sqrt(np.diag(spread)))
        return Outlook(
            regret=float(at.regrets(np.zeros_like(at.law[:, None]))[0]),
            floor=float(at.regrets(at.law[:, None])[0]),
            lr_factor=float(factor[0]),
            batch_factor=float(factor[1]),
        )


class _Targets:
    """What a state knows of the targets."""

    def __init__(self, asked: Asked, state: State) -> None:
        knowledge = state.knowledge
        self.rows = np.array([knowledge.row(each.params, each.tokens) for each in asked.targets])  # (targets, 2, dim)
        self.law = self.rows @ knowledge.cov @ np.swapaxes(self.rows, 1, 2)  # (targets, 2, 2), as `own`
        self.own = np.array([knowledge.own_var(each.params) for each in asked.targets])
        self.told = np.array([state.told_at((each.params, each.tokens)) for each in asked.targets])
        self.wider = knowledge.inflation**2
        self.valleys = [asked.valley.at(each.tokens) for each in asked.targets]

    def regrets(self, less: Floats) -> Floats:
        """(many,) expected share of loss given up, on average of the targets, for what would be known more there
        (targets, many, 2, 2), by which the covariances of their optima shrink."""
        each = [
            _regrets(self.wider * self.covariances(k, fewer), valley)
            for k, (fewer, valley) in enumerate(zip(less, self.valleys, strict=True))
        ]
        return np.asarray(np.mean(each, axis=0))

    def covariances(self, k: int, less: Floats) -> Floats:
        """(many, 2, 2) of a target's optimum, for covariances (many, 2, 2) by which that of its law shrinks."""
        there = self.law[k] + self.own[k] - (less + np.swapaxes(less, 1, 2)) / 2
        if not self.told[k].any():
            return np.asarray(there)
        known = there - there @ np.linalg.solve(np.eye(2) + self.told[k] @ there, self.told[k]) @ there
        return np.asarray((known + np.swapaxes(known, 1, 2)) / 2)


def _regrets(covariances: Floats, valley: Floats) -> Floats:
    """(many,) expected share of loss given up, for covariances (many, 2, 2) of where the optimum is."""
    away = _normals() @ symmetric_root(covariances)  # (many, normals, 2)
    lost = excess(away[..., 0], away[..., 1], valley)
    return np.asarray(np.expm1(np.minimum(lost, CAP)).mean(axis=1))


def choose(asked: Asked, state: State, scales: Sequence[Scale]) -> list[Chosen]:
    """The grids to make, in the order in which they were chosen; none where none brings the least of `LEAST_GAINS`.

    Parameters
    ----------
    scales : where runs can be made
    """
    begun = _with_sizes(state, scales)
    seen: dict[_Path, list[_Option]] = {}
    for least in LEAST_GAINS if scales else ():
        ends = [_greedy(asked, begun, scales, power, seen, least) for power in COST_POWERS]
        if any(ends):
            return min(ends, key=lambda end: end[-1].after.regret if end else np.inf)
    return []


def most_of_one(asked: Asked, state: State, scales: Sequence[Scale]) -> float:
    """By how much the best single grid would cut the expected regret; 0 where none can be made."""
    begun = _with_sizes(state, scales)
    options = _options(asked, begun, scales, asked.means.amount)
    return max((asked.outlook(begun).regret - each.regret for each in options), default=0.0)


def _with_sizes(state: State, scales: Sequence[Scale]) -> State:
    return replace(state, knowledge=state.knowledge.with_sizes(sorted({size for size, _ in scales})))


def scales_in_reach(asked: Asked, state: State, largest: float | None, smallest: float, longest: float) -> list[Scale]:
    """Sizes and horizons at which a first grid is within the budget, those of the runs among them.

    Parameters
    ----------
    largest, smallest : params
    longest : tokens
    """
    known = list(state.told)
    most = MOST_SHARE * max(training_flops(each.params, each.tokens) for each in asked.targets)
    top = max(each.params for each in asked.targets)
    sizes = _between(smallest, min(largest or np.inf, top), [size for size, _ in known])
    shortest = min([*(tokens for _, tokens in known), longest] if known else [smallest * 10, longest])
    horizons = _between(shortest, longest, [tokens for _, tokens in known])
    least = min(DESIGNS, key=lambda design: design.runs)
    return [
        (size, tokens)
        for size, tokens in itertools.product(sizes, horizons)
        if TOKENS_PER_PARAM[0] <= tokens / size <= TOKENS_PER_PARAM[1]
        and training_flops(size, tokens) <= most
        and asked.means.cost(packs_of((size, tokens), least, state.optimum((size, tokens))[1])) <= asked.means.amount
    ]


def packs_of(scale: Scale, design: Design, log_batch: float) -> Packs:
    """What a design is made of at a scale, around a batch."""
    batches = np.exp(log_batch + design.offsets()[1]).tolist()
    return Packs(params=scale[0], tokens=scale[1], batches=tuple(batches), runs=design.rates * design.seeds)


def _between(low: float, high: float, own: Sequence[float]) -> list[float]:
    """Those of the runs, and between and beyond them others, `FINER` apart; two digits are enough for those."""
    own = sorted(x for x in own if x <= high)
    own = [x for k, x in enumerate(own) if k == 0 or np.log(x / own[k - 1]) > SAME]
    steps = max(0, int(np.log(high / low) / np.log(FINER) + 1e-9))
    made = [float(f"{low * FINER**k:.2g}") for k in range(steps + 1)]
    apart = 0.4 * np.log(FINER)
    return sorted({*own, *(x for x in made if all(abs(np.log(x / y)) > apart for y in own))})


def _greedy(
    asked: Asked,
    state: State,
    scales: Sequence[Scale],
    power: float,
    seen: dict[_Path, list[_Option]],
    least: float,
) -> list[Chosen]:
    """`seen` has the options that other orders met, after the same grids."""
    left, found = asked.means.amount, list[Chosen]()
    before = asked.outlook(state)
    worth = least * (before.regret - before.floor)
    while True:
        path = tuple((each.scale, each.design) for each in found)
        if path not in seen:
            seen[path] = _options(asked, state, scales, left)
        options = seen[path]
        gains = [before.regret - each.regret for each in options]
        values = [gain / each.cost**power for gain, each in zip(gains, options, strict=True)]
        if not options or max(gains) < worth:
            return found
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
    packs: Packs
    row: Floats
    of_runs: Floats  # information at the scale that these runs bring
    more: Floats  # what that adds for the laws
    cost: float
    regret: float  # after it

    def then(self, state: State) -> State:
        before = state.told.get(self.scale, np.zeros((2, 2)))
        told = {**state.told, self.scale: before + self.of_runs}
        return replace(state, knowledge=state.knowledge.told(self.row, self.more), told=told)


def _options(asked: Asked, state: State, scales: Sequence[Scale], left: float) -> list[_Option]:
    """Every design at every scale that is still within the budget, with the expected regret after it."""
    knowledge = state.knowledge
    at = _Targets(asked, state)
    rows = np.array([knowledge.row(*scale) for scale in scales])  # (scales, 2, dim)
    own_there = np.array([knowledge.own_var(size) for size, _ in scales])
    there = rows @ knowledge.cov @ np.swapaxes(rows, 1, 2)
    beside = at.rows[:, None] @ knowledge.cov @ np.swapaxes(rows, 1, 2)  # (targets, scales, 2, 2)
    known = np.array([state.told_at(scale) for scale in scales])
    spread = np.linalg.inv(np.linalg.inv(there + own_there) + known)
    valley = np.array([asked.valley.at(tokens) for _, tokens in scales])
    batches = rows[:, 1] @ knowledge.mean  # (scales,) ln of those that are foretold
    found: list[_Option] = []
    for design in DESIGNS:
        lowest = np.exp(batches + design.offsets()[1].min())  # below one sequence there is no batch
        packs = [packs_of(scale, design, batch) for scale, batch in zip(scales, batches, strict=True)]
        costs = np.array([asked.means.cost(each) for each in packs])
        can = np.flatnonzero((costs <= left) & (lowest > asked.least_batch / 2))
        if not len(can):
            continue
        noise, misfit = asked.valley.noise, asked.valley.misfit
        brought = information(valley[can], design, spread[can], noise=noise, misfit=misfit)
        more = seen_through(known[can] + brought, own_there[can]) - seen_through(known[can], own_there[can])
        to = beside[:, can]
        less = to @ np.linalg.solve(np.eye(2) + more @ there[can], more) @ np.swapaxes(to, 2, 3)
        for k, of_runs, adds, cost, regret in zip(can, brought, more, costs[can], at.regrets(less), strict=True):
            found.append(
                _Option(
                    scale=scales[int(k)], design=design, packs=packs[int(k)], row=rows[k], of_runs=of_runs, more=adds,
                    cost=float(cost), regret=float(regret),
                )
            )  # fmt: skip
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
        packs=one.packs,
        cost=one.cost,
        part=max(fell, key=fell.__getitem__),
        new_size=one.scale[0] not in known,
        after=asked.outlook(after),
        then=after,
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


def found_by_fit(model: Mapping[str, Any]) -> dict[Scale, Floats]:
    """Scale -> (2,) ln lr and ln batch that a fit has as best there, its choices averaged."""
    weights = np.array([member["weight"] for member in model["members"]])
    at = np.tensordot(weights / weights.sum(), np.array([m["scales"]["at"] for m in model["members"]]), axes=1)
    return {
        (float(params), float(tokens)): np.asarray(best)
        for (params, tokens), best in zip(model["scales"], at, strict=True)
    }


def _normals() -> Floats:
    half = np.random.default_rng(1).standard_normal((_NORMALS // 2, 2))
    return np.concatenate([half, -half])


def _z(level: float) -> float:
    from scipy.special import ndtri

    return float(ndtri(0.5 + level / 2))
