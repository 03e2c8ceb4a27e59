"""Does a sweep of weight decay beside the grids of a plan pay? Simulated truths, the sweep fitted as `lawfit fit` does.

    python -m tests.benchmarks.decay_sweeps [--worlds 400]

The plan is made from our own sweep (data/proxy_sweep.csv, its runs of weight decay 0.1). In each world a timescale's
valley, how far the held decay is off its best where learning rates were tuned at it, how far the sweep's scale and the
target lie off one law, and the errors of the advised learning rate and batch are drawn; the sweep's runs get losses
with noise and misfit, `fit_timescale` fits them, and its weight decay at the target is charged with what it costs
there, beside the held one, in the same world. The grids of the plan with the sweep have what it leaves of the budget.
Some rows draw other truths than the planner believes.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd

import lawfit
from lawfit.ask import Target
from lawfit.errors import FitError, NotEnoughData
from lawfit.estimate.lr_batch.valley import excess
from lawfit.estimate.numerics.optimum_law import SCATTER_PRIOR
from lawfit.estimate.weight_decay.sweep import DecayRuns
from lawfit.estimate.weight_decay.timescale import fit_timescale
from lawfit.estimate.weight_decay.valley import cost_of_timescale
from lawfit.laws.lent import TIMESCALE_SD
from lawfit.planner.choose import Asked, State, choose, scales_in_reach
from lawfit.planner.decay import (
    ALONE_SD,
    HELD_SD,
    LEVEL_SD,
    MOST_OF_VALLEY,
    SIZE_SD,
    SKEW,
    STIFFNESS,
    DecaySweep,
    decay_beside,
)
from lawfit.planner.information import symmetric_root
from lawfit.planner.means import read_means
from lawfit.planner.next_runs import STRETCH, what_is_known
from lawfit.records import FitStatus

DATA: Final = Path(__file__).parents[2] / "data"
HELD: Final = 0.1
EXPONENT: Final = -0.527  # of the timescale in tokens per parameter: Power Lines
ASKED: Final = (
    (2e7, 4e8, "1e17flops"),
    (2e8, 4e9, "1e17flops"),
    (2e8, 4e9, "1e18flops"),
    (1e9, 2e10, "1e18flops"),
)


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What worlds are drawn from; the defaults are what the planner believes."""

    name: str
    stiffness: tuple[float, float] = STIFFNESS
    held_sd: float = HELD_SD
    drift: float = 1.0  # times what the planner believes of scales that differ


TRUTHS: Final = (
    Truth(name="as the planner believes"),
    Truth(name="own sweep: k 0.0075, held decay off by 1.9", stiffness=(0.0075, 0.2), held_sd=0.63),
    Truth(name="flat valley: k 0.0015", stiffness=(0.0015, 0.3)),
    Truth(name="scales differ twice as much", drift=2.0),
    Truth(name="the held decay is the best", held_sd=0.05),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=int, default=400)
    worlds = parser.parse_args().worlds
    frame = pd.read_csv(DATA / "proxy_sweep.csv")
    fit = lawfit.fit(lawfit.observe(frame[frame["weight_decay"] == HELD]), backtest=False).fit
    for params, tokens, budget in ASKED:
        target = Target(params=params, tokens=tokens)
        state, valley = what_is_known(fit, target)
        asked = Asked(target=target, valley=valley, means=read_means(budget))
        largest = STRETCH * max(state.knowledge.sizes)
        scales = scales_in_reach(asked, state, largest, min(state.knowledge.sizes), tokens)
        without = choose(asked, state, scales)
        settings = [(scale, *np.exp(best).tolist()) for scale, best in state.found.items()]
        found = decay_beside(asked, state, scales, without, HELD, settings)
        assert found is not None
        print(f"{params:.3g} on {tokens:.3g}, {budget}: ", end="")
        if not found.sweeps:
            print("no sweep worth it")
            continue
        ends = [without[-1].then, found.grids[-1].then]
        where = " and ".join(f"{each.runs} of {each.scale[0]:.3g} on {each.scale[1]:.3g}" for each in found.sweeps)
        share = sum(each.cost for each in found.sweeps) / asked.means.amount
        print(
            f"{where}, {100 * share:.1f} % of the budget, promised {100 * (found.gain - found.lost):.3f} %, "
            f"{'planned' if found.pays else 'not planned'}"
        )
        for truth in TRUTHS:
            rng = np.random.default_rng(7)
            pairs = np.array([world(asked, ends, found.sweeps, truth, rng=rng) for _ in range(worlds)])
            gain = pairs[:, 0] - pairs[:, 1]
            print(
                f"  {truth.name:<44s} without {100 * pairs[:, 0].mean():.3f} %, with {100 * pairs[:, 1].mean():.3f} %, "
                f"gain {100 * gain.mean():.3f} +- {100 * gain.std(ddof=1) / np.sqrt(worlds):.3f} % "
                f"(worse in {100 * (gain < -1e-4).mean():.0f} % of worlds; no law in {100 * pairs[:, 2].mean():.0f} %)"
            )


