"""How a training budget is best split between parameters and tokens, in every world that a loss fit leaves open.

Nothing here knows the form of the law: losses are laid out along the budget, and the lowest is read off. A budget C
buys ``tokens = (C / params - 2 served) / 6``: 6 FLOPs per parameter and training token, 2 per parameter and token that
is served later (arXiv 2001.08361, 2401.00448).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lawfit.advise.budget.belief import LossBelief
from lawfit.estimate.loss.split_backtest import RATIOS
from lawfit.estimate.numerics.lowest import lowest_along
from lawfit.laws.loss import FLOPS_PER_PARAM_TOKEN

Floats = NDArray[np.float64]
LogLoss = Callable[[Floats, Floats], Floats]  # at params and tokens

FLOPS_PER_SERVED_TOKEN: Final = 2.0  # per parameter: a forward pass
STEP: Final = 0.05  # of ln params; a parabola through three points then places a minimum within 1e-4
FLATTEST: Final = 0.1  # slope over the next one, below which three points have a corner and no curve
CHEAP: Final = (0.001, 0.01)  # shares of the loss
WORST: Final = 0.05  # most that one world counts: a run that goes worse is noticed and started again, as in `regret`
DECADES_UP: Final = 8.0  # budgets above the dearest run that a loss or a size is looked for
BUDGETS: Final = 72


@dataclass(frozen=True, kw_only=True)
class Valley:
    """ln loss along one budget, from many tokens for few parameters to the reverse."""

    flops: float
    log_params: Floats  # (k,)
    log_tokens: Floats  # (k,)
    centre: Floats  # (k,)
    each: Floats  # (worlds, k)

    def tokens(self, log_params: Floats) -> Floats:
        """ln tokens at other sizes of the same budget."""
        return np.interp(log_params, self.log_params, self.log_tokens)


@dataclass(frozen=True, kw_only=True)
class Best:
    """The best split of a budget."""

    valley: Valley
    log_params: float  # by the centre of the fit
    log_loss: float
    log_params_each: Floats  # (worlds,)
    log_loss_each: Floats  # (worlds,)
    open_low: float  # share of worlds whose best size lies at the small end of the search, or beyond
    open_high: float
    chosen: float  # ln params of least expected regret
    regret: float  # expected there: share of the loss
    zones: Mapping[float, tuple[float, float]]  # share of the loss -> params that cost no more than `chosen`, expected

    @property
    def log_tokens(self) -> float:
        return float(self.valley.tokens(np.array(self.log_params)))

    @property
    def log_tokens_each(self) -> Floats:
        return self.valley.tokens(self.log_params_each)

    def opened(self, values: Floats, *, falls: bool = False) -> Floats:
        """Values at each world's best split, for an interval: infinite where that lies at an end of the search.

        Parameters
        ----------
        falls : whether they fall as the size grows
        """
        ends = np.where(self.log_params_each >= self.valley.log_params[-1], np.inf, values)
        ends = np.where(self.log_params_each <= self.valley.log_params[0], -np.inf, ends)
        return np.where(np.isinf(ends) & falls, -ends, ends)


def valley(belief: LossBelief, flops: float, *, served: float = 0.0, step: float = STEP) -> Valley:
    """Losses along a budget.

    Parameters
    ----------
    flops : of training and of serving together
    served : tokens that are served later
    step : of ln params
    """
    low, high = (math.sqrt(flops / FLOPS_PER_PARAM_TOKEN / ratio) for ratio in reversed(RATIOS))
    if served:  # larger models could not be served
        high = min(high, 0.999 * flops / (FLOPS_PER_SERVED_TOKEN * served))
        low = min(low, high / 100)
    log_params = np.linspace(math.log(low), math.log(high), max(3, round(math.log(high / low) / step)))
    left = np.exp(math.log(flops) - log_params) - FLOPS_PER_SERVED_TOKEN * served
    log_tokens = np.log(left / FLOPS_PER_PARAM_TOKEN)
    params, tokens = np.exp(log_params), np.exp(log_tokens)
    return Valley(
        flops=flops,
        log_params=log_params,
        log_tokens=log_tokens,
        centre=belief.centre(params, tokens),
        each=belief.each(params, tokens),
    )


def best_split(belief: LossBelief, flops: float, *, served: float = 0.0) -> Best:
    """The compute-optimal split of a budget, by the centre and by each world."""
    along = valley(belief, flops, served=served)
    x = along.log_params
    at, lowest = (found[0] for found in lowest_along(x, along.centre[None, :]))
    each_at, each_lowest = lowest_along(x, along.each)
    if len(along.each):
        excess = np.clip(along.each - each_lowest[:, None], 0.0, np.log1p(WORST))  # before expm1, which overflows
        costs = np.expm1(excess).mean(axis=0)
    else:
        costs = np.expm1(np.clip(along.centre - lowest, 0.0, np.log1p(WORST)))
    chosen, regret = (float(found[0]) for found in lowest_along(x, costs[None, :]))
    return Best(
        valley=along,
        log_params=float(at),
        log_loss=float(lowest),
        log_params_each=each_at,
        log_loss_each=each_lowest,
        open_low=float((each_at <= x[0]).mean()) if len(each_at) else 0.0,
        open_high=float((each_at >= x[-1]).mean()) if len(each_at) else 0.0,
        chosen=chosen,
        regret=max(regret, 0.0) if len(along.each) else 0.0,
        zones={share: _zone(x, costs, (chosen, regret), share) for share in CHEAP},
    )


def _zone(x: Floats, costs: Floats, best: tuple[float, float], share: float) -> tuple[float, float]:
    """Sizes that give up no more than that share of the loss against the best one, on average over the worlds.

    Of the same average as the choice, so that the zone holds what was chosen; the centre alone may be lowest elsewhere.

    Parameters
    ----------
    x, costs : (n,) ln params, and the expected share of the loss given up there
    best : ln params of least cost, and that cost
    """
    at, least = best
    left = costs - least - share
    cheap = np.flatnonzero(left <= 0)
    if not len(cheap):  # narrower than the grid
        return math.exp(at), math.exp(at)
    ends = []
    for inner, outer in ((cheap[0], cheap[0] - 1), (cheap[-1], cheap[-1] + 1)):
        if not 0 <= outer < len(x):
            ends.append(float(np.exp(x[inner])))
            continue
        share_out = left[inner] / (left[inner] - left[outer])
        ends.append(float(np.exp(x[inner] + share_out * (x[outer] - x[inner]))))
    return min(ends[0], math.exp(at)), max(ends[1], math.exp(at))


@dataclass(frozen=True, kw_only=True)
class OptimalPath:
    """The best split of many budgets, by the centre (row 0) and by each world (the other rows)."""

    log_flops: Floats  # (c,)
    log_params: Floats  # (1 + worlds, c)
    log_tokens: Floats
    log_loss: Floats
    near: int  # index of the budget that is nearest to the dearest run

    def at(self, name: str, value: float) -> Floats:
        """(1 + worlds,) ln flops of the budget whose best split has this many params or tokens, or this loss.

        Infinite where no budget of the path has.
        """
        rows = {"params": self.log_params, "tokens": self.log_tokens, "loss": -self.log_loss}[name]
        wanted = -math.log(value) if name == "loss" else math.log(value)
        return np.array([_crossing(self.log_flops, row, wanted, self.near) for row in rows])

    def read(self, name: str, log_flops: Floats) -> Floats:
        """(1 + worlds,) ln params, tokens or loss of each row's best split of a budget of its own."""
        rows = {"params": self.log_params, "tokens": self.log_tokens, "loss": self.log_loss}[name]
        inside = np.isfinite(log_flops)
        at = np.where(inside, log_flops, 0.0)
        found = np.array([np.interp(x, self.log_flops, row) for x, row in zip(at, rows, strict=True)])
        return np.where(inside, found, np.inf)

    def drifted(self, belief: LossBelief) -> OptimalPath:
        """With the drift of the loss beyond the runs that its interval has (`estimate.loss.ensemble`), in each world.

        A loss that is asked for, and not a size, is reached at a budget that is as uncertain as the level.
        """
        drift = belief.drift
        if drift is None:
            return self
        flops = np.exp(self.log_params + self.log_tokens) * FLOPS_PER_PARAM_TOKEN
        low, high = belief.scales["flops"]
        beyond = np.log10(np.maximum(flops, high) / high) + np.log10(low / np.minimum(flops, low))
        drawn = np.random.default_rng(0).standard_t(drift.freedom, len(flops) - 1)
        return replace(self, log_loss=self.log_loss + drift.sd * np.append(0.0, drawn)[:, None] * beyond)


