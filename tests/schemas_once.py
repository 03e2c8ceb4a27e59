"""What migrations do to an empty database is worked out once in a process, and then done again.

Thousands of tests open a new database, and Alembic takes most of the time of most of them. The statements that it sent
to the first one of each kind are sent to the others. A test that asks for `schemas_anew` has it run each time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import sqlalchemy as sa

from lawfit.storage import schema

KEEPS = True


@contextmanager
def schemas_once() -> Iterator[None]:
    """Send what is known to databases that have no schema yet."""
    migrate = schema._run_alembic
    folder, known = schema.migrations_folder, dict[str, list[str]]()

    def kept(connection: sa.Connection) -> None:
        plain = KEEPS and schema.migrations_folder is folder
        if not plain or sa.inspect(connection).has_table(schema._VERSION_TABLE):
            migrate(connection)
        elif (statements := known.get(connection.dialect.name)) is None:
            with _sent(connection) as sent:
                migrate(connection)
            known[connection.dialect.name] = sent
        else:
            for statement in statements:
                connection.exec_driver_sql(statement)

    with mock.patch.object(schema, "_run_alembic", kept):
        yield


@contextmanager
def _sent(connection: sa.Connection) -> Iterator[list[str]]:
    """The statements that change a database, as they are sent."""
    sent: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if not statement.lstrip().startswith(("SELECT", "PRAGMA")):
            assert not parameters, statement
            sent.append(statement)

    sa.event.listen(connection, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        sa.event.remove(connection, "before_cursor_execute", note)
