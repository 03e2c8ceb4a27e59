"""Tables with a row per logged step of one run: `metrics.csv` of Lightning's CSVLogger, histories downloaded from W&B.

Rows are sparse: training and validation stand in rows of their own, and an empty cell is no number. The settings lie
beside (`hparams.yaml`).
"""

from __future__ import annotations

import csv
import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from lawfit.errors import LogFormatError
from lawfit.factors import spellings
from lawfit.ingest.companions import beside
from lawfit.ingest.names import NAMES
from lawfit.ingest.run_log import LoggedRun, RunLogs, place, whole_step
from lawfit.ingest.source import whole_lines

_LIGHTNING: Final = "metrics.csv"
_PARQUET: Final = b"PAR1"
_AXES: Final = ("train/global_step", "trainer/global_step", "global_step", "step", "_step")
_LOOKED_AT: Final = 20  # rows that tell what a table is
_NOT_MEASURED: Final = frozenset({*_AXES, "epoch", "_timestamp", "_runtime"})


class StepTable(RunLogs):
    """CSV or Parquet, told by the name and columns of the writers: any other table with steps is read as before."""

    name = "step-table"

    def sniff(self, path: Path, head: bytes) -> bool:
        if head.startswith(_PARQUET):
            names = _parquet_names(path)
            return _may_be_history(names) and _is_one_run(itertools.islice(_parquet_rows(path), _LOOKED_AT))
        if path.suffix.lower() != ".csv":
            return False
        lines = head.decode("utf-8", "replace").splitlines()
        cells = [cell.strip('"') for cell in lines[0].split(",")] if lines else []
        if "step" in cells and path.name == _LIGHTNING:
            return True
        whole = lines[: _LOOKED_AT + 1] if len(lines) > _LOOKED_AT else lines[: max(2, len(lines) - 1)]
        of_wandb = _may_be_history(cells) and not {"_timestamp", "_runtime"}.isdisjoint(cells)
        return of_wandb and _is_one_run(csv.DictReader(whole))

    def home(self, path: Path) -> Path | None:
        """Lightning's loggers share a folder."""
        return path.parent if path.name == _LIGHTNING else None

    def runs(self, path: Path, root: Path) -> Iterable[LoggedRun]:
        folder = path.parent
        lightning = path.name == _LIGHTNING
        settings, notes = beside(folder) if lightning else ({}, [])
        home = folder if lightning else path.with_suffix("")
        run = LoggedRun(file=place(path, root), name=home.name, config=settings, notes=notes)
        rows = _parquet_rows(path) if _is_parquet(path) else _csv_rows(path)
        first = next(rows, {})
        axis = next((name for name in _AXES if name in first), "")
        last: int | None = None
        for row in itertools.chain([first], rows):
            given = _number(row.get(axis))
            at = None if given is None else whole_step(given)
            last = last if at is None else at  # a row without it belongs to the step before
            if last is None:
                continue
            for metric, cell in row.items():
                if metric not in _NOT_MEASURED and (value := _number(cell)) is not None:
                    run.log(metric, last, value)
        return [run]


def _may_be_history(columns: Collection[str]) -> bool:
    """Whether steps are counted, and no column has what is one number for each run: the size of its model."""
    sizes = set(NAMES["params"])
    return "_step" in columns and all(sizes.isdisjoint(spellings(column)) for column in columns)


def _is_one_run(rows: Iterable[Mapping[Any, Any]]) -> bool:
    """Whether rows are steps of one run: numbers alone, at ascending steps.

    A table of runs has the last step of each as `_step`, among names and states.
    """
    last = -1.0
    seen = False
    for row in rows:
        texts = [cell for cell in row.values() if isinstance(cell, str) and cell.strip()]
        at = _number(row.get("_step"))
        if at is None or at <= last or any(_number(text) is None for text in texts):
            return False
        last, seen = at, True
    return seen


def _csv_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Rows by column; a last row that is too short is in writing."""
    header: list[str] = []
    for number, text, last in whole_lines(path, cuttable=True):
        try:
            cells = next(csv.reader([text], strict=True), [])
        except csv.Error as error:
            if last:
                return
            raise LogFormatError(f"{path}, line {number} cannot be read: {error}") from None
        if not header:
            header = cells
        elif len(cells) == len(header):
            yield dict(zip(header, cells, strict=True))
        elif cells and not last:
            raise LogFormatError(f"{path}, line {number}: {len(cells)} cells where the header has {len(header)}")


def _is_parquet(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == _PARQUET


def _parquet_names(path: Path) -> set[str]:
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import read_schema
    except ImportError:
        return set()
    try:
        return set(read_schema(path).names)
    except (ArrowException, OSError, ValueError):
        return set()


def _parquet_rows(path: Path) -> Iterator[dict[str, Any]]:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path) as file:
            for batch in file.iter_batches():
                yield from batch.to_pylist()
    except (ArrowException, OSError, UnicodeDecodeError) as error:
        raise LogFormatError(f"{path} cannot be read as Parquet: {str(error).splitlines()[0]}") from None


def _number(cell: Any) -> float | None:
    if cell is None or isinstance(cell, bool) or cell == "":
        return None
    try:
        return float(cell)
    except (TypeError, ValueError):
        return None


STEP_TABLE: Final = StepTable()
