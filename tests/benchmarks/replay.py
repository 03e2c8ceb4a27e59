"""Does the planner choose well? It plays finished grids again, seeing only what it chose, beside simpler rules.

    python -m tests.benchmarks.replay [--pool step_law|own] [--seeds 20] [--shares 0.003,0.01,0.03] [--methods a,b]
                                      [--workers N] [--json FILE]

Pool `step_law`: the sizes up to 429M of the public Step Law scales, of each scale a random 60 % of its runs, another
one for each seed; laws fitted on that study lend nothing. Judged on the observed runs of the six 537M scales: loss
interpolated between them at the advised setting, over that at the scale's own smooth optimum, minus one. Pool `own`:
our own sweep (data/proxy_sweep.csv) without its largest size, likewise; judged on that size by a quadratic. A budget is
a share of the pool's FLOPs; a diverged run costs as much as any. Behind every method stands the same fit (`analyse`).

Methods
- lawfit: `lawfit.planner` in rounds. Each plans what is left of the budget from the last fit, makes the first grids of
  the plan (of each planned point the nearest run of the pool), and fits again. The first knows published laws alone.
- cheapest: 16 random runs in each of the cheapest scales that the budget buys.
- uniform: runs at random while the budget lasts. latin: a Latin hypercube over scales, learning rates and batches.
- variance: V-optimal, one run after the other, the one that cuts the variance of (ln lr*, ln batch*) at the target most
  for its cost; knowledge, valley and rounds are those of lawfit.
- gradient: knowledge gradient of BoTorch's Gaussian process, the target as fidelity (needs botorch).
- tpe: Optuna's TPE, 16 trials in each of the cheapest scales that the budget buys (needs optuna).
- whole: the whole pool.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Final

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from lawfit.ask import Target
from lawfit.planner.choose import Asked, Chosen, State, choose, told_by_fit
from lawfit.planner.information import Valley
from lawfit.planner.knowledge import of_fit, of_nothing
from lawfit.planner.means import Means
from tests.benchmarks.replay_rules import POOLS, ROUNDS, RULES, Pool, before_any, fit_of, flops_of, log_setting
from tests.benchmarks.shared import (
    answer_at,
    mean_and_error,
)

FEWEST: Final = 6  # runs left at a scale where a grid can still be made
BASE: Final = "cheapest"


@dataclass(frozen=True, kw_only=True)
class Round:
    """What was promised before a round's runs, and what the fit of them says."""

    runs: int
    flops: float
    before: float  # 90 % interval of the learning rate at the target: ln of its half
    promised: float
    got: float
    inside: tuple[bool, bool] | None  # whether the intervals of (lr, batch) hold the target's smooth optimum


@dataclass(frozen=True, kw_only=True)
class Played:
    method: str
    share: float
    seed: int
    runs: int
    flops: float
    scales: int
    cost: Mapping[str, float] | None  # target -> excess over its smooth optimum; None: no fit
    inside: Mapping[str, tuple[bool, bool]] = field(default_factory=dict)
    stated: Mapping[str, float] = field(default_factory=dict)
    rounds: Sequence[Round] = ()
    seconds: float = 0.0


# ---------------------------------------------------------------------------------------------- planned


def planned(pool: Pool, budget: float, rng: np.random.Generator, rounds: list[Round]) -> list[int]:
    """Rounds of plan, runs, fit, until nothing is left or nothing helps."""
    target, *further = (Target(params=params, tokens=tokens) for params, tokens in pool.targets)
    state = State(knowledge=of_nothing(*before_any(pool), without=pool.without))
    valley, spent, found = Valley(shape=None), 0.0, list[int]()
    for turn in range(ROUNDS):
        means = Means(amount=budget - spent, unit="flops")
        asked = Asked(target=target, further=tuple(further), valley=valley, means=means)
        left = {s: [k for k in here if k not in found] for s, here in pool.by_scale().items()}
        grids = choose(asked, state, [scale for scale, here in left.items() if len(here) >= FEWEST])
        until = spent + (budget - spent) / (ROUNDS - turn)
        before, made, last = asked.outlook(state), list[int](), None
        for grid in grids:
            if made and spent + grid.packs.flops > until:
                break
            more = nearest(pool, [k for k in left[grid.scale] if k not in made], grid)
            if not more:
                continue
            price = sum(flops_of(pool.runs[k]) for k in more)
            if spent + price > budget:
                break
            made, spent, last = made + more, spent + price, grid
        if last is None:
            break
        found += made
        fitted = fit_of(pool, found)
        if fitted is None:
            state = last.then
            continue
        knowledge = of_fit(fitted)
        state = State(knowledge=knowledge, told=told_by_fit(knowledge, fitted))
        valley = Valley.of_fit(fitted)
        got = replace(asked, valley=valley).outlook(State(knowledge=knowledge))
        answer = answer_at(fitted, *pool.targets[0])
        rounds.append(
            Round(
                runs=len(made),
                flops=spent,
                before=float(np.log(before.lr_factor)),
                promised=float(np.log(last.after.lr_factor)),
                got=float(np.log(got.lr_factor)),
                inside=answer.holds(*pool.optima[pool.targets[0]]),
            )
        )
    return found


def nearest(pool: Pool, left: Sequence[int], grid: Chosen) -> list[int]:
    """For each point of the grid the nearest run that is left, the closest pairs first."""
    of_lr, of_batch = grid.design.offsets()
    points = np.array([(grid.centre[0] + u, grid.centre[1] + v) for u in of_lr for v in of_batch] * grid.design.seeds)
    apart = np.abs(points[:, None] - np.array([log_setting(pool.runs[k]) for k in left]).reshape(-1, 2)).sum(axis=2)
    found = []
    for _ in range(min(apart.shape)):
        point, run = np.unravel_index(int(apart.argmin()), apart.shape)
        apart[point], apart[:, run] = np.inf, np.inf
        found.append(left[int(run)])
    return found


