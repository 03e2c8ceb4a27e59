"""The server's side of PostgreSQL: who is writing, and connections that it ends."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from typing import Any, Final

import sqlalchemy as sa

_SOCKET_S: Final = 0.02  # in which a server has taken what lies in its socket
_WRITERS: Final = """
    SELECT DISTINCT activity.pid FROM pg_stat_activity AS activity JOIN pg_locks USING (pid)
    JOIN pg_class ON relation = pg_class.oid
    WHERE relnamespace = %s::regnamespace AND mode = 'RowExclusiveLock' AND backend_xid IS NOT NULL
"""


@contextmanager
def server(url: str) -> Iterator[Any]:
    """A connection that looks on."""
    import psycopg

    with psycopg.connect(url.replace("postgresql+psycopg://", "postgresql://"), autocommit=True) as connection:
        yield connection


def of_schema(url: str) -> str:
    """The name of the schema that a test has to itself."""
    return str(sa.make_url(url).query["options"]).rpartition("search_path=")[2]


def named(url: str) -> str:
    """The URL with that name given to its connections, which the server shows."""
    return f"{url}&application_name={of_schema(url)}"


def writers(url: str) -> list[int]:
    """Backends in the middle of a transaction that writes in this schema; of clients that stand still."""
    time.sleep(_SOCKET_S)
    with server(url) as connection:
        return [pid for (pid,) in connection.execute(_WRITERS, (of_schema(url),)).fetchall()]


def cut_while_writing(url: str, rng: random.Random, process: BaseProcess) -> bool:
    """End the connection of a process at a moment by chance within a transaction; False where it ended before.

    Looking and ending are one statement, so that what is ended was writing.
    """
    query = f"SELECT count(pg_terminate_backend(pid)) FROM ({_WRITERS}) AS writing"
    with server(url) as connection:
        while process.is_alive():
            time.sleep(rng.uniform(0, 0.05))
            if connection.execute(query, (of_schema(url),)).fetchone()[0]:
                return True
    return False


def end_all(url: str) -> int:
    """End all connections of a `named` URL, and wait until they are gone; how many there were."""
    query = "SELECT pid FROM pg_stat_activity WHERE application_name = %s AND pid <> pg_backend_pid()"
    with server(url) as connection:
        pids = [pid for (pid,) in connection.execute(query, (of_schema(url),)).fetchall()]
        for pid in pids:
            connection.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
    return len(pids)
