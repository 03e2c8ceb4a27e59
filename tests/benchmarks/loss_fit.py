"""Time to fit L(N, D) to 500 simulated runs with 1000 robust resamples from a global start, beside what others take.

    python -m tests.benchmarks.loss_fit [REPEATS]

Runs: params 1e7 to 3e9, 2 to 316 tokens per parameter, 0.5 % log-normal noise, alpha .34, beta .28, E 1.69. Ours is one
`fit_loss`, certificate included. Beside it, on the same runs and in the same minutes:

- a loop of `scipy.optimize.curve_fit` over 1000 resamples, warm-started at the truth in scaled units, not robust: the
  floor, what the cheapest honest alternative costs;
- the PyPI package `chinchilla` (one fit from 243 starts, no resamples) and `simple-scaling-laws` (one fit, and its own
  1000 draws), each under the interpreter that CHINCHILLA_PYTHON and SIMPLE_SCALING_LAWS_PYTHON name; left out, and said
  so, where the variable is not set.

Then ours as work grows. Times are the smallest of REPEATS (3) runs; the load of the machine is printed.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "2")

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import curve_fit

from lawfit.estimate.loss.fit import LossFit, fit_loss
from lawfit.laws.loss import AdditiveLaw

Floats = NDArray[np.float64]
T = TypeVar("T")
TRUTH = AdditiveLaw(E=1.69, A=406.4, alpha=0.34, B=410.7, beta=0.28)
RESAMPLES = 1000
TARGET_S = 1.0
GROWTH = ((100, 1000), (1000, 1000), (10_000, 1000), (100_000, 200))

CHINCHILLA = """
import sys, time, csv, tempfile
import numpy as np
from chinchilla import Chinchilla
rows = list(csv.DictReader(open(sys.argv[1])))
grid = dict(E=[1.2, 1.6, 2.0], a=[4.0, 6.0, 8.0], b=[4.0, 6.0, 8.0], alpha=[0.2, 0.35, 0.5], beta=[0.2, 0.35, 0.5])
with tempfile.TemporaryDirectory() as folder:
    study = Chinchilla(folder, param_grid=grid, seed_ranges=dict(C=(1e15, 1e19), N_to_D=(1, 100)), log_level=40)
    for row in rows:
        n, d = float(row["params"]), float(row["tokens"])
        study.append(N=n, D=d, C=6 * n * d, loss=float(row["loss"]))
    begin = time.perf_counter()
    study.fit()
    took = time.perf_counter() - begin
    print("RESULT", took, float(study.alpha), float(study.beta), float(study.E))
