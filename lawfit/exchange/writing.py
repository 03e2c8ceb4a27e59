"""Writing a file of our own: CSV, Parquet or JSON lines, row by row, whole or not at all."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from lawfit.errors import LawfitError
from lawfit.exchange.layout import EXTRA, POINT, POINT_COLUMNS, REAL_COLUMNS, WHOLE_COLUMNS, Row, text_of_extra

SUFFIXES: Final = (".csv", ".jsonl", ".parquet")
_ROWS_AT_ONCE: Final = 10_000  # of a Parquet row group: what is in memory
_POINTS_AT_ONCE: Final = 100_000

Points = tuple[str, str, str, npt.NDArray[np.int64], npt.NDArray[np.float64]]  # recipe, run, metric, steps, numbers


class ExportError(LawfitError):
    """The file cannot be written: unknown kind, no folder, already there, no pyarrow."""


class _Writer(Protocol):
    def row(self, row: Row) -> None: ...

    def points(self, points: Points) -> None: ...

    def finish(self) -> None: ...


def kind_of(path: Path) -> str:
    """The suffix that says which kind of file is wanted.

    Raises
    ------
    ExportError
        It is none that lawfit writes.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ExportError(f"{path.name} does not say what to write; end the name in {', '.join(SUFFIXES)}")
    return suffix


def write_file(path: Path, columns: Sequence[str], rows: Iterable[Row], points: Iterable[Points]) -> int:
    """Write all rows, then all points of curves; how many rows the file has.

    The file appears under its name when it is complete. `columns` are those that the rows may have.

    Raises
    ------
    ExportError
        It cannot be written.
    """
    suffix = kind_of(path)
    written = 0
    with _complete(path) as part:
        writer = _WRITERS[suffix](part, columns)
        try:
            for row in rows:
                writer.row(row)
                written += 1
            for piece in points:
                writer.points(piece)
                written += len(piece[3])
        finally:
            writer.finish()
    return written


@contextmanager
def _complete(path: Path) -> Iterator[Path]:
    if path.exists():
        raise ExportError(f"{path} exists already; name another file, or remove it first")
    if not path.parent.is_dir():
        raise ExportError(f"the folder {path.parent} does not exist; create it first")
    part = path.with_name(path.name + ".part")
    try:
        yield part
        part.rename(path)
    except OSError as error:
        raise ExportError(f"{path} cannot be written: {error.strerror or error}; nothing is left of it") from error
    finally:
        part.unlink(missing_ok=True)


class _Csv:
    def __init__(self, part: Path, columns: Sequence[str]) -> None:
        self._columns = columns
        self._file = part.open("w", newline="", encoding="utf-8")
        self._csv = csv.writer(self._file, lineterminator="\n")
        self._csv.writerow(columns)
        extras = [place for place, name in enumerate(columns) if name.startswith(EXTRA)] or [len(columns)]
        self._plain, self._behind = columns[: extras[0]], [""] * (len(columns) - extras[-1] - 1)
        self._extras = columns[extras[0] : extras[-1] + 1]
        self._places = [columns.index(name) for name in POINT_COLUMNS if name in columns]

    def row(self, row: Row) -> None:
        # The writer of `csv` writes None as nothing and floats with all their digits.
        extras = [text_of_extra(row[name]) if name in row else "" for name in self._extras]
        self._csv.writerow([*map(row.get, self._plain), *extras, *self._behind])

    def points(self, points: Points) -> None:
        recipe, run_key, metric, steps, numbers = points
        blank = [""] * len(self._columns)
        *texts, step_place, value_place = self._places
        for place, text in zip(texts, (POINT, recipe, run_key, metric), strict=True):
            blank[place] = text
        self._csv.writerows(
            _with(blank, step_place, step, value_place, number)
            for step, number in zip(steps.tolist(), numbers.tolist(), strict=True)
        )

    def finish(self) -> None:
        self._file.close()


def _with(blank: list[Any], step_place: int, step: int, value_place: int, number: float) -> list[Any]:
    blank[step_place], blank[value_place] = step, repr(number)
    return blank  # the same list again and again: it is written before the next point is asked for


class _JsonLines:
    def __init__(self, part: Path, _columns: Sequence[str]) -> None:
        self._file = part.open("w", encoding="utf-8")

    def row(self, row: Row) -> None:
        self._file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")

    def points(self, points: Points) -> None:
        recipe, run_key, metric, steps, numbers = points
        named = dict(zip(POINT_COLUMNS, (POINT, recipe, run_key, metric), strict=False))
        head = json.dumps(named, ensure_ascii=False)[:-1]
        for step, number in zip(steps.tolist(), numbers.tolist(), strict=True):
            value = repr(number) if math.isfinite(number) else f'"{number}"'  # JSON has no nan
            self._file.write(f'{head}, "step": {step}, "value": {value}}}\n')

    def finish(self) -> None:
        self._file.close()


class _Parquet:
    """Row groups of typed columns. Extras, which may be anything, are texts as in CSV."""

    def __init__(self, part: Path, columns: Sequence[str]) -> None:
        try:
            import pyarrow as pa
            from pyarrow.parquet import ParquetWriter
        except ImportError:
            raise ExportError("Parquet needs pyarrow; install it with pip install 'lawfit[parquet]'") from None
        kinds = {name: pa.int64() for name in WHOLE_COLUMNS} | {name: pa.float64() for name in REAL_COLUMNS}
        self._pa = pa
        self._schema = pa.schema([(name, kinds.get(name, pa.string())) for name in columns])
        self._file = ParquetWriter(part, self._schema)
        self._waiting: list[Row] = []
        self._points: list[Any] = []  # tables of points, which are a row group together

    def row(self, row: Row) -> None:
        self._waiting.append({n: text_of_extra(v) if n.startswith(EXTRA) else v for n, v in row.items()})
        if len(self._waiting) >= _ROWS_AT_ONCE:
            self._flush()

    def points(self, points: Points) -> None:
        self._flush()
        recipe, run_key, metric, steps, numbers = points
        arrays = {"step": self._pa.array(steps), "value": self._pa.array(numbers)}
        for name, text in zip(POINT_COLUMNS, (POINT, recipe, run_key, metric), strict=False):
            arrays[name] = self._pa.repeat(text, len(steps))
        absent = {f.name: self._pa.nulls(len(steps), f.type) for f in self._schema if f.name not in arrays}
        self._points.append(self._pa.table({**absent, **arrays}).select(self._schema.names).cast(self._schema))
        if sum(len(piece) for piece in self._points) >= _POINTS_AT_ONCE:
            self._flush_points()

    def _flush_points(self) -> None:
        if self._points:
            self._file.write_table(self._pa.concat_tables(self._points))
            self._points = []

    def _flush(self) -> None:
        if self._waiting:
            self._file.write_table(self._pa.Table.from_pylist(self._waiting, schema=self._schema))
            self._waiting = []

    def finish(self) -> None:
        self._flush()
        self._flush_points()
        self._file.close()


_WRITERS: Final[dict[str, Callable[[Path, Sequence[str]], _Writer]]] = {
    ".csv": _Csv,
    ".jsonl": _JsonLines,
    ".parquet": _Parquet,
}
