"""A table with `_step` is a history of one run, or runs with the last step of each: the rows tell which."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from lawfit.ingest import read_table

HISTORY = [{"_step": k, "_timestamp": 1e9 + k, "train/loss": 4 - 0.01 * k, "lr": 1e-3} for k in range(0, 50, 2)]
RUNS = [
    {"params": n, "tokens": 20 * n, "lr": lr, "_step": k, "_runtime": 60 * k, "val/loss": 3.0}
    for k, (n, lr) in enumerate((n, lr) for n in (1e7, 3e7, 1e8) for lr in (1e-3, 2e-3))
]


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".parquet":
        pandas = pytest.importorskip("pandas")
        pytest.importorskip("pyarrow")
        pandas.DataFrame(rows).to_parquet(path)
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0].keys())
            writer.writeheader()
            writer.writerows(rows)
    return path


@pytest.mark.parametrize("ending", ["csv", "parquet"])
class TestWhatATableIs:
    def test_ascending_steps_and_numbers_alone_are_a_history(self, tmp_path: Path, ending: str) -> None:
        assert read_table(written(tmp_path / f"history.{ending}", HISTORY)).format == "step-table"

    @pytest.mark.parametrize("size", ["params", "n_params", "config.num_parameters"])
    def test_sizes_of_models_are_of_runs_though_steps_ascend(self, tmp_path: Path, ending: str, size: str) -> None:
        rows = [{size: row["params"], **{k: v for k, v in row.items() if k != "params"}} for row in RUNS]
        assert read_table(written(tmp_path / f"runs.{ending}", rows)).format == ending

    def test_names_and_states_are_of_runs(self, tmp_path: Path, ending: str) -> None:
        rows = [{"Name": f"run {k}", "State": "finished", **row} for k, row in enumerate(HISTORY)]
        assert read_table(written(tmp_path / f"runs.{ending}", rows)).format == ending

    @pytest.mark.parametrize("steps", [[100, 100, 100], [300, 200, 100], [100, 50, 200]])
    def test_steps_that_do_not_ascend_are_of_runs(self, tmp_path: Path, ending: str, steps: list[int]) -> None:
        rows = [{**row, "_step": step} for row, step in zip(HISTORY, steps, strict=False)]
        assert read_table(written(tmp_path / f"runs.{ending}", rows)).format == ending
