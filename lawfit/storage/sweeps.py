"""Writing sweeps: which recipe of the store a sweep belongs to, and which of its runs are new or changed.

Two sweeps may state the same settings and still be two experiments, because much goes unstated. So a sweep joins a
recipe when its name says so or when it repeats that recipe's runs; otherwise it is kept apart, and a note says how
to pool the two.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from lawfit.errors import RecipeConflict, StoreError
from lawfit.records import Changes, Recipe, Run, Sweep
from lawfit.storage.tables import recipes, runs

APART = "sweep"  # key in Recipe.extra that tells two recipes with the same stated settings apart
_NOTED_UPDATES = 10
_RUN_FIELDS = ("params", "tokens", "batch_tokens", "lr", "status", "loss", "weight_decay", "steps", "seed", "extra")
_RECIPE_FIELDS = tuple(f.name for f in dataclasses.fields(Recipe))

Stored = dict[str, dict[str, Any]]  # run_key -> row of the table


def recipe_of(row: sa.RowMapping) -> Recipe:
    """The record of one row of `recipes`."""
    return Recipe(**{name: row[name] for name in _RECIPE_FIELDS})


def write_sweeps(connection: sa.Connection, sweeps: Sequence[Sweep], *, named: bool, dry_run: bool) -> Changes:
    """Insert and update inside the caller's transaction; see `Store.put_sweeps`."""
    inserted = updated = unchanged = 0
    homes: list[Recipe] = []
    notes: list[str] = []
    changed: list[str] = []
    for sweep in sweeps:
        _require_distinct(sweep)
        recipe, recipe_id, note = _home(connection, sweep, named=named)
        if note:
            notes.append(note)
        homes.append(recipe)
        if recipe_id is None and not dry_run:
            recipe_id = _insert_recipe(connection, recipe)
        before = _stored_runs(connection, recipe_id) if recipe_id is not None else {}
        new, differing, moved = [], [], []
        for run in sweep.runs:
            row = _row(run)
            old = before.get(run.run_key)
            if old is None:
                new.append(row | {"recipe_id": recipe_id, "excluded": run.excluded})
            elif differences := [name for name in _RUN_FIELDS if old[name] != row[name]]:
                differing.append(row | {"row_id": old["id"]})
                changed.append(f"run '{run.run_key}' of '{recipe.name}': {_describe(old, row, differences)}")
            elif old["source"] != row["source"]:
                moved.append(row | {"row_id": old["id"]})  # the same run in another place: no correction
        if not dry_run:
            if new:
                _insert_runs(connection, new)
            if differing or moved:
                # `excluded` is not among the columns: a person's decision outlives the log.
                names = (*_RUN_FIELDS, "source")
                statement = sa.update(runs).where(runs.c.id == sa.bindparam("row_id"))
                statement = statement.values({name: sa.bindparam(name) for name in names})
                rows = [{"row_id": row["row_id"]} | {name: row[name] for name in names} for row in differing + moved]
                connection.execute(statement, rows)
        inserted += len(new)
        updated += len(differing)
        unchanged += len(sweep.runs) - len(new) - len(differing)
    if changed:
        notes.append(f"updated {_count(len(changed), 'run')} whose row in the file has changed:")
        notes += [f"  {text}" for text in changed[:_NOTED_UPDATES]]
        if len(changed) > _NOTED_UPDATES:
            notes.append(f"  and {len(changed) - _NOTED_UPDATES} more")
    return Changes(inserted=inserted, updated=updated, unchanged=unchanged, recipes=tuple(homes), notes=tuple(notes))


def _home(connection: sa.Connection, sweep: Sweep, *, named: bool) -> tuple[Recipe, int | None, str]:
    """The recipe that takes the runs, its row id (None: to be made), and what to tell the user."""
    wanted = sweep.recipe
    known = [(row["id"], recipe_of(row)) for row in connection.execute(sa.select(recipes)).mappings()]
    alike = [(row_id, recipe) for row_id, recipe in known if _content(recipe) == _content(wanted)]
    by_name = {recipe.name: (row_id, recipe) for row_id, recipe in known}
    if wanted.name in by_name:
        row_id, recipe = by_name[wanted.name]
        if (row_id, recipe) in alike:
            return recipe, row_id, ""
        difference = _difference(recipe, wanted)
        if named:
            raise RecipeConflict(
                f"recipe '{wanted.name}' in the store is another one: {difference}. Nothing was written; "
                "give these runs another recipe name, or state what the file leaves out"
            )
        for row_id, recipe in alike:
            if recipe.name.startswith(f"{wanted.name}-"):
                return recipe, row_id, f"these runs belong to recipe '{recipe.name}'"
        name = _free_name(wanted.name, set(by_name))
        note = f"recipe '{wanted.name}' in the store is another one ({difference}); these runs went to '{name}'"
        fresh, _ = _apart(dataclasses.replace(wanted, name=name), alike)
        return fresh, None, note
    if alike and not named:
        for row_id, recipe in alike:
            if _repeats(connection, row_id, sweep.runs):
                return recipe, row_id, f"taken as the same sweep as recipe '{recipe.name}', whose runs it repeats"
    fresh, other = _apart(wanted, alike)
    note = (
        f"recipe '{wanted.name}' states the same settings as '{other}', but the two are kept apart; "
        f"if they are one sweep, ingest with --recipe {other} instead"
        if other
        else ""
    )
    return fresh, None, note


