"""Blocks of rows whose size or setting stands in the first row alone, as merged cells of a spreadsheet leave it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Final

from lawfit.findings import Found, finding
from lawfit.ingest.headers import bare_names
from lawfit.ingest.names import rank_of
from lawfit.ingest.numbers import is_missing
from lawfit.ingest.options import IngestOptions
from lawfit.ingest.questions import Question
from lawfit.ingest.table import Cell, Row, Table
from lawfit.packed import Column

_NEEDED: Final = (  # of every run: an empty cell says nothing else than that of the row above, or is a mistake
    *("params", "tokens", "batch_tokens", "batch_sequences", "batch_unstated", "steps", "lr"),
    *("optimizer", "data", "tokenizer", "seq_len"),
)
# An empty cell may also say that a run had none: never sure alone.
_MAY_BE_NONE: Final = ("weight_decay", "schedule", "parametrization")
_MANY: Final = 1 / 2  # of the rows: as many empty cells are no oversight


def filled_down(table: Table, options: IngestOptions) -> tuple[Table, list[Found], list[Question]]:
    """The table with the first row of each block in all its rows, where that is sure or was said."""
    sure: list[int] = []
    open_places: list[int] = []
    for place, column in enumerate(table.columns):
        said = options.fill.get(column)
        needed = _is_one_of(_NEEDED, column, options)
        if said == "no" or not (said or needed or _is_one_of(_MAY_BE_NONE, column, options)):
            continue
        if not _is_gappy(table.cells(place)):
            continue
        if said == "down" or (needed and _is_blocks([cells for _, cells in table.rows], place)):
            sure.append(place)
        else:
            open_places.append(place)
    if not sure:
        return table, [], [_ask(table, place) for place in open_places]
    begins = [not is_missing(cell) for cell in table.cells(sure[0])]
    for place, column in enumerate(table.columns):  # what stands in the first rows of the same blocks, and there alone
        here = [not is_missing(cell) for cell in table.cells(place)]
        if place not in sure and here == begins and column not in options.fill:
            sure.append(place)
    made: list[Row] = []
    above: dict[int, Cell] = {}
    for line, cells in table.rows:
        titled = {place for place in sure if not is_missing(cells[place])}
        above |= {place: cells[place] for place in titled}
        if titled and all(is_missing(cell) for place, cell in enumerate(cells) if place not in titled):
            continue  # a line of its own above the block
        made.append((line, tuple(above.get(at, cell) if at in sure else cell for at, cell in enumerate(cells))))
    note = finding("ingest.filled_down", columns=[table.columns[at] for at in sure], blocks=sum(begins))
    questions = [_ask(table, place) for place in open_places if place not in sure]
    return dataclasses.replace(table, rows=tuple(made)), [note], questions


def _ask(table: Table, place: int) -> Question:
    column = table.columns[place]
    empty = sum(is_missing(cell) for cell in table.cells(place))
    asked = finding("ingest.empty_below", column=column, empty=empty, rows=len(table.rows))
    choices = ((("fill", f"{column}=down"),), (("fill", f"{column}=no"),))
    return Question(found=asked, columns=(column,), choices=choices)


def _is_one_of(fields: Sequence[str], column: str, options: IngestOptions) -> bool:
    if column in options.column_map:
        return options.column_map[column] in fields
    return any(rank_of(bare, name) is not None for bare, _ in bare_names(column) for name in fields)


def _is_gappy(cells: Column) -> bool:
    """Whether a value stands in the first row and none below it, and many of the others have none."""
    if len(cells) < 3 or is_missing(cells[0]) or not is_missing(cells[1]):
        return False
    return sum(map(is_missing, cells)) >= _MANY * len(cells)


def _is_blocks(rows: Sequence[tuple[Cell, ...]], place: int) -> bool:
    """Whether the filled cells can be nothing but the beginnings of blocks.

    Each has another value than the one before, and a row below it; and no two rows are one when they are filled.
    """
    stated: list[Cell] = []
    sizes: list[int] = []
    filled: list[tuple[Cell, ...]] = []
    for cells in rows:
        if is_missing(cells[place]):
            sizes[-1] += 1
        else:
            stated.append(cells[place])
            sizes.append(1)
        filled.append((stated[-1], *cells[:place], *cells[place + 1 :]))
    return len(set(stated)) == len(stated) and min(sizes) > 1 and len(set(filled)) == len(filled)
