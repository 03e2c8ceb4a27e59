"""Other packages for laws of the loss, on the same runs: fitted on one table, asked for the losses of another.

Each runs under its own interpreter, which SIMPLE_SCALING_LAWS_PYTHON and CHINCHILLA_PYTHON name; without one it is left
out, and that is said. `simple-scaling-laws` answers with its median and its 5 and 95 % points of a new run, by three
forms; `chinchilla` with its one fit, which has no interval.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Columns = tuple[Floats, Floats, Floats]  # params, tokens, loss

SIMPLE_FORMS = ("separable-power", "kaplan-joint-power", "skaling-joint-power")
SIMPLE = """
import sys, json, warnings
warnings.simplefilter("ignore")
import polars
from simple_scaling_laws import fit
names = {"params": "model_size__params", "tokens": "dataset_size__tokens", "loss": "test_loss__cross_entropy"}
frame = polars.read_csv(sys.argv[1], schema_overrides={"source": polars.String})
for source in frame["source"].unique(maintain_order=True).to_list():
    of = frame.filter(polars.col("source") == source)
    halves = [of.filter(polars.col("part") == part).select(list(names)) for part in ("small", "large")]
    small, large = (half.rename(names) for half in halves)
    small = small.with_row_index("training_run_id").with_columns(polars.col("training_run_id").cast(polars.String))
    for form in sys.argv[2].split(","):
        try:
            model = fit(small, law=form, n_draws=100, seed=0)
            said = model.predict(large.drop("test_loss__cross_entropy"), kind="new-run", quantiles=(0.05, 0.5, 0.95))
        except Exception as error:
            continue
        ends = [said["test_loss__cross_entropy__" + name].to_list() for name in ("median", "q050", "q950")]
        print("RESULT" + json.dumps([source, form, *ends]), flush=True)
"""
CHINCHILLA = """
import sys, json, csv, tempfile, warnings
warnings.simplefilter("ignore")
import numpy
from chinchilla import Chinchilla
tables = {}
for row in csv.DictReader(open(sys.argv[1])):
    values = [float(row[name]) for name in ("params", "tokens", "loss")]
    tables.setdefault(row["source"], {"small": [], "large": []})[row["part"]].append(values)
grid = dict(E=[1.2, 1.6, 2.0], a=[4.0, 6.0, 8.0], b=[4.0, 6.0, 8.0], alpha=[0.2, 0.35, 0.5], beta=[0.2, 0.35, 0.5])
for source, parts in tables.items():
    with tempfile.TemporaryDirectory() as folder:
        study = Chinchilla(folder, param_grid=grid, seed_ranges=dict(C=(1e15, 1e19), N_to_D=(1, 100)), log_level=40)
        for n, d, loss in parts["small"]:
            study.append(N=n, D=d, C=6 * n * d, loss=loss)
        try:
            study.fit()
        except Exception as error:
            continue
        n, d, _ = numpy.array(parts["large"]).T
        loss = float(study.E) + float(study.A) * n ** -float(study.alpha) + float(study.B) * d ** -float(study.beta)
        print("RESULT" + json.dumps([source, "chinchilla", loss.tolist(), None, None]), flush=True)
"""


@dataclass(frozen=True)
class Answer:
    loss: Floats
    low: Floats | None
    high: Floats | None


def answers(halves: Mapping[str, tuple[Columns, Columns]], *, seconds: float = 3000) -> dict[str, dict[str, Answer]]:
    """Form -> source -> losses of its larger half by the smaller; a package that could not run is left out."""
    found: dict[str, dict[str, Answer]] = {}
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "runs.csv"
        with table.open("w", newline="") as opened:
            writer = csv.writer(opened)
            writer.writerow(["source", "part", "params", "tokens", "loss"])
            for name, parts in halves.items():
                for part, columns in zip(("small", "large"), parts, strict=True):
                    writer.writerows([name, part, *map(repr, row)] for row in np.column_stack(columns).tolist())
        for variable, script, arguments in (
            ("SIMPLE_SCALING_LAWS_PYTHON", SIMPLE, (",".join(SIMPLE_FORMS),)),
            ("CHINCHILLA_PYTHON", CHINCHILLA, ()),
        ):
            python = os.environ.get(variable)
            if not python:
                print(f"{variable} is not set: left out")
                continue
            done = subprocess.run(
                [python, "-c", script, str(table), *arguments],
                capture_output=True, text=True, check=False, timeout=seconds,
            )  # fmt: skip
            lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT")]
            if not lines:
                print(f"{variable}: no result: {done.stderr.strip().splitlines()[-1:]}")
            for line in lines:
                source, form, loss, low, high = json.loads(line.removeprefix("RESULT"))
                ends = [None if end is None else np.array(end, dtype=float) for end in (low, high)]
                found.setdefault(form, {})[source] = Answer(np.array(loss, dtype=float), *ends)
    return found
