"""Rows that are no runs, by recipe and key: steps to a target loss, and losses of sizes whose settings nobody says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy as sa

from lawfit.records import Changes, LossSweep, Recipe, SizedLoss, StepsToTarget, Sweep, TargetSweep
from lawfit.storage.identity import home
from lawfit.storage.moves import route
from lawfit.storage.sweeps import insert_recipe
from lawfit.storage.tables import losses, targets

_FIELDS: Final = {
    targets.name: ("params", "batch_tokens", "steps", "target_loss", "lr", "weight_decay", "extra"),
    losses.name: ("params", "tokens", "loss", "extra"),
}


def write_targets(connection: sa.Connection, sweeps: Sequence[TargetSweep], *, named: bool, dry_run: bool) -> Changes:
    """Insert and update inside the caller's transaction; see `Store.put_targets`."""
    return _write(connection, targets, sweeps, named=named, dry_run=dry_run)


def write_losses(connection: sa.Connection, sweeps: Sequence[LossSweep], *, named: bool, dry_run: bool) -> Changes:
    """Insert and update inside the caller's transaction; see `Store.put_losses`."""
    return _write(connection, losses, sweeps, named=named, dry_run=dry_run)


def _write(
    connection: sa.Connection,
    table: sa.Table,
    sweeps: Sequence[TargetSweep] | Sequence[LossSweep],
    *,
    named: bool,
    dry_run: bool,
) -> Changes:
    inserted = updated = unchanged = 0
    homes: list[Recipe] = []
    notes: list[str] = []
    for sweep in sweeps:
        recipe, recipe_id, note = home(connection, Sweep(recipe=sweep.recipe, runs=()), named=named)
        homes.append(recipe)
        notes += [note] if note else []
        if recipe_id is None and not dry_run:
            recipe_id = insert_recipe(connection, recipe)
        new, changed = write_sized_rows(connection, table, recipe, recipe_id, sweep.rows, dry_run=dry_run)
        inserted += new
        updated += changed
        unchanged += len(sweep.rows) - new - changed
    return Changes(inserted=inserted, updated=updated, unchanged=unchanged, recipes=tuple(homes), notes=tuple(notes))


def write_sized_rows(
    connection: sa.Connection,
    table: sa.Table,
    recipe: Recipe,
    recipe_id: int | None,
    given: Sequence[StepsToTarget] | Sequence[SizedLoss],
    *,
    dry_run: bool,
) -> tuple[int, int]:
    """How many rows of one recipe were inserted and updated; None is a recipe that a dry run would make."""
    new = changed = 0
    parts: Any = route(connection, recipe, recipe_id, given, None if dry_run else insert_recipe)
    for _, part_id, some in parts:
        inserted, updated = _write_part(connection, table, part_id, some, dry_run=dry_run)
        new, changed = new + inserted, changed + updated
    return new, changed


def _write_part(
    connection: sa.Connection,
    table: sa.Table,
    recipe_id: int | None,
    given: Sequence[StepsToTarget] | Sequence[SizedLoss],
    *,
    dry_run: bool,
) -> tuple[int, int]:
    fields = _FIELDS[table.name]
    before = {} if recipe_id is None else _stored(connection, table, recipe_id)
    new, changed = [], []
    for row in (_row(item, fields) for item in given):
        old = before.get(row["run_key"])
        if old is None:
            new.append(row | {"recipe_id": recipe_id})
        elif any(old[name] != row[name] for name in fields):
            changed.append(row | {"row_id": old["id"]})
    if new and not dry_run:
        connection.execute(sa.insert(table), new)
    if changed and not dry_run:
        names = (*fields, "source")
        statement = sa.update(table).where(table.c.id == sa.bindparam("row_id"))
        statement = statement.values({name: sa.bindparam(name) for name in names})
        connection.execute(statement, [{n: row[n] for n in ("row_id", *names)} for row in changed])
    return len(new), len(changed)


def stored_targets(connection: sa.Connection, recipe_id: sa.ScalarSelect[int] | int) -> list[StepsToTarget]:
    """The rows of one recipe, by size, target, batch and key."""
    query = sa.select(targets).where(targets.c.recipe_id == recipe_id)
    query = query.order_by(targets.c.params, targets.c.target_loss, targets.c.batch_tokens, targets.c.run_key)
    names = ("run_key", *_FIELDS[targets.name], "source")
    rows = connection.execute(query).mappings()
    return [StepsToTarget(**{name: row[name] for name in names} | {"steps": _whole(row["steps"])}) for row in rows]


def stored_losses(connection: sa.Connection, recipe_id: sa.ScalarSelect[int] | int) -> list[SizedLoss]:
    """The rows of one recipe, by size, tokens and key."""
    query = sa.select(losses).where(losses.c.recipe_id == recipe_id)
    query = query.order_by(losses.c.params, losses.c.tokens, losses.c.run_key)
    names = ("run_key", *_FIELDS[losses.name], "source")
    return [SizedLoss(**{name: row[name] for name in names}) for row in connection.execute(query).mappings()]


def _whole(steps: float) -> float:
    """A whole number stays one, so that hashes of what was stored before fractions could be are the same."""
    return int(steps) if steps == int(steps) else steps


def _stored(connection: sa.Connection, table: sa.Table, recipe_id: int) -> dict[str, dict[str, Any]]:
    found = connection.execute(sa.select(table).where(table.c.recipe_id == recipe_id))
    return {row["run_key"]: dict(row) for row in found.mappings()}


def _row(item: StepsToTarget | SizedLoss, fields: Sequence[str]) -> dict[str, Any]:
    return {name: getattr(item, name) for name in ("run_key", *fields, "source")} | {"extra": dict(item.extra)}
