"""Columns of many rows: the different cells, and for each row which of them; rows that are equal, or go together."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, count, filterfalse, islice
from operator import index
from typing import Any, Final, overload

import numpy as np
import numpy.typing as npt

Codes = npt.NDArray[np.unsignedinteger[Any]]
Places = npt.NDArray[np.intp]

_PART: Final = "\x1f"  # between texts
ROWS_AT_ONCE: Final = 8_192
_MOST_LEVELS: Final = 1 << 16  # of a column that is kept by them; one with more hardly repeats
_LARGEST_NUMBER: Final = 2**62  # of a group, while columns are taken together


class Texts(Sequence[str]):
    """Texts that hardly repeat, joined: as objects they would take five times the memory."""

    __slots__ = ("_blocks", "_length", "_open")

    def __init__(self) -> None:
        self._blocks: list[str] = []
        self._length = 0
        self._open: tuple[int, list[str]] = (-1, [])  # the block that was asked for last

    def __len__(self) -> int:
        return self._length

    def take(self, cells: Sequence[Any]) -> bool:
        """Add a block of cells, where they are texts that can be parted again and all blocks before it are full."""
        if self._length % ROWS_AT_ONCE or len(cells) > ROWS_AT_ONCE or set(map(type, cells)) != {str}:
            return False
        block = _PART.join(cells)
        if block.count(_PART) != len(cells) - 1:
            return False
        self._blocks.append(block)
        self._length += len(cells)
        return True

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> list[str]: ...
    def __getitem__(self, at: int | slice) -> str | list[str]:
        if not isinstance(at, slice):
            at = index(at)  # one of numpy's, too
            return self._block(range(self._length)[at] // ROWS_AT_ONCE)[at % self._length % ROWS_AT_ONCE]
        begin, end, step = at.indices(self._length)
        if step == 1 and begin % ROWS_AT_ONCE == 0 and begin < end <= begin + ROWS_AT_ONCE:
            return self._block(begin // ROWS_AT_ONCE)[: end - begin]
        return [self[each] for each in range(begin, end, step)]

    def __iter__(self) -> Iterator[str]:
        return chain.from_iterable(block.split(_PART) for block in self._blocks)

    def _block(self, number: int) -> list[str]:
        known, texts = self._open
        if known != number:
            texts = self._blocks[number].split(_PART)
            self._open = (number, texts)
        return texts


class Column(Sequence[Any]):
    """What stands in one column, row by row.

    `levels` are the different cells as they come, or what was made of each. Without `codes` they are those of the rows.
    """

    __slots__ = ("codes", "levels")

    def __init__(self, levels: Sequence[Any], codes: Codes | None = None) -> None:
        self.levels, self.codes = levels, codes

    @classmethod
    def of(cls, cells: Iterable[Any]) -> Column:
        packer, cells = Packer(), iter(cells)
        while some := list(islice(cells, ROWS_AT_ONCE)):
            packer.extend(some)
        return packer.column()

    @classmethod
    def same(cls, cell: Any, rows: int) -> Column:
        """One cell in all rows."""
        return cls([cell], np.zeros(rows, dtype=np.uint8))

    def __len__(self) -> int:
        return len(self.levels) if self.codes is None else len(self.codes)

    @overload
    def __getitem__(self, at: int) -> Any: ...
    @overload
    def __getitem__(self, at: slice) -> list[Any]: ...
    def __getitem__(self, at: int | slice) -> Any:
        if self.codes is None:
            return list(self.levels[at]) if isinstance(at, slice) else self.levels[at]
        if isinstance(at, slice):
            return list(map(self.levels.__getitem__, self.codes[at].tolist()))
        return self.levels[self.codes[at]]

    def __iter__(self) -> Iterator[Any]:
        return chain.from_iterable(self[at : at + ROWS_AT_ONCE] for at in range(0, len(self), ROWS_AT_ONCE))

    def made(self, work: Callable[[Any], Any]) -> Column:
        """With what `work` makes of each cell, which it sees once."""
        return Column(list(map(work, self.levels)), self.codes)

    def pieces(self, work: Callable[[Any], Any]) -> Iterator[list[Any]]:
        """What `work` makes of the cells, a part at a time: no column that hardly repeats is made whole."""
        made = None if self.codes is None else self.made(work)
        for at in range(0, len(self), ROWS_AT_ONCE):
            some = slice(at, at + ROWS_AT_ONCE)
            yield list(map(work, self.levels[some])) if made is None else made[some]

    def spread(self, levels: Sequence[Any] | npt.NDArray[Any], dtype: Any = None) -> npt.NDArray[Any]:
        """What was made of the levels, row by row."""
        made = np.array(levels, dtype=dtype)
        return made if self.codes is None else made[self.codes]

    def rows(self, wanted: Callable[[Any], bool]) -> list[int]:
        """The rows of cells that are wanted."""
        found: list[int] = np.flatnonzero(self.spread([wanted(level) for level in self.levels], bool)).tolist()
        return found

    def counts(self) -> list[int]:
        """In how many rows each level stands."""
        if self.codes is None:
            return [1] * len(self.levels)
        counted: list[int] = np.bincount(self.codes, minlength=len(self.levels)).tolist()
        return counted

    def floats(self) -> npt.NDArray[np.float64]:
        """A column of numbers; nan for None."""
        return self.spread(self.levels, np.float64)

    def ascending(self) -> Sequence[float]:
        """The numbers of a column of them, without rows that hold none."""
        numbers = self.floats()
        return array("d", np.sort(numbers[~np.isnan(numbers)]).tobytes())

    def different(self, rows: Places) -> set[Any]:
        """What stands in some of the rows."""
        at = rows if self.codes is None else np.unique(self.codes[rows])
        return set(map(self.levels.__getitem__, at.tolist()))

    def take(self, rows: Places) -> Column:
        """Some of the rows."""
        if self.codes is None:
            return Column([self.levels[at] for at in rows.tolist()])
        return Column(self.levels, self.codes[rows])


class Packer:
    """A column from its cells, as they come."""

    def __init__(self) -> None:
        self._known: dict[Any, int] | None = {}  # None: they hardly repeat
        self._levels: list[Any] = []
        self._texts: Texts | None = None  # in place of levels
        self._codes: list[Codes] = [np.zeros(0, dtype=np.uint8)]

    def extend(self, cells: Sequence[Any], *, texts: bool = False) -> None:
        """Add cells, which may be `texts` alone."""
        known = self._known
        if known is None:
            if self._texts is None or not self._texts.take(cells):
                self._levels.extend([*(self._texts or ()), *cells])
                self._texts = None
            return
        if texts and cells[0] == cells[-1] and cells.count(cells[0]) == len(cells) and cells[0] in known:
            self._codes.append(np.full(len(cells), known[cells[0]], dtype=np.min_scalar_type(len(known))))
            return
        keys = cells if texts else list(map(_key, cells))
        try:
            codes = _codes(known, keys)
        except KeyError:
            new = dict.fromkeys(filterfalse(known.__contains__, keys))
            known.update(zip(new, count(len(known)), strict=False))
            first = dict(zip(reversed(keys), reversed(cells), strict=True))
            self._levels.extend(map(first.__getitem__, new))
            codes = _codes(known, keys)
        self._codes.append(codes.astype(np.min_scalar_type(len(known))))
        if len(known) > _MOST_LEVELS:
            cells, self._levels, self._known, self._codes, self._texts = list(self.column()), [], None, [], Texts()
            for at in range(0, len(cells), ROWS_AT_ONCE):
                self.extend(cells[at : at + ROWS_AT_ONCE])

    def column(self) -> Column:
        if self._known is not None:
            return Column(self._levels, np.concatenate(self._codes))
        return Column(self._levels if self._texts is None else self._texts)


def _codes(known: Mapping[Any, int], keys: Sequence[Any]) -> npt.NDArray[np.uint32]:
    return np.fromiter(map(known.__getitem__, keys), dtype=np.uint32, count=len(keys))


def _key(cell: Any) -> Any:
    """What tells cells apart that are equal: 1 and yes, 0.0 and -0.0."""
    return cell if isinstance(cell, str) else (type(cell), cell or str(cell))


def groups(columns: Sequence[Column | npt.NDArray[Any]], rows: int) -> tuple[npt.NDArray[np.int64], int]:
    """Rows that say the same in all of the columns have one number, and how many such numbers there are."""
    numbers, count = np.zeros(rows, dtype=np.int64), 1
    for column in columns:
        if isinstance(column, Column):
            known: dict[Any, int] = {}
            own = column.spread([known.setdefault(level, len(known)) for level in column.levels], np.int64)
            several = len(known)
        else:
            own, several = _numbered(column)
        if count * several > _LARGEST_NUMBER:
            numbers, count = _numbered(numbers)
        numbers, count = numbers * several + own, count * max(several, 1)
    return _numbered(numbers)


def _numbered(numbers: npt.NDArray[Any]) -> tuple[npt.NDArray[np.int64], int]:
    levels, made = np.unique(numbers, return_inverse=True)
    return made.astype(np.int64), len(levels)


def members(numbers: npt.NDArray[np.int64], fewest: int = 1) -> list[Places]:
    """The rows of each group that has so many or more, in the order of the first of them."""
    order = np.argsort(numbers, kind="stable")
    ends = np.flatnonzero(np.diff(numbers[order])) + 1
    found = [rows for rows in np.split(order, ends) if len(rows) >= fewest]
    return sorted(found, key=lambda rows: rows[0])


def repeated(columns: Sequence[Column], rows: int) -> dict[int, int]:
    """Rows that are equal to one before them, and the first such.

    Hashes find the few that may be: of equal cells they are equal, and rows are compared where those are.
    """
    hashes = np.zeros(rows, dtype=np.uint64)
    for column in columns:
        own = column.spread(np.fromiter(map(hash, column.levels), dtype=np.int64, count=len(column.levels)))
        hashes = hashes * np.uint64(0x9E3779B97F4A7C15) + own.astype(np.uint64)
    ascending = np.sort(hashes)
    twice = ascending[1:][ascending[1:] == ascending[:-1]]
    first: dict[tuple[Any, ...], int] = {}
    found: dict[int, int] = {}
    for at in np.flatnonzero(np.isin(hashes, twice)).tolist() if len(twice) else ():
        if (before := first.setdefault(tuple(column[at] for column in columns), at)) != at:
            found[at] = before
    return found