def _content(recipe: Recipe) -> Recipe:
    """The recipe less its name and less what keeps it apart from its like."""
    extra = {key: value for key, value in recipe.extra.items() if key != APART}
    return dataclasses.replace(recipe, name="", extra=extra)


def _apart(recipe: Recipe, alike: Sequence[tuple[int, Recipe]]) -> tuple[Recipe, str]:
    if not alike:
        return recipe, ""
    return dataclasses.replace(recipe, extra={**recipe.extra, APART: recipe.name}), alike[0][1].name


def _difference(old: Recipe, new: Recipe) -> str:
    said = []
    for name in _RECIPE_FIELDS:
        before, after = getattr(_content(old), name), getattr(_content(new), name)
        if before != after:
            said.append(f"{name} is {_or_unknown(before)} there and {_or_unknown(after)} here")
    return "; ".join(said)


def _or_unknown(value: object) -> str:
    return "unknown" if value in ("", None) else repr(value)


def _free_name(name: str, taken: set[str]) -> str:
    number = 2
    while f"{name}-{number}" in taken:
        number += 1
    return f"{name}-{number}"


def _repeats(connection: sa.Connection, recipe_id: int, given: Sequence[Run]) -> bool:
    """At least half of the runs that both have by key are the same in settings and loss, and there are some."""
    columns = (runs.c.run_key, runs.c.params, runs.c.tokens, runs.c.batch_tokens, runs.c.lr, runs.c.loss)
    stored = {
        row[0]: tuple(row[1:]) for row in connection.execute(sa.select(*columns).where(runs.c.recipe_id == recipe_id))
    }
    shared = [run for run in given if run.run_key in stored]
    same = sum(stored[r.run_key] == (r.params, r.tokens, r.batch_tokens, r.lr, r.loss) for r in shared)
    return bool(shared) and 2 * same >= len(shared)


def _require_distinct(sweep: Sweep) -> None:
    seen: set[str] = set()
    for run in sweep.runs:
        if run.run_key in seen:
            raise ValueError(f"run '{run.run_key}' is given twice; each run of a recipe needs its own key")
        seen.add(run.run_key)


def _insert_recipe(connection: sa.Connection, recipe: Recipe) -> int:
    row = {name: getattr(recipe, name) for name in _RECIPE_FIELDS}
    row |= {"extra": dict(recipe.extra), "key": recipe.key, "created_at": now()}
    return int(connection.execute(sa.insert(recipes).values(row).returning(recipes.c.id)).scalar_one())


def now() -> str:
    """ISO 8601, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _insert_runs(connection: sa.Connection, rows: list[dict[str, Any]]) -> None:
    if connection.dialect.name == "sqlite":
        connection.execute(sa.insert(runs), rows)
        return
    # COPY is several times quicker than INSERT. It is part of the same transaction.
    names = tuple(rows[0])
    try:
        extras = [json.dumps(row["extra"], allow_nan=False) for row in rows]
    except ValueError as error:
        raise StoreError(f"nothing was written: a value cannot be stored ({error})") from None
    driver: Any = connection.connection.driver_connection
    with driver.cursor() as cursor, cursor.copy(f"COPY runs ({', '.join(names)}) FROM STDIN") as copy:
        for row, extra in zip(rows, extras, strict=True):
            copy.write_row([extra if name == "extra" else row[name] for name in names])


def _stored_runs(connection: sa.Connection, recipe_id: int) -> Stored:
    columns = (runs.c.id, runs.c.run_key, runs.c.source, *(runs.c[name] for name in _RUN_FIELDS))
    found = connection.execute(sa.select(*columns).where(runs.c.recipe_id == recipe_id))
    return {row["run_key"]: dict(row) for row in found.mappings()}


def _row(run: Run) -> dict[str, Any]:
    return {
        "run_key": run.run_key,
        "params": run.params,
        "tokens": run.tokens,
        "batch_tokens": run.batch_tokens,
        "lr": run.lr,
        "status": run.status.value,
        "loss": run.loss,
        "weight_decay": run.weight_decay,
        "steps": run.steps,
        "seed": run.seed,
        "extra": dict(run.extra),
        "source": run.source,
    }


def _describe(old: Mapping[str, Any], new: Mapping[str, Any], names: Sequence[str]) -> str:
    parts = []
    for name in names:
        if name == "extra":
            keys = sorted({*old["extra"], *new["extra"]})
            differing = [key for key in keys if old["extra"].get(key) != new["extra"].get(key)]
            parts += [f"{key} {old['extra'].get(key)} -> {new['extra'].get(key)}" for key in differing[:3]]
        else:
            parts.append(f"{name} {_shown(old[name])} -> {_shown(new[name])}")
    return ", ".join(parts)


def _shown(value: object) -> str:
    return "none" if value is None else f"{value:.10g}" if isinstance(value, float) else str(value)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
