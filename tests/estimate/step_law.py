"""The Step Law grid (real runs) as columns, for tests that reproduce figures measured on it."""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path

from lawfit.estimate.numerics.optima import Columns


@cache
def read_step_law(shared_data: Path) -> Columns:
    """1,627 runs; a diverged one has loss NaN. Rows stay in the order of the file."""
    path = next(shared_data.rglob("step_law_dense.csv"))
    with path.open(encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    columns = [
        [float(row[name]) for row in rows] for name in ("n_params", "n_tokens", "batch_size_tokens", "learning_rate")
    ]
    loss = [float("nan") if row["diverged"] == "1" else float(row["smooth_loss"]) for row in rows]
    return Columns.of(*columns, loss)
