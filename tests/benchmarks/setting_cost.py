"""What a setting is said to cost, against the truth: simulated sweeps, settings at random.

    python -m tests.benchmarks.setting_cost [SWEEPS] [FIRST_SEED]

Worlds are those of `interval_coverage`: exponents, valley, noise, bends and scatter drawn anew, none of the form that
is fitted, the target one to ten times beyond the largest size; beside them sweeps over weight decay at every scale with
a true law of the timescale. At each target settings are drawn around its true best one (its own scatter included), a
factor of 6 at most off in learning rate and in weight decay, of 4 in batch; half of them without a weight decay.
Counted: the share of 90 % intervals that hold the true loss given up, and of those that hold the loss of one more run
there; both by the size of the true cost. Settings of one sweep share its error, so the bounds come from resampled
sweeps.
"""

from __future__ import annotations

import itertools
import math
import os
import sys
from dataclasses import dataclass

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray

from lawfit.advise.setting_cost import cost_of
from lawfit.ask import SettingQuestion
from lawfit.estimate.evidence import Evidence
from lawfit.estimate.lr_batch.analysis import FitOptions
from lawfit.pipeline.fitting import FittedRecipe, fit_evidence
from lawfit.records import Recipe
from lawfit.simulate import FurtherTruth, Truth, simulate_sweep, simulate_weight_decay
from tests.benchmarks.interval_coverage import draw_world

LEVEL = 0.9
SETTINGS = 10
RATIOS = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)  # of weight decay to the best one
OFF = (math.log(6), math.log(4))  # farthest from the best, in nats of learning rate and batch
SIZES = (0.0, 0.002, 0.01, 0.03, math.inf)  # of the true share


@dataclass(frozen=True, kw_only=True)
class Row:
    """One setting at one target."""

    sweep: int
    true: float  # share of the loss given up
    said: float | None  # None: beyond what runs tried
    low: float
    high: float | None
    run: float  # loss of one run there
    run_low: float | None
    run_high: float | None

    @property
    def holds(self) -> bool:
        return self.low <= self.true and (self.high is None or self.true <= self.high)

    @property
    def holds_run(self) -> bool:
        return (self.run_low or 0.0) <= self.run and (self.run_high is None or self.run <= self.run_high)


def rows_of(seed: int) -> list[Row]:
    rng = np.random.default_rng(seed)
    truth, design, target = draw_world(rng)
    sweep = simulate_sweep(truth, design, rng=rng)
    further = FurtherTruth(
        timescale=1.1 * math.exp(rng.normal(0, 0.3)),
        timescale_exponent=rng.normal(-0.5, 0.1),
        timescale_stiffness=0.004 * math.exp(rng.normal(0, 0.3)),
        timescale_skew=rng.uniform(-1.0, -0.2),
    )
    decays = simulate_weight_decay(sweep, further, RATIOS, rng=rng)
    made = fit_evidence(sweep.recipe, Evidence(runs=[*sweep.runs, *decays]), options=FitOptions(backtest=False))
    best = np.log(truth.optimum(*target)) + np.array([truth.scatter_lr, truth.scatter_batch]) * rng.standard_normal(2)
    return [_row(seed, truth, further, target, sweep.recipe, made, best, rng) for _ in range(SETTINGS)]


def _row(
    seed: int,
    truth: Truth,
    further: FurtherTruth,
    target: tuple[float, float],
    recipe: Recipe,
    made: FittedRecipe,
    best: NDArray[np.float64],
    rng: np.random.Generator,
) -> Row:
    off = rng.uniform(-1, 1, 2) * OFF
    lr, batch = np.exp(best + off)
    ratio = math.exp(rng.uniform(-1, 1) * OFF[0]) if rng.random() < 0.5 else None
    decay = None if ratio is None else ratio * batch / (lr * further.best_timescale(*target) * target[1])
    asked = SettingQuestion(
        params=target[0], tokens=target[1], lr=lr, batch_tokens=batch, weight_decay=decay, level=LEVEL
    )
    said = cost_of(made.fit, recipe, asked, {law.kind: law for law in made.laws})
    excess = float(truth.excess(off[:1], off[1:], target[1])[0])
    if ratio is not None:
        excess += further.excess(-math.log(ratio))
    loss = said["expected_loss"]
    return Row(
        sweep=seed,
        true=math.expm1(excess),
        said=said["regret"]["loss_fraction"],
        low=said["regret"]["low"],
        high=said["regret"]["high"],
        run=truth.lowest_loss(*target) * math.exp(excess + truth.noise * rng.standard_normal()),
        run_low=None if loss is None else loss["low"],
        run_high=None if loss is None else loss["high"],
    )


def share(rows: list[Row], what: str) -> tuple[float, float, float]:
    """How many hold, with the bounds of a 98 % interval over resampled sweeps."""
    by_sweep = [[getattr(row, what) for row in group] for _, group in itertools.groupby(rows, lambda row: row.sweep)]
    held, count = np.array([(sum(each), len(each)) for each in by_sweep], dtype=float).T
    picks = np.random.default_rng(0).integers(len(held), size=(2000, len(held)))
    low, high = np.quantile(held[picks].sum(axis=1) / count[picks].sum(axis=1), [0.01, 0.99])
    return float(held.sum() / count.sum()), float(low), float(high)


def main() -> None:
    sweeps = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    first = int(sys.argv[2]) if len(sys.argv) > 2 else 10_000
    rows = [row for seed in range(first, first + sweeps) for row in rows_of(seed)]
    untold = sum(row.said is None for row in rows)
    print(f"{sweeps} simulated sweeps, {len(rows)} settings, {untold} beyond what runs tried; {LEVEL:.0%} intervals")
    for low, high in itertools.pairwise(SIZES):
        some = [row for row in rows if low <= row.true < high]
        told = [row for row in some if row.said is not None and row.high is not None]
        if told:
            print(
                f"  true cost {low:.1%} to {high:.1%}: {len(some):4d}, regret held {share(some, 'holds')[0]:.3f}, run "
                f"held {share(some, 'holds_run')[0]:.3f}; mean true {np.mean([r.true for r in told]):.2%}, said "
                f"{np.mean([r.said for r in told]):.2%}, median width {np.median([r.high - r.low for r in told]):.2%}"
            )
    held, runs = share(rows, "holds"), share(rows, "holds_run")
    print(
        f"cost of a setting: interval holds the true one {held[0]:.3f} ({held[1]:.3f} to {held[2]:.3f}), the loss of a "
        f"run {runs[0]:.3f} ({runs[1]:.3f} to {runs[2]:.3f})"
    )


if __name__ == "__main__":
    main()
