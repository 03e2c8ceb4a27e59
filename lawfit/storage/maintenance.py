"""`lawfit db upgrade | backup | check`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from lawfit.errors import LawfitError, StoreError
from lawfit.storage import schema, tables
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