def _crossing(x: Floats, y: Floats, wanted: float, near: int) -> float:
    """Where a row that rises with x has a value, looked for from index `near` on; inf where it has not.

    Far from the runs a form may turn around, so of several places the one nearest to them is meant.
    """
    if y[near] < wanted:
        above = near + np.flatnonzero(y[near:] >= wanted)
        i = int(above[0]) if len(above) else 0
    else:
        below = np.flatnonzero(y[: near + 1] < wanted)
        i = int(below[-1]) + 1 if len(below) else 0
    if i == 0:
        return math.inf
    share = (wanted - y[i - 1]) / (y[i] - y[i - 1])
    if i >= 2 and y[i - 1] - y[i - 2] > FLATTEST * (y[i] - y[i - 1]):  # a curve through three points: x of y
        a, b, c = y[i - 2 : i + 1]
        weights = np.array(
            [
                (wanted - b) * (wanted - c) / ((a - b) * (a - c)),
                (wanted - a) * (wanted - c) / ((b - a) * (b - c)),
                (wanted - a) * (wanted - b) / ((c - a) * (c - b)),
            ]
        )
        share = (float(weights @ x[i - 2 : i + 1]) - x[i - 1]) / (x[i] - x[i - 1])
    return float(x[i - 1] + min(max(share, 0.0), 1.0) * (x[i] - x[i - 1]))


