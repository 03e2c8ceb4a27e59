"""Numbers that the names of runs state behind a word (`wd0.1`, `b2-0.95`, `--beta2 0.95`), as columns of their own."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from lawfit.factors import is_factor, normal
from lawfit.ingest.cell_texts import REPEATS, is_name_of_runs
from lawfit.ingest.numbers import is_missing, is_number
from lawfit.ingest.table import Cell, Table
from lawfit.packed import Column, Places, groups

VALUE_OF: Final = "value of "
_IN: Final = " in "
# Beside names, what a run was started with and where it wrote.
_STARTED_WITH: Final = frozenset(
    {
        *("config", "cfg", "command", "cmd", "cmdline", "args", "argv", "overrides", "script", "dir", "folder", "path"),
        *("file", "filename", "output", "exp", "experiment", "job", "model", "checkpoint", "label", "tag", "title"),
    }
)
_NUMBER: Final = r"([0-9]+(?:[.][0-9]+)?(?:e[-+]?[0-9]+)?|[0-9]+p[0-9]+)([kmb]?)(?![a-z0-9]|[.][0-9])"
_OPTION: Final = re.compile(
    # bounded: a long text of one kind would take time with its square
    rf"(?:(?<![a-z0-9_-])--?([a-z][a-z0-9_.-]{{0,60}})[= ]"
    rf"|(?<![a-z0-9])([a-z]{{1,40}}(?:[_.][a-z]{{1,40}}){{0,6}}_?[0-9]?)=){_NUMBER}"
)
_ATTACHED: Final = re.compile(rf"(?<![a-z0-9])([a-z]+){_NUMBER}")
_APART: Final = re.compile(rf"(?<![a-z0-9])([a-z]+[0-9]?)[-_: ]{_NUMBER}")
# Letters that count repeats, and months: what tells repeats apart, not what was changed.
_COUNTERS: Final = REPEATS | {
    *("s", "r", "i", "n", "no", "nr", "sd", "rs", "rng", "x"),
    *("restart", "take", "draw", "shuffle", "init", "instance", "dataseed"),
    *("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec", "day", "week", "port"),
}
_MOST_LEVELS: Final = 20  # of a choice
_MOST_READ: Final = 5_000  # names


def with_values(table: Table, named: Iterable[str], seed: int | None = None) -> Table:
    """With those of the named columns that names of runs make: of the numbers behind one word.

    One that counts as the column `seed` does is left out.
    """
    for made in sorted({name for name in named if name.startswith(VALUE_OF)} - set(table.columns)):
        label, _, column = made.removeprefix(VALUE_OF).partition(_IN)
        if column in table.columns and (values := _varying(table, table.columns.index(column)).get(label)):
            found = table.cells(table.columns.index(column)).made(values.__getitem__)
            if seed is None or not _goes_with(found, table.cells(seed)):
                table = table.with_columns({}, [(made, found)])
    return table


def differing(table: Table, groups: Sequence[Places], has_column: Callable[[str], bool]) -> list[str]:
    """Columns that `with_values` can make in which rows of one group differ; of large tables some groups tell.

    A word that `has_column` differs where two names state two numbers: a name without it says what its column does.
    """
    some = groups[:: 1 + sum(map(len, groups)) // _MOST_READ]
    found: set[str] = set()
    for place, column in enumerate(table.columns):
        if _says_settings(column) and not column.startswith(VALUE_OF):
            for group in some:
                values = [_values(str(cell).lower()) for cell in table.cells(place).different(group)]
                labels = {label for each in values for label in each}
                for label in labels:
                    said = {each.get(label) for each in values}
                    if len(said - {None} if has_column(label) else said) > 1:
                        found.add(f"{VALUE_OF}{label}{_IN}{column}")
    return sorted(found)


def word_of(column: str) -> str:
    """The word in front of the numbers of a column made here; any other column as it is."""
    return column.removeprefix(VALUE_OF).partition(_IN)[0] if column.startswith(VALUE_OF) else column


def _goes_with(one: Column, other: Column) -> bool:
    """Whether each level of one has a level of the other to itself."""
    return len({groups(columns, len(one))[1] for columns in ([one], [other], [one, other])}) == 1


def _says_settings(column: str) -> bool:
    return is_name_of_runs(column) or not _STARTED_WITH.isdisjoint(normal(column).split("_"))


def _varying(table: Table, place: int) -> dict[str, dict[Cell, str]]:
    """Word -> cell -> number, where most names have the word and there are some numbers behind it, not one a row."""
    found: dict[str, dict[Cell, str]] = {}
    levels: dict[str, set[str]] = {}
    names = table.levels(place)
    many: set[str] = set()
    for cell in names:
        if is_missing(cell) or not isinstance(cell, str) or is_number(cell):
            continue
        for label, value in _values(cell.lower()).items():
            if label in many:
                continue
            found.setdefault(label, {})[cell] = value
            known = levels.setdefault(label, set())
            known.add(value)
            if len(known) > _MOST_LEVELS:
                many.add(label)
                del found[label], levels[label]
    often = {label: values for label, values in found.items() if 2 * len(values) > len(names) > 1}
    made = {label: {cell: values.get(cell, "") for cell in names} for label, values in often.items()}
    several = len(names) < len(table.rows)  # then names that differ in this number alone say as much themselves
    return {
        label: values for label, values in made.items() if 1 < len(set(values.values())) < len(names) + (not several)
    }


def _values(name: str) -> dict[str, str]:
    """Of one name the numbers, each under the word in front of it; without counters of repeats."""
    found: dict[str, str] = {}
    for option, field, digits, unit in _OPTION.findall(name):
        found[(option or field).replace("-", "_")] = digits + unit
    bare = _OPTION.sub(" ", name)
    for label, digits, unit in _ATTACHED.findall(bare):
        found.setdefault(label, digits + unit)
    for label, digits, unit in _APART.findall(bare):
        # A whole number that stands apart counts (`adamw_2`), unless the word is known as a setting's.
        if not digits.isdigit() or is_factor(label):
            found.setdefault(label, digits + unit)
    return {label: value for label, value in found.items() if _COUNTERS.isdisjoint(re.split("[_.]", label))}
