"""A small log of each format, as it was once written, and what it must go on to mean."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from lawfit.ingest import FORMATS, LogFormat
from lawfit.ingest.formats.wandb_chart import WANDB_CHART  # which has curves alone
from lawfit.ingest.run_log import RunLogs
from tests.ingest.tables import csv_text, read, rows, write_excel, write_jsonl, write_markdown

GOLDEN = Path(__file__).parent.parent / "golden"
SUFFIX = {
    "csv": ".csv",
    "tsv": ".tsv",
    "jsonl": ".jsonl",
    "parquet": ".parquet",
    "excel": ".xlsx",
    "trainer": ".jsonl",
    "markdown": ".md",
}
NEEDS = {"parquet": "pyarrow", "excel": "openpyxl"}
TABLE = rows(
    {"optimizer": "AdamW", "corpus": "Bücher", "seed": "1", "beta2": "0.95", "smooth_loss": "3.2"},
    {"optimizer": "AdamW", "corpus": "Bücher", "seed": "2", "beta2": "0.95", "smooth_loss": "nan"},
    {"optimizer": "muon", "corpus": "Bücher", "seed": "1", "beta2": "", "smooth_loss": "3.1"},
    {"optimizer": "muon", "corpus": "Bücher", "learning_rate": "0.1%", "seed": "1", "smooth_loss": "3.1"},
)


def write(name: str, path: Path) -> None:
    columns = list(dict.fromkeys(column for row in TABLE for column in row))
    full = [{column: row.get(column) for column in columns} for row in TABLE]
    if name == "parquet":
        import pyarrow
        from pyarrow.parquet import write_table

        write_table(pyarrow.Table.from_pylist(full), path)
    elif name == "excel":
        write_excel(path, full)
    elif name == "jsonl":
        write_jsonl(path, full)
    elif name == "markdown":
        write_markdown(path, full)
    else:
        path.write_text(csv_text(TABLE, delimiter="\t" if name == "tsv" else ","), encoding="utf-8")


# Logs of trackers are in trackers/, with tests of their own.
@pytest.mark.parametrize(
    "log_format", [f for f in FORMATS if not isinstance(f, RunLogs) and f is not WANDB_CHART], ids=lambda f: f.name
)
def test_means_what_it_meant(log_format: LogFormat, update_golden: bool) -> None:
    if log_format.name in NEEDS:
        pytest.importorskip(NEEDS[log_format.name])
    log = GOLDEN / f"log_{log_format.name}{SUFFIX[log_format.name]}"
    meaning = log.with_name(log.name + ".meaning.json")
    if update_golden and log_format.name != "trainer":  # four runs of the trainer, one unfinished, one diverged
        write(log_format.name, log)
    made = read(log)
    document = dataclasses.asdict(made)
    for told, sweep in zip(document["sweeps"], made.sweeps, strict=True):
        told["runs"] = [dataclasses.asdict(run) for run in sweep.runs]  # which are kept by columns
    found: dict[str, Any] = json.loads(json.dumps(document, default=str))
    if update_golden:
        meaning.write_text(json.dumps(found, indent=1, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")
    assert meaning.is_file(), f"{meaning.name} is missing; pytest --update-golden writes it"
    assert found == json.loads(meaning.read_text(encoding="utf-8"))
