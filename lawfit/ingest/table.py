"""What a log format makes of a file: named columns, rows with their line, and the rows it could not read."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

from lawfit.errors import LogFormatError
from lawfit.records import Curve, Rejection

Cell = str | bool | int | float | None  # None: the source says nothing
Made = TypeVar("Made")
Row = tuple[int, tuple[Cell, ...]]  # line in the file (or number of the row) and one cell per column


@dataclass(frozen=True, kw_only=True)
class Table:
    """One row per run, as read; nothing is interpreted yet."""

    name: str  # of the file, for messages
    format: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    rejections: tuple[Rejection, ...] = ()  # rows that are not rows: too long, ragged, not JSON
    notes: tuple[str, ...] = ()
    places: Mapping[int, tuple[str, int]] = field(default_factory=dict)  # file and line of rows from several files
    curves: tuple[Curve, ...] = ()
    exact: bool = False  # see records.Sweep
    decimal_commas: bool = False  # semicolons part the cells, as where commas are decimal
    _known: dict[Any, Any] = field(default_factory=dict, init=False, repr=False, compare=False)  # worked out once

    def cells(self, place: int) -> list[Cell]:
        """One column, row by row."""
        return self.once(("cells", place), lambda: [cells[place] for _, cells in self.rows])

    def levels(self, place: int) -> Mapping[Cell, int]:
        """The different cells of one column, each with its number of rows."""
        return self.once(("levels", place), lambda: Counter(self.cells(place)))

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

    @classmethod
    def from_frame(cls, frame: Any, name: str = "DataFrame") -> Table:
        """A pandas DataFrame. Its missing values, nan among them, are empty cells."""
        columns = [str(column) for column in frame.columns]
        require_distinct(columns, name)
        rows = []
        for number, values in enumerate(frame.itertuples(index=False, name=None), start=1):
            cells = (_cell(value) for value in values)
            rows.append((number, tuple(None if isinstance(c, float) and math.isnan(c) else c for c in cells)))
        return cls(name=name, format="dataframe", columns=tuple(columns), rows=tuple(rows))


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
    columns: dict[str, None] = {}
    flat: list[tuple[int, dict[str, Cell]]] = []
    for line, item in objects:
        row: dict[str, Cell] = {}
        try:
            _flatten(item, "", row)
        except ValueError as error:
            rejections.append(Rejection(file=name, line=line, column=None, reason=str(error)))
            continue
        columns.update(dict.fromkeys(row))
        flat.append((line, row))
    rows = tuple((line, tuple(row.get(column) for column in columns)) for line, row in flat)
    return Table(
        name=name,
        format=format_name,
        columns=tuple(columns),
        rows=rows,
        rejections=tuple(rejections),
        notes=tuple(notes),
    )


def _flatten(item: Mapping[str, Any], prefix: str, into: dict[str, Cell]) -> None:
    for key, value in item.items():
        column = prefix + as_text(key.replace("\x00", ""))
        if isinstance(value, Mapping):
            _flatten(value, f"{column}.", into)
            continue
        if column in into:
            raise ValueError(f"'{column}' is given twice in this row")
        into[column] = _cell(value)


def as_text(text: str) -> str:
    """As it can be stored and shown: names of files, and escapes in JSON, need not be text."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def _cell(value: Any) -> Cell:
    if hasattr(value, "item") and not isinstance(value, str):  # a numpy scalar
        value = value.item()
    if isinstance(value, str):
        return as_text(value)
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, (list, tuple)):
        return json.dumps(value, default=str)
    return None if str(value) in ("NaT", "<NA>") else str(value)