def optimal_path(
    belief: LossBelief,
    *,
    served: float = 0.0,
    budgets: Floats | None = None,
) -> OptimalPath:
    """The best splits from far below the cheapest run to `DECADES_UP` above the dearest, or of given budgets."""
    if budgets is None:
        low, high = belief.scales["flops"]
        budgets = np.geomspace(low / 1e4, high * 10**DECADES_UP, BUDGETS)
        if served:  # serving alone must be paid for the smallest models
            budgets = budgets + FLOPS_PER_SERVED_TOKEN * served * 1e3
    rows: dict[str, list[Floats]] = {"params": [], "tokens": [], "loss": []}
    for flops in budgets:
        along = valley(belief, float(flops), served=served, step=2 * STEP)
        at, lowest = lowest_along(along.log_params, np.concatenate([along.centre[None, :], along.each]))
        for name, values in (("params", at), ("tokens", along.tokens(at)), ("loss", lowest)):
            rows[name].append(values)
    params, tokens, loss = (np.array(columns).T for columns in rows.values())
    near = int(np.abs(np.log(budgets / belief.scales["flops"][1])).argmin())
    return OptimalPath(log_flops=np.log(budgets), log_params=params, log_tokens=tokens, log_loss=loss, near=near)


def tokens_for(law: LogLoss, scales: Mapping[str, tuple[float, float]], loss: float, params: Floats | float) -> Floats:
    """Tokens at which each size reaches a loss; inf where it never does.

    Parameters
    ----------
    law : ln loss at params and tokens
    scales : smallest and largest of what was fitted
    """
    return tokens_for_each(law, scales, [loss], params)[0]


def tokens_for_each(
    law: LogLoss, scales: Mapping[str, tuple[float, float]], losses: Sequence[float] | Floats, params: Floats | float
) -> list[Floats]:
    """`tokens_for` of several losses, between which the law is asked once."""
    return _reach(law, scales["tokens"], losses, np.atleast_1d(np.asarray(params, dtype=float)), swapped=False)


def params_for(law: LogLoss, scales: Mapping[str, tuple[float, float]], loss: float, tokens: float) -> float:
    """Parameters that reach a loss on so many tokens; inf where none do."""
    return float(_reach(law, scales["params"], [loss], np.array([tokens]), swapped=True)[0][0])


def _reach(
    law: LogLoss, tried: tuple[float, float], losses: Sequence[float] | Floats, given: Floats, *, swapped: bool
) -> list[Floats]:
    axis = np.log(np.geomspace(1.0, 1e20, 900))
    held, free = (grid.ravel() for grid in np.meshgrid(given, np.exp(axis), indexing="ij"))
    rows = (law(free, held) if swapped else law(held, free)).reshape(len(given), -1)
    near = int(np.abs(axis - np.log(tried[1])).argmin())
    return [np.exp([_crossing(axis, -row, -math.log(loss), near) for row in rows]) for loss in losses]
