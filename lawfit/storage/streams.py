"""All of a store as it stands at one moment, read in pieces: what is in memory does not grow with the store."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from lawfit.records import Recipe, Run, RunStatus, SizedLoss, StepsToTarget
from lawfit.storage import curves as curve_chunks
from lawfit.storage.identity import recipe_of
from lawfit.storage.moves import merged
from lawfit.storage.tables import curves, losses, recipes, runs, targets
from lawfit.storage.targets import stored_losses, stored_targets

_ROWS_AT_ONCE: Final = 2_000

CurvePiece = tuple[str, str, npt.NDArray[np.int64], npt.NDArray[np.float64]]  # run, metric, steps, numbers


class Snapshot:
    """One reading transaction over several queries, so that they see the same store."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def recipes(self) -> list[tuple[int, Recipe]]:
        """Row ids and recipes, by name; those that were merged into another are empty, and left out."""
        gone = merged(self._connection)
        rows = self._connection.execute(sa.select(recipes).order_by(recipes.c.name)).mappings()
        return [(row["id"], recipe_of(row)) for row in rows if row["id"] not in gone]

    def extra_names(self, recipe_ids: list[int]) -> list[str]:
        """Names of what runs and targets hold beside their own columns, sorted."""
        names: set[str] = set()
        for table in (runs, targets, losses):
            key: Any = sa.func.json_each(table.c.extra).table_valued("key")
            if self._connection.dialect.name != "sqlite":
                key = sa.func.json_object_keys(table.c.extra).table_valued("key").render_derived()
            query = sa.select(key.c.key).select_from(table.join(key, sa.true())).distinct()
            names.update(self._connection.execute(query.where(table.c.recipe_id.in_(recipe_ids))).scalars())
        return sorted(names)

    def runs(self, recipe_id: int) -> Iterator[Run]:
        """Runs in the order in which they came."""
        query = sa.select(runs).where(runs.c.recipe_id == recipe_id).order_by(runs.c.id)
        with self._stream(query) as rows:
            yield from map(run_of, rows.mappings())

    def other_rows(self, recipe_id: int) -> list[StepsToTarget | SizedLoss]:
        """Steps to targets and losses of sizes, which are few."""
        return [*stored_targets(self._connection, recipe_id), *stored_losses(self._connection, recipe_id)]

    def curves(self, recipe_id: int) -> Iterator[CurvePiece]:
        """Curves of the recipe's runs, each as a whole."""
        chunk = curves.c
        query = sa.select(
            runs.c.run_key, chunk.metric, chunk.codec, chunk.points, chunk.steps, chunk.numbers
        ).join_from(curves, runs, chunk.run_id == runs.c.id)
        query = query.where(runs.c.recipe_id == recipe_id).order_by(chunk.run_id, chunk.metric, chunk.chunk)
        with self._stream(query) as rows:
            for (key, metric), pieces in groupby(rows, key=lambda row: (row.run_key, row.metric)):
                unpacked = [curve_chunks.unpack(p.codec, p.points, p.steps, p.numbers) for p in pieces]
                steps, numbers = (np.concatenate(parts) for parts in zip(*unpacked, strict=True))
                yield key, metric, steps, numbers

    def _stream(self, query: sa.Select[Any]) -> sa.CursorResult[Any]:
        return self._connection.execute(query, execution_options={"yield_per": _ROWS_AT_ONCE})


def run_of(row: sa.RowMapping) -> Run:
    """The record of one row of `runs`."""
    values = {name: row[name] for name in row if name not in ("id", "recipe_id", "status")}
    return Run(status=RunStatus(row["status"]), **values)
