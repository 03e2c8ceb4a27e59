"""What a log format makes of a file: named columns, rows with their line, and the rows it could not read."""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice, repeat
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar, overload, runtime_checkable

import numpy as np
import numpy.typing as npt

from lawfit.errors import LogFormatError
from lawfit.packed import ROWS_AT_ONCE, Column, Packer, Places
from lawfit.records import Curve, Rejection

Cell = str | bool | int | float | None  # None: the source says nothing
Row = tuple[int, tuple[Cell, ...]]  # line in the file (or number of the row) and one cell per column
Made = TypeVar("Made")
_PLAIN: Final = frozenset({bool, int, float, type(None)})


class Rows(Sequence[Row]):
    """Lines and columns, as the rows that they are of."""

    __slots__ = ("columns", "lines")

    def __init__(self, lines: npt.NDArray[np.int64], columns: Sequence[Column]) -> None:
        self.lines, self.columns = lines, tuple(columns)

    @classmethod
    def of(cls, rows: Iterable[tuple[int, Sequence[Cell]]], columns: int, *, texts: bool = False) -> Rows:
        """Packed, of so many columns; of `texts` alone."""
        packers, lines, rows = [Packer() for _ in range(columns)], list[int](), iter(rows)
        while some := list(islice(rows, ROWS_AT_ONCE)):
            lines += [line for line, _ in some]
            for packer, cells in zip(packers, zip(*[cells for _, cells in some], strict=True), strict=True):
                packer.extend(cells, texts=texts)
        return cls(np.array(lines, dtype=np.int64), [packer.column() for packer in packers])

    def __len__(self) -> int:
        return len(self.lines)

    @overload
    def __getitem__(self, at: int) -> Row: ...
    @overload
    def __getitem__(self, at: slice) -> list[Row]: ...
    def __getitem__(self, at: int | slice) -> Row | list[Row]:
        if isinstance(at, slice):
            lines = self.lines[at].tolist()
            cells = zip(*(column[at] for column in self.columns), strict=True) if self.columns else repeat(())
            return list(zip(lines, cells, strict=False))
        return int(self.lines[at]), tuple(column[at] for column in self.columns)

    def __iter__(self) -> Iterator[Row]:
        return chain.from_iterable(self[at : at + ROWS_AT_ONCE] for at in range(0, len(self), ROWS_AT_ONCE))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    def with_columns(self, changed: Mapping[int, Column], added: Sequence[Column] = ()) -> Rows:
        """With other columns in some places, and more behind them."""
        columns = [changed.get(place, column) for place, column in enumerate(self.columns)]
        return Rows(self.lines, [*columns, *added])

    def take(self, rows: Places) -> Rows:
        """Some of them."""
        return Rows(self.lines[rows], [Column.of(column.take(rows)) for column in self.columns])


@dataclass(frozen=True, kw_only=True)
class Table:
    """One row per run, as read; nothing is interpreted yet."""

    name: str  # of the file, for messages
    format: str
    columns: tuple[str, ...]
    rows: Sequence[Row]  # kept by columns, whatever is given
    rejections: tuple[Rejection, ...] = ()  # rows that are not rows: too long, ragged, not JSON
    notes: tuple[str, ...] = ()
    places: Mapping[int, tuple[str, int]] = field(default_factory=dict)  # file and line of rows from several files
    curves: tuple[Curve, ...] = ()
    exact: bool = False  # see records.Sweep
    decimal_commas: bool = False  # semicolons part the cells, as where commas are decimal
    _known: dict[Any, Any] = field(default_factory=dict, init=False, repr=False, compare=False)  # worked out once

    def __post_init__(self) -> None:
        if not isinstance(self.rows, Rows):
            object.__setattr__(self, "rows", Rows.of(self.rows, len(self.columns)))

    @property
    def packed(self) -> Rows:
        """The rows as they are kept."""
        assert isinstance(self.rows, Rows)
        return self.rows

    def cells(self, place: int) -> Column:
        """One column, row by row."""
        return self.packed.columns[place]

    def levels(self, place: int) -> Mapping[Cell, int]:
        """The different cells of one column, each with its number of rows."""
        return self.once(("levels", place), lambda: self._levels(self.cells(place)))

    def _levels(self, column: Column) -> Mapping[Cell, int]:
        found: Counter[Cell] = Counter()
        for cell, count in zip(column.levels, column.counts(), strict=True):
            found[cell] += count  # 1 and yes are one
        return found

    def with_columns(self, changed: Mapping[int, Column], added: Sequence[tuple[str, Column]] = ()) -> Table:
        """With other columns in some places, and more behind them."""
        if not (changed or added):
            return self
        rows = self.packed.with_columns(changed, [column for _, column in added])
        return dataclasses.replace(self, columns=(*self.columns, *(name for name, _ in added)), rows=rows)

    def once(self, name: Hashable, work: Callable[[], Made]) -> Made:
        """What `work` makes of the table, kept under a name: guesses ask for the same things many times."""
        if name not in self._known:
            self._known[name] = work()
        made: Made = self._known[name]
        return made

    def forget(self) -> None:
        """Let go of what was worked out, which takes as much memory as the rows."""
        self._known.clear()

    def place(self, line: int) -> tuple[str, int]:
        """File and line of a row."""
        return self.places.get(line, (self.name, line))

    def sources(self, lines: Iterable[int]) -> list[str]:
        """The same of rows, as texts."""
        if not self.places:
            return [f"{self.name}:{line}" for line in lines]
        return ["{}:{}".format(*self.place(line)) for line in lines]

    @classmethod
    def from_frame(cls, frame: Any, name: str = "DataFrame") -> Table:
        """A pandas DataFrame. Its missing values, nan among them, are empty cells."""
        columns = [str(column) for column in frame.columns]
        require_distinct(columns, name)
        cells = [Column.of(map(_of_frame, frame.iloc[:, place])) for place in range(len(columns))]
        rows = Rows(np.arange(1, len(frame) + 1), cells)
        return cls(name=name, format="dataframe", columns=tuple(columns), rows=rows)


