"""Several losses in one cell: those along a run, of which the last counts, or those of several seeds."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import numpy as np

from lawfit.findings import Found, finding
from lawfit.ingest.metrics import kind_of
from lawfit.ingest.names import rank_of
from lawfit.ingest.numbers import is_missing, is_number, number
from lawfit.ingest.options import IngestOptions
from lawfit.ingest.questions import Question
from lawfit.ingest.table import Cell, Table
from lawfit.ingest.view import are_words, plain_numbers
from lawfit.packed import Column

SEED_IN: Final = "seed in column "  # a column that the file has not
SEVERAL: Final = "ingest.several_in_cell"
_BRACKETS: Final = re.compile(r"\s*[\[(](.*)[\])]\s*", re.DOTALL)
_BETWEEN: Final = re.compile(r"\s*[;|/\n]\s*|,\s+|\s+")
_FALLS: Final = 1.05  # the first over the last loss of a run, and hardly of two seeds
_FEWEST: Final = 6  # rows that all fall, for that not to be chance
_LONGEST: Final = 20_000  # characters of a list


def one_loss_each(table: Table, options: IngestOptions) -> tuple[Table, list[Found], list[Question]]:
    """The table with one loss in each cell, what was done, and which lists only a person can tell."""
    notes: list[Found] = []
    questions: list[Question] = []
    for place, column in enumerate(table.columns):
        field = options.column_map.get(column)
        if not (field == "loss" or (field is None and kind_of(column))) or (made := _lists_in(table, place)) is None:
            continue
        text = next((str(c).strip() for c in table.cells(place).levels if not is_number(c) and _list(c)), "[]")
        if column in options.pool:
            table = _in_rows_of_their_own(table, place, made)
            notes.append(finding("ingest.seeds_in_cell", column=column, text=text))
            continue
        if field is None and not _fall(made):
            asked = finding("ingest.several_in_cell", column=column, text=text)
            choices = ((("pool", column),), (("map", f"{column}=loss"),))
            questions.append(Question(found=asked, columns=(column,), choices=choices))
        table = table.with_columns(
            {place: Column([values[-1] if values else "" for values in made.levels], made.codes)}
        )
        notes.append(finding("ingest.last_of_list", column=column, text=text))
    return table, notes, questions


def _lists_in(table: Table, place: int) -> Column | None:
    """The numbers of each cell of a column, where some have several and all have some or are empty."""
    if plain_numbers(table, place) is not None or are_words(table, place):
        return None
    cells = table.cells(place)
    if not any(isinstance(cell, str) and not is_number(cell) for cell in cells.levels):
        return None
    made = [_list(cell) for cell in cells.levels]
    alone = any(isinstance(cell, str) and _BRACKETS.fullmatch(cell) for cell in cells.levels)
    if not any(values and (alone or len(values) > 1) for values in made):
        return None
    words = [cell for cell, values in zip(cells.levels, made, strict=True) if values is None]
    if any(isinstance(cell, str) and any(map(str.isdigit, cell)) for cell in words):
        return None  # something else stands there, too
    return Column(
        [(cell,) if values is None else values for cell, values in zip(cells.levels, made, strict=True)], cells.codes
    )


def _list(cell: Cell) -> tuple[Cell, ...] | None:
    """The numbers of a cell, none of an empty one; None of a cell that has anything else in it."""
    if not isinstance(cell, str):
        return () if is_missing(cell) else (cell,)
    if len(cell) > _LONGEST:
        return None
    if found := _BRACKETS.fullmatch(cell):
        return _listed(found[1])
    parts = _BETWEEN.split(cell.strip())
    if is_missing(cell) or not all(map(is_number, parts)):
        return () if is_missing(cell) else None
    if len(parts) > 1 and any("." not in part for part in parts):
        return None  # 3 000, 3 / 5
    return tuple(parts)


def _listed(inner: str) -> tuple[Cell, ...] | None:
    inner = inner.strip().rstrip(",")
    for word in ("NaN", "Infinity"):
        inner = re.sub(rf"\b{word[:3]}[a-z]*", word, inner, flags=re.IGNORECASE)  # nan, inf: as Python writes them
    try:
        values = json.loads(f"[{inner}]")
    except (ValueError, RecursionError):  # the latter of thousands of brackets
        parts = re.split(r"\s*[;|]\s*|\s+", inner)
        return tuple(parts) if len(parts) > 1 and all(map(is_number, parts)) else None
    plain = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
    return tuple(values) if plain else None


def _fall(made: Column) -> bool:
    """Whether lists are as losses along a run are: they fall throughout in all of many rows, or by far in most."""
    several = [[number(value) for value in values] for values in made if len(values) > 1]
    throughout = all(b <= a for values in several for a, b in pairwise(values))
    far = sum(values[0] > _FALLS * values[-1] for values in several)
    return not several or (throughout and len(several) >= _FEWEST) or 2 * far > len(several)


def _in_rows_of_their_own(table: Table, place: int, made: Column) -> Table:
    """A row for each seed, with the number of the seed."""
    rows: list[int] = []
    losses: list[Cell] = []
    counts: list[int] = []
    for at, values in enumerate(made):
        for count, value in enumerate(values or ("",), start=1):
            rows.append(at)
            losses.append(value)
            counts.append(count)
    taken = table.packed.take(np.array(rows, dtype=np.intp))
    ids: dict[int, Column] = {}
    for other, column in enumerate(table.columns):
        if rank_of(column, "run_id") is not None:
            ids[other] = Column.of(_numbered(taken.columns[other], counts))
    changed = taken.with_columns({place: Column.of(losses), **ids}, [Column.of(counts)])
    return dataclasses.replace(table, columns=(*table.columns, f"{SEED_IN}{place + 1}"), rows=changed)


def _numbered(ids: Sequence[Cell], counts: Sequence[int]) -> list[Cell]:
    both = zip(ids, counts, strict=True)
    return [each if is_missing(each) or count == 1 else f"{each}-{count}" for each, count in both]
