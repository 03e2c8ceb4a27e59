"""Objects in cells: ``config`` and ``summary`` columns, as a loop over a tracker's runs writes them."""

from __future__ import annotations

import ast
import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from lawfit.ingest.names import is_wrapper
from lawfit.ingest.table import Cell, Table, table_of_objects

_NOT_FINITE: Final = re.compile(r"(?<=[:,\[] )(-?(?:nan|inf))(?=[,}\]])")  # as Python prints them


def unfolded(table: Table) -> Table:
    """With columns ``outer.inner`` for settings and results in one cell each, by json or as Python prints them."""
    objects: dict[int, list[Mapping[str, Any] | None]] = {}
    for place, column in enumerate(table.columns):
        found = _objects_in(table.cells(place)) if is_wrapper(column) else None
        if found is not None:
            objects[place] = found
    if not objects:
        return table
    rows = []
    for at, (line, cells) in enumerate(table.rows):
        row: dict[str, Any] = {}
        for place, column in enumerate(table.columns):
            row[column] = (objects[place][at] or {}) if place in objects else cells[place]
        rows.append((line, row))
    rejections = list(table.rejections)
    made = table_of_objects(table.name, table.format, rows, rejections, table.notes)
    return dataclasses.replace(made, places=table.places, decimal_commas=table.decimal_commas)


def _objects_in(cells: Sequence[Cell]) -> list[Mapping[str, Any] | None] | None:
    found: list[Mapping[str, Any] | None] = []
    for cell in cells:
        text = cell.strip() if isinstance(cell, str) else ""
        if text and not (text.startswith("{") and text.endswith("}")):
            return None
        item = _object_in(text) if text else None
        if text and item is None:
            return None
        found.append(item)
    return found if any(found) else None


def _object_in(text: str) -> Mapping[str, Any] | None:
    for read, written in ((json.loads, text), (ast.literal_eval, _NOT_FINITE.sub(r"'\1'", text))):
        try:
            item = read(written)
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            continue
        if isinstance(item, dict) and all(isinstance(key, str) for key in item):
            return item
    return None