@runtime_checkable
class GrowingFormat(Protocol):
    """A format whose logs grow, and are no lines of text: a look at how far they are takes their ends alone."""

    def sniff(self, path: Path, head: bytes) -> bool: ...

    def ends(self, path: Path) -> bytes | None:
        """A short log of the same format, of the first and last records; None where it has no ends that tell.

        Raises
        ------
        OSError
            It cannot be read.
        """


class LogFormat(Protocol):
    """One way in which logs come. To add one: a module with such an object, and a line in `formats.FORMATS`."""

    @property
    def name(self) -> str:
        """How `--format` and the report call it."""

    def sniff(self, path: Path, head: bytes) -> bool:
        """Whether a file of this name that starts with these bytes is of this format."""

    def read(self, path: Path) -> Table:
        """Read it all.

        Raises
        ------
        LogFormatError
            The file as a whole cannot be read. What is wrong with single rows is a rejection.
        """


@runtime_checkable
class FolderFormat(LogFormat, Protocol):
    """A format whose logs may be a folder, which `read` then takes."""

    def sniff_folder(self, folder: Path) -> bool:
        """Whether a folder holds logs of this format."""


def require_distinct(columns: Iterable[str], name: str) -> None:
    """Refuse a header that names a column twice.

    Raises
    ------
    LogFormatError
        It does.
    """
    places: dict[str, int] = {}
    for place, column in enumerate(columns, start=1):
        if column in places:
            raise LogFormatError(
                f"{name} has two columns called '{column}' (columns {places[column]} and {place}); rename or remove one"
            )
        places[column] = place


def table_of_objects(
    name: str,
    format_name: str,
    objects: Iterable[tuple[int, Mapping[str, Any]]],
    rejections: list[Rejection],
    notes: Iterable[str] = (),
) -> Table:
    """Nested objects become columns ``outer.inner``, in the order in which they first appear."""
    columns: dict[str, Packer] = {}
    lines: list[int] = []
    waiting: list[dict[str, Cell]] = []

    for line, item in objects:
        row: dict[str, Cell] = {}
        try:
            _flatten(item, "", row)
        except ValueError as error:
            rejections.append(Rejection(file=name, line=line, column=None, reason=str(error)))
            continue
        lines.append(line)
        waiting.append(row)
        if len(waiting) == ROWS_AT_ONCE:
            _pack(waiting, columns, len(lines))
    _pack(waiting, columns, len(lines))
    rows = Rows(np.array(lines, dtype=np.int64), [packer.column() for packer in columns.values()])
    return Table(
        name=name,
        format=format_name,
        columns=tuple(columns),
        rows=rows,
        rejections=tuple(rejections),
        notes=tuple(notes),
    )


def _pack(waiting: list[dict[str, Cell]], columns: dict[str, Packer], lines: int) -> None:
    """Put rows that wait into their columns; in one that is new, those before say nothing."""
    for column in dict.fromkeys(chain.from_iterable(waiting)):
        if column not in columns:
            columns[column] = Packer()
            columns[column].extend([None] * (lines - len(waiting)))
    for column, packer in columns.items():
        packer.extend([row.get(column) for row in waiting])
    waiting.clear()


def _flatten(item: Mapping[str, Any], prefix: str, into: dict[str, Cell]) -> None:
    for key, value in item.items():
        column = prefix + as_text(key.replace("\x00", ""))
        if isinstance(value, Mapping):
            _flatten(value, f"{column}.", into)
            continue
        if column in into:
            raise ValueError(f"'{column}' is given twice in this row")
        into[column] = as_cell(value)


def as_text(text: str) -> str:
    """As it can be stored and shown: names of files, and escapes in JSON, need not be text."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def _of_frame(value: Any) -> Cell:
    cell = as_cell(value)
    return None if isinstance(cell, float) and math.isnan(cell) else cell


def as_cell(value: Any) -> Cell:
    """A value of whatever source as a cell."""
    if value.__class__ in _PLAIN:  # before all: this is asked of every cell of a file
        return value  # type: ignore[no-any-return]
    if hasattr(value, "item") and not isinstance(value, str):  # a numpy scalar
        value = value.item()
    if isinstance(value, str):
        return as_text(value)
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, (list, tuple)):
        return json.dumps(value, default=str)
    return None if str(value) in ("NaT", "<NA>") else str(value)
