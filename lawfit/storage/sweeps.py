"""Writing sweeps: which runs are new or changed, and telling so."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa

from lawfit.errors import StoreError
from lawfit.records import Changes, Recipe, Run, Sweep
from lawfit.storage.identity import RECIPE_FIELDS, home
from lawfit.storage.tables import recipes, runs
from lawfit.units import counted

_NOTED_UPDATES = 10
_RUN_FIELDS = ("params", "tokens", "batch_tokens", "lr", "status", "loss", "weight_decay", "steps", "seed", "extra")

Stored = dict[str, dict[str, Any]]  # run_key -> row of the table


def write_sweeps(connection: sa.Connection, sweeps: Sequence[Sweep], *, named: bool, dry_run: bool) -> Changes:
    """Insert and update inside the caller's transaction; see `Store.put_sweeps`."""
    inserted = updated = unchanged = 0
    homes: list[Recipe] = []
    notes: list[str] = []
    changed: list[str] = []
    for sweep in sweeps:
        _require_distinct(sweep)
        recipe, recipe_id, note = home(connection, sweep, named=named)
        if note:
            notes.append(note)
        homes.append(recipe)
        if recipe_id is None and not dry_run:
            recipe_id = insert_recipe(connection, recipe)
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
        if sweep.exact and (unlike := _unlike(before.values(), new)):
            notes.append(
                f"runs that joined recipe '{recipe.name}' are unlike all that it had: {unlike}; "
                "to keep them apart, give them another name with --recipe"
            )
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
        notes.append(f"updated {counted(len(changed), 'run')} whose row in the file has changed:")
        notes += [f"  {text}" for text in changed[:_NOTED_UPDATES]]
        if len(changed) > _NOTED_UPDATES:
            notes.append(f"  and {len(changed) - _NOTED_UPDATES} more")
    return Changes(inserted=inserted, updated=updated, unchanged=unchanged, recipes=tuple(homes), notes=tuple(notes))


# What the trainer's logs say that no recipe holds fixed, and that moves the loss. What is as usual may go unsaid.
_CHOICES: Final = (
    "precision",
    "qk_norm",
    "beta1",
    "beta2",
    "clip",
    "eps",
    "momentum",
    "cooldown_fraction",
    "eval_tokens",
)


def _unlike(stored: Collection[Mapping[str, Any]], new: Sequence[Mapping[str, Any]]) -> str:
    """The choices in which a new run is like no stored one; "" where there is none."""
    said = []
    for name in _CHOICES:
        if name == "beta2" and any("beta2_half_life_tokens" in row["extra"] for row in new):
            continue  # it follows the batch
        before, now = ({row["extra"].get(name) for row in rows} for rows in (stored, new))
        if before and now - before:
            said.append(f"{name} is {_values(now - before)}, not {_values(before)}")
    return ", ".join(said)


def _values(values: Iterable[object]) -> str:
    return " or ".join(sorted("unsaid" if value is None else str(value) for value in values))


def _require_distinct(sweep: Sweep) -> None:
    seen: set[str] = set()
    for run in sweep.runs:
        if run.run_key in seen:
            raise ValueError(f"run '{run.run_key}' is given twice; each run of a recipe needs its own key")
        seen.add(run.run_key)


def insert_recipe(connection: sa.Connection, recipe: Recipe) -> int:
    """Its row id."""
    row = {name: getattr(recipe, name) for name in RECIPE_FIELDS}
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
