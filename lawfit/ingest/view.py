"""A table's columns as numbers and as levels, read once: what all guesses about it look at."""

from __future__ import annotations

import math
import re
import string
from array import array
from collections.abc import Sequence
from typing import Final

import numpy as np

from lawfit.ingest.headers import Unit
from lawfit.ingest.numbers import (
    GROUPED,
    MULTIPLE,
    is_missing,
    is_number,
    may_be_dotted,
    number,
    plain_number,
    read_otherwise,
    thousands_by_dots,
)
from lawfit.ingest.table import Cell, Table
from lawfit.packed import Column

_SAME: Final = 1e-9
_WORDS: Final = re.compile(
    r"(?:[A-Za-z][0-9A-Za-z_-]{4,}+\n)*+[A-Za-z][0-9A-Za-z_-]{4,}+"
)  # longer than what says nothing
_SIGNS: Final = re.compile(r"[0-9.eE+\-\n]*+")  # of plain numbers, one a line
_LETTERS: Final = frozenset(string.ascii_letters)


class View:
    """The columns of one table."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self._commas = has_decimal_commas(table)
        self._dotted = dotted_columns(table)

    def cells(self, place: int) -> Column:
        """One column, row by row."""
        return self.table.cells(place)

    def filled(self, place: int) -> int:
        """How many rows say something."""
        if plain_numbers(self.table, place) is not None or are_words(self.table, place):
            return len(self.table.rows)
        return self.table.once(("filled", place), lambda: self._filled(self.table.cells(place)))

    def _filled(self, column: Column) -> int:
        return sum(count for cell, count in zip(column.levels, column.counts(), strict=True) if not is_missing(cell))

    def numbers(self, place: int, unit: Unit | None = None) -> Column:
        """One column as finite numbers in the unit that is meant; None where a cell holds none."""
        plain = self.table.once(("numbers", place), lambda: self._read(place))
        if unit is None or unit.plain:
            return plain
        return plain.made(lambda value: None if value is None else unit.of(value))

    def _read(self, place: int) -> Column:
        plain = None if place in self._dotted else plain_numbers(self.table, place)
        if plain is not None:
            finite = np.isfinite(plain.levels).all()
            return plain if finite else plain.made(lambda value: value if math.isfinite(value) else None)
        return self.table.cells(place).made(lambda cell: self._number(place, cell))

    def values(self, place: int, unit: Unit | None = None) -> Sequence[float]:
        """The numbers of a column, ascending, without rows that hold none."""

        def ascending() -> Sequence[float]:
            found = self.numbers(place, unit).ascending()
            if not found or math.isfinite(found[0] - found[-1]):
                return found
            return [value for value in found if math.isfinite(value)]

        return self.table.once(("values", place), ascending) if unit is None or unit.plain else ascending()

    def holds_numbers(self, place: int) -> bool:
        """Whether some cell is a number."""
        return self.table.once(("holds numbers", place), lambda: self._holds_numbers(place))

    def _holds_numbers(self, place: int) -> bool:
        if are_words(self.table, place):
            return False
        return any(self._number(place, cell) is not None for cell in self.table.cells(place).levels)

    def _number(self, place: int, cell: Cell) -> float | None:
        if isinstance(cell, str) and place in self._dotted:
            cell = cell.replace(".", "")
        return _number(cell, self._commas)


def _number(cell: Cell, commas: bool) -> float | None:
    if (value := plain_number(cell)) is not None:
        return value if math.isfinite(value) else None
    if not isinstance(cell, str) or cell.lstrip()[:1] in _LETTERS:
        return None  # no number begins with a letter: names of runs and of settings are done with here
    if commas and is_number(text := cell.strip().replace(",", ".", 1)):
        return number(text)
    if MULTIPLE.fullmatch(cell.strip()):
        return float(cell.strip()[:-1])
    found = read_otherwise(cell, count=True)
    return read_otherwise(cell, count=False) if found is None else found


def plain_numbers(table: Table, place: int) -> Column | None:
    """A column of texts as numbers, where all of them are plain ones (`is_number`)."""
    return table.once(("plain", place), lambda: _plain_numbers(table.cells(place)))


def are_words(table: Table, place: int) -> bool:
    """Whether a column has nothing but texts as ids are: of letters, digits and signs in them, none of which is short.

    Such a text says something, and is no number with a mark.
    """
    return table.once(("words", place), lambda: _match(_WORDS, table.cells(place)))


def _match(pattern: re.Pattern[str], column: Column) -> bool:
    """Whether all cells are texts of a pattern, each on a line: all of them are looked at at once."""
    if not set(map(type, column.levels)) <= {str}:
        return False
    lines = "\n".join(column.levels)
    return lines.count("\n") == len(column.levels) - 1 and pattern.fullmatch(lines) is not None


def _plain_numbers(column: Column) -> Column | None:
    """All texts at once: of these signs alone, what Python reads as a number is a plain one."""
    if not _match(_SIGNS, column):
        return None
    try:
        return Column(array("d", map(float, column.levels)), column.codes)
    except ValueError:
        return None


def has_decimal_commas(table: Table) -> bool:
    """Whether commas in the numbers of a table are decimal: some can be nothing else, or semicolons part the cells."""
    return table.once("decimal commas", lambda: _has_decimal_commas(table))


def _has_decimal_commas(table: Table) -> bool:
    texts = {text for texts in _texts_with(table, ",") for text in texts}
    if any(GROUPED.fullmatch(text.strip()) for text in texts):
        return False
    return bool(texts) and (
        table.decimal_commas or any(read_otherwise(text, count=False) is not None for text in texts)
    )


def dotted_columns(table: Table) -> set[int]:
    """The columns in which dots part thousands: ``10.240.000``, and ``16.384`` beside it.

    A column of groups of three alone is one where the table writes its decimals with commas.
    """
    return table.once("dotted columns", lambda: _dotted_columns(table))


def _dotted_columns(table: Table) -> set[int]:
    plain = [plain_numbers(table, place) is not None for place in range(len(table.columns))]
    columns = _texts_with(table, ".")
    sure = {at for at, texts in enumerate(columns) if not plain[at] and any(map(thousands_by_dots, texts))}
    if not sure:
        return set()
    if has_decimal_commas(table):
        sure.update(place for place, texts in enumerate(columns) if texts)
    return {place for place in sure if all(may_be_dotted(text) for text in columns[place])}


def _texts_with(table: Table, mark: str) -> list[list[str]]:
    """Of each column the different texts that hold a mark."""
    columns = [[] if are_words(table, p) else table.cells(p).levels for p in range(len(table.columns))]
    return [[cell for cell in levels if isinstance(cell, str) and mark in cell] for levels in columns]


def ratios(below: Column, above: Column) -> Sequence[float]:
    """What one column is of another, ascending, of rows in which both hold a number, the one below above zero."""
    under, over = below.floats(), above.floats()
    with np.errstate(all="ignore"):
        rows = ~np.isnan(over) & (under > 0)
        return array("d", np.sort(over[rows] / under[rows]).tobytes())


def median(values: Sequence[float]) -> float:
    """Of ascending values, the upper of the two in the middle."""
    return values[len(values) // 2]


def pairs(one: Sequence[float | None], other: Sequence[float | None]) -> list[tuple[float, float]]:
    """The rows in which both columns hold a number."""
    return [(a, b) for a, b in zip(one, other, strict=True) if a is not None and b is not None]


def same(a: float, b: float, tolerance: float = _SAME) -> bool:
    """Whether two numbers are one."""
    return math.isclose(a, b, rel_tol=tolerance)


def differs(one: Sequence[float | None], other: Sequence[float | None], tolerance: float = 0.01) -> bool:
    """Whether two columns hold different numbers somewhere; within 1 % (nominal and counted) they are the same."""
    return any(
        (a is None) != (b is None) or (a is not None and b is not None and not same(a, b, tolerance))
        for a, b in zip(one, other, strict=True)
    )
