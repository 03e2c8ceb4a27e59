"""`lawfit db upgrade | backup | restore | compact | prune | check`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import sqlalchemy as sa

from lawfit.errors import LawfitError, StoreError
from lawfit.storage import schema, tables
from lawfit.storage.curve_rows import join_chunks
from lawfit.storage.database import Location, check_file, explained
from lawfit.storage.identity import recipe_of
from lawfit.storage.store import Store


@dataclass(frozen=True, kw_only=True)
class CheckReport:
    """What `check` found."""

    database: str
    schema: str | None  # revision; None when it could not be read
    rows: dict[str, int]  # table -> number of rows
    problems: tuple[str, ...]  # empty: all is well


def upgrade(url: str | Path) -> str:
    """Bring a database to this version's schema; a sentence that says what was done."""
    with Store.open(url) as store:
        return store.notes[0] if store.notes else f"{store.location} has the schema {schema.REVISIONS[-1]} already"


def backup(url: str | Path, target: str | Path) -> Path:
    """Copy a SQLite database, which may be in use, to a new file.

    Raises
    ------
    StoreError
        PostgreSQL (pg_dump does that), no database there, or the target exists.
    """
    location = Location.parse(url)
    if location.path is None:
        raise StoreError(f"{location} is not a file; back it up with pg_dump, e.g. pg_dump -Fc --file=lawfit.dump URL")
    check_file(location.path)
    if not location.path.is_file():
        raise StoreError(f"there is no database {location}")
    with explained(location):
        schema.backup_file(location.path, Path(target))
    return Path(target)


def restore(backup: str | Path, url: str | Path, *, replace: bool = False) -> Path | None:
    """Put a backup where the database is to be; the file that `replace` moved aside, if there was one.

    Raises
    ------
    StoreError
        PostgreSQL, no such backup, one that is damaged, or a database that is there already.
    """
    location, source = Location.parse(url), Path(backup)
    if location.path is None:
        raise StoreError(f"{location} is not a file; lawfit db copy {source} URL fills an empty server database")
    check_file(location.path)
    if location.path.exists() and not replace:
        raise StoreError(f"{location} is there already; --replace moves it aside and puts {source} in its place")
    if not source.is_file():
        raise StoreError(f"there is no backup {source}")
    new = schema.free_beside(location.path, "restoring")
    try:
        with explained(location):
            schema.backup_file(source, new)
        if problems := check(new).problems:
            raise StoreError(f"the backup {source} cannot be used: {problems[0]}")
        aside = _moved_aside(location) if location.path.exists() else None
        new.rename(location.path)
    finally:
        new.unlink(missing_ok=True)
    return aside


def _moved_aside(location: Location) -> Path:
    assert location.path is not None
    Store.open(location.path, migrate=False).close()  # the last one to close puts the log into the file
    if location.path.with_name(location.path.name + "-wal").exists():
        raise StoreError(f"{location} is in use by another process; end it, and restore again")
    aside = schema.free_beside(location.path, "before-restore")
    location.path.rename(aside)
    return aside


@dataclass(frozen=True, kw_only=True)
class Compacted:
    """What `compact` did."""

    database: str
    bytes_before: int
    bytes_after: int
    chunks_before: int  # of curves
    chunks_after: int


def compact(url: str | Path) -> Compacted:
    """Join the small chunks that live curves leave behind, and give free space back. Nothing that is stored changes.

    Raises
    ------
    StoreError
        No database there, or another process keeps it busy.
    """
    with Store.open(url, create=False) as store:
        before = _size(store)
        with store.writing() as connection:
            chunks, joined = join_chunks(connection)
        with store.outside() as connection:
            if store.location.is_sqlite:
                connection.exec_driver_sql("VACUUM")
                connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
            else:
                for table in tables.metadata.sorted_tables:
                    connection.exec_driver_sql(f"VACUUM (FULL, ANALYZE) {table.name}")
        after = _size(store)
    return Compacted(
        database=str(store.location), bytes_before=before, bytes_after=after, chunks_before=chunks, chunks_after=joined
    )


def prune(url: str | Path, *, older_than_days: float, dry_run: bool = False) -> int:
    """Forget answers and plans that were kept before so many days; how many. Fits stay, and give each of them again.

    Raises
    ------
    ValueError
        The number of days is negative or none.
    """
    if not 0 <= older_than_days < 1e6:
        raise ValueError(f"days are a number from 0 to 1e6, got {older_than_days:g}")
    before = (datetime.now(UTC) - timedelta(days=older_than_days)).isoformat(timespec="seconds")
    kept = (tables.predictions, tables.next_plans)
    with Store.open(url, create=False) as store, store.writing() as connection:
        if not dry_run:
            return sum(connection.execute(sa.delete(t).where(t.c.created_at < before)).rowcount for t in kept)
        counts = [sa.select(sa.func.count()).where(t.c.created_at < before) for t in kept]
        return sum(int(connection.execute(count).scalar_one()) for count in counts)


def _size(store: Store) -> int:
    with store.reading() as connection:
        if store.location.is_sqlite:
            pages, size = (connection.exec_driver_sql(f"PRAGMA {n}").scalar_one() for n in ("page_count", "page_size"))
            return int(pages) * int(size)
        names = [table.name for table in tables.metadata.sorted_tables]
        return sum(
            int(connection.execute(sa.select(sa.func.pg_total_relation_size(name))).scalar_one()) for name in names
        )


def check(url: str | Path) -> CheckReport:
    """Look for damage, without changing anything."""
    location = Location.parse(url)
    try:
        store = Store.open(url, migrate=False)
    except LawfitError as error:
        return CheckReport(database=str(location), schema=None, rows={}, problems=(str(error),))
    problems: list[str] = []
    rows: dict[str, int] = {}
    with store:
        try:
            with store.reading() as connection:
                if location.is_sqlite:
                    found = connection.exec_driver_sql("PRAGMA integrity_check").scalars().all()
                    problems += [f"integrity: {text}" for text in found if text != "ok"]
                    for row in connection.exec_driver_sql("PRAGMA foreign_key_check"):
                        problems.append(f"row {row[1]} of {row[0]} refers to a missing row of {row[2]}")
                for table in tables.metadata.sorted_tables:
                    rows[table.name] = connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
                problems += _changed_recipes(connection)
        except StoreError as error:
            problems.append(str(error))
    return CheckReport(database=str(location), schema=schema.REVISIONS[-1], rows=rows, problems=tuple(problems))


def _changed_recipes(connection: sa.Connection) -> list[str]:
    """Recipes whose stored key is no longer the hash of their settings."""
    rows = connection.execute(sa.select(tables.recipes)).mappings()
    return [
        f"recipe '{row['name']}' was changed by hand: its key does not fit"
        for row in rows
        if recipe_of(row).key != row["key"]
    ]