def play(name: str, method: str, share: float, seed: int) -> Played:
    pool, began, rounds = POOLS[name](seed), time.perf_counter(), list[Round]()
    rng, budget = np.random.default_rng([seed, round(1e5 * share)]), share * pool.flops
    if method in RULES:
        chosen = RULES[method](pool, budget, rng)
    else:
        chosen = planned(pool, budget, rng, rounds)
    fitted = fit_of(pool, chosen)
    cost: dict[str, float] | None = None
    inside, stated = dict[str, tuple[bool, bool]](), dict[str, float]()
    if fitted is not None:
        cost = {}
        for scale, excess in pool.excess.items():
            answer = answer_at(fitted, *scale)
            at = f"{scale[0]:.4g}/{scale[1]:.4g}"
            cost[at] = excess(*np.exp(answer.setting))
            inside[at], stated[at] = answer.holds(*pool.optima[scale]), answer.stated
    return Played(
        method=method,
        share=share,
        seed=seed,
        runs=len(chosen),
        flops=sum(flops_of(pool.runs[k]) for k in chosen) / pool.flops,
        scales=len({(pool.runs[k].params, pool.runs[k].tokens) for k in chosen}),
        cost=cost,
        inside=inside,
        stated=stated,
        rounds=rounds,
        seconds=time.perf_counter() - began,
    )


# ---------------------------------------------------------------------------------------------- what is shown


def show(played: Sequence[Played]) -> None:
    of = {(one.method, one.share, one.seed): one for one in played}
    for share in sorted({one.share for one in played}):
        print(f"\n{100 * share:g} % of the pool's FLOPs: excess over the targets' smooth optima, %")
        print(f"  {'':<10s}{'mean':>8s}{'90th':>8s}{'worst':>8s}{'runs':>7s}{'scales':>8s}   over {BASE} (paired)")
        for method in dict.fromkeys(one.method for one in played):
            ones = [one for one in played if (one.method, one.share) == (method, share)]
            costs = np.array([mean_cost(one) for one in ones])
            told = np.isfinite(costs)
            beside = [
                (mean_cost(one), mean_cost(of[BASE, share, one.seed])) for one in ones if (BASE, share, one.seed) in of
            ]
            apart = ""
            if beside and method != BASE:
                both = 100 * np.array(beside)
                both = both[np.isfinite(both).all(axis=1)]
                mean, error = mean_and_error(both[:, 0] - both[:, 1])
                better = int((both[:, 0] < both[:, 1]).sum())
                times = both[:, 0].mean() / both[:, 1].mean()
                apart = f"{mean:+.3f} +- {error:.3f}, {times:.2f} times, better in {better} of {len(both)}"
            none = f"; no fit in {np.sum(~told)}" if not told.all() else ""
            print(
                f"  {method:<10s}{100 * costs[told].mean():>8.3f}{100 * np.quantile(costs[told], 0.9):>8.3f}"
                f"{100 * costs[told].max():>8.3f}{np.mean([o.runs for o in ones]):>7.0f}"
                f"{np.mean([o.scales for o in ones]):>8.1f}   {apart}{none}"
            )
            if inside := [pair for one in ones for pair in one.inside.values()]:
                stated = np.mean([value for one in ones for value in one.stated.values()])
                held = np.mean(inside, axis=0)
                print(
                    f"  {'':<10s}intervals hold lr {held[0]:.2f}, batch {held[1]:.2f}; stated cost {100 * stated:.3f} %"
                )
    rounds = [each for one in played for each in one.rounds]
    if rounds:
        foretold = np.array([(each.before, each.promised, each.got) for each in rounds])
        apart = np.log(foretold[:, 2] / foretold[:, 1])
        print(
            f"\n{len(rounds)} rounds: half the lr interval (ln) before, promised, got: "
            f"{', '.join(f'{x:.2f}' for x in foretold.mean(axis=0))}; promised and got apart by a factor of "
            f"{np.exp(np.abs(apart).mean()):.2f} on average (got over promised {np.exp(apart.mean()):.2f})"
        )
        held = np.mean([each.inside for each in rounds if each.inside is not None], axis=0)
        print(f"  90 % intervals at the target after each round hold lr {held[0]:.2f}, batch {held[1]:.2f}")


def mean_cost(one: Played) -> float:
    return float("nan") if one.cost is None else float(np.mean(list(one.cost.values())))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--pool", choices=sorted(POOLS), default="step_law")
    options.add_argument("--seeds", type=int, default=20)
    options.add_argument("--shares", default="0.003,0.01,0.03")
    options.add_argument("--methods", default="cheapest,whole,lawfit")
    options.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    options.add_argument("--json", type=Path, metavar="FILE")
    asked = options.parse_args()
    jobs = [
        (asked.pool, method, float(share), seed)
        for method in asked.methods.split(",")
        for share in asked.shares.split(",")
        for seed in range(asked.seeds)
    ]
    with ProcessPoolExecutor(asked.workers) as workers:
        played = list(workers.map(play, *zip(*jobs, strict=True)))
    if asked.json:
        asked.json.write_text(json.dumps([asdict(one) for one in played]) + "\n", encoding="utf-8")
    show(played)


if __name__ == "__main__":
    main()
