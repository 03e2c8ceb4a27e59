"""Critical batch: published numbers reproduced, the largest size predicted from smaller ones, and interval coverage.

    nice python -m tests.benchmarks.critical_batch [SIMULATIONS] [FIRST_SEED]

1. Zhang et al. (arXiv 2410.21676): B* from the raw steps of `critical_batch_size_steps_to_target.csv`, against the
   golden numbers; fitted on 85M to 302M, the law predicts 604M: by one law, which nobody lends to, and by the average
   that answers, once with nothing of Zhang et al. and once with nothing of anybody.
   The same from the loss curves of our own runs (data/proxy_critical_batch.csv).
2. Simulated tables of steps to a target over three to six model sizes with known truth. Each world draws its own law
   (in tokens; in a third of the worlds in params, or in both), tokens per param (one for all sizes, or scattered),
   scatter of every size around it, curve (a hyperbola, or one that bends a little sharper or softer), noise of
   2 to 8 %, evaluation interval that rounds the steps up, and batches that are off by the researcher's luck. In half of
   the worlds three targets are read off the same runs of each size: their errors are mostly shared, and resampling
   rows would count them three times; that this would fail is shown beside it. Estimands: the doubling batch of a size,
   and that of a larger one at the same or another ratio of tokens to params, its own scatter included: once by the
   average of laws that answers, once by a law in tokens alone.
3. The gradient noise scale from simulated squared norms, autocorrelated along the run.
4. The public Step Law grid: critical batches from data laws per batch (E5) and their law, beside Power Lines (arXiv
   2505.13738), which other people measured by the same definition; the three-term surface's optimal batch.
"""

from __future__ import annotations

import csv
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from scipy.stats import binomtest

from lawfit.errors import FitError
from lawfit.estimate.critical.analysis import analyse_critical
from lawfit.estimate.critical.batch import CriticalBatch, measured_optima
from lawfit.estimate.critical.data_laws import fit_data_laws
from lawfit.estimate.critical.noise_scale import fit_noise_scale
from lawfit.estimate.critical.steps_to_target import (
    LossCurve,
    StepsTable,
    common_targets,
    fit_steps_table,
    steps_table_from_curves,
)
from lawfit.estimate.critical.three_term import best_over_lr, fit_three_term
from lawfit.estimate.numerics.optimum_law import MeasuredOptima, fit_optimum_law, separate_params_from_tokens
from lawfit.laws.critical_batch import DOUBLING, ZHANG
from lawfit.laws.published import published_laws
from lawfit.records import FitStatus
from tests.benchmarks.shared import shared_file

LEVEL = 0.9
FALSE_ALARM = 1e-2
OF_ZHANG = tuple(law.id for law in published_laws().values() if law.evidence == "arXiv:2410.21676")
OWN_RUNS = Path(__file__).parents[2] / "data" / "proxy_critical_batch.csv"
GOLDEN = (745.3200, 955.1581, 1393.7269, 1888.5222)  # sequences of 512 tokens, 85M to 604M


@dataclass(frozen=True)
class Outcome:
    size: bool | None  # one size's doubling batch covered
    size_width: float
    target: bool | None  # that of a larger size
    target_width: float
    oracle: tuple[float, float]  # widths for whoever knows curve, noise and scatter: of a size, of the larger one
    target_by_rows: bool | None  # where targets of one size are taken for independent
    by_tokens: bool | None  # by the law in tokens alone
    certified: bool
    clustered: bool


