"""The learning rate at a given batch: at sizes and horizons that were left out, and whether its interval holds.

    nice python -m tests.benchmarks.lr_at_a_batch [SWEEPS] [FIRST_SEED]

1. Real runs, the Step Law grid and our own sweep. For each batch of each cell left out: the learning rate that a method
   says, scored by linear interpolation of the observed loss over ln lr in that sweep, against the lowest observed
   there. Methods: a product of powers of size, horizon and batch; the saturating law; the floor of the joint surface's
   valley; and what `lawfit predict --batch-tokens` answers, which chooses between the last one and the average of the
   last two inside the cells it learns from. Rates outside a sweep are scored at its end, for every method alike.
   Also: at each cell left out, is the rate of the free answer within 1 % of the one with its batch given?
2. Simulated sweeps with known truth, half of them as in `interval_coverage` (the valley's floor bends at the best
   batch), half with a noise batch that grows with the horizon on its own, beyond which the rate saturates or (every
   other seed) falls again. Asked for a batch between a quarter and four
   times the best one, at a scale beyond the runs: does the 90 % interval hold the best learning rate there, and is the
   answer ever worse than the surface alone? Also counted over the sweeps in which the average answers.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from scipy.stats import binomtest

from lawfit.advise.draws import draw_worlds
from lawfit.advise.prediction import recommend
from lawfit.advise.regret import best_setting
from lawfit.ask import Target
from lawfit.errors import LawfitError
from lawfit.estimate.lr_batch.across_scales import fit_across_scales, fit_power_across_scales
from lawfit.estimate.lr_batch.analysis import FitOptions, analyse
from lawfit.estimate.lr_batch.backtest import columns_of
from lawfit.estimate.numerics.optima import Columns, locate_lr_per_batch
from lawfit.estimate.observe.observations import Observations, observe
from lawfit.ingest import interpret, read_table
from lawfit.laws.lr_batch import BENDS
from lawfit.pipeline.fitting import fit_runs
from lawfit.simulate import simulate_sweep
from tests.benchmarks.interval_coverage import draw_world
from tests.benchmarks.shared import STEP_LAW, answer_at_batch, step_law_runs
from tests.estimate.noise_batch import NoiseBatchTruth, SurgeBatchTruth

LrAt = Callable[[float, float, float], float]  # (params, tokens, batch_tokens) -> lr
OURS, SURFACE = "lawfit predict", "joint surface alone"
SURFACE_ALONE = "surface"
LEVEL = 0.9
FALSE_ALARM = 1e-2
SAME = 0.01  # of ln lr: rates that differ by less are one answer
OWN = Path(__file__).parents[2] / "data" / "proxy_sweep.csv"


def main() -> None:
    sweeps = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    first = int(sys.argv[2]) if len(sys.argv) > 2 else 10_000
    step_law = observe(step_law_runs())
    grid = real_runs(
        "Step Law grid", step_law, {"horizons of 4e10 and more left out": [np.flatnonzero(step_law.tokens < 4e10)]}
    )
    own = real_runs("our own sweep", observe(interpret(read_table(str(OWN))).sweeps[0].runs), {})
    print("lr at a batch, mean regret in %: " + "; ".join([grid, own, coverage(sweeps, first)]))


def real_runs(name: str, observed: Observations, more: dict[str, list[np.ndarray]]) -> str:
    everything = columns_of(observed)
    order = np.argsort(observed.params * observed.tokens, kind="stable")
    splits = {
        "each size left out": [np.flatnonzero(observed.params != size) for size in np.unique(observed.params)],
        "larger third left out": [np.sort(order[: round(0.65 * observed.n_cells)])],
        "larger half left out": [np.sort(order[: observed.n_cells // 2])],
        **more,
    }
    figures: dict[tuple[str, str], list[float]] = {}
    forms: dict[str, list[str]] = {}
    apart: dict[str, list[float]] = {}  # ln of the rate at the free answer's own batch over the free answer's rate
    for split, rounds in splits.items():
        for kept in rounds:
            left = np.setdiff1d(np.arange(observed.n_cells), kept)
            found, form, free = methods(observed, kept)
            forms.setdefault(split, []).append(form)
            for cell in left:
                scale = float(observed.params[cell]), float(observed.tokens[cell])
                log_lr, log_batch = free(*scale)
                apart.setdefault(split, []).append(abs(np.log(found[OURS](*scale, float(np.exp(log_batch)))) - log_lr))
            for method, lr_at in found.items():
                for cell in left:
                    regrets = score(everything, float(observed.params[cell]), float(observed.tokens[cell]), lr_at)
                    figures.setdefault((split, method), []).extend(regrets)
    print(name)
    for (split, method), regrets in figures.items():
        shown = f" ({', '.join(forms[split])})" if method == OURS else ""
        print(f"  {split:<36s}{method:<22s}mean {np.mean(regrets):.3%}, worst {np.max(regrets):.2%}{shown}")
    for split, gaps in apart.items():
        same = int((np.array(gaps) <= SAME).sum())
        print(f"  {split:<36s}same rate freely and at that batch: {same} of {len(gaps)}, most apart {np.max(gaps):.1%}")
    means = {key: 100 * float(np.mean(regrets)) for key, regrets in figures.items()}
    return f"{name}: " + ", ".join(
        f"{split} {means[split, OURS]:.3f} (surface alone {means[split, SURFACE]:.3f}; at its own batch "
        f"within {np.max(apart[split]):.1%} of the free answer)"
        for split in splits
    )


def methods(
    observed: Observations, kept: np.ndarray
) -> tuple[dict[str, LrAt], str, Callable[[float, float], tuple[float, float]]]:
    """Learning rates at a batch by method, the form that answers, and the free answer in ln."""
    part = observed.subset(kept)
    sweeps = locate_lr_per_batch(columns_of(part))
    rows = sweeps.inside
    optima = sweeps.params[rows], sweeps.tokens[rows], sweeps.batch_tokens[rows], sweeps.lr[rows]
    power, saturating = fit_power_across_scales(*optima), fit_across_scales(*optima).law
    payload = analyse(part, FitOptions(without_laws=STEP_LAW, backtest=False)).payload

    def ours(params: float, tokens: float, batch: float) -> float:
        return float(np.exp(answer_at_batch(payload["model"], params, tokens, batch).log_lr))

    def surface(params: float, tokens: float, batch: float) -> float:
        worlds = replace(draw_worlds(payload["model"], params, tokens), bends=None)
        return float(np.exp(best_setting(worlds, float(np.log(batch)))[0]))

    return (
        {
            "product of powers": lambda n, d, b: float(power.predict(params=n, tokens=d, batch_tokens=b)),
            "saturating": lambda n, d, b: float(saturating(n, d, b)),
            SURFACE: surface,
            OURS: ours,
        },
        payload["lr_at_batch"]["form"],
        lambda n, d: best_setting(draw_worlds(payload["model"], n, d)),
    )


def score(runs: Columns, params: float, tokens: float, lr_at: LrAt) -> list[float]:
    """Regret at each batch whose best run lies inside its sweep."""
    near = (np.abs(np.log(runs.params / params)) < 0.01) & (np.abs(np.log(runs.tokens / tokens)) < 0.01) & runs.finite
    found = []
    for batch in np.unique(runs.batch_tokens[near]):
        rows = near & (runs.batch_tokens == batch)
        order = np.argsort(runs.lr[rows])
        log_lr, loss = np.log(runs.lr[rows][order]), runs.loss[rows][order]
        if 0 < int(np.argmin(loss)) < len(loss) - 1:
            at = np.log(lr_at(params, tokens, float(batch)))
            found.append(float(np.interp(at, log_lr, loss) / loss.min() - 1))
    return found


@dataclass(frozen=True)
class Outcome:
    form: str  # surface, or the law that has a share
    covered: bool
    width: float  # ln units
    error: float  # of the recommended ln lr
    regret: float  # true share of loss at this batch
    surface_regret: float


def one(seed: int) -> Outcome | None:
    rng = np.random.default_rng(seed)
    truth, design, target = draw_world(rng)
    if rng.random() < 0.5:
        share = float(rng.normal(0.0, 0.7))
        kind = NoiseBatchTruth if seed % 2 else SurgeBatchTruth
        truth = kind(
            **{**vars(truth), "batch_params": 0.0, "batch_curvature": 0.0},
            noise_batch_tokens=truth.batch_tokens * float(np.exp(share)),
            noise_exponent=rng.normal(0.8, 0.15),
        )
    else:
        truth = replace(truth, ridge_bend=float(rng.choice([0.0, 0.5, 1.0, 1.5])))
    sweep = simulate_sweep(truth, design, rng=rng)
    best_lr, best_batch = truth.optimum(*target)
    own_lr, own_batch = truth.scatter_lr * rng.standard_normal(), truth.scatter_batch * rng.standard_normal()
    v = float(rng.uniform(-np.log(4), np.log(4)))
    batch = best_batch * float(np.exp(own_batch + v))
    floor = truth.floor(np.array(v), target[1]) if isinstance(truth, NoiseBatchTruth) else truth.best_lr_shift(v)
    best = float(np.log(best_lr) + own_lr + floor)
    try:
        fit, _ = fit_runs(sweep.recipe, sweep.runs, options=FitOptions(backtest=False))
    except LawfitError:
        return None

    def true_regret(log_lr: float) -> float:
        u = np.array([log_lr - np.log(best_lr) - own_lr, float(floor)])
        ours, least = truth.excess(u, np.array([v, v]), target[1])
        return float(np.expm1(min(ours - least, 0.05)))

    said = recommend(fit, sweep.recipe, Target(params=target[0], tokens=target[1], batch_tokens=batch, level=LEVEL))[
        "recommendation"
    ]["lr"]
    worlds = replace(draw_worlds(fit.payload["model"], *target), bends=None)
    return Outcome(
        form=said["at_batch"]["law"] or SURFACE_ALONE,
        covered=bool(np.log(said["low"]) <= best <= np.log(said["high"])),
        width=float(np.log(said["high"] / said["low"])),
        error=float(np.log(said["value"]) - best),
        regret=true_regret(float(np.log(said["value"]))),
        surface_regret=true_regret(best_setting(worlds, float(np.log(batch)))[0]),
    )


def coverage(sweeps: int, first: int) -> str:
    outcomes = [found for seed in range(first, first + sweeps) if (found := one(seed)) is not None]
    print(f"{len(outcomes)} simulated sweeps, {LEVEL:.0%} intervals of the best learning rate at a batch")
    said = ""
    for form in (SURFACE_ALONE, *BENDS, "all"):
        some = [o for o in outcomes if form in (o.form, "all")]
        if not some:
            continue
        held = sum(o.covered for o in some)
        bound = binomtest(held, len(some)).proportion_ci(1 - FALSE_ALARM, method="exact")
        fine = "not below" if bound.high >= LEVEL else "BELOW"
        regrets = np.mean([o.regret for o in some]), np.mean([o.surface_regret for o in some])
        said = f"90 % intervals hold {held / len(some):.3f} of {len(some)} ({fine} {LEVEL})"
        print(
            f"  {form:10s} {said}, median width e^{np.median([o.width for o in some]):.2f}, "
            f"true mean regret {regrets[0]:.4%} (surface alone {regrets[1]:.4%})"
        )
    return f"simulated: {said}"


if __name__ == "__main__":
    main()
