"""Headers between the rows: sweeps that were written, or joined, below each other."""

from __future__ import annotations

import dataclasses
from typing import Final

from lawfit.findings import Found, finding
from lawfit.ingest.metrics import kind_of
from lawfit.ingest.names import NAMES, rank_of
from lawfit.ingest.numbers import is_missing, is_number
from lawfit.ingest.table import Cell, Row, Table
from lawfit.records import Rejection

_LONGEST: Final = 60  # characters of the name of a column


def under_one_header(table: Table) -> tuple[Table, list[Found]]:
    """Rows below a header of the same names in another order, in the order of the first.

    Below one with other names, a cell does not stand for what the first header says: such rows are rejected.
    """
    lines = _headers(table)
    if not lines:
        return table, []
    rows: list[Row] = []
    rejections = list(table.rejections)
    places: list[int] | None = list(range(len(table.columns)))
    header = 0
    for line, cells in table.rows:
        if line in lines:
            names = [str(cell).strip() if not is_missing(cell) else "" for cell in cells]
            known = {*names} - {""} <= {*table.columns}
            places = [names.index(column) if column in names else -1 for column in table.columns] if known else None
            header = line
        elif places is not None:
            rows.append((line, tuple(cells[at] if at >= 0 else None for at in places)))
        else:
            file, number = table.place(line)
            reason = (
                f"the row stands below another header (line {table.place(header)[1]}); write it to a file of its own"
            )
            rejections.append(Rejection(file=file, line=number, column=None, reason=reason))
    note = finding("ingest.headers_between", count=len(lines))
    return dataclasses.replace(table, rows=tuple(rows), rejections=tuple(rejections)), [note]


def _headers(table: Table) -> set[int]:
    """Lines in which nothing is a number, and several cells are names of columns."""
    numeric = [place for place, cell in enumerate(table.rows[0][1]) if is_number(cell)] if table.rows else []
    if not numeric:
        return set()
    place = min(numeric, key=lambda at: len(table.cells(at).levels))  # such a line has a word in each of them
    words = {cell for cell in table.cells(place).levels if isinstance(cell, str) and not is_number(cell)}
    words = {cell for cell in words if len(cell) <= _LONGEST and _is_name(table, cell)}
    return (
        {line for line, cells in table.rows if cells[place] in words and _is_header(table, cells)} if words else set()
    )


def _is_header(table: Table, cells: tuple[Cell, ...]) -> bool:
    said = [cell for cell in cells if not is_missing(cell)]
    names = [cell for cell in said if isinstance(cell, str) and not is_number(cell)]
    return len(names) == len(said) and 2 * sum(_is_name(table, name) for name in names) > len(table.columns)


def _is_name(table: Table, cell: str) -> bool:
    name = cell.strip()
    return name in table.columns or bool(kind_of(name)) or any(rank_of(name, field) is not None for field in NAMES)
