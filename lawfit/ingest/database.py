"""Databases of other programs, read and never written: SQLite files, and PostgreSQL by its URI."""

from __future__ import annotations

import re
import sqlite3
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from lawfit.errors import LogFormatError
from lawfit.ingest.run_log import LoggedRun, RunLogs, place
from lawfit.ingest.source import without_password

Query = Callable[[str], Iterable[tuple[Any, ...]]]

_MAGIC: Final = b"SQLite format 3\x00"
_URI: Final = re.compile(r"postgres(ql)?(\+\w+)?://.+", re.DOTALL)
_ROWS_AT_ONCE: Final = 10_000
_TABLES_OF_POSTGRES: Final = "select table_name from information_schema.tables where table_schema = current_schema()"


class DatabaseLogs(RunLogs):
    """A format that is a set of tables, in whichever database."""

    tables: frozenset[str]  # that it is told by

    def sniff(self, path: Path, head: bytes) -> bool:
        return head.startswith(_MAGIC) and self.tables <= tables_of_file(path)

    def runs(self, path: Path, root: Path) -> Iterable[LoggedRun]:
        if missing := self.tables - tables_of_file(path):  # a view under such a name could run for ever
            raise LogFormatError(f"{path} has no table {', '.join(sorted(missing))}; it is no database of {self.name}")
        with open_sqlite(path) as query:
            yield from self.runs_of(query, place(path, root))

    @abstractmethod
    def runs_of(self, query: Query, file: str) -> Iterable[LoggedRun]:
        """The runs in a database; `file` is its name for messages."""


def is_uri(text: str) -> bool:
    """Whether a text names a database to be read over a connection."""
    return _URI.fullmatch(text) is not None


def tables_of_file(path: Path) -> frozenset[str]:
    """Names of the tables of an SQLite file; none where it cannot be read."""
    try:
        with open_sqlite(path, check=False) as query:
            return frozenset(str(name) for (name,) in query("select name from sqlite_master where type = 'table'"))
    except LogFormatError:
        return frozenset()


@contextmanager
def open_sqlite(path: Path, *, check: bool = True) -> Iterator[Query]:
    """Queries on an SQLite file, which is opened read-only.

    Raises
    ------
    LogFormatError
        No database, or a damaged one.
    """
    address = f"file:{quote(str(path.resolve()))}?mode=ro"
    try:
        with closing(sqlite3.connect(address, uri=True, timeout=5)) as database:
            database.text_factory = lambda raw: raw.decode("utf-8", "replace")
            # The file is someone else's: nothing in its schema may call functions, and its cells are checked.
            for setting in ("query_only = 1", "trusted_schema = 0", "cell_size_check = 1"):
                database.execute(f"pragma {setting}")
            if check and (found := database.execute("pragma quick_check(1)").fetchone()[0]) != "ok":
                raise LogFormatError(f"{path}: the database is damaged ({' '.join(found.split())})")

            def query(sql: str) -> Iterable[tuple[Any, ...]]:
                return database.execute(sql)

            yield query
    except (sqlite3.Error, sqlite3.Warning, UnicodeDecodeError) as error:  # damaged text breaks its own messages
        raise LogFormatError(f"{path} cannot be read as an SQLite database: {error}") from None


@contextmanager
def open_postgres(uri: str) -> Iterator[tuple[Query, frozenset[str]]]:
    """Queries on a PostgreSQL database in one read-only transaction, and the names of its tables.

    Raises
    ------
    LogFormatError
        No connection, or no right to read.
    """
    import sqlalchemy as sa

    address = re.sub(r"^postgres(ql)?://", "postgresql+psycopg://", uri)
    try:
        engine = sa.create_engine(
            address, execution_options={"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        )
        with closing_engine(engine), engine.connect() as connection:

            def query(sql: str) -> Iterable[tuple[Any, ...]]:
                streamed = connection.execution_options(stream_results=True, max_row_buffer=_ROWS_AT_ONCE)
                return (tuple(row) for row in streamed.execute(sa.text(sql)))

            yield query, frozenset(str(name) for (name,) in query(_TABLES_OF_POSTGRES))
    except ImportError:
        raise LogFormatError(
            f"{without_password(uri)}: PostgreSQL needs psycopg; install it with pip install 'lawfit[postgres]'"
        ) from None
    except sa.exc.SQLAlchemyError as error:
        reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        raise LogFormatError(f"{without_password(uri)} cannot be read: {reason}") from None


@contextmanager
def closing_engine(engine: Any) -> Iterator[None]:
    try:
        yield
    finally:
        engine.dispose()


def columns(query: Query, table: str) -> frozenset[str]:
    """Names of the columns of an SQLite table; none where it is not there."""
    return frozenset(str(row[1]) for row in query(f"pragma table_info({table})"))
