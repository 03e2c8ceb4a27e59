"""Columns made plain: units, separators and metrics that can mean one thing only, turned into numbers and said."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass

from lawfit.findings import Found, finding
from lawfit.ingest.column_map import COUNTS, NUMERIC, ColumnMap
from lawfit.ingest.headers import PLAIN, Unit
from lawfit.ingest.numbers import MULTIPLE, CellError, is_missing, is_number, number, read_otherwise
from lawfit.ingest.table import Cell, Row, Table
from lawfit.ingest.view import dotted_columns, has_decimal_commas


@dataclass
class _Said:
    """What was read otherwise in one column: how often, and the first time."""

    count: int = 0
    first: tuple[str, float, int] = ("", 0.0, 0)  # text, number, line


def made_plain(table: Table, columns: ColumnMap) -> tuple[Table, list[Found]]:
    """The table with plain numbers in the columns of its fields, and what to say of those that were none."""
    commas = has_decimal_commas(table)
    dotted = dotted_columns(table)
    turned: dict[int, Callable[[Cell, int], Cell]] = {}
    said: dict[int, _Said] = {}
    for name, place in columns.places.items():
        if name in NUMERIC:
            said[place] = _Said()
            to_loss = columns.metric.to_loss if name == "loss" and columns.metric.said else None
            dots = name in COUNTS and place in dotted
            unit = columns.units.get(name, PLAIN)
            turned[place] = _turner(name, unit, said[place], commas=commas, dots=dots, to_loss=to_loss)
    turned = {place: turn for place, turn in turned.items() if _turns(table, place, turn)}
    said = {place: said[place] for place in turned}
    for each in said.values():
        each.count = 0
    if turned:
        table = dataclasses.replace(table, rows=tuple(_row(row, turned) for row in table.rows))
    notes: list[Found] = [
        finding(
            "ingest.read_as",
            column=table.columns[place],
            count=each.count,
            text=each.first[0],
            number=each.first[1],
            line=each.first[2],
        )
        for place, each in said.items()
        if each.count
    ]
    if columns.metric.said:
        notes.append(finding("ingest.metric_turned", column=columns.loss_column, kind=columns.metric.kind))
    return table, notes


def _turns(table: Table, place: int, turn: Callable[[Cell, int], Cell]) -> bool:
    """Whether some cell of a column is not plain; each text is looked at once."""
    return any(turn(cell, 0) is not cell for cell in table.levels(place))


def _row(row: Row, turned: dict[int, Callable[[Cell, int], Cell]]) -> Row:
    line, cells = row
    changed = {place: new for place, turn in turned.items() if (new := turn(cells[place], line)) is not cells[place]}
    if not changed:
        return row
    return line, tuple(changed.get(place, cell) for place, cell in enumerate(cells))


def _turner(
    name: str, unit: Unit, said: _Said, *, commas: bool, dots: bool, to_loss: Callable[[float], float] | None
) -> Callable[[Cell, int], Cell]:
    def turn(cell: Cell, line: int) -> Cell:
        if is_missing(cell) or isinstance(cell, bool):
            return cell
        value: Cell = cell
        if isinstance(cell, str) and (not is_number(cell) or (dots and "." in cell)):
            text = cell.replace(".", "") if dots else cell
            text = text.replace(",", ".", 1) if commas else text
            if not unit.plain and MULTIPLE.fullmatch(text.strip()):
                text = text.strip()[:-1]
            found = float(text) if is_number(text) else read_otherwise(cell, count=name in COUNTS)
            if found is not None:
                value = found
                said.count += 1
                if said.count == 1:
                    said.first = (cell.strip(), found, line)
        if unit.plain and to_loss is None:
            return value
        try:
            plain = number(value)
        except CellError:
            return cell
        plain = unit.of(plain) if math.isfinite(plain) else plain
        return to_loss(plain) if to_loss is not None and math.isfinite(plain) else plain

    return turn
