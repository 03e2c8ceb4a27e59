"""A number for what answers rest on: recipes, their fits, and which of them were merged; and runs, by their number
and which of them a person excluded or put right."""

from __future__ import annotations

import sqlalchemy as sa

from lawfit.storage.store import Store
from lawfit.storage.tables import corrections, curves, losses, moves, recipes, refits, runs, targets


def answers_version(store: Store) -> tuple[int | str, ...]:
    """Equal for two moments between which no answer can have changed."""
    numbers = [
        sa.select(sa.func.coalesce(sa.func.max(column), 0)).scalar_subquery()
        for column in (refits.c.id, recipes.c.id, moves.c.id, corrections.c.id, runs.c.id, targets.c.id, losses.c.id)
    ]
    counts = [sa.select(sa.func.count()).select_from(table).scalar_subquery() for table in (recipes, moves)]
    marked = [
        sa.select(sa.func.coalesce(sa.func.sum(column.table.c.id), 0)).where(column.is_not(None)).scalar_subquery()
        for column in (runs.c.excluded, corrections.c.undone_at)
    ]
    with store.reading() as connection:
        return tuple(connection.execute(sa.select(*numbers, *counts, *marked)).one())


def curves_version(store: Store) -> tuple[int, int]:
    """The same for the curves of runs, which grow while runs are logged: pieces, and points in them."""
    query = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(curves.c.points), 0)).select_from(curves)
    with store.reading() as connection:
        pieces, points = connection.execute(query).one()
    return int(pieces), int(points)
