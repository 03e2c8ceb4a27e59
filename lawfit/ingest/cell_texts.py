"""Cells that hold more than a number: shares in percent, sizes and words in names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

from lawfit.factors import normal, spellings
from lawfit.findings import Found, finding
from lawfit.ingest.metrics import kind_of
from lawfit.ingest.names import NAMES
from lawfit.ingest.numbers import is_missing, is_number
from lawfit.ingest.options import IngestOptions
from lawfit.ingest.table import Cell, Table
from lawfit.ingest.view import are_words, plain_numbers
from lawfit.packed import Column
from lawfit.units import parse_quantity

_PERCENT: Final = re.compile(r"\s*([+-]?(?:[0-9]++(?:\.[0-9]*+)?+|\.[0-9]++))\s*%\s*")
_SPREAD: Final = re.compile(
    r"\s*([+-]?(?:[0-9]++(?:\.[0-9]*+)?+|\.[0-9]++))\s*(?:(?:±|\+/-|\+-|\\pm)\s*[0-9.]+|[(]\s*±?\s*[0-9.]+\s*[)])\s*"
)
_EMPHASIS: Final = re.compile(r"\\(?:textbf|mathbf|textit|bf|it|underline)\{(.*)\}")
_SIZE: Final = re.compile(r"(?<![a-z0-9.])([0-9]+(?:\.[0-9]+)?)\s?([kmbt])(?![a-z0-9])", re.IGNORECASE)
# Behind it, an x makes it a multiple of another rate.
_RATE: Final = re.compile(
    r"(?<![a-z0-9])(?:lr|learning[-_ ]?rate)[-_=: ]{0,2}([0-9]+(?:[.p][0-9]+)?(?:e[-+]?[0-9]+)?)(?![0-9.x×])"
)
_WORD: Final = re.compile(r"[a-z][a-z]+")
# Of names of runs: what tells repeats apart, not what was changed.
REPEATS: Final = frozenset(
    {
        *("seed", "seeds", "run", "rerun", "rep", "repeat", "replicate", "retry", "try", "trial", "copy", "again"),
        *("resume", "resumed", "cont", "continued", "first", "second", "third", "final", "new", "old", "test"),
    }
)
_DIGITS: Final = "0123456789"
_MARKS: Final = frozenset("*_`$†‡\\} ")
_LONGEST_NUMBER: Final = 60  # characters of a cell
_MOST_WORDS: Final = 6  # levels
WORDS_OF: Final = "words of "
OPTIMIZERS: Final = frozenset(
    {
        *("adam", "adamw", "sgd", "muon", "lion", "shampoo", "soap", "adafactor", "sophia", "lamb", "rmsprop", "mars"),
        *("adagrad", "ademamix", "momentum", "kron", "psgd", "signum", "nadam", "radam", "adamax", "adopt", "scion"),
    }
)


def made_numbers(table: Table, options: IngestOptions) -> tuple[Table, list[Found]]:
    """Results as one number each: without their spread, and a share of one for percent."""
    columns: dict[int, Column] = {}
    notes: list[Found] = []
    for place, column in enumerate(table.columns):
        field = options.column_map.get(column)
        if field == "loss" or (field is None and kind_of(column)):
            cells = table.cells(place)
            plain = plain_numbers(table, place) is not None
            if plain or all(is_number(cell) for cell in cells.levels if not is_missing(cell)):
                continue
            if (found := _each(cells, _without_spread)) is not None:
                columns[place] = found
                notes.append(finding("ingest.spread_left_out", column=column, text=_first(cells)))
            elif (found := _each(cells, _share)) is not None:
                columns[place] = found
                notes.append(finding("ingest.percent_cells", column=column, text=_first(cells)))
    return table.with_columns(columns), notes


def _each(cells: Column, read: Callable[[str], Cell]) -> Column | None:
    """All cells read in one way; None where some text cannot be, or nothing has to be."""
    found: list[Cell] = []
    changed = False
    for cell in cells.levels:
        if isinstance(cell, str) and not is_missing(cell):
            value = read(cell)
            if value is None:
                return None
            changed = changed or value != cell
            found.append(value)
        else:
            found.append(cell)
    return Column(found, cells.codes) if changed else None


def _without_spread(text: str) -> Cell:
    """3.21 of ``3.21 ± 0.02`` and ``3.21 (0.02)``; a plain number stays."""
    if is_number(text):
        return text
    found = _SPREAD.fullmatch(text)
    return found[1] if found else None


def plainly_written(table: Table) -> tuple[Table, list[Found]]:
    """Numbers without the marks by which papers show the best one: ``**3.21**``, ``\\textbf{3.21}``, ``3.21*``."""
    columns: dict[int, Column] = {}
    notes: list[Found] = []
    for place, column in enumerate(table.columns):
        levels = table.cells(place).levels
        if plain_numbers(table, place) is not None or are_words(table, place):
            continue
        marked = {cell: found for cell in levels if (found := _unmarked(cell))}
        if not marked:
            continue
        others = [cell for cell in levels if cell not in marked and not is_missing(cell)]
        if all(is_number(cell) or _SPREAD.fullmatch(str(cell)) for cell in others):
            columns[place] = Column([marked.get(cell, cell) for cell in levels], table.cells(place).codes)
            notes.append(finding("ingest.marks_left_out", column=column, text=str(next(iter(marked)))))
    return table.with_columns(columns), notes


def _unmarked(cell: Cell) -> str:
    """A number that has marks around it, without them; "" of any other cell."""
    if not isinstance(cell, str) or not (cell[:1] in _MARKS or cell[-1:] in _MARKS) or len(cell) > _LONGEST_NUMBER:
        return ""  # this is asked of every cell of a file
    bare = _EMPHASIS.sub(r"\1", cell.strip().strip("*_`$†‡ ")).strip("*_`$†‡ ")
    return bare if bare != cell.strip() and (is_number(bare) or _SPREAD.fullmatch(bare)) else ""


def _share(text: str) -> Cell:
    """53.6 % as 0.536."""
    found = _PERCENT.fullmatch(text)
    return None if found is None else float(f"{float(found[1]) / 100:.12g}")


def _size_in(text: str) -> Cell:
    """The only size that a name has: pythia-10m, llama-7b-run3."""
    found = _SIZE.findall(text.replace("_", "-"))
    return float(f"{parse_quantity(''.join(found[0])):.15g}") if len(found) == 1 else None


def _first(cells: Iterable[Cell]) -> str:
    return next((str(cell).strip() for cell in cells if not is_missing(cell)), "")


def sizes_in_names(table: Table, column: str) -> Column | None:
    """The size that each name of a column has in it; None where some have none, or several."""
    return _each(table.cells(table.columns.index(column)), _size_in)


def rates_in_names(table: Table, column: str) -> Column | None:
    """The learning rate that each name of a column has in it; None where some have none, or several."""
    return _each(table.cells(table.columns.index(column)), _rate_in)


def columns_of_rates(table: Table) -> list[tuple[str, str]]:
    """Columns of texts that have one learning rate each, not always the same; and the first of the texts."""
    found = []
    for place, column in enumerate(table.columns):
        cells = table.cells(place).levels
        first = next((cell for cell in cells if not is_missing(cell)), None)
        if not isinstance(first, str) or _rate_in(first) is None:
            continue
        cells = [cell for cell in cells if not is_missing(cell)]
        rates = {_rate_in(cell) if isinstance(cell, str) else None for cell in cells}
        if len(rates) > 1 and None not in rates:
            found.append((column, _first(cells)))
    return found


def _rate_in(text: str) -> Cell:
    """The only learning rate that a name has: gpt-lr1e-3-s0, lr=0.002, wd=0.1."""
    found = {float(each.replace("p", ".")) for each in _RATE.findall(text.lower())}
    return found.pop() if len(found) == 1 else None


def columns_of_sizes(table: Table) -> list[tuple[str, str]]:
    """Columns of names, each of which has one size in it; and the first of those names."""
    found = []
    for place, column in enumerate(table.columns):
        cells = table.cells(place).levels
        sized = (isinstance(cell, str) and _size_in(cell) is not None for cell in cells if not is_missing(cell))
        if all(sized) and (first := _first(cells)):
            found.append((column, first))
    return found


def with_words(table: Table, wanted: Callable[[str], bool]) -> Table:
    """With a column of the words that tell the names of runs apart, for columns of names that are wanted."""
    for place, column in enumerate(table.columns):
        if WORDS_OF + column in table.columns or not wanted(column):
            continue
        levels = _words(table.cells(place), ids=are_words(table, place))
        if levels is not None:
            table = table.with_columns({}, [(WORDS_OF + column, levels)])
    return table


def is_name_of_runs(column: str) -> bool:
    return normal(column) in (*NAMES["run_name"], *NAMES["run_id"]) or spellings(column)[-1] in NAMES["run_name"]


def _words(cells: Column, *, ids: bool) -> Column | None:
    """Of each name the words that not all have, where they make a few levels; None where they do not.

    Parameters
    ----------
    ids : all of the names say something (`are_words`)
    """

    def bare(cell: Cell) -> str:  # digits at the end of many a name are no words
        return str(cell).rstrip(_DIGITS) if ids or not is_missing(cell) else ""

    known: dict[str, frozenset[str]] = {}
    kinds: Counter[frozenset[str]] = Counter()
    for texts in cells.pieces(bare):
        for text, rows in Counter(texts).items():
            if text not in known:
                known[text] = frozenset(_WORD.findall(text.lower())) - REPEATS
            kinds[known[text]] += rows
        if len(kinds) > _MOST_WORDS:
            return None  # names of their own, as trackers give: there may be as many as rows
    if len(kinds) < 2 or min(kinds.values()) < 2:
        return None
    common = frozenset.intersection(*kinds)
    return cells.made(lambda cell: "-".join(sorted(known[bare(cell)] - common)))
