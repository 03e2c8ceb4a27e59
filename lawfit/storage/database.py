"""From a path or URL to an engine: SQLite pragmas, read-only files, and database failures in plain words."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.pool import StaticPool

from lawfit.errors import Disconnected, StoreError, Unavailable
from lawfit.findings import finding

log = logging.getLogger("lawfit")
Result = TypeVar("Result")

SMALLEST_FILE = 512  # bytes: one page of the smallest size that SQLite has
WRITE = "lawfit_write"  # execution option of a connection whose transaction will write
OUTSIDE = "lawfit_outside"  # of one that begins no transaction
LOCK_WAIT_SECONDS = 120.0  # a table of a million runs takes some seconds, and eight processes may queue behind it
_LOCK_STRETCH_SECONDS = 0.5
_CONNECTION_SECONDS: Final = 10.0  # to wait for one of these
_CONNECTIONS: Final = 15  # of a store at once, all kept: to open one for a moment costs more than its query
PAUSES_SECONDS: Final = (0.2, 1.0, 3.0, 6.0)  # before each further try: a server is back some seconds after a restart
_BUSY: Final = ("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_PROTOCOL")  # the last: another one halted amid its first steps
_LOST: Final = ("08", "57P")  # classes of SQLSTATE: the connection broke, or the server ended it or is just starting
_LATER: Final = ("53", "25006", "55P03", "40P01", "40001")  # disk or memory full, read-only, in use
_NETWORK = (
    *("nfs", "cifs", "smb", "afs", "ceph", "lustre", "beegfs", "gpfs", "glusterfs", "9p", "davfs", "pvfs2", "orangefs"),
    *(
        "fuse.sshfs",
        "fuse.ceph",
        "fuse.glusterfs",
        "fuse.s3fs",
        "fuse.rclone",
        "fuse.gcsfuse",
        "fuse.juicefs",
        "wekafs",
    ),
)


@dataclass(frozen=True, kw_only=True)
class Location:
    """Where a database is."""

    url: sa.URL
    path: Path | None  # the SQLite file; None for PostgreSQL and for a database in memory

    @property
    def is_sqlite(self) -> bool:
        return self.url.get_backend_name() == "sqlite"

    def __str__(self) -> str:
        return str(self.path) if self.path else self.url.render_as_string(hide_password=True)

    @classmethod
    def parse(cls, text: str | Path) -> Location:
        """A file name, ``:memory:`` or a SQLAlchemy URL (``postgresql://user@host/name``).

        Raises
        ------
        StoreError
            Not a URL that SQLAlchemy understands, or another kind of database.
        """
        text = str(text)
        if not text.strip():
            raise StoreError("no database given; name a file, e.g. lawfit.db, or a postgresql:// URL")
        if text == ":memory:":
            return cls(url=sa.make_url("sqlite://"), path=None)
        if "://" not in text:
            path = Path(text).expanduser()
            return cls(url=sa.URL.create("sqlite", database=str(path)), path=path)
        try:
            url = sa.make_url(text)
            backend = url.get_backend_name()
        except (sa.exc.ArgumentError, ValueError):  # the error itself may hold a password
            raise StoreError(
                "the database URL cannot be read; write it like postgresql://user@host:5432/name"
            ) from None
        if backend == "sqlite":
            path_text = url.database
            in_memory = not path_text or path_text == ":memory:"
            return cls(url=url, path=None if in_memory else Path(str(path_text)))
        if backend in ("postgresql", "postgres"):
            return cls(url=url.set(drivername="postgresql+psycopg"), path=None)
        raise StoreError(f"'{backend}' databases are not supported; use a SQLite file or a postgresql:// URL")


def network_file_system(path: Path, mounts: Path = Path("/proc/mounts")) -> str | None:
    """The network file system that a path lies on; None on a local disk, or where that cannot be known."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not Linux
        return None
    found, length = "", -1
    place = str(path.absolute())
    for words in (line.split() for line in lines):
        point = words[1].replace("\\040", " ") if len(words) > 2 else ""
        if len(point) >= length and point and (place == point or place.startswith(point.rstrip("/") + "/")):
            found, length = words[2], len(point)
    return found if found.startswith(_NETWORK) else None


def check_file(path: Path) -> None:
    """Refuse, before SQLite does it in worse words, what cannot be a database file.

    The file itself is for SQLite to open: closing any other descriptor of it would drop SQLite's locks (POSIX), and
    another process that leaves would then delete the log that this one is using.

    Raises
    ------
    StoreError
        The folder is missing, or the path is a folder.
    """
    if path.is_dir():
        raise StoreError(f"{path} is a folder; name a file in it, e.g. {path / 'lawfit.db'}")
    if not path.parent.is_dir():
        raise StoreError(f"the folder {path.parent} of the database {path.name} does not exist; create it first")
    if path.is_file() and 0 < path.stat().st_size < SMALLEST_FILE:  # SQLite would take one byte for an empty database
        raise StoreError(_not_sqlite(path))


def _not_sqlite(place: Path | Location) -> str:
    return f"{place} is not a lawfit database (not a SQLite file, or a damaged one); name another file with --database"


def create_engine(location: Location, *, lock_wait_seconds: float = LOCK_WAIT_SECONDS) -> sa.Engine:
    """An engine whose connections keep foreign keys, wait for locks and write JSON without nan.

    Raises
    ------
    StoreError
        The driver for PostgreSQL is not installed.
    """
    dumps = partial(json.dumps, allow_nan=False)
    kept = {"pool_size": _CONNECTIONS, "max_overflow": 0, "pool_timeout": _CONNECTION_SECONDS}
    if not location.is_sqlite:
        try:
            return sa.create_engine(location.url, json_serializer=dumps, pool_pre_ping=True, **kept)
        except ImportError:
            raise StoreError(
                "PostgreSQL needs the driver psycopg; install it with pip install 'lawfit[postgres]'"
            ) from None
    if location.path is None:
        engine = sa.create_engine(
            "sqlite://", json_serializer=dumps, poolclass=StaticPool, connect_args={"check_same_thread": False}
        )
    else:
        connect = _connector(location.path, lock_wait_seconds)
        engine = sa.create_engine("sqlite://", json_serializer=dumps, creator=connect, poolclass=sa.QueuePool, **kept)

    @sa.event.listens_for(engine, "connect")
    def _on_connect(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # BEGIN is ours, below
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute(f"PRAGMA busy_timeout={int(lock_wait_seconds * 1000)}")

    @sa.event.listens_for(engine, "begin")
    def _on_begin(connection: sa.Connection) -> None:
        if connection.get_execution_options().get(OUTSIDE, False):
            return
        # IMMEDIATE: two writers queue at BEGIN, where waiting helps, instead of failing at their first write.
        if not connection.get_execution_options().get(WRITE, False):
            connection.exec_driver_sql("BEGIN")
            return
        _begin_writing(connection, lock_wait_seconds)

    return engine


def _begin_writing(connection: sa.Connection, lock_wait_seconds: float) -> None:
    """Wait for the lock in short stretches, so that Ctrl-C is heard between them."""
    deadline = time.monotonic() + lock_wait_seconds
    connection.exec_driver_sql(f"PRAGMA busy_timeout={int(min(lock_wait_seconds, _LOCK_STRETCH_SECONDS) * 1000)}")
    try:
        while True:
            try:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            except sa.exc.OperationalError as error:
                name = getattr(error.orig, "sqlite_errorname", None) or ""
                if not name.startswith(_BUSY) or time.monotonic() >= deadline:
                    raise
            else:
                return
    finally:
        connection.exec_driver_sql(f"PRAGMA busy_timeout={int(lock_wait_seconds * 1000)}")


def use_wal(engine: sa.Engine) -> None:
    """Readers do not wait for the writer. Kept in the file; where it cannot be had, all else still works."""
    connection = engine.raw_connection()
    try:
        (mode,) = connection.driver_connection.execute("PRAGMA journal_mode").fetchone()  # type: ignore[union-attr]
        if mode not in ("wal", "memory"):
            connection.driver_connection.execute("PRAGMA journal_mode=WAL")  # type: ignore[union-attr]
    except (
        sqlite3.OperationalError
    ):  # read-only, or another process is just opening it: the next one to open tries again
        pass
    finally:
        connection.close()


@contextmanager
def explained(location: Location) -> Iterator[None]:
    """Turn what the database or its driver raises into a `StoreError` with a sentence.

    A Ctrl-C that falls into a query stays one: what then fails, as the transaction is taken back, is not what happened.
    """
    try:
        yield
    except Exception as error:
        if (interrupt := _interrupt_behind(error)) is not None:
            raise interrupt from None
        if isinstance(error, sa.exc.TimeoutError):
            busy = f"all {_CONNECTIONS} connections to {location} were in use for {_CONNECTION_SECONDS:g} s"
            raise Unavailable(f"{busy}; try again later") from None
        if isinstance(error, sa.exc.StatementError):
            raise _failure(error, location) from error
        if isinstance(error, sqlite3.Error):
            raise _sqlite_failure(error, location) from error
        if type(error).__module__.partition(".")[0] != "psycopg":  # COPY goes past SQLAlchemy to the driver
            raise
        raise _postgres_failure(error, location, cut=True) from error


def _interrupt_behind(error: BaseException) -> BaseException | None:
    """A Ctrl-C, or another end of the program, that an error came of while it was being handled."""
    while error.__context__ is not None:
        error = error.__context__
        if not isinstance(error, Exception):
            return error
    return None


def persistently(work: Callable[[], Result]) -> Result:
    """What `work` gives, which is begun anew some times where the connection to the server is lost.

    It is one transaction. Where the server had just committed it when its answer was lost, the second time finds all
    of it there and changes nothing.

    Raises
    ------
    Disconnected
        Every time.
    """
    for pause in (*PAUSES_SECONDS, None):
        try:
            return work()
        except Disconnected as error:
            if pause is None:
                raise Disconnected(finding("storage.given_up", why=error, tries=len(PAUSES_SECONDS))) from error
            log.warning("%s", finding("storage.again", why=error, seconds=pause))
            time.sleep(pause)
    raise AssertionError  # the last pause is none


def _failure(error: sa.exc.StatementError, location: Location) -> StoreError:
    cause = error.orig
    if isinstance(cause, sqlite3.Error):
        return _sqlite_failure(cause, location)
    if not isinstance(error, sa.exc.DBAPIError):  # raised before the database saw it, e.g. nan in a JSON column
        return StoreError(f"nothing was written to {location}: a value cannot be stored ({cause or error})")
    return _postgres_failure(cause, location, cut=error.connection_invalidated)


def _sqlite_failure(error: sqlite3.Error, location: Location) -> StoreError:
    name = getattr(error, "sqlite_errorname", "") or ""
    later = ("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_READONLY", *_BUSY)
    return (Unavailable if name.startswith(later) else StoreError)(_sqlite_sentence(error, location))


def _postgres_failure(cause: BaseException | None, location: Location, *, cut: bool) -> StoreError:
    code = getattr(cause, "sqlstate", None) or ""
    if code.startswith(_LOST) or (not code and type(cause).__name__ in ("OperationalError", "InterfaceError")):
        what = {"database": str(location), "reason": _first_line(cause)}
        cut = cut or bool(code)
        return Disconnected(finding("storage.cut", **what) if cut else finding("storage.no_connection", **what))
    return (Unavailable if code.startswith(_LATER) else StoreError)(_postgres_sentence(cause, location))


def _first_line(cause: BaseException | None) -> str:
    lines = str(cause).strip().splitlines()
    return lines[0] if lines else type(cause).__name__


def _postgres_sentence(cause: BaseException | None, location: Location) -> str:
    first_line = _first_line(cause)
    match getattr(cause, "sqlstate", None):
        case "53100":
            return f"the disk of {location} is full; nothing was written. Free some space and run it again"
        case "25006":
            return f"{location} is read-only; nothing was written"
        case "42501":
            return f"no permission on {location}: {first_line}"
        case "55P03" | "40P01" | "40001":
            return f"{location} is in use by another process; nothing was written, run it again"
        case "3D000":
            return f"{location}: {first_line}. Create it first: createdb NAME"
        case None if "NUL" in first_line:  # the driver's own, of a value: it never reached the server
            return f"{location} cannot hold a text with a NUL character in it; nothing was written"
        case code:
            return f"{location} refused ({code or type(cause).__name__}): {first_line}; nothing was written"


def _sqlite_sentence(error: sqlite3.Error, location: Location) -> str:
    name = getattr(error, "sqlite_errorname", "") or ""
    if name.startswith("SQLITE_FULL") or (name.startswith("SQLITE_IOERR") and _disk_is_full(location.path)):
        return f"the disk of {location} is full; nothing was written. Free some space and run it again"
    if name.startswith("SQLITE_IOERR"):
        return f"reading or writing {location} failed ({error}); is its disk full or gone? Nothing was written"
    if name.startswith("SQLITE_READONLY"):
        return f"{location} is read-only: reading works, but nothing can be written. Copy it to a writable folder"
    if name.startswith(_BUSY):
        return f"{location} is locked by another process; nothing was written. Run it again when the other one is done"
    if name.startswith("SQLITE_NOTADB"):
        return _not_sqlite(location)
    if name.startswith("SQLITE_CORRUPT"):
        return f"{location} is damaged ({error}); run lawfit db check, and go back to a backup"
    if name.startswith("SQLITE_CANTOPEN"):
        return f"{location} cannot be opened; are its folder and the file readable and writable for you?"
    if name.startswith("SQLITE_CONSTRAINT"):
        return f"{location} refused a row ({error}); nothing was written"
    return f"{location}: {error}; nothing was written"


def _disk_is_full(path: Path | None) -> bool:
    if path is None:
        return False
    try:
        free = os.statvfs(path.parent)
    except OSError:
        return False
    return free.f_bavail * free.f_frsize < 256 * 1024  # less than SQLite's shared-memory file and a few pages need


def _connector(path: Path, lock_wait_seconds: float) -> Callable[[], sqlite3.Connection]:
    """Open read-write; where the place is read-only, without the side files that write-ahead logging wants."""

    def open_as(query: str) -> sqlite3.Connection:
        uri = f"file:{quote(str(path.absolute()))}{query}"
        return sqlite3.connect(uri, uri=True, timeout=lock_wait_seconds, check_same_thread=False)

    def connect() -> sqlite3.Connection:
        connection: sqlite3.Connection | None = None
        try:
            connection = open_as("")
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.Error as error:
            if connection is not None:
                connection.close()
            read_only = getattr(error, "sqlite_errorname", "").startswith(
                ("SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_IOERR")
            )
            log = path.with_name(path.name + "-wal")
            if not (read_only and path.is_file() and not _is_writable_folder(path.parent)):
                raise
            if log.is_file() and log.stat().st_size > 0:
                # immutable=1 would leave out what stands in the log alone: an older state, silently.
                raise StoreError(
                    f"{path} is in a read-only place and was not closed cleanly ({log.name} is not empty); "
                    "copy both files to a writable folder and open it there"
                ) from None
            return open_as("?mode=ro&immutable=1")
        return connection

    return connect


def _is_writable_folder(folder: Path) -> bool:
    return os.access(folder, os.W_OK) and not os.statvfs(folder).f_flag & os.ST_RDONLY


def now() -> str:
    """The time as it is stored: ISO 8601, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
