"""Rows of fits, optima and predictions. They are written once; what is stored is never changed."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from threading import Lock
from typing import Any, Final

import sqlalchemy as sa

from lawfit.errors import NoFit, NoRecipe, StoreError
from lawfit.findings import finding
from lawfit.records import Fit, FitStatus, Json, Optimum, OptimumStatus
from lawfit.storage.database import now
from lawfit.storage.tables import fits, optima, predictions, recipes, refits

KEPT: Final = 32  # fits in memory, some hundred kilobytes each


def insert_fit(connection: sa.Connection, fit: Fit, its_optima: Iterable[Optimum]) -> bool:
    """See `Store.put_fit`."""
    recipe_id = connection.execute(sa.select(recipes.c.id).where(recipes.c.key == fit.recipe_key)).scalar()
    if recipe_id is None:
        raise NoRecipe(f"recipe '{fit.recipe_name}' is not in the store; ingest its runs first")
    values = {
        "id": fit.id,
        "recipe_id": recipe_id,
        "recipe_name": fit.recipe_name,
        "kind": fit.kind,
        "status": fit.status.value,
        "data_hash": fit.data_hash,
        "code_version": fit.code_version,
        "created_at": fit.created_at,
        "options": _plain(fit.options),
        "exclusions": _plain(fit.exclusions),
        "payload": _plain(fit.payload),
    }
    inserted = insert_or_ignore(connection, fits, values)
    rows = [
        {**vars(optimum), "status": optimum.status.value, "detail": _plain(optimum.detail), "fit_id": fit.id}
        for optimum in its_optima
    ]
    if inserted and rows:
        connection.execute(sa.insert(optima), rows)
    connection.execute(sa.insert(refits).values(fit_id=fit.id, made_at=now()))
    return inserted


class FitReader:
    """Stored fits, those read last kept: what is stored never changes, and an answer asks for the same ones often."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Fit] = OrderedDict()
        self._lock = Lock()

    def select(
        self, connection: sa.Connection, *conditions: sa.ColumnElement[bool], limit: int | None = None
    ) -> list[Fit]:
        """Fits that meet the conditions, the one made (or made again) last first."""
        made_last = sa.select(sa.func.max(refits.c.id)).where(refits.c.fit_id == fits.c.id).scalar_subquery()
        query = sa.select(fits.c.id).join(recipes).where(*conditions)
        ids = connection.execute(query.order_by(made_last.desc()).limit(limit)).scalars().all()
        with self._lock:
            found = {fit_id: self._kept[fit_id] for fit_id in ids if fit_id in self._kept}
        for begin in range(0, len(ids), KEPT):
            asked = [fit_id for fit_id in ids[begin : begin + KEPT] if fit_id not in found]
            rows = sa.select(fits, recipes.c.key.label("recipe_key")).join(recipes).where(fits.c.id.in_(asked))
            found |= {row["id"]: _fit(row) for row in connection.execute(rows).mappings()} if asked else {}
        with self._lock:
            for fit_id in ids[:KEPT]:
                self._kept[fit_id] = found[fit_id]
                self._kept.move_to_end(fit_id)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return [found[fit_id] for fit_id in ids]


def select_optima(connection: sa.Connection, fit_id: str) -> list[Optimum]:
    """The optima of a fit, in the order they were given."""
    query = sa.select(optima).where(optima.c.fit_id == fit_id).order_by(optima.c.id)
    return [_optimum(row) for row in connection.execute(query).mappings()]


def insert_prediction(
    connection: sa.Connection, prediction_id: str, fit_id: str, target: Mapping[str, Json], answer: Mapping[str, Json]
) -> bool:
    """See `Store.put_prediction`."""
    if connection.execute(sa.select(fits.c.id).where(fits.c.id == fit_id)).scalar() is None:
        raise NoFit(finding("store.no_fit", fit_id=fit_id, database="the store"))
    values = {
        "id": prediction_id,
        "fit_id": fit_id,
        "target": _plain(target),
        "answer": _plain(answer),
        "created_at": now(),
    }
    return insert_or_ignore(connection, predictions, values)


def insert_or_ignore(connection: sa.Connection, table: sa.Table, values: Mapping[str, Any]) -> bool:
    """Insert a row unless its key is there; True when it was inserted. Two processes may try at once."""
    statement: Any
    if connection.dialect.name == "sqlite":
        from sqlalchemy.dialects.sqlite import insert as sqlite_insert

        statement = sqlite_insert(table)
    else:
        from sqlalchemy.dialects.postgresql import insert as postgres_insert

        statement = postgres_insert(table)
    key = list(table.primary_key)
    statement = statement.values(values).on_conflict_do_nothing(index_elements=key).returning(*key)
    return connection.execute(statement).first() is not None


def _plain(value: Mapping[str, Json]) -> dict[str, Json]:
    """The mapping, once it is known that JSON can hold it: drivers differ in how they fail."""
    try:
        json.dumps(dict(value), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise StoreError(f"nothing was written: a value cannot be stored as JSON ({error})") from None
    return dict(value)


def _fit(row: sa.RowMapping) -> Fit:
    values = {name: row[name] for name in row if name not in ("recipe_id", "status")}
    return Fit(status=FitStatus(row["status"]), **values)


def _optimum(row: sa.RowMapping) -> Optimum:
    values = {name: row[name] for name in row if name not in ("id", "fit_id", "status")}
    return Optimum(status=OptimumStatus(row["status"]), **values)
