"""A store into another database, row by row as it stands, and the hashes that show the two to be equal."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from lawfit.errors import StoreError
from lawfit.storage.bulk import insert_many
from lawfit.storage.database import Location, check_file
from lawfit.storage.store import Store
from lawfit.storage.tables import metadata

_ROWS_AT_ONCE: Final = 2_000
_MODULUS: Final = 1 << 256


@dataclass(frozen=True, kw_only=True)
class Copied:
    """What one copy wrote, and found equal when it read it back."""

    source: str
    target: str
    rows: dict[str, int]  # table -> rows
    hashes: dict[str, str]  # table -> hash of its rows, whatever their order


class _Sum:
    """A hash of rows that their order does not change: the sum of the hashes of all of them."""

    def __init__(self) -> None:
        self.rows = 0
        self._total = 0

    def of(self, rows: Iterator[Any]) -> Iterator[Any]:
        """The same rows, added up as they pass."""
        for row in rows:
            digest = hashlib.sha256(repr(tuple(row)).encode("utf-8", "surrogatepass")).digest()
            self._total = (self._total + int.from_bytes(digest)) % _MODULUS
            self.rows += 1
            yield row

    @property
    def text(self) -> str:
        return f"{self._total:064x}"


def table_hashes(connection: sa.Connection) -> dict[str, str]:
    """Table -> hash of what it holds, the same for equal rows in any order on any kind of database."""
    found = {}
    for table in metadata.sorted_tables:
        total = _Sum()
        for _ in total.of(_rows(connection, table)):
            pass
        found[table.name] = total.text
    return found


def copy(source: str | Path, target: str | Path) -> Copied:
    """Copy a whole store (runs, curves, fits, answers) between files and servers; ids of fits and answers stay valid.

    The target is read back and compared before anything of it is kept; a new file appears when it is complete. The
    source is only read, and may be in use.

    Raises
    ------
    StoreError
        The target holds something, both are one, or what was read back is not what was written.
    """
    old, new = Location.parse(source), Location.parse(target)
    if old.url == new.url or (old.path and new.path and old.path.absolute() == new.path.absolute()):
        raise StoreError(f"{old} cannot be copied onto itself; name another database")
    with Store.open(source, create=False, migrate=False) as from_store:
        if new.path is None or new.path.exists():
            return _into(from_store, target, str(new))
        check_file(new.path)
        part = new.path.with_name(new.path.name + ".part")
        part.unlink(missing_ok=True)
        try:
            done = _into(from_store, part, str(new))
            part.rename(new.path)
        finally:
            for suffix in ("", "-wal", "-shm"):
                part.with_name(part.name + suffix).unlink(missing_ok=True)
        return done


def _into(source: Store, target: str | Path, shown: str) -> Copied:
    sums = {table.name: _Sum() for table in metadata.sorted_tables}
    with Store.open(target) as store, store.writing() as connection, source.frozen() as reading:
        for table in metadata.sorted_tables:
            if connection.execute(sa.select(sa.literal(1)).select_from(table).limit(1)).scalar():
                raise StoreError(f"{shown} holds {table.name} already; a copy goes into an empty database")
        for table in metadata.sorted_tables:
            names = [column.name for column in table.columns]
            insert_many(connection, table, names, sums[table.name].of(_rows(reading, table)))
            if connection.dialect.name == "postgresql" and isinstance(table.c[names[0]].type, sa.Integer):
                _go_on_counting(connection, table)
        written = table_hashes(connection)
        if differing := [name for name, total in sums.items() if total.text != written[name]]:
            raise StoreError(
                f"{shown} gives back other rows of {', '.join(differing)} than were written; nothing was kept. "
                "Run lawfit db check on both"
            )
    return Copied(
        source=str(source.location),
        target=shown,
        rows={name: total.rows for name, total in sums.items()},
        hashes=written,
    )


def _rows(connection: sa.Connection, table: sa.Table) -> Iterator[Any]:
    """All rows as plain values; JSON as the text that is stored."""
    columns = [sa.cast(c, sa.Text) if isinstance(c.type, sa.JSON) else c for c in table.columns]
    with connection.execute(sa.select(*columns), execution_options={"yield_per": _ROWS_AT_ONCE}) as rows:
        yield from rows


def _go_on_counting(connection: sa.Connection, table: sa.Table) -> None:
    """The next row that is inserted gets an id behind those that were copied."""
    name, key = table.name, next(iter(table.primary_key.columns)).name
    sequence = connection.execute(sa.select(sa.func.pg_get_serial_sequence(name, key))).scalar()
    if sequence is not None:
        last = sa.select(sa.func.coalesce(sa.func.max(table.c[key]), 0) + 1).scalar_subquery()
        connection.execute(sa.select(sa.func.setval(sequence, last, False)))
