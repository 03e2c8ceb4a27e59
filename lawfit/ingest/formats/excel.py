"""Spreadsheets (xlsx): the first sheet that is a table, one run per row. Needs openpyxl, an extra."""

from __future__ import annotations

import dataclasses
import datetime
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from zipfile import BadZipFile

from lawfit.errors import LogFormatError
from lawfit.ingest.formats.delimited import MOST_TITLES, header_place, said_of_titles
from lawfit.ingest.numbers import is_number
from lawfit.ingest.pivots import is_corner
from lawfit.ingest.source import read_head
from lawfit.ingest.table import Cell, Row, Table, require_distinct

_ZIP: Final = b"PK\x03\x04"
_SUFFIXES: Final = (".xlsx", ".xlsm")
_DAMAGED: Final = (LookupError, ValueError, TypeError, AttributeError, SyntaxError, OSError, EOFError, zlib.error)


@dataclass(frozen=True)
class Spreadsheet:
    """A workbook. Of formulas, the values that were last computed are read; the line of a row is its number."""

    name: str = "excel"

    def sniff(self, path: Path, head: bytes) -> bool:
        inside = any(part in head for part in (b"[Content_Types].xml", b"docProps/", b"xl/"))
        return path.suffix.lower() in _SUFFIXES or (head.startswith(_ZIP) and inside)

    def read(self, path: Path) -> Table:
        if not read_head(path).startswith(_ZIP):
            raise LogFormatError(f"{path} is not a spreadsheet, whatever its name says; save it as .xlsx or as CSV")
        try:
            from openpyxl import load_workbook
            from openpyxl.utils.exceptions import InvalidFileException
        except ImportError:
            raise LogFormatError(
                f"{path}: spreadsheets need openpyxl; install it with pip install 'lawfit[excel]'"
            ) from None
        try:
            with path.open("rb") as file:
                book = load_workbook(file, read_only=True, data_only=True)
                sheets = {sheet.title: [list(map(_cell, row)) for row in sheet.values] for sheet in book.worksheets}
        except (InvalidFileException, BadZipFile, *_DAMAGED) as error:
            raise LogFormatError(f"{path} cannot be read as a spreadsheet: {error}") from None
        tables = {title: table for title, rows in sheets.items() if (table := _table(path.name, rows)) is not None}
        if not tables:
            raise LogFormatError(f"{path} has no sheet with a header and rows below it")
        first = next(iter(tables))
        others = [title for title in sheets if title != first]
        if not others:
            return tables[first]
        said = f"sheet '{first}' is read; the file also has {', '.join(others)} (save another one as CSV to take that)"
        return dataclasses.replace(tables[first], notes=(said, *tables[first].notes))


def _table(name: str, rows: Sequence[Sequence[Cell]]) -> Table | None:
    """A sheet as a table; None where it is none."""
    filled = [(line, cells) for line, cells in enumerate(rows, start=1) if any(_text(cell) for cell in cells)]
    if len(filled) < 2:
        return None
    place = header_place([list(map(_text, cells)) for _, cells in filled[: MOST_TITLES + 1]])
    titles = [" ".join(filter(None, map(_text, cells))) for _, cells in filled[:place]]
    filled = filled[place:]
    if len(filled) < 2:
        return None
    header = [_text(cell) for cell in filled[0][1]]
    places = [place for place, text in enumerate(header) if text]
    numbers = sum(is_number(header[place]) for place in places)
    if len(places) < 2 or (2 * numbers > len(places) and not is_corner([header[place] for place in places])):
        return None
    columns = tuple(header[place] for place in places)
    require_distinct(columns, name)
    body: list[Row] = [
        (line, tuple(cells[p] if p < len(cells) else None for p in places)) for line, cells in filled[1:]
    ]
    blank = filled[-1][0] - filled[0][0] - len(body)
    return Table(
        name=name, format="excel", columns=columns, rows=tuple(body), notes=tuple(said_of_titles(titles, blank))
    )


def _cell(value: Any) -> Cell:
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat()
    return str(value)


def _text(cell: Cell) -> str:
    return "" if cell is None else str(cell).strip()


EXCEL = Spreadsheet()