def world(
    asked: Asked, ends: Sequence[State], sweeps: Sequence[DecaySweep], truth: Truth, *, rng: np.random.Generator
) -> tuple[float, float, float]:
    """Share of the loss given up without the sweeps and with them, and whether their fit had no law."""
    valley, target = asked.valley, asked.target
    shape = valley.at(target.tokens)
    steep = float(np.mean(excess(np.array([-0.7, 0.7]), np.zeros(2), shape)) / 0.49)
    k = min(truth.stiffness[0] * np.exp(truth.stiffness[1] * rng.standard_normal()), MOST_OF_VALLEY * steep)
    tuned = ((1 - k / steep) * truth.held_sd) ** 2
    off = np.sqrt(tuned * LEVEL_SD**2 / (tuned + LEVEL_SD**2)) * rng.standard_normal()  # ln tau held - ln tau*
    exponent = EXPONENT + truth.drift * TIMESCALE_SD * rng.standard_normal()
    by_size, own = truth.drift * np.array([SIZE_SD, SCATTER_PRIOR]) * rng.standard_normal(2)
    away, skew = rng.standard_normal(2), SKEW + 0.3 * rng.standard_normal()
    best = np.log(0.2) + exponent * np.log(target.tokens / target.params / 20)  # ln tau of the law at the target

    # the sweeps: learning rates are tuned at the held decay, which leaves it as far off as at the target
    columns = []
    for sweep in sweeps:
        params, tokens = sweep.scale
        there = best + exponent * np.log((tokens / params) / (target.tokens / target.params))
        there += by_size * np.log(params / target.params) + truth.drift * ALONE_SD * rng.standard_normal()
        decays = np.array([HELD, *np.repeat(sweep.weight_decays, sweep.seeds)])
        high = cost_of_timescale(off - np.log(decays / HELD), k, skew)
        noise = valley.noise * rng.standard_normal(len(decays))
        loss = 3.0 * np.exp(high * np.exp(valley.misfit * rng.standard_normal(len(decays))) + noise)
        lr = sweep.batch_tokens / (HELD * tokens * np.exp(there + off))
        rows = np.column_stack([np.tile([params, tokens, sweep.batch_tokens, lr], (len(decays), 1)), decays, loss])
        columns.append(rows)
    try:
        fitted = fit_timescale(DecayRuns.of(*np.concatenate(columns).T))
    except (FitError, NotEnoughData):
        fitted = None
    usable = fitted is not None and fitted.law is not None and fitted.status is not FitStatus.UNCERTIFIED

    def cost(end: State, *, follows: bool) -> float:
        e_lr, e_batch = symmetric_root(asked.covariance(end)) @ away
        rest = max(float(excess(np.array(e_lr), np.array(e_batch), shape)) - k * (e_batch - e_lr) ** 2, 0.0)
        at = off + e_batch - e_lr
        if follows:
            assert fitted is not None
            assert fitted.law is not None
            said = fitted.law.predict(tokens_per_param=target.tokens / target.params)
            at = np.log(said.value) - (best + own)
        return min(rest + float(cost_of_timescale(np.array(at), k, skew)), 0.05)

    return cost(ends[0], follows=False), cost(ends[1], follows=bool(usable)), float(not usable)


if __name__ == "__main__":
    main()
