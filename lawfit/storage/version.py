"""A number for what answers rest on: recipes, their fits, and which of them were merged; and runs, by their number
and which of them a person excluded or put right."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from lawfit.storage.store import Store
from lawfit.storage.tables import corrections, curves, losses, moves, recipes, refits, runs, targets

# A row that was deleted last may give its id to another one, so moves count by what they say, too.
_SAID_BY_MOVES: Final = 1009 * moves.c.recipe_id + moves.c.into_id
_HIGHEST: Final = (refits.c.id, recipes.c.id, moves.c.id, corrections.c.id, runs.c.id, targets.c.id, losses.c.id)
_ANSWERS: Final = sa.select(
    *(sa.select(sa.func.coalesce(sa.func.max(column), 0)).scalar_subquery() for column in _HIGHEST),
    *(sa.select(sa.func.count()).select_from(table).scalar_subquery() for table in (recipes, moves)),
    *(
        sa.select(sa.func.coalesce(sa.func.sum(column.table.c.id), 0)).where(column.is_not(None)).scalar_subquery()
        for column in (runs.c.excluded, corrections.c.undone_at)
    ),
    sa.select(sa.func.coalesce(sa.func.sum(_SAID_BY_MOVES), 0)).scalar_subquery(),
)
# As text: asked for with every answer, and SQLAlchemy takes longer over such a statement than a database.
_ANSWERS_TEXT: Final = str(_ANSWERS.compile(compile_kwargs={"literal_binds": True}))


def answers_version(store: Store) -> tuple[int | str, ...]:
    """Equal for two moments between which no answer can have changed."""
    with store.reading() as connection:
        return tuple(connection.exec_driver_sql(_ANSWERS_TEXT).one())


def curves_version(store: Store) -> tuple[int, int]:
    """The same for the curves of runs, which grow while runs are logged: pieces, and points in them."""
    query = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(curves.c.points), 0)).select_from(curves)
    with store.reading() as connection:
        pieces, points = connection.execute(query).one()
    return int(pieces), int(points)
