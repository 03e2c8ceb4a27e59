"""Many rows at once, past SQLAlchemy's work for each: `executemany` on SQLite, COPY on PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import chain, islice
from typing import Any, Final

import sqlalchemy as sa

from lawfit.errors import StoreError

_ENCODER: Final = json.JSONEncoder(allow_nan=False)  # `json.dumps` makes one for each value
ROWS_AT_ONCE: Final = 10_000  # what is in memory beside what the caller holds


def insert_many(
    connection: sa.Connection, table: sa.Table, names: Sequence[str], rows: Iterable[Sequence[Any]]
) -> None:
    """Insert rows in the caller's transaction; values as the driver takes them, JSON as text (`json_text`)."""
    rows = iter(rows)
    if (first := next(rows, None)) is None:
        return
    rows = chain((first,), rows)
    columns = ", ".join(names)
    if connection.dialect.name == "sqlite":
        statement = f"INSERT INTO {table.name} ({columns}) VALUES ({', '.join('?' * len(names))})"  # noqa: S608
        while some := [tuple(row) for row in islice(rows, ROWS_AT_ONCE)]:
            connection.exec_driver_sql(statement, some)
        return
    driver: Any = connection.connection.driver_connection
    with driver.cursor() as cursor, cursor.copy(f"COPY {table.name} ({columns}) FROM STDIN") as copy:
        for row in rows:
            copy.write_row(row)


def json_text(value: Any) -> str:
    """JSON as it stands in the table.

    Raises
    ------
    StoreError
        JSON cannot hold it: nan, or an object of Python's.
    """
    try:
        return _ENCODER.encode(value)
    except (TypeError, ValueError) as error:
        raise StoreError(f"nothing was written: a value cannot be stored ({error})") from None
