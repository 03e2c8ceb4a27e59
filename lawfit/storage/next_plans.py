"""Plans of further runs as they were given, under ids that are hashes of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from lawfit.errors import NoFit
from lawfit.findings import finding
from lawfit.storage.database import now
from lawfit.storage.fits import insert_or_ignore
from lawfit.storage.tables import next_plans

if TYPE_CHECKING:
    from lawfit.storage.store import Store


def keep_plan(store: Store, document: Mapping[str, Any]) -> bool:
    """Keep a plan, once per id; True when it was new."""
    row = {"id": document["id"], "fit_id": document["fit_id"], "document": dict(document), "created_at": now()}
    with store.writing() as connection:
        return insert_or_ignore(connection, next_plans, row)


def read_plan(store: Store, plan_id: str) -> Any:
    """The document of a plan.

    Raises
    ------
    NoFit
        There is none.
    """
    row = None
    if "\x00" not in plan_id and plan_id.isprintable():
        with store.reading() as connection:
            row = connection.execute(sa.select(next_plans.c.document).where(next_plans.c.id == plan_id)).scalar()
    if row is None:
        raise NoFit(finding("store.no_plan", plan_id=plan_id, database=str(store.location)))
    return row