def published() -> str:
    with shared_file("critical_batch_size_steps_to_target.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = ("n_params", "batch_size_tokens", "steps_to_target", "target_loss")
    params, batch, steps, target = np.array([[float(row[name]) for name in names] for row in rows]).T
    found = [fit.critical(ZHANG) for fit in fit_steps_table(StepsTable.of(params, batch, steps, target)).fits]
    worst = max(abs(c.value_tokens / 512 / golden - 1) for c, golden in zip(found, GOLDEN, strict=True))
    print(
        f"B* of {len(found)} sizes from the raw steps: largest relative difference from the golden numbers {worst:.1e}"
    )
    optima, _ = measured_optima(found[:-1])
    held_out, said = found[-1], []
    for name in ("params", "tokens"):
        at = {"params": held_out.params, "tokens": held_out.tokens}[name] or np.nan
        law = fit_optimum_law(optima, (name,))
        answer = law.predict(**{name: at})
        error = answer.value / held_out.value_tokens - 1
        inside = "inside" if answer.low <= held_out.value_tokens <= answer.high else "OUTSIDE"
        print(
            f"85M to 302M, law in {name} (exponent {law.exponents[name]:.3f}): 604M at {answer.value / 512:.0f} "
            f"sequences ({answer.low / 512:.0f} to {answer.high / 512:.0f}), "
            f"measured {held_out.value_tokens / 512:.0f}: {error:+.1%}, {inside} the interval"
        )
        said.append(f"{error:+.1%} by {name} ({inside})")
    for words, without in (("nothing of Zhang et al.", OF_ZHANG), ("nothing lent", tuple(published_laws()))):
        left_out = analyse_critical(found, (), without).left_out["answer"]
        print(
            f"85M to 302M, the average that answers, {words}: 604M at {left_out.predicted_tokens / 512:.0f} sequences "
            f"({left_out.low_tokens / 512:.0f} to {left_out.high_tokens / 512:.0f}), {left_out.error:+.1%}, "
            f"{'inside' if left_out.inside else 'OUTSIDE'} the interval"
        )
        said.append(f"{left_out.error:+.1%} by the average, {words}")
    return f"B* to {worst:.0e}; 604M {', '.join(said)}"


def simulate(seed: int) -> Outcome:
    rng = np.random.default_rng(seed)
    scatter = rng.uniform(0.02, 0.15)
    of_params, of_tokens = 0.0, rng.normal(0.46, 0.12)
    if (kind := rng.random()) < 1 / 6:
        of_params, of_tokens = of_tokens, 0.0
    elif kind < 1 / 3:
        of_params = rng.normal(0.1, 0.1)
    sharp = rng.uniform(0.85, 1.3) if rng.random() < 0.5 else 1.0
    noise, clustered = rng.uniform(0.02, 0.08), bool(rng.random() < 0.5)
    sizes = 5e7 * 2.0 ** np.arange(int(rng.integers(3, 7)))
    count, ratio = (9, 2.0) if rng.random() < 0.5 else (6, 3.0)

    ratios = 20.0 * np.exp(rng.uniform(-1, 1, len(sizes)) if rng.random() < 0.5 else np.zeros(len(sizes)))

    def law(params: float, tokens: float) -> float:
        return float(1e6 * (params / 1e8) ** of_params * (tokens / 2e9) ** of_tokens)

    rows: list[tuple[float, float, float, float]] = []
    truth: dict[tuple[float, float], float] = {}
    tried: list[np.ndarray] = []
    for params, ratio_here in zip(sizes, ratios, strict=True):
        own = scatter * rng.standard_normal()
        shared = noise * rng.standard_normal(count)
        centre = np.log(law(params, ratio_here * params)) + 0.5 * rng.standard_normal()
        batches = np.exp(centre + np.log(ratio) * (np.arange(count) - (count - 1) / 2))
        tried.append(batches)
        for index, tokens_min in enumerate(
            tuple(ratio_here * params * share for share in (1.0, 0.7, 0.5))[: 3 if clustered else 1]
        ):
            doubling = law(params, tokens_min) * float(np.exp(own))
            steps = tokens_min / doubling * (1 + (doubling / batches) ** sharp) ** (1 / sharp)
            own_noise = 0.3 * noise * rng.standard_normal(count)
            measured = steps * np.exp((0.95 * shared + own_noise) if clustered else shared)
            interval = 2.0 ** np.floor(np.log2(steps.min() / 20))  # evaluations: 20 to 40 of the shortest run
            measured = np.ceil(measured / interval) * interval
            target = 3.0 + 0.1 * index
            truth[params, target] = float(DOUBLING.of_bend(doubling, sharp))
            rows += [(params, b, s, target) for b, s in zip(batches, measured, strict=True)]
    params_column, batch_column, steps_column, target_column = np.array(rows).T
    fits = fit_steps_table(StepsTable.of(params_column, batch_column, steps_column, target_column)).fits
    size = fits[int(rng.integers(len(fits)))].critical()
    there = truth[size.params or 0.0, size.loss or 0.0]
    larger_params = sizes[-1] * float(rng.choice([2, 4, 8]))
    larger = larger_params * (20.0 if rng.random() < 0.5 else 20.0 * float(rng.choice([0.3, 4.0])))
    wanted = float(DOUBLING.of_bend(law(larger_params, larger) * np.exp(scatter * rng.standard_normal()), sharp))
    found = [fit.critical() for fit in fits]
    one_per_size = [c for c in found if c.loss == 3.0]
    at = {"tokens": float(larger), "params": float(larger_params)}
    by_tokens, _ = _covers(found, larger, wanted, rows=False)
    by_rows, _ = _covers(found, larger, wanted, rows=True) if clustered else (None, np.nan)
    try:
        whole = analyse_critical(found)
    except FitError:
        target, width, certified = None, np.nan, False
    else:
        said = whole.predict(at["tokens"], at["params"], level=LEVEL)
        target = bool(said.low_tokens <= wanted <= said.high_tokens)
        width, certified = float(np.log(said.high_tokens / said.low_tokens)), whole.status is not FitStatus.UNCERTIFIED
    return Outcome(
        size=size.low_tokens <= there <= size.high_tokens,
        size_width=float(np.log(size.high_tokens / max(size.low_tokens, 1e-300))),
        target=target,
        target_width=width,
        oracle=oracle_widths(one_per_size, noise, scatter, tried, larger),
        target_by_rows=by_rows,
        clustered=clustered,
        by_tokens=by_tokens,
        certified=certified,
    )


def oracle_widths(
    found: list[CriticalBatch], noise: float, scatter: float, batches: list[np.ndarray], tokens: float
) -> tuple[float, float]:
    """Cramer-Rao with the curve's form and the sizes of all errors known; levels, B_c and the law's two are not."""
    sd = []
    for critical, tried in zip(found, batches, strict=True):
        share = critical.value_tokens / (tried + critical.value_tokens)  # d ln steps / d ln B_c
        sd.append(noise / np.sqrt(((share - share.mean()) ** 2).sum()))
    design = np.column_stack([np.ones(len(found)), np.log([c.tokens for c in found])])
    covariance = np.linalg.inv(design.T @ (design / (np.array(sd) ** 2 + scatter**2)[:, None]))
    row = np.array([1.0, np.log(tokens)])
    return 2 * 1.6449 * float(np.median(sd)), 2 * 1.6449 * float(np.sqrt(row @ covariance @ row + scatter**2))


def _covers(found: list[CriticalBatch], tokens: float, truth: float, *, rows: bool) -> tuple[bool | None, float]:
    try:
        optima, _ = measured_optima(found)
        if rows:
            optima = MeasuredOptima.of(
                np.exp(optima.log_value), optima.log_sd, optima.inputs, shared_log_sd=optima.shared_log_sd
            )
        said = fit_optimum_law(optima, ("tokens",)).predict(LEVEL, tokens=tokens)
    except FitError:
        return None, np.nan
    return bool(said.low <= truth <= said.high), float(np.log(said.high / said.low))


def noise_scale(seed: int) -> bool:
    """Squared norms at two batches; the gradient and its noise wander along the run, neighbours alike."""
    rng = np.random.default_rng(seed)
    truth, steps = float(np.exp(rng.uniform(5, 11))), int(rng.integers(200, 1000))
    small, large = 256.0, 256.0 * float(rng.choice([4, 16, 64]))
    wander = np.zeros(steps)
    for step in range(1, steps):
        wander[step] = 0.8 * wander[step - 1] + 0.1 * rng.standard_normal()
    size = np.exp(wander - 0.5 * (0.1**2 / (1 - 0.8**2)))  # mean 1
    squares = []
    for batch in (small, large):
        along = np.sqrt(size) + np.sqrt(truth / 400 / batch) * rng.standard_normal(steps)
        squares.append(along**2 + truth / 400 / batch * rng.chisquare(399, steps))
    try:
        found = fit_noise_scale(squares[0], squares[1], small, large, level=LEVEL)
    except FitError:
        return True  # no answer is no wrong answer; counted apart in the printout
    return found.low_tokens <= truth <= found.high_tokens


def judge(name: str, covered: np.ndarray) -> str:
    bound = binomtest(int(covered.sum()), covered.size).proportion_ci(1 - FALSE_ALARM, method="exact")
    fine = "not below" if bound.high >= LEVEL else "BELOW"
    print(f"{name}: {covered.mean():.3f} of {covered.size}, exact bounds {bound.low:.3f} to {bound.high:.3f}")
    return f"{name} {covered.mean():.3f} ({fine} {LEVEL})"


def coverage(count: int, first: int) -> str:
    with ProcessPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
        outcomes = list(pool.map(simulate, range(first, first + count), chunksize=20))
        noise = np.array(list(pool.map(noise_scale, range(first, first + count), chunksize=50)))
    answered = [o for o in outcomes if o.target is not None]
    print(f"{count} simulated tables, {LEVEL:.0%} intervals; {count - len(answered)} without a law")
    said = [
        judge("one size", np.array([o.size for o in outcomes], dtype=bool)),
        judge("a larger size", np.array([o.target for o in answered], dtype=bool)),
        judge("a larger size, many targets", np.array([o.target for o in answered if o.clustered], dtype=bool)),
        judge("noise scale", noise),
    ]
    rows = np.array([o.target_by_rows for o in outcomes if o.target_by_rows is not None], dtype=bool)
    alone = np.array([o.by_tokens for o in answered], dtype=bool)
    print(f"a larger size by the law in tokens alone, whatever the truth: {alone.mean():.3f} of {alone.size}")
    print(f"certified, if in part with lent exponents: {np.mean([o.certified for o in outcomes]):.3f}")
    print(f"the same with targets of one size taken for independent: {rows.mean():.3f} of {rows.size}")
    ratios = (
        np.median([o.size_width / o.oracle[0] for o in outcomes]),
        np.median([o.target_width / o.oracle[1] for o in answered]),
    )
    print(f"median widths: {ratios[0]:.2f}x an oracle's at a measured size, {ratios[1]:.2f}x at a larger one")
    return "coverage " + ", ".join(said)


def own_runs() -> str:
    """Steps to several losses, read off the curves of our own runs at constant learning rate with averaged weights."""
    if not OWN_RUNS.is_file():
        return f"{OWN_RUNS.name} is not there"
    with OWN_RUNS.open(newline="") as file:
        runs = {row["run_id"]: row for row in csv.DictReader(file)}
    points: dict[str, list[tuple[float, float]]] = {}
    with OWN_RUNS.with_name("proxy_critical_batch_curves.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            if row["average_loss"]:
                points.setdefault(row["run_id"], []).append((float(row["step"]), float(row["average_loss"])))
    curves = []
    for key, values in points.items():
        steps, loss = np.array(values).T
        names = ("n_params", "batch_size_tokens", "learning_rate")
        params, batch, lr = (float(runs[key][name]) for name in names)
        curves.append(LossCurve(params=params, batch_tokens=batch, lr=lr, steps=steps, loss=loss))
    found, notes = [], []
    for params, targets in common_targets(curves, 4).items():
        table = steps_table_from_curves([c for c in curves if c.params == params], targets)
        fits = fit_steps_table(table, from_best=True)
        found += [fit.critical() for fit in fits.fits]
        notes += [*table.notes, *fits.refused]
        for c in found[len(found) - len(fits.fits) :]:
            print(
                f"  {params:.3g} params to {c.loss or 0:.2f} nats: {c.value_tokens:.3g} tokens ({c.low_tokens:.3g} to "
                f"{c.high_tokens:.3g}), {c.status.value}, at {c.tokens:.3g} tokens"
            )
    whole = analyse_critical(found)
    said = whole.predict(2e7)
    print(f"  {len(curves)} runs, {len(notes)} notes (such as: {notes[0] if notes else 'none'})")
    return f"own runs: {said.value_tokens:.3g} tokens ({said.low_tokens:.3g} to {said.high_tokens:.3g}) at 2e7 tokens"


def step_law_grid() -> str:
    with shared_file("step_law_dense.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = ("n_params", "n_tokens", "batch_size_tokens", "learning_rate")
    loss = [np.nan if row["diverged"] == "1" else float(row["smooth_loss"]) for row in rows]
    n, d, b, x = np.array([[float(row[name]) for name in names] for row in rows]).T
    runs = best_over_lr(n, d, b, x, loss)
    found = []
    for size in np.unique(runs.params):
        mine = runs.params == size
        fits = fit_data_laws(float(size), runs.tokens[mine], runs.batch_tokens[mine], runs.loss[mine])
        found += [fit.critical() for fit in fits]
    optima, _ = measured_optima(found)
    law = fit_optimum_law(optima, ("tokens",))
    low, high = law.exponent_interval("tokens")
    level = law.predict(tokens=1e10).value / 2048
    print(
        f"data laws per batch on the Step Law grid: {len(found)} critical batches of {law.groups} sizes, "
        f"{law.const / 2048:.3g} D^{law.exponents['tokens']:.3f} sequences of 2048 (exponent {low:.2f} to {high:.2f}), "
        f"at 1e10 tokens {level:.0f}; Power Lines 0.0471 D^0.462, {0.0471 * 1e10**0.462:.0f}. Params or tokens: "
        f"{separate_params_from_tokens(optima).verdict}"
    )
    fit = fit_three_term(runs, rng=np.random.default_rng(0))
    said = fit.optimal_batch(1e11)
    print(
        f"three-term surface on the Step Law grid: optimal batch at 1e11 tokens {said.value_tokens:.4g} "
        f"({said.low_tokens or 0:.3g} to {said.high_tokens or 0:.3g}); Step Law {0.58 * 1e11**0.571:.4g}, "
        f"Schaipp {0.667 * 1e11**0.566:.4g}; floor held at "
        + ", ".join(f"{c.floor:.2f}: {float(c.law.optimal_batch_tokens(1e11)):.3g}" for c in fit.floors)
    )
    return (
        f"Step Law grid: critical batch ~ D^{law.exponents['tokens']:.3f}, three-term optimum at 1e11 tokens "
        f"{said.value_tokens / (0.58 * 1e11**0.571) - 1:+.1%} of Step Law"
    )


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    first = int(sys.argv[2]) if len(sys.argv) > 2 else 10_000
    print("critical batch: " + "; ".join([published(), own_runs(), step_law_grid(), coverage(count, first)]))


if __name__ == "__main__":
    main()
