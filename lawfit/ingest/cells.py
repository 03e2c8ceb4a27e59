"""Columns made plain: units, separators and metrics that can mean one thing only, turned into numbers and said."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from lawfit.findings import Found, finding
from lawfit.ingest.column_map import COUNTS, NUMERIC, ColumnMap
from lawfit.ingest.headers import PLAIN, Unit
from lawfit.ingest.numbers import MULTIPLE, CellError, is_missing, is_number, number, read_otherwise
from lawfit.ingest.table import Cell, Table
from lawfit.ingest.view import dotted_columns, has_decimal_commas, plain_numbers
from lawfit.packed import Column

Turned = tuple[Cell, float | None]  # what a cell is made, and its number where it was read otherwise


def made_plain(table: Table, columns: ColumnMap) -> tuple[Table, list[Found]]:
    """The table with plain numbers in the columns of its fields, and what to say of those that were none."""
    commas = has_decimal_commas(table)
    dotted = dotted_columns(table)
    changed: dict[int, Column] = {}
    notes: list[Found] = []
    for name, place in columns.places.items():
        to_loss = columns.metric.to_loss if name == "loss" and columns.metric.said else None
        dots = name in COUNTS and place in dotted
        unit = columns.units.get(name, PLAIN)
        if name not in NUMERIC or (unit.plain and not (to_loss or dots) and plain_numbers(table, place) is not None):
            continue
        cells = table.cells(place)
        turn = _turner(name, unit, commas=commas, dots=dots, to_loss=to_loss)
        turned = cells.made(turn)
        if all(new is cell for (new, _), cell in zip(turned.levels, cells.levels, strict=True)):
            continue
        changed[place] = turned.made(lambda each: each[0])
        rows = np.flatnonzero(turned.spread([found is not None for _, found in turned.levels], bool))
        if len(rows):
            at = int(rows[0])
            first = {"text": str(cells[at]).strip(), "number": turned[at][1], "line": int(table.packed.lines[at])}
            notes.append(finding("ingest.read_as", column=table.columns[place], count=len(rows), **first))
    if columns.metric.said:
        notes.append(finding("ingest.metric_turned", column=columns.loss_column, kind=columns.metric.kind))
    return table.with_columns(changed), notes


def _turner(
    name: str, unit: Unit, *, commas: bool, dots: bool, to_loss: Callable[[float], float] | None
) -> Callable[[Cell], Turned]:
    def turn(cell: Cell) -> Turned:
        if is_missing(cell) or isinstance(cell, bool):
            return cell, None
        value, found = cell, None
        if isinstance(cell, str) and (not is_number(cell) or (dots and "." in cell)):
            text = cell.replace(".", "") if dots else cell
            text = text.replace(",", ".", 1) if commas else text
            if not unit.plain and MULTIPLE.fullmatch(text.strip()):
                text = text.strip()[:-1]
            found = float(text) if is_number(text) else read_otherwise(cell, count=name in COUNTS)
            value = cell if found is None else found
        if unit.plain and to_loss is None:
            return value, found
        try:
            plain = number(value)
        except CellError:
            return cell, found
        plain = unit.of(plain) if math.isfinite(plain) else plain
        return to_loss(plain) if to_loss is not None and math.isfinite(plain) else plain, found

    return turn
