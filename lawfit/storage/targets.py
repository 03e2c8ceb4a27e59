"""Rows of the table `targets`: steps to a target loss, by recipe and key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy as sa

from lawfit.records import Changes, Recipe, StepsToTarget, Sweep, TargetSweep
from lawfit.storage.identity import home
from lawfit.storage.sweeps import insert_recipe
from lawfit.storage.tables import targets

_FIELDS: Final = ("params", "batch_tokens", "steps", "target_loss", "lr", "weight_decay", "extra")


def write_targets(connection: sa.Connection, sweeps: Sequence[TargetSweep], *, named: bool, dry_run: bool) -> Changes:
    """Insert and update inside the caller's transaction; see `Store.put_targets`."""
    inserted = updated = unchanged = 0
    homes: list[Recipe] = []
    notes: list[str] = []
    for sweep in sweeps:
        recipe, recipe_id, note = home(connection, Sweep(recipe=sweep.recipe, runs=()), named=named)
        homes.append(recipe)
        notes += [note] if note else []
        if recipe_id is None and not dry_run:
            recipe_id = insert_recipe(connection, recipe)
        before = {} if recipe_id is None else _stored(connection, recipe_id)
        new, changed = [], []
        for row in (_row(item) for item in sweep.rows):
            old = before.get(row["run_key"])
            if old is None:
                new.append(row | {"recipe_id": recipe_id})
            elif any(old[name] != row[name] for name in _FIELDS):
                changed.append(row | {"row_id": old["id"]})
        if not dry_run:
            if new:
                connection.execute(sa.insert(targets), new)
            if changed:
                names = (*_FIELDS, "source")
                statement = sa.update(targets).where(targets.c.id == sa.bindparam("row_id"))
                statement = statement.values({name: sa.bindparam(name) for name in names})
                connection.execute(statement, [{n: row[n] for n in ("row_id", *names)} for row in changed])
        inserted += len(new)
        updated += len(changed)
        unchanged += len(sweep.rows) - len(new) - len(changed)
    return Changes(inserted=inserted, updated=updated, unchanged=unchanged, recipes=tuple(homes), notes=tuple(notes))


def stored_targets(connection: sa.Connection, recipe_id: sa.ScalarSelect[int]) -> list[StepsToTarget]:
    """The rows of one recipe, by size, target, batch and key."""
    query = sa.select(targets).where(targets.c.recipe_id == recipe_id)
    query = query.order_by(targets.c.params, targets.c.target_loss, targets.c.batch_tokens, targets.c.run_key)
    names = ("run_key", *_FIELDS, "source")
    rows = connection.execute(query).mappings()
    return [StepsToTarget(**{name: row[name] for name in names} | {"steps": _whole(row["steps"])}) for row in rows]


def _whole(steps: float) -> float:
    """A whole number stays one, so that hashes of what was stored before fractions could be are the same."""
    return int(steps) if steps == int(steps) else steps


def _stored(connection: sa.Connection, recipe_id: int) -> dict[str, dict[str, Any]]:
    found = connection.execute(sa.select(targets).where(targets.c.recipe_id == recipe_id))
    return {row["run_key"]: dict(row) for row in found.mappings()}


def _row(item: StepsToTarget) -> dict[str, Any]:
    return {name: getattr(item, name) for name in ("run_key", *_FIELDS, "source")} | {"extra": dict(item.extra)}
