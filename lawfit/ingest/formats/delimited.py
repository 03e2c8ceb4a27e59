"""CSV and TSV: a header, then one run per line."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lawfit.errors import LogFormatError
from lawfit.findings import finding
from lawfit.ingest.numbers import is_number
from lawfit.ingest.pivots import is_corner
from lawfit.ingest.source import TextLines, read_head, require_text
from lawfit.ingest.table import Rows, Table, require_distinct
from lawfit.ingest.unfold import unfolded
from lawfit.records import Rejection
from lawfit.units import counted

MOST_TITLES: Final = 5
_MAX_CELL: Final = csv.field_size_limit()  # characters
_MAX_RECORD_LINES: Final = 200  # of one quoted cell with line ends in it


@dataclass(frozen=True)
class Delimited:
    """Cells between commas or tabs, quoted as spreadsheets do."""

    name: str
    suffixes: tuple[str, ...]
    delimiters: tuple[str, ...]  # the one that the header has most of is taken

    def sniff(self, path: Path, head: bytes) -> bool:
        suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"]
        if suffixes and suffixes[-1] in (".csv", ".tsv", ".tab", ".jsonl", ".ndjson", ".json", ".parquet"):
            return suffixes[-1] in self.suffixes
        header = head.split(b"\n", 1)[0].decode("latin-1")
        best = max((",", ";", "|", "\t"), key=header.count)
        return b"\x00" not in head and not header.lstrip().startswith("{") and best in self.delimiters

    def read(self, path: Path) -> Table:
        require_text(path, read_head(path))
        lines = TextLines(path, cuttable=True)
        titles, header_line, header = _header(lines, self.delimiters, path)
        delimiter = max(self.delimiters, key=header.count)
        columns = _columns(header, header_line, delimiter, path)
        blank = 0

        def rows() -> Iterator[tuple[int, list[str]]]:
            nonlocal blank
            for line, cells in _records(lines, delimiter, path):
                if len(cells) > len(columns) and not any(cell.strip() for cell in cells[len(columns) :]):
                    cells = cells[: len(columns)]  # delimiters at the end of the line
                if len(cells) != len(columns):
                    reason = f"the row has {len(cells)} cells, the header has {len(columns)} columns"
                    lines.rejections.append(Rejection(file=path.name, line=line, column=None, reason=reason))
                elif any(cells):
                    yield line, cells
                else:
                    blank += 1

        packed = Rows.of(rows(), len(columns), texts=True)
        if lines.cut is not None:
            reason = str(finding("ingest.line_in_writing"))
            lines.rejections.append(Rejection(file=path.name, line=lines.cut, column=None, reason=reason))
        if not packed and not lines.rejections:
            raise LogFormatError(f"{path} has a header and no rows")
        notes = lines.notes()
        if not lines.ended and lines.cut is None:
            notes.append(str(finding("ingest.no_line_end")))
        if delimiter != self.delimiters[0]:
            notes.append(f"cells are separated by '{delimiter}'")
        notes += said_of_titles(titles, blank)
        table = Table(
            name=path.name,
            format=self.name,
            columns=columns,
            rows=packed,
            rejections=tuple(lines.rejections),
            notes=tuple(notes),
            decimal_commas=delimiter == ";",
        )
        return unfolded(table)


def said_of_titles(titles: Sequence[str], blank: int) -> list[str]:
    """What was passed over above the header, and between the rows."""
    said = [f"above the header stands: {'; '.join(titles)}"] if titles else []
    return [*said, *([f"{counted(blank, 'blank row')} passed over"] if blank else [])]


def _cells(text: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([text], delimiter=delimiter), [])
    except csv.Error:
        return text.split(delimiter)


def header_place(rows: Sequence[Sequence[str]]) -> int:
    """Which of the first rows is the header: titles above it fill at most half as many cells as the fullest does."""
    filled = [sum(bool(cell.strip()) for cell in cells) for cells in rows]
    place = next(at for at, count in enumerate(filled) if 2 * count > max(filled) or not any(filled))
    numbers = sum(is_number(cell) for cell in rows[place])
    return place if 2 * numbers <= filled[place] or is_corner(rows[place]) else 0


def _header(lines: TextLines, delimiters: Sequence[str], path: Path) -> tuple[list[str], int, str]:
    """Titles, the line of the header, and the header."""
    blank = "".join(delimiters) + " \t"
    taken: list[tuple[int, str]] = []
    for line in lines:
        taken.append(line)
        if sum(bool(text.strip(blank)) for _, text in taken) > MOST_TITLES:
            break
    first = [(number, text) for number, text in taken if text.strip(blank)]
    if not first:
        raise LogFormatError(f"{path} is empty")
    delimiter = max(delimiters, key=lambda each: _agreement([len(_cells(text, each)) for _, text in first]))
    place = header_place([_cells(text, delimiter) for _, text in first])
    lines.put_back([(number, text) for number, text in taken if number > first[place][0]])
    return [text.strip(blank) for _, text in first[:place]], *first[place]


def _agreement(counts: Sequence[int]) -> tuple[int, int]:
    """How many of the first lines have as many cells as the fullest, and that number.

    Decimal commas stand in rows alone; what parts cells stands in the header, too.
    """
    return (counts.count(max(counts)) if max(counts) > 1 else 0), max(counts)


def _columns(header: str, line: int, delimiter: str, path: Path) -> tuple[str, ...]:
    try:
        cells = next(csv.reader([header], delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise LogFormatError(f"{path}, line {line}: the header cannot be read ({error})") from None
    while len(cells) > 1 and not cells[-1].strip():
        cells.pop()
    if sum(is_number(cell) for cell in cells) > len(cells) / 2 and not is_corner(cells):
        raise LogFormatError(f"{path}: the first line holds numbers; a header with the column names must come first")
    columns = tuple(cell.strip() or f"column {place}" for place, cell in enumerate(cells, start=1))
    require_distinct(columns, path.name)
    return columns


def _records(lines: TextLines, delimiter: str, path: Path) -> Iterator[tuple[int, list[str]]]:
    """Records with the line where each starts. An odd number of quotes means that a cell goes on in the next line."""
    for number, text in lines:
        if not text.strip():
            continue
        if '"' not in text and "\r" not in text and len(text) < _MAX_CELL:
            yield number, text.split(delimiter)  # as csv parts it
            continue
        taken = [(number, text)]
        quotes = text.count('"')
        while quotes % 2 and len(taken) < _MAX_RECORD_LINES and (after := next(lines, None)) is not None:
            taken.append(after)
            quotes += after[1].count('"')
        if quotes % 2:
            # A forgotten quote must cost its own row only, not the rest of the file.
            lines.put_back(taken[1:])
            reason = "a quote is opened and not closed"
            lines.rejections.append(Rejection(file=path.name, line=number, column=None, reason=reason))
            continue
        try:
            yield number, next(csv.reader([piece + "\n" for _, piece in taken], delimiter=delimiter, strict=True))
        except csv.Error as error:
            lines.rejections.append(
                Rejection(file=path.name, line=number, column=None, reason=f"not readable: {error}")
            )


CSV = Delimited("csv", (".csv",), (",", ";", "|"))
TSV = Delimited("tsv", (".tsv", ".tab"), ("\t",))
