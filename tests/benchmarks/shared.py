"""What the benchmark scripts share: the public sweep as runs, and its cells scored on observed losses."""

from __future__ import annotations

import csv
import os
import sys
from pathlib import Path

import numpy as np

from lawfit.estimate.observations import Observations
from lawfit.estimate.scoring import ObservedSurface, Rule
from lawfit.records import Run, RunStatus

# Step Law was fitted on this very sweep (and more): nothing of it may lend to a fit that is scored here.
STEP_LAW = ("step_law", "step_law_bootstrap")


def shared_file(name: str) -> Path:
    """A file of the shared public data; exits with a sentence on a machine without it."""
    root = Path(os.environ.get("LAWFIT_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))
    path = root / "public" / name
    if not path.is_file():
        sys.exit(f"{path} is not there; set LAWFIT_SHARED_DATA to the folder that holds public/{name}")
    return path


def step_law_runs() -> list[Run]:
    """The runs of step_law_dense.csv in the file's order; the loss is the smoothed one."""
    runs = []
    with shared_file("step_law_dense.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            diverged = row["diverged"] == "1"
            runs.append(
                Run(
                    run_key=row["run_id"],
                    params=float(row["n_params"]),
                    tokens=float(row["n_tokens"]),
                    batch_tokens=float(row["batch_size_tokens"]),
                    lr=float(row["learning_rate"]),
                    status=RunStatus.DIVERGED if diverged else RunStatus.FINISHED,
                    loss=None if diverged else float(row["smooth_loss"]),
                )
            )
    return runs


def yardstick(runs: list[Run], observed: Observations, rule: Rule = "triangles") -> dict[int, ObservedSurface]:
    """Observed surfaces of the cells, rows in the file's order (on which the triangles depend)."""
    columns = np.array(
        [(r.params, r.tokens, r.lr, r.batch_tokens, np.nan if r.loss is None else r.loss) for r in runs], dtype=float
    )
    found = {}
    for cell in range(observed.n_cells):
        near = np.abs(np.log(columns[:, :2] / [observed.params[cell], observed.tokens[cell]])).max(axis=1) < 0.01
        rows = columns[near]
        found[cell] = ObservedSurface(rows[:, 2], rows[:, 3], rows[:, 4], rule=rule)
    return found
