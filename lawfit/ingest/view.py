"""A table's columns as numbers and as levels, read once: what all guesses about it look at."""

from __future__ import annotations

import math
import string
from collections.abc import Sequence
from typing import Final

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

_SAME: Final = 1e-9
_LETTERS: Final = frozenset(string.ascii_letters)


class View:
    """The columns of one table."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self._commas = has_decimal_commas(table)
        self._dotted = dotted_columns(table)

    def cells(self, place: int) -> list[Cell]:
        """One column, row by row."""
        return self.table.cells(place)

    def filled(self, place: int) -> int:
        """How many rows say something."""
        levels = self.table.levels(place)
        return self.table.once(
            ("filled", place), lambda: sum(count for cell, count in levels.items() if not is_missing(cell))
        )

    def numbers(self, place: int, unit: Unit | None = None) -> Sequence[float | None]:
        """One column as finite numbers in the unit that is meant; None where a cell holds none."""
        plain = self.table.once(("numbers", place), lambda: self._read(place))
        if unit is None or unit.plain:
            return plain
        return [None if value is None else unit.of(value) for value in plain]

    def _read(self, place: int) -> list[float | None]:
        texts = {cell: self._number(place, cell) for cell in self.table.levels(place) if isinstance(cell, str)}
        return [texts[cell] if isinstance(cell, str) else self._number(place, cell) for cell in self.cells(place)]

    def values(self, place: int, unit: Unit | None = None) -> Sequence[float]:
        """The numbers of a column, ascending, without rows that hold none."""

        def ascending() -> list[float]:
            return sorted([value for value in self.numbers(place, unit) if value is not None and math.isfinite(value)])

        return self.table.once(("values", place), ascending) if unit is None or unit.plain else ascending()

    def holds_numbers(self, place: int) -> bool:
        """Whether some cell is a number."""
        return self.table.once(("holds numbers", place), lambda: self._holds_numbers(place))

    def _holds_numbers(self, place: int) -> bool:
        if any(isinstance(cell, str) and self._number(place, cell) is not None for cell in self.table.levels(place)):
            return True
        return any(not isinstance(cell, str) and self._number(place, cell) is not None for cell in self.cells(place))

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
    columns = _texts_with(table, ".")
    sure = {place for place, texts in enumerate(columns) if any(thousands_by_dots(text) for text in texts)}
    if not sure:
        return set()
    if has_decimal_commas(table):
        sure.update(place for place, texts in enumerate(columns) if texts)
    return {place for place in sure if all(may_be_dotted(text) for text in columns[place])}


def _texts_with(table: Table, mark: str) -> list[list[str]]:
    """Of each column the different texts that hold a mark."""
    places = range(len(table.columns))
    return [[cell for cell in table.levels(p) if isinstance(cell, str) and mark in cell] for p in places]


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
