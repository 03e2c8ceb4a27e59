"""Do 90 % intervals hold the true optimum in 90 % of simulated sweeps, and how wide are they against an oracle's?

    python -m tests.benchmarks.interval_coverage [SWEEPS] [FIRST_SEED]

Each world draws its own exponents, levels, valley shape (never of a form that is fitted), noise (0.05 to 0.2 %), bend
of the laws in log-log, scatter of every scale's optimum around its law, drift of the valley's stiffness with scale,
missing runs and divergences; 6, 9 or 12 scales; the target lies one to ten times beyond the largest size. The estimand
is the optimum of the expected loss at the target, its own scatter included.

The oracle knows the form exactly: valley, noise level, and the sizes of scatter and bend. Its width is the best any
unbiased method could do (Cramer-Rao, prior knowledge included), on all finished runs however far from the optimum.

Constants of the product (`INFLATION`, degrees of freedom) were set on seeds below 2000; the seeds here start at 10000.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from scipy.stats import binomtest

from lawfit.advise.prediction import recommend
from lawfit.ask import Target
from lawfit.estimate.lr_batch.analysis import FitOptions
from lawfit.estimate.observe.observations import Observations, observe
from lawfit.pipeline.fitting import fit_runs
from lawfit.simulate import Design, Truth, simulate_sweep

LEVEL = 0.9
FALSE_ALARM = 1e-2
BEND_SD = 0.015
SIZES = (2e7, 6e7, 1.8e8, 5.4e8)
_LOGGED = ("lr", "batch_tokens", "lr_stiffness", "batch_stiffness")


@dataclass(frozen=True)
class Outcome:
    cells: int
    covered: tuple[bool, bool]
    width: tuple[float, float]  # ln units, of (lr, batch)
    oracle: tuple[float, float]
    error: tuple[float, float]  # of the recommended values


def draw_world(rng: np.random.Generator) -> tuple[Truth, Design, tuple[float, float]]:
    truth = Truth(
        lr=float(np.exp(rng.normal(np.log(3e-3), 0.4))),
        lr_params=rng.normal(-0.55, 0.15),
        lr_tokens=rng.normal(0.2, 0.15),
        lr_curvature=rng.normal(0, BEND_SD),
        batch_tokens=float(np.exp(rng.normal(np.log(2.6e5), 0.4))),
        batch_params=rng.normal(-0.05, 0.15),
        batch_tokens_exponent=rng.normal(0.55, 0.1),
        batch_curvature=rng.normal(0, BEND_SD),
        lr_stiffness=0.006 * float(np.exp(rng.normal(0, 0.3))),
        batch_stiffness=0.0045 * float(np.exp(rng.normal(0, 0.3))),
        lr_skew=rng.uniform(0.6, 2.0),
        batch_skew=rng.uniform(0.0, 1.2),
        ridge=rng.uniform(0.3, 1.0),
        shape_drift=rng.normal(0, 0.08) if rng.random() < 0.5 else 0.0,
        scatter_lr=rng.uniform(0.02, 0.08),
        scatter_batch=rng.uniform(0.04, 0.12),
        noise=float(rng.choice([0.0005, 0.001, 0.002])),
    )
    scales = (
        [(n, n * r) for n in SIZES for r in (10, 30, 100)],
        [(n, n * r) for n in SIZES[:3] for r in (10, 30, 90)],
        [(n, n * r) for n in SIZES[:3] for r in (20, 80)],
    )[rng.integers(3)]
    design = Design(
        scales=scales,
        lr_steps=int(rng.choice([8, 10, 12])),
        batch_steps=int(rng.choice([6, 8])),
        batch_ratio=float(rng.choice([2**0.5, 2])),
        missing=0.1,
    )
    params = max(n for n, _ in scales) * float(np.exp(rng.uniform(0, np.log(10))))
    return truth, design, (params, params * float(rng.choice([20, 60])))


def one(seed: int) -> Outcome:
    rng = np.random.default_rng(seed)
    truth, design, target = draw_world(rng)
    sweep = simulate_sweep(truth, design, rng=rng)
    lr, batch = truth.optimum(*target)
    there = (
        np.log(lr) + truth.scatter_lr * rng.standard_normal(),
        np.log(batch) + truth.scatter_batch * rng.standard_normal(),
    )
    fit, _ = fit_runs(sweep.recipe, sweep.runs, options=FitOptions(backtest=False))
    answer = recommend(fit, sweep.recipe, Target(params=target[0], tokens=target[1], level=LEVEL))
    rows = [answer["recommendation"][name] for name in ("lr", "batch_tokens")]
    bounds = [(np.log(row["low"]), np.log(row["high"])) for row in rows]
    observed = observe(sweep.runs)
    oracle = 2 * 1.6449 * oracle_sd(truth, observed, target)
    return Outcome(
        cells=observed.n_cells,
        covered=tuple(bool(low <= x <= high) for (low, high), x in zip(bounds, there, strict=True)),
        width=tuple(float(high - low) for low, high in bounds),
        oracle=tuple(oracle),
        error=tuple(float(np.log(row["value"]) - x) for row, x in zip(rows, there, strict=True)),
    )


def oracle_sd(truth: Truth, observed: Observations, target: tuple[float, float]) -> np.ndarray:
    """sd of (ln lr*, ln batch*) at the target for whoever knows the form of everything."""
    names = ["lr", "lr_params", "lr_tokens", "lr_curvature", "batch_tokens", "batch_params", "batch_tokens_exponent"]
    names += ["batch_curvature", "lr_stiffness", "batch_stiffness", "lr_skew", "batch_skew", "ridge", "ridge_bend"]
    if truth.shape_drift:
        names.append("shape_drift")
    count, cells, step = len(names), observed.n_cells, 1e-4
    none = np.zeros((cells, 2))

    def moved(name: str, by: float) -> Truth:
        value = getattr(truth, name)
        return dataclasses.replace(truth, **{name: value * np.exp(by) if name in _LOGGED else value + by})

    def log_loss(world: Truth, shift: np.ndarray) -> np.ndarray:
        y = np.empty(len(observed.cell))
        for cell in range(cells):
            rows = observed.rows_of(cell)
            lr, batch = np.log(world.optimum(observed.params[cell], observed.tokens[cell]))
            u = observed.log_lr[rows] - lr - shift[cell, 0]
            v = observed.log_batch[rows] - batch - shift[cell, 1]
            y[rows] = world.excess(u, v, observed.tokens[cell])
            y[rows] -= y[rows].mean()  # floors are free
        return y

    columns = [(log_loss(moved(n, step), none) - log_loss(moved(n, -step), none)) / (2 * step) for n in names]
    for axis in (0, 1):
        for cell in range(cells):
            shift = none.copy()
            shift[cell, axis] = step
            columns.append((log_loss(truth, shift) - log_loss(truth, -shift)) / (2 * step))
    jacobian = np.column_stack(columns)
    information = jacobian.T @ jacobian / truth.noise**2
    prior = np.full(len(columns), 1e-6)
    prior[[names.index("lr_curvature"), names.index("batch_curvature")]] = 1 / BEND_SD**2
    prior[count : count + cells] = 1 / truth.scatter_lr**2
    prior[count + cells :] = 1 / truth.scatter_batch**2
    covariance = np.linalg.inv(information + np.diag(prior))[:count, :count]
    gradient = np.zeros((2, count))
    for at, name in enumerate(names):
        ahead, behind = (np.log(moved(name, by).optimum(*target)) for by in (step, -step))
        gradient[:, at] = (ahead - behind) / (2 * step)
    variance = np.diag(gradient @ covariance @ gradient.T)
    return np.sqrt(variance + np.array([truth.scatter_lr, truth.scatter_batch]) ** 2)


def main() -> None:
    sweeps = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    first = int(sys.argv[2]) if len(sys.argv) > 2 else 10_000
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        outcomes = list(pool.map(one, range(first, first + sweeps), chunksize=10))
    print(f"{sweeps} simulated sweeps, {LEVEL:.0%} intervals")
    print(
        f"{'':10s}{'scales':>8s}{'sweeps':>8s}{'covered':>9s}{'width':>8s}{'oracle':>8s}{'ratio':>7s}{'rms error':>11s}"
    )
    verdicts = []
    for axis, name in ((0, "lr"), (1, "batch")):
        for cells in (6, 9, 12, None):
            some = [o for o in outcomes if cells is None or o.cells == cells]
            covered = np.array([o.covered[axis] for o in some])
            width = np.array([o.width[axis] for o in some])
            oracle = np.array([o.oracle[axis] for o in some])
            error = np.sqrt(np.mean([o.error[axis] ** 2 for o in some]))
            ratio = float(np.median(width / oracle))
            print(
                f"{name:10s}{cells or 'all':>8}{len(some):>8d}{covered.mean():>9.3f}{np.median(width):>8.3f}"
                f"{np.median(oracle):>8.3f}{ratio:>7.2f}{error:>11.3f}"
            )
            if cells is None:
                bound = binomtest(int(covered.sum()), covered.size).proportion_ci(1 - FALSE_ALARM, method="exact")
                fine = "not below" if bound.high >= LEVEL else "BELOW"
                verdicts.append(
                    f"{name} {covered.mean():.3f} (exact bounds {bound.low:.3f} to {bound.high:.3f}: {fine} {LEVEL}), "
                    f"width {ratio:.2f}x the oracle's"
                )
    print("interval coverage: " + "; ".join(verdicts))


if __name__ == "__main__":
    main()
