"""A chart that was saved as CSV from W&B's page: `Step`, then for each run `NAME - METRIC`, `...__MIN`, `...__MAX`.

It has no settings: its runs are those of the store of the same names.
"""

from __future__ import annotations

import csv
import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from lawfit.errors import LogFormatError
from lawfit.factors import normal
from lawfit.findings import finding
from lawfit.ingest.formats.delimited import CSV
from lawfit.ingest.names import NAMES
from lawfit.ingest.numbers import is_missing, is_number, number
from lawfit.ingest.table import Cell, Row, Table

FORMAT: Final = "wandb-chart"
_SERIES: Final = re.compile(r"(?P<run>.+) - (?P<metric>.+)", re.DOTALL)
_ENDS: Final = ("__MIN", "__MAX")
_STEPS: Final = re.compile(r"(.*_)?(step|steps|iter|iteration|iterations)")
_LEFT_OUT: Final = "the lowest and highest between two points (__MIN, __MAX) are left out"


class WandbChart:
    """Told by its columns, in threes."""

    name = FORMAT

    def sniff(self, path: Path, head: bytes) -> bool:
        if path.suffix.lower() != ".csv" or b"__MIN" not in head:
            return False
        try:
            header = next(csv.reader([head.split(b"\n", 1)[0].decode("utf-8-sig", "replace").rstrip("\r")]), [])
        except csv.Error:
            return False
        return bool(_series(header)) and {*header[1:]} == {c + end for c in _series(header) for end in ("", *_ENDS)}

    def read(self, path: Path) -> Table:
        table = CSV.read(path)
        axis = normal(table.columns[0])
        of_tokens = axis in NAMES["tokens"]
        if not (of_tokens or _STEPS.fullmatch(axis)):
            raise LogFormatError(finding("ingest.chart_of_time", file=path.name, axis=table.columns[0]))
        places: dict[tuple[str, str], int] = {}
        for place, column in enumerate(table.columns):
            if column in _series(table.columns) and (found := _SERIES.fullmatch(column)):
                places[found["run"], found["metric"]] = place
        runs = list(dict.fromkeys(run for run, _ in places))
        metrics = list(dict.fromkeys(metric for _, metric in places))
        rows: list[Row] = []
        for run in runs:
            own = [places.get((run, metric)) for metric in metrics]
            for line, cells in table.rows:
                numbers: list[Cell] = [None if place is None else cells[place] for place in own]
                begun = not (is_number(cells[0]) and number(cells[0]) == 0)  # curves are kept from step 1 on
                if begun and not all(map(is_missing, numbers)):
                    rows.append((line, (run, cells[0], *numbers)))
        columns = ("run_id", "tokens" if of_tokens else "step", *metrics)
        notes = (*table.notes, _LEFT_OUT)
        return dataclasses.replace(table, format=FORMAT, columns=columns, rows=tuple(rows), notes=notes)


def _series(header: Sequence[str]) -> list[str]:
    """Columns that have a lowest and a highest beside them."""
    names = set(header)
    return [name for name in header[1:] if _SERIES.fullmatch(name) and {name + end for end in _ENDS} <= names]


WANDB_CHART: Final = WandbChart()
