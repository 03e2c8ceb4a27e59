"""Which schema a database has, and how it gets the one of this version. Alembic is imported only to migrate."""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing
from pathlib import Path
from threading import Lock
from typing import Final
from urllib.parse import quote

import sqlalchemy as sa

from lawfit.errors import SchemaOutOfDate, StoreError
from lawfit.settings import migrations_folder
from lawfit.storage import tables
from lawfit.storage.database import WRITE, Location

log = logging.getLogger("lawfit")

# Oldest first. Written down here so that opening a database need not import Alembic (0.2 s); a test compares.
REVISIONS: Final = ("0001", "0002", "0003", "0004", "0005", "0006", "0007", "0008", "0009")
_VERSION_TABLE: Final = "alembic_version"
_LOCK_KEY: Final = 0x6C617766  # "lawf", for PostgreSQL's advisory lock
_MIGRATING: Final = Lock()  # Alembic keeps in the module what it works on: one database at a time in a process


def revision_of(connection: sa.Connection, location: Location) -> str | None:
    """Revision of a lawfit database; None where there is none yet.

    Raises
    ------
    StoreError
        The database belongs to another program.
    """
    names = set(sa.inspect(connection).get_table_names())
    ours = names & set(tables.metadata.tables)
    if _VERSION_TABLE not in names:
        if ours:
            raise StoreError(
                f"{location} holds tables called {', '.join(sorted(ours))} that lawfit did not make; "
                "use another database"
            )
        if names and location.is_sqlite:
            raise StoreError(
                f"{location} is a database of another program (tables {', '.join(sorted(names)[:4])}); "
                "name another file with --database"
            )
        return None
    revision: str | None = connection.execute(sa.text(f"SELECT version_num FROM {_VERSION_TABLE}")).scalar()  # noqa: S608
    if revision is not None and not ours:
        raise StoreError(
            f"{location} has an {_VERSION_TABLE} table but none of lawfit's: another program keeps its schema there; "
            "use another database or, on PostgreSQL, another schema (?options=-csearch_path%3Dlawfit)"
        )
    return revision


def require_current(revision: str | None, location: Location) -> None:
    """Refuse to work on a schema other than this version's.

    Raises
    ------
    SchemaOutOfDate
        Older (and not upgraded), or from a newer version.
    """
    if revision == REVISIONS[-1]:
        return
    if revision is None or revision in REVISIONS:
        raise SchemaOutOfDate(
            f"{location} has schema {revision or 'none'}, this version of lawfit needs {REVISIONS[-1]}; "
            "run lawfit db upgrade"
        )
    raise SchemaOutOfDate(
        f"{location} was written by a newer version of lawfit (schema '{revision}', this one knows up to "
        f"'{REVISIONS[-1]}'); upgrade lawfit (pip install -U lawfit) or name another database"
    )


def bring_up_to_date(engine: sa.Engine, location: Location) -> str | None:
    """Create or upgrade the schema, in one transaction that holds the lock; a sentence when something was upgraded.

    Raises
    ------
    SchemaOutOfDate
        The database is from a newer version.
    """
    with engine.connect() as connection:
        revision = revision_of(connection, location)
    if revision is not None:
        if revision not in REVISIONS:
            require_current(revision, location)
        if revision == REVISIONS[-1]:
            return None
    kept = None
    with engine.connect().execution_options(**{WRITE: True}) as connection, connection.begin():
        if not location.is_sqlite:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK_KEY)))
        # Another process may have done it while this one waited for the lock.
        revision = revision_of(connection, location)
        if revision != REVISIONS[-1]:
            if revision is not None and location.path:
                kept = _copy_aside(location.path, revision)  # while nobody can write
            _run_alembic(connection)
    if revision is None or revision == REVISIONS[-1]:
        return None
    note = f"upgraded {location} from schema {revision} to {REVISIONS[-1]}"
    note += f"; a copy of the old one is {kept}" if kept else "; lawfit made no copy of it"
    log.warning(note)
    return note


def backup_file(source: Path, target: Path) -> None:
    """Copy a SQLite database that may be in use, by SQLite's own backup, complete or not at all.

    Raises
    ------
    StoreError
        The target exists.
    """
    if target.exists():
        raise StoreError(f"{target} exists already; name another file for the backup")
    if not target.parent.is_dir():
        raise StoreError(f"the folder {target.parent} does not exist; create it first")
    part = target.with_name(target.name + ".part")
    try:
        with (
            closing(sqlite3.connect(f"file:{quote(str(source.absolute()))}?mode=ro", uri=True)) as old,
            closing(sqlite3.connect(part)) as new,
        ):
            old.backup(new)
            new.execute("PRAGMA journal_mode=DELETE")  # so that the copy is one file, with no log beside it
        part.rename(target)
    finally:
        part.unlink(missing_ok=True)


def free_beside(path: Path, why: str) -> Path:
    """A name beside the file that is not taken: ``lawfit.db.before-0003-upgrade``, with a number where it is."""
    target, number = path.with_name(f"{path.name}.{why}"), 1
    while target.exists():
        number += 1
        target = path.with_name(f"{path.name}.{why}-{number}")
    return target


def _copy_aside(path: Path, revision: str) -> Path:
    target = free_beside(path, f"before-{revision}-upgrade")
    backup_file(path, target)
    return target


def _run_alembic(connection: sa.Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(migrations_folder()).replace("%", "%%"))
    config.attributes["connection"] = connection  # env.py then uses it, inside our transaction
    with _MIGRATING:
        command.upgrade(config, "head")
