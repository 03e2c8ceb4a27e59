"""Pivot tables: a row for each level of one setting, a column for each level of another, losses in the cells."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Final

from lawfit.errors import LogFormatError
from lawfit.findings import Found, finding
from lawfit.ingest.headers import LONGEST_NAME, bare_names
from lawfit.ingest.metrics import kind_of
from lawfit.ingest.names import NAMES, rank_of
from lawfit.ingest.numbers import is_missing, is_number, number, read_otherwise
from lawfit.ingest.table import Cell, Row, Table

_FIELDS: Final = (
    *("lr", "params", "tokens", "steps", "batch_tokens", "batch_sequences", "batch_unstated", "seq_len"),
    "weight_decay",
)
# `lr=0.001`, `lr 0.001`: without a sign between them, the level must be a fraction, as `lr 2` may be a second rate.
_NAMED: Final = re.compile(
    r"(?P<name>[^=:@]+?)(?:\s*[=:@]\s*(?P<level>[^=:@]+)|[\s_]+(?P<fraction>[0-9]*\.[0-9]+(?:e-?[0-9]+)?|[0-9]+e-[0-9]+))"
)
_CORNER: Final = re.compile(r"(?P<rows>.+?)\s*(?:\\|/|\||→|->|\bvs\.?\s|\bby\s)\s*(?P<columns>.+)", re.IGNORECASE)
_SHOWN: Final = 4
LOSS: Final = "loss"


def is_corner(header: Sequence[str]) -> bool:
    """Whether a header that holds numbers is that of a pivot table: they stand behind the name of a setting."""
    return bool(header) and (_field(header[0]) != "" or _corner(header[0]) is not None)


def _corner(name: str) -> re.Match[str] | None:
    """What a corner says of rows and columns; None where it says one name, or is too long to be a person's."""
    return None if len(name) > LONGEST_NAME else _CORNER.fullmatch(name.strip())


def unpivoted(table: Table) -> tuple[Table, list[Found]]:
    """A row for each cell with a loss, where the header says what its levels are; any other table as it is.

    Raises
    ------
    LogFormatError
        It is a pivot table, and its header does not say what its columns are.
    """
    if any(kind_of(column) for column in table.columns):
        return table, []  # it has a column for the loss
    levels = _named_levels(table.columns)
    if levels is not None:
        name, places = levels
        return _melted(table, {}, name, places)
    plain = {place: column for place, column in enumerate(table.columns) if place and _level(column) is not None}
    if len(plain) < 2 or len(plain) < len(table.columns) - 1 or not is_corner(table.columns):
        return table, []
    corner = table.columns[0].strip()
    both = _corner(corner)
    if both is None or not (_field(both["rows"]) and _field(both["columns"])):
        shown = list(plain.values())[:_SHOWN]
        raise LogFormatError(finding("ingest.pivot_of_what", file=table.name, rows=corner, columns=shown))
    one, other = both["rows"].strip(), both["columns"].strip()
    if _are_rates([cells[0] for _, cells in table.rows]) != (_field(one) == "lr") and "lr" in map(_field, (one, other)):
        one, other = other, one  # the numbers say which of the two runs down
    return _melted(table, {0: one}, other, plain)


def _melted(
    table: Table, renamed: Mapping[int, str], name: str, levels: Mapping[int, str]
) -> tuple[Table, list[Found]]:
    kept = [place for place in range(len(table.columns)) if place not in levels]
    rows: list[Row] = []
    for line, cells in table.rows:
        own = tuple(cells[place] for place in kept)
        rows += [(line, (*own, level, cells[at])) for at, level in levels.items() if not is_missing(cells[at])]
    columns = (*(renamed.get(place, table.columns[place]) for place in kept), name, LOSS)
    shown = list(levels.values())[:_SHOWN]
    said = finding("ingest.pivot", rows=columns[0], columns=name, levels=shown, count=len(rows))
    return dataclasses.replace(table, columns=columns, rows=tuple(rows)), [said]


def _named_levels(columns: Sequence[str]) -> tuple[str, dict[int, str]] | None:
    """`batch=65536`, `batch=131072`: the setting, and its level by the place of its column."""
    found = [(at, each) for at, column in enumerate(columns) if (each := _NAMED.fullmatch(column.strip()))]
    names = {each["name"].strip() for _, each in found}
    levels = {at: (each["level"] or each["fraction"]).strip() for at, each in found}
    if len(found) < 2 or len(names) > 1 or not all(_level(level) is not None for level in levels.values()):
        return None
    (name,) = names
    return (name, levels) if _field(name) else None


def _level(text: str) -> float | None:
    return number(text) if is_number(text) else read_otherwise(text, count=True)


def _field(name: str) -> str:
    """The setting that a name stands for; "" where it is none."""
    bare = [each for each, _ in bare_names(name.strip())]
    return next((f for f in _FIELDS if f in NAMES and any(rank_of(each, f) is not None for each in bare)), "")


def _are_rates(cells: Sequence[Cell]) -> bool:
    values = [value for cell in cells if (value := _level(str(cell))) is not None]
    return bool(values) and all(value < 1 for value in values)
