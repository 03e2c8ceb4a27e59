"""Small tables of runs, written as files."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from lawfit.ingest import Ingested, IngestOptions, read_file
from lawfit.records import Rejection, Run

GOOD: dict[str, Any] = {
    "run_id": "r1",
    "n_params": "60000000",
    "n_tokens": "1200000000",
    "batch_size_tokens": "524288",
    "learning_rate": "0.002",
    "final_loss": "3.25",
}


def rows(*changes: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One good row per mapping, with these cells changed and ids that count up; a cell of `...` is left out."""
    made = []
    for number, change in enumerate(changes, start=1):
        row = {**GOOD, "run_id": f"r{number}", **change}
        made.append({name: cell for name, cell in row.items() if cell is not ...})
    return made


def csv_text(table: Sequence[Mapping[str, Any]], delimiter: str = ",", line_end: str = "\n") -> str:
    """With a header of all columns in the order in which they appear."""
    columns = list(dict.fromkeys(name for row in table for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, delimiter=delimiter, lineterminator=line_end, restval="")
    writer.writeheader()
    writer.writerows(table)
    return text.getvalue()


def write_csv(path: Path, table: Sequence[Mapping[str, Any]]) -> Path:
    path.write_text(csv_text(table), encoding="utf-8")
    return path


def write_jsonl(path: Path, table: Sequence[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in table), encoding="utf-8")
    return path


def write_excel(path: Path, table: Sequence[Mapping[str, Any]]) -> Path:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    columns = list(dict.fromkeys(name for row in table for name in row))
    for cells in ([*columns], *([row.get(name) for name in columns] for row in table)):
        book.active.append(cells)
    book.save(path)
    return path


def write_markdown(path: Path, table: Sequence[Mapping[str, Any]]) -> Path:
    columns = list(dict.fromkeys(name for row in table for name in row))
    lines = [columns, ["---"] * len(columns), *([str(row.get(name) or "") for name in columns] for row in table)]
    path.write_text("".join(f"| {' | '.join(cells)} |\n" for cells in lines), encoding="utf-8")
    return path


def read(path: Path, **options: Any) -> Ingested:
    return read_file(path, IngestOptions(**options))


def runs(found: Ingested) -> list[Run]:
    return [run for sweep in found.sweeps for run in sweep.runs]


def only_rejection(found: Ingested) -> Rejection:
    (rejection,) = found.rejections
    return rejection
