"""What was answered to requests that carry a key of their own, so that one that is sent twice is done once."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from lawfit.storage.store import Store
from lawfit.storage.tables import replies

KEPT_SECONDS: Final = 24 * 3600.0
ABANDONED_SECONDS: Final = 120.0  # a request that began and never ended: its process is gone


@dataclass(frozen=True, kw_only=True)
class Reply:
    """An answer that was given."""

    status: int
    media_type: str
    body: bytes


class UnderWay(Exception):
    """The same request is being worked on."""


class OtherRequest(Exception):
    """The key belongs to another request."""


def begin(store: Store, who: str, key: str, asked: str) -> Reply | None:
    """Take a key for a request: None where it is the first, else what was answered.

    Parameters
    ----------
    who : name of the token; keys of different ones do not meet
    asked : hash of the whole request

    Raises
    ------
    UnderWay, OtherRequest
    """
    mine = (replies.c.who == who) & (replies.c.key == key)
    moment = time.time()
    with store.writing() as connection:
        connection.execute(sa.delete(replies).where(replies.c.began_at < moment - KEPT_SECONDS))
        abandoned = replies.c.status.is_(None) & (replies.c.began_at < moment - ABANDONED_SECONDS)
        connection.execute(sa.delete(replies).where(mine, abandoned))
        row = {"who": who, "key": key, "asked": asked, "began_at": moment}
        # Not `rowcount`, which PostgreSQL's driver does not say of an INSERT.
        insert = _insert(store).values(row).on_conflict_do_nothing().returning(replies.c.key)
        if connection.execute(insert).first() is not None:
            return None
        found = connection.execute(sa.select(replies).where(mine)).mappings().one()
    if found["asked"] != asked:
        raise OtherRequest
    if found["status"] is None:
        raise UnderWay
    return Reply(status=found["status"], media_type=found["media_type"], body=found["body"])


def finish(store: Store, who: str, key: str, reply: Reply | None) -> None:
    """Keep what was answered; None: the request failed in a way that may be tried again, so the key is free."""
    mine = (replies.c.who == who) & (replies.c.key == key)
    with store.writing() as connection:
        if reply is None:
            connection.execute(sa.delete(replies).where(mine))
        else:
            connection.execute(sa.update(replies).where(mine).values(vars(reply)))


def _insert(store: Store):  # type: ignore[no-untyped-def]  # both kinds have on_conflict_do_nothing, and no common type
    from sqlalchemy.dialects import postgresql, sqlite

    return sqlite.insert(replies) if store.location.is_sqlite else postgresql.insert(replies)
