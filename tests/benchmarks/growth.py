"""Time and memory of the whole path as work grows: ingest, fit of every law, predict; each a cold process.

    python -m tests.benchmarks.growth [RUNS...]          RUNS of 100, 1000, 10000, 100000 (all four)

Simulated sweeps on a fresh SQLite database: a grid in learning rate and batch at each scale, a sweep of weight decay at
each scale, and loss curves of one learning rate per batch, so that every law of `lawfit fit` has its data: learning
rate and batch with backtest, loss (300 resamples), critical batch by two routes, weight decay. "again" is the same
table once more, which changes nothing. Wall and processor seconds beside each other: a busy machine stretches the
first. The exponent is that of processor seconds, less those that an interpreter takes to import the libraries, against
runs.
"""

from __future__ import annotations

import csv
import math
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from lawfit.records import Run, RunStatus
from lawfit.simulate import Design, FurtherTruth, SimulatedSweep, Truth, simulate_sweep, simulate_weight_decay
from tests.benchmarks.main_path import LAWFIT, run

TRUTH: Final = Truth(scatter_lr=0.05, scatter_batch=0.08)
FURTHER: Final = FurtherTruth()
TARGET_S: Final = 60.0
POINTS: Final = 20  # of a loss curve


@dataclass(frozen=True)
class Size:
    """How many scales, and how many settings at each."""

    params: int
    ratios: int  # tokens per parameter
    lr: int
    batch: int
    decays: int

    @property
    def runs(self) -> int:
        return self.params * self.ratios * (self.lr * self.batch + self.decays)


SIZES: Final = {
    100: Size(3, 2, 4, 3, 5),
    1_000: Size(5, 3, 10, 6, 7),
    10_000: Size(8, 5, 20, 12, 10),
    100_000: Size(20, 10, 30, 16, 20),
}
COLUMNS: Final = (
    *("run_id", "optimizer", "dataset", "schedule", "n_params", "n_params_kind", "n_tokens", "batch_size_tokens"),
    *("learning_rate", "weight_decay", "final_loss", "diverged"),
)


def write_runs(size: Size, folder: Path) -> int:
    """``sweep.csv`` and ``curves.csv`` of a sweep of this size; returns the number of its runs."""
    rng = np.random.default_rng(0)
    params = np.geomspace(1e7, 1e9, size.params)
    scales = [(float(n), float(n * r)) for n in params for r in np.geomspace(10, 200, size.ratios)]
    finest = min(1.4, 64 ** (1 / size.lr)), min(2.0, 256 ** (1 / size.batch))  # the grid's reach stays as it is
    design = Design(scales=scales, lr_steps=size.lr, batch_steps=size.batch, lr_ratio=finest[0], batch_ratio=finest[1])
    sweep = simulate_sweep(TRUTH, design, rng=rng)
    decays = simulate_weight_decay(sweep, FURTHER, np.geomspace(1 / 8, 8, size.decays).tolist(), rng=rng)
    with (folder / "sweep.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(_row(made) for made in (*sweep.runs, *decays))
    write_curves(sweep, folder / "curves.csv")
    return len(sweep.runs) + len(decays)


def _row(made: Run) -> list[object]:
    numbers = made.tokens, made.batch_tokens, made.lr, 0.1 if made.weight_decay is None else made.weight_decay
    loss = "" if made.loss is None else f"{made.loss:.9g}"
    held = made.run_key, "adamw", "simulated", "constant", f"{made.params:.9g}", "non_embedding"
    return [*held, *(f"{x:.9g}" for x in numbers), loss, int(made.status is RunStatus.DIVERGED)]


def write_curves(sweep: SimulatedSweep, path: Path) -> None:
    """Curves of the run nearest to the best learning rate at each batch of each scale."""
    nearest: dict[tuple[float, float, float], Run] = {}
    for made in sweep.runs:
        best_lr, _ = sweep.optima[made.params, made.tokens]
        key = made.params, made.tokens, made.batch_tokens
        if made.loss is not None and abs(math.log(made.lr / best_lr)) < abs(
            math.log(nearest[key].lr / best_lr) if key in nearest else math.inf
        ):
            nearest[key] = made
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("run_id", "step", "loss"))
        for made in nearest.values():
            steps = np.unique(np.maximum(np.geomspace(0.02, 1, POINTS) * (made.steps or 1), 1).astype(int))
            for step in steps.tolist():
                tokens = step * made.batch_tokens
                least = tokens / (1 + made.batch_tokens / FURTHER.doubling_batch_tokens(tokens))
                writer.writerow((made.run_key, step, f"{TRUTH.lowest_loss(made.params, least):.9g}"))


def main() -> None:
    wanted = [int(x) for x in sys.argv[1:]] or list(SIZES)
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print(f"{'runs':>9s} {'scales':>7s}  {'step':10s}{'wall s':>9s}{'CPU s':>9s}{'peak MB':>9s}{'growth':>12s}")
    before: dict[str, tuple[int, float]] = {}
    last: dict[str, tuple[float, float, float]] = {}
    idle = 0.0
    for count in wanted:
        size = SIZES[count]
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            runs = write_runs(size, folder)
            steps = {
                "ingest": ["ingest", "sweep.csv"],
                "again": ["ingest", "sweep.csv"],
                "curves": ["ingest", "curves.csv"],
                "fit": ["fit"],
                "predict": ["predict", "--params", "7e9", "--tokens", "1.4e12"],
                "compare": ["laws", "compare"],
            }
            for step, arguments in steps.items():
                wall, cpu, peak = last[step] = run([*LAWFIT, *arguments], folder)
                idle = idle or run([sys.executable, "-c", "import pandas, scipy.optimize, sqlalchemy"], folder)[1]
                work = max(cpu - idle, 0.05)
                growth = ""
                if step in before:
                    growth = f"runs^{math.log(work / before[step][1]) / math.log(runs / before[step][0]):.2f}"
                before[step] = runs, work
                scales = f"{size.params * size.ratios}"
                print(
                    f"{runs:>9,d} {scales:>7s}  {step:10s}{wall:>9.2f}{cpu:>9.2f}{peak:>9.0f}{growth:>12s}", flush=True
                )
    wall, cpu, peak = last["fit"]
    print(
        f"growth: lawfit fit of {before['fit'][0]:,} runs, every law: {wall:.1f} s ({cpu:.1f} s of processor, target "
        f"{TARGET_S:.0f} s), peak {peak:.0f} MB, load {os.getloadavg()[0]:.1f}"
    )


if __name__ == "__main__":
    main()
