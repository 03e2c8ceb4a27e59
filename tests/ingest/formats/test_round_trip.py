"""The sweep of `writers.py` written here and now by the real writers, where they are installed, and read again.

They are large and seldom in one environment: LAWFIT_TEST_WRITERS names Python interpreters, parted by colons, that
have them. What none has is skipped, by name.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Final

import pytest

from tests.ingest.formats import writers
from tests.ingest.formats.logs import curves, one_table, rows, tables

# Writer -> what it needs to be installed.
WHOLE: Final = {
    "wandb": "wandb",
    "mlflow": "mlflow",
    "mlflow_files": "mlflow",
    "tensorboard": "torch tensorboard",
    "tensorboard_tensors": "tensorboard",
    "lightning": "lightning",
    "trackio": "trackio",
    "jsonl": "json",
}
FEWER: Final = {"huggingface": "transformers torch accelerate tensorboard", "optuna": "optuna"}


@cache
def has(python: str, packages: str) -> bool:
    needed = packages.split()
    code = f"import importlib.util as u; raise SystemExit(not all(u.find_spec(p) for p in {needed!r}))"
    return subprocess.run([python, "-c", code], check=False).returncode == 0


def written(writer: str, needs: str, tmp_path: Path) -> list[Path]:
    """A folder for each interpreter that has the writer."""
    given = os.environ.get("LAWFIT_TEST_WRITERS", "")
    pythons = [python for python in (given.split(":") if given else [sys.executable]) if has(python, needs)]
    if not pythons:
        pytest.skip(f"NOT TESTED against the real writer: no Python in LAWFIT_TEST_WRITERS has {needs}")
    made = []
    for number, python in enumerate(pythons):
        home, folder = tmp_path / f"home{number}", tmp_path / f"logs{number}"
        home.mkdir()
        script = shutil.copy(writers.__file__, home / "writers.py")
        environment = {**os.environ, "PYTHONPATH": "", "HOME": str(home)}
        command = [python, script, writer, str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=home, env=environment, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        made.append(folder)
    return made


@pytest.mark.slow
@pytest.mark.parametrize("writer", WHOLE)
def test_the_sweep_comes_back(writer: str, tmp_path: Path) -> None:
    for folder in written(writer, WHOLE[writer], tmp_path):
        table = one_table(folder)
        found = rows(table)
        assert {name: row["status"] for name, row in found.items()} == {
            "low": "finished", "middle": "finished", "too-high": "diverged", "killed": "running",
        }  # fmt: skip
        for name, peak, _, end in writers.RUNS:
            assert float(found[name]["config.learning_rate"]) == peak
            wanted = {step: row["lr"] for step, row in writers.points(peak, end) if "lr" in row}
            steps, numbers = curves(table, name)["lr"]
            kept = {step: wanted[step] for step in steps}
            assert list(numbers) == pytest.approx(list(kept.values()), rel=1e-6)
            assert name == "killed" or list(kept) == list(wanted)


@pytest.mark.slow
@pytest.mark.parametrize("writer", FEWER)
def test_other_logs_come_back(writer: str, tmp_path: Path) -> None:
    for folder in written(writer, FEWER[writer], tmp_path):
        for table in tables(folder):
            states = [cells[table.columns.index("status")] for _, cells in table.rows]
            assert states.count("finished") == 2
