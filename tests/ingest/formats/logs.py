"""The golden logs of trackers and trainers, and what a table of them says."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from lawfit.ingest.formats import find_sources, read_source_tables
from lawfit.ingest.table import Table

GOLDEN: Final = Path(__file__).parents[2] / "golden" / "trackers"
# Folder -> format; each holds the runs of writers.RUNS, written by the tracker's own writer.
WHOLE: Final[Mapping[str, str]] = {
    **{f"wandb-{version}": "wandb" for version in ("0.19.11", "0.23.1", "0.28.2", "0.31.0")},
    "mlflow": "mlflow",
    "mlflow_files": "mlflow-files",
    "tensorboard": "tensorboard",
    "tensorboard_tensors": "tensorboard",
    "lightning": "step-table",
    "trackio": "trackio",
    "neptune": "neptune",
    "jsonl": "step-lines",
    **{f"text/{trainer}": "text-log" for trainer in ("nanogpt", "megatron", "torchtitan", "litgpt")},
}
FEWER: Final[Mapping[str, str]] = {  # other runs, or fewer
    "huggingface": "trainer-state",
    "tensorboard_hparams": "tensorboard",
    "optuna/study.db": "optuna",
    "optuna/journal.log": "optuna-journal",
}
ALL: Final = {**WHOLE, **FEWER}


def tables(path: Path, format_name: str | None = None) -> list[Table]:
    """All that is found at a place."""
    return [table for source in find_sources(path, format_name) for table in read_source_tables(source)]


def one_table(path: Path) -> Table:
    (table,) = tables(path)
    return table


def rows(table: Table) -> dict[str, dict[str, Any]]:
    """Cells by column, by the name of the run; empty ones left out."""
    found = {}
    for line, cells in table.rows:
        row = {key: cell for key, cell in zip(table.columns, cells, strict=True) if cell is not None}
        name = str(row.get("run_name") or table.place(line)[0])
        found[name.rpartition("/")[2]] = row
    return found


def column(row: Mapping[str, Any], *names: str) -> float:
    """The first of these settings that a run has, as a number."""
    return float(next(row[name] for name in names if name in row))


def curves(table: Table, name: str) -> dict[str, tuple[Sequence[int], Sequence[float]]]:
    """The curves of a run, by metric."""
    run_id = rows(table)[name]["run_id"]
    return {c.metric: (c.steps, c.numbers) for c in table.curves if c.run_key == run_id}


def copied(name: str, folder: Path) -> Path:
    """A golden log of one's own, to be changed; the file of a database, the folder of anything else."""
    source = GOLDEN / name
    if source.is_file():
        return Path(shutil.copy(source, folder / source.name))
    made = Path(shutil.copytree(source, folder / Path(name).name))
    files = [path for path in made.rglob("*") if path.is_file()]
    return files[0] if len(files) == 1 else made
