"""Reading a file of our own back into records, as they were. Nothing is guessed: what is not as written is refused."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, Final, NoReturn

from lawfit.errors import LogFormatError
from lawfit.exchange.layout import (
    EXTRA,
    MARK,
    POINT,
    REAL_COLUMNS,
    RECIPE_COLUMNS,
    WHOLE_COLUMNS,
    Item,
    Row,
    extra_of_text,
    item_of,
    number_of,
    recipe_of,
)
from lawfit.records import Curve, Recipe

Record = tuple[Recipe | str, Item | Curve | None]  # recipe (of a curve: its name) and what is of it

_HEADS: Final = {b"lawfit,recipe,": "csv", b'{"lawfit": "': "jsonl"}
_NUMBERS: Final = WHOLE_COLUMNS | REAL_COLUMNS


def is_own(path: Path) -> bool:
    """Whether `lawfit export` wrote the file: told by its first bytes, in Parquet by its first columns."""
    return _format(path) is not None


def read_own(path: Path) -> Iterator[tuple[int, Record]]:
    """Records with the line (in Parquet, the row) where each begins; the points of a curve as one record.

    Raises
    ------
    LogFormatError
        A row is not as it was written; with line and reason. What came before was given already.
    """
    seen: set[tuple[str, str, str]] = set()
    known: dict[tuple[Any, ...], Recipe] = {}  # by the cells of their columns
    for (kind, *curve), group in groupby(_rows(path), key=_group):
        if kind == POINT:
            rows = list(group)
            name, run_key, metric = (str(part) for part in curve)
            if (name, run_key, metric) in seen:
                _fail(path, rows[0][0], f"more points of curve '{metric}' of run '{run_key}', away from the others")
            seen.add((name, run_key, metric))
            yield rows[0][0], (name, _curve(path, run_key, metric, rows))
            continue
        for line, row in group:
            try:
                said = tuple(map(row.get, RECIPE_COLUMNS))
                if (recipe := known.get(said)) is None:
                    recipe = known[said] = recipe_of(row)
                yield line, (recipe, item_of(row))
            except (LogFormatError, ValueError) as error:
                _fail(path, line, str(error))


def _curve(path: Path, run_key: str, metric: str, rows: list[tuple[int, Row]]) -> Curve:
    steps: list[int] = []
    numbers: list[float] = []
    for line, row in rows:
        step, value = row.get("step"), row.get("value")
        if step is None or value is None:
            _fail(path, line, f"a point of curve '{metric}' of run '{run_key}' lacks its step or value")
        if steps and step <= steps[-1]:
            _fail(path, line, f"step {step} of curve '{metric}' of run '{run_key}' stands behind step {steps[-1]}")
        steps.append(step)
        numbers.append(value)
    return Curve(run_key=run_key, metric=metric, steps=tuple(steps), numbers=tuple(numbers))


def _group(numbered: tuple[int, Row]) -> tuple[Any, ...]:
    row = numbered[1]
    if row[MARK] != POINT:
        return (row[MARK],)
    return POINT, row.get("recipe") or "", row.get("run_key") or "", row.get("metric") or ""


def _format(path: Path) -> str | None:
    if not path.is_file():
        return None
    with path.open("rb") as file:
        head = file.read(16)
    if head.startswith(b"PAR1"):
        return "parquet" if _parquet_names(path)[:2] == [MARK, "recipe"] else None
    return next((name for begin, name in _HEADS.items() if head.startswith(begin)), None)


def _parquet_names(path: Path) -> list[str]:
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import read_schema
    except ImportError:
        return []
    try:
        return [str(name) for name in read_schema(path).names]
    except (ArrowException, OSError, UnicodeDecodeError):
        return []  # damaged: what reads it as a table of somebody's says so


def _rows(path: Path) -> Iterator[tuple[int, Row]]:
    try:
        match _format(path):
            case "csv":
                yield from _csv_rows(path)
            case "jsonl":
                yield from _json_rows(path)
            case _:
                yield from _parquet_rows(path)
    except (OSError, UnicodeDecodeError) as error:
        raise LogFormatError(f"{path} cannot be read to its end: {error}") from None


def _csv_rows(path: Path) -> Iterator[tuple[int, Row]]:
    csv.field_size_limit(1 << 30)
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.reader(file, strict=True)
        columns = next(reader)
        end = reader.line_num
        while True:
            line = end + 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                _fail(path, line, f"the row is cut off or not readable ({error})")
            end = reader.line_num
            if len(cells) != len(columns):
                _fail(path, line, f"the row has {len(cells)} cells, the header has {len(columns)} columns")
            yield line, _decoded(path, line, {n: cell for n, cell in zip(columns, cells, strict=True) if cell != ""})


def _json_rows(path: Path) -> Iterator[tuple[int, Row]]:
    with path.open(encoding="utf-8", newline="\n") as file:
        for line, text in enumerate(file, start=1):
            try:
                row = json.loads(text)
            except ValueError as error:
                _fail(path, line, f"the row is cut off or not JSON ({error})")
            if not isinstance(row, dict) or MARK not in row:
                _fail(path, line, f"the row does not say in '{MARK}' what it is")
            yield line, _with_numbers(path, line, {n: v for n, v in row.items() if v is not None or _is_extra(n)})


def _parquet_rows(path: Path) -> Iterator[tuple[int, Row]]:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    number = 0
    try:
        with ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=10_000):
                for row in batch.to_pylist():
                    number += 1
                    yield number, _decoded(path, number, {n: cell for n, cell in row.items() if cell is not None})
    except (ArrowException, OSError, UnicodeDecodeError) as error:
        raise LogFormatError(f"{path} cannot be read as Parquet: {str(error).splitlines()[0]}") from None


def _decoded(path: Path, line: int, row: Row) -> Row:
    if MARK not in row:
        _fail(path, line, f"the row does not say in '{MARK}' what it is")
    extras = {name: extra_of_text(cell) for name, cell in row.items() if _is_extra(name)}
    return _with_numbers(path, line, {**row, **extras})


def _with_numbers(path: Path, line: int, row: Row) -> Row:
    for name in _NUMBERS & row.keys():
        try:
            row[name] = number_of(name, row[name])
        except LogFormatError as error:
            _fail(path, line, str(error))
    return row


def _is_extra(name: str) -> bool:
    return name.startswith(EXTRA)


def _fail(path: Path, line: int, reason: str) -> NoReturn:
    raise LogFormatError(
        f"{path.name}, line {line}: {reason}; the file was written by lawfit export, nothing of it is taken"
    )