"""
SIMPLE_SCALING_LAWS = """
import sys, time
import polars
from simple_scaling_laws import fit
frame = polars.read_csv(sys.argv[1]).with_row_index("training_run_id")
names = {"params": "model_size__params", "tokens": "dataset_size__tokens", "loss": "test_loss__cross_entropy"}
frame = frame.rename(names)
frame = frame.with_columns(polars.col("training_run_id").cast(polars.String))
begin = time.perf_counter()
model = fit(frame, n_draws=int(sys.argv[2]), seed=0)
took = time.perf_counter() - begin
found = model.params(model.targets[0])
print("RESULT", took, found["alpha"], found["beta"], found["E"])
"""


def simulate(rows: int, rng: np.random.Generator) -> tuple[Floats, Floats, Floats]:
    params = np.exp(rng.uniform(np.log(1e7), np.log(3e9), rows))
    tokens = params * np.exp(rng.uniform(np.log(2), np.log(316), rows))
    return params, tokens, TRUTH.loss(params, tokens) * np.exp(0.005 * rng.standard_normal(rows))


def timed(work: Callable[[], T], repeats: int) -> tuple[float, float, T]:
    """Smallest time on the clock, smallest of the processor (what it would be on a quiet machine), the last result."""
    clock, processor = [], []
    for _ in range(repeats):
        begin = time.perf_counter(), time.process_time()
        result = work()
        clock.append(time.perf_counter() - begin[0])
        processor.append(time.process_time() - begin[1])
    return min(clock), min(processor), result


def curve_fit_loop(runs: tuple[Floats, Floats, Floats], rng: np.random.Generator) -> Floats:
    """1000 resamples of rows, each from a warm start."""
    params, tokens, loss = runs
    n, d = np.log(params / 1e8), np.log(tokens / 1e10)

    def law(x: Floats, e: float, a: float, alpha: float, b: float, beta: float) -> Floats:
        return e + a * np.exp(-alpha * x[0]) + b * np.exp(-beta * x[1])

    start = [TRUTH.E, TRUTH.A * 1e8**-0.34, 0.34, TRUTH.B * 1e10**-0.28, 0.28]
    found = np.empty((RESAMPLES, 5))
    for i in range(RESAMPLES):
        rows = rng.integers(0, len(loss), len(loss))
        found[i] = curve_fit(law, np.stack([n[rows], d[rows]]), loss[rows], p0=start)[0]
    return found


def elsewhere(variable: str, script: str, table: Path, *arguments: str) -> tuple[float, str] | None:
    """(seconds inside, what it found) of a package under its own interpreter."""
    python = os.environ.get(variable)
    if not python:
        print(f"  {variable} is not set: left out")
        return None
    done = subprocess.run([python, "-c", script, str(table), *arguments], capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT")]
    if not lines:
        print(f"  {variable}: no result: {done.stderr.strip().splitlines()[-1:]}")
        return None
    took, alpha, beta, e = (float(x) for x in lines[0].split()[1:])
    return took, f"alpha {alpha:.4f} beta {beta:.4f} E {e:.3f}"


def seconds(clock: float, processor: float) -> str:
    return f"{clock:.3f} s ({processor:.3f} s of processor)"


def describe(fit: LossFit) -> str:
    law = fit.law
    return f"alpha {law.alpha:.4f} beta {law.beta:.4f} E {law.E:.3f}"


def main() -> None:
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    runs = simulate(500, np.random.default_rng(0))
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores, OMP_NUM_THREADS={os.environ['OMP_NUM_THREADS']}")
    fit_loss(*runs, rng=np.random.default_rng(1), resamples=10)  # first use of BLAS and scipy
    ours, busy, fit = timed(lambda: fit_loss(*runs, rng=np.random.default_rng(1), resamples=RESAMPLES), repeats)
    search = fit.certificate.search
    print(f"ours, robust, global start, {RESAMPLES} resamples, certificate: {seconds(ours, busy)}   {describe(fit)}")
    print(
        f"  {search.agreeing} of {search.starts} starts agree; resamples: {search.resamples_converged} converged, "
        f"{search.resamples_agreeing} at one minimum from two starts; certified: {fit.certificate.certified}"
    )
    others = {}
    took, busy_loop, draws = timed(lambda: curve_fit_loop(runs, np.random.default_rng(1)), 1)
    others["curve_fit loop, warm, not robust"] = took
    alpha = float(np.median(draws[:, 2]))
    print(f"curve_fit, {RESAMPLES} warm resamples, not robust: {seconds(took, busy_loop)}   alpha {alpha:.4f}")
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "runs.csv"
        np.savetxt(table, np.column_stack(runs), delimiter=",", header="params,tokens,loss", comments="")
        if found := elsewhere("CHINCHILLA_PYTHON", CHINCHILLA, table):
            others["chinchilla, 243 starts, no resamples"] = found[0]
            print(f"chinchilla, one fit from 243 starts: {found[0]:.3f} s   {found[1]}")
        if found := elsewhere("SIMPLE_SCALING_LAWS_PYTHON", SIMPLE_SCALING_LAWS, table, str(RESAMPLES)):
            others["simple-scaling-laws, 1000 draws"] = found[0]
            print(f"simple-scaling-laws, one fit and {RESAMPLES} draws: {found[0]:.3f} s   {found[1]}")
    print("as work grows:")
    before: tuple[int, float] | None = None
    for rows, resamples in GROWTH:
        more = simulate(rows, np.random.default_rng(2))
        took, used, grown = timed(
            lambda more=more, resamples=resamples: fit_loss(*more, rng=np.random.default_rng(3), resamples=resamples),
            repeats if rows <= 1000 else 1,
        )
        work = used / resamples
        growth = (
            "" if before is None else f", per resample rows^{np.log(work / before[1]) / np.log(rows / before[0]):.2f}"
        )
        print(f"  {rows:>7d} rows, {resamples} resamples: {seconds(took, used)}{growth}   {describe(grown)}")
        before = (rows, work)
    for name, value in others.items():
        print(f"ratio to {name}: {value / ours:.1f}x")
    print(f"loss fit: {ours:.3f} s (target {TARGET_S} s), load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
