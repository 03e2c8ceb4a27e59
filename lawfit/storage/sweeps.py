"""Writing sweeps: which runs are new or changed, and telling so."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from operator import attrgetter
from typing import Any, Final

import sqlalchemy as sa

from lawfit.findings import finding
from lawfit.packed import ROWS_AT_ONCE, Column, repeated
from lawfit.records import Changes, Recipe, Run, RunColumns, Sweep, run_keys
from lawfit.storage.bulk import insert_many, json_text
from lawfit.storage.corrections import corrected_fields, keep
from lawfit.storage.database import now
from lawfit.storage.identity import RECIPE_FIELDS, home, of_keys
from lawfit.storage.moves import route
from lawfit.storage.tables import recipes, runs
from lawfit.units import counted

_NOTED_UPDATES = 10
_RUN_FIELDS = ("params", "tokens", "batch_tokens", "lr", "status", "loss", "weight_decay", "steps", "seed", "extra")

_PLAIN_FIELDS = (
    *(
        "run_key",
        "params",
        "tokens",
        "batch_tokens",
        "lr",
        "loss",
        "weight_decay",
        "steps",
        "seed",
        "source",
        "excluded",
    ),
)

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
        written = write_runs(connection, recipe, recipe_id, sweep.runs, exact=sweep.exact, dry_run=dry_run)
        notes += written.notes
        changed += written.changed
        inserted += written.inserted
        updated += len(written.changed)
        unchanged += len(sweep.runs) - written.inserted - len(written.changed)
    notes += update_notes(changed)
    return Changes(inserted=inserted, updated=updated, unchanged=unchanged, recipes=tuple(homes), notes=tuple(notes))


def update_notes(changed: Sequence[str]) -> list[str]:
    """Which stored runs a file has changed, the first of them with what."""
    if not changed:
        return []
    more = [f"  and {len(changed) - _NOTED_UPDATES} more"] if len(changed) > _NOTED_UPDATES else []
    head = f"updated {counted(len(changed), 'run')} whose row in the file has changed:"
    return [head, *(f"  {text}" for text in changed[:_NOTED_UPDATES]), *more]


@dataclass(frozen=True, kw_only=True)
class Written:
    """What writing runs of one recipe did, or on a dry run would do."""

    inserted: int
    changed: tuple[str, ...]  # a sentence for each stored run that the file has otherwise
    kept: int  # runs of which a correction stays, though the file says otherwise
    notes: tuple[str, ...]


def write_runs(
    connection: sa.Connection,
    recipe: Recipe,
    recipe_id: int | None,
    given: Sequence[Run],
    *,
    exact: bool,
    dry_run: bool,
) -> Written:
    """Insert and update runs of a recipe that is stored (`recipe_id`) or, on a dry run, would be.

    Runs of a recipe that was merged or split go where its others went.
    """
    parts = route(connection, recipe, recipe_id, given, None if dry_run else insert_recipe)
    written = [_write_part(connection, *part, exact=exact, dry_run=dry_run) for part in parts]
    notes = [note for part in written for note in part.notes]
    if kept := sum(part.kept for part in written):
        whose = counted(kept, f"run of '{recipe.name}' keeps", f"runs of '{recipe.name}' keep")
        notes.append(str(finding("store.corrections_kept", whose=whose)))
    return Written(
        inserted=sum(part.inserted for part in written),
        changed=tuple(text for part in written for text in part.changed),
        kept=kept,
        notes=tuple(notes),
    )


def _write_part(
    connection: sa.Connection,
    recipe: Recipe,
    recipe_id: int | None,
    given: Sequence[Run],
    *,
    exact: bool,
    dry_run: bool,
) -> Written:
    before = {} if recipe_id is None else _stored_runs(connection, recipe_id, run_keys(given))
    new: list[Run] = []
    differing, moved = [], []
    changed = []
    corrected = corrected_fields(connection, recipe_id) if before and recipe_id is not None else {}
    kept = 0
    for run in given if before else ():
        if (old := before.get(run.run_key)) is None:
            new.append(run)
            continue
        row = _row(run)
        if old["id"] in corrected:
            kept += keep(row, old, corrected[old["id"]])
        if differences := [name for name in _RUN_FIELDS if old[name] != row[name]]:
            differing.append(row | {"row_id": old["id"]})
            changed.append(f"run '{run.run_key}' of '{recipe.name}': {_describe(old, row, differences)}")
        elif old["source"] != row["source"]:
            moved.append(row | {"row_id": old["id"]})  # the same run in another place: no correction
    added = new if before else given
    unlike = _unlike(connection, recipe_id, added) if exact and added and recipe_id is not None else ""
    if not dry_run and recipe_id is not None:
        _insert_runs(connection, recipe_id, added)
        if differing or moved:
            # `excluded` is not among the columns: a person's decision outlives the log.
            names = (*_RUN_FIELDS, "source")
            statement = sa.update(runs).where(runs.c.id == sa.bindparam("row_id"))
            statement = statement.values({name: sa.bindparam(name) for name in names})
            rows = [{"row_id": row["row_id"]} | {name: row[name] for name in names} for row in differing + moved]
            connection.execute(statement, rows)
    notes = []
    if unlike:
        notes.append(str(finding("store.unlike_all", recipe=recipe.name, why=unlike)))
    return Written(inserted=len(added), changed=tuple(changed), kept=kept, notes=tuple(notes))


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


def _unlike(connection: sa.Connection, recipe_id: int, new: Sequence[Run]) -> str:
    """The choices in which a new run is like no stored one; "" where there is none."""
    stored = connection.execute(sa.select(runs.c.extra).where(runs.c.recipe_id == recipe_id)).scalars().all()
    said = []
    for name in _CHOICES:
        if name == "beta2" and any("beta2_half_life_tokens" in run.extra for run in new):
            continue  # it follows the batch
        before, now = {extra.get(name) for extra in stored}, {run.extra.get(name) for run in new}
        if before and now - before:
            said.append(f"{name} is {_values(now - before)}, not {_values(before)}")
    return ", ".join(said)


def _values(values: Iterable[object]) -> str:
    return " or ".join(sorted("unsaid" if value is None else str(value) for value in values))


def _require_distinct(sweep: Sweep) -> None:
    keys = run_keys(sweep.runs)
    for at in repeated([keys if isinstance(keys, Column) else Column(list(keys))], len(keys)):
        raise ValueError(f"run '{keys[at]}' is given twice; each run of a recipe needs its own key")


def insert_recipe(connection: sa.Connection, recipe: Recipe) -> int:
    """Its row id."""
    row = {name: getattr(recipe, name) for name in RECIPE_FIELDS}
    row |= {"extra": dict(recipe.extra), "key": recipe.key, "created_at": now()}
    return int(connection.execute(sa.insert(recipes).values(row).returning(recipes.c.id)).scalar_one())


def _insert_runs(connection: sa.Connection, recipe_id: int, new: Sequence[Run]) -> None:
    values = attrgetter(*_PLAIN_FIELDS)
    rows: Iterator[tuple[Any, ...]]
    if isinstance(new, RunColumns):
        rows = _packed_rows(recipe_id, new)
    else:
        rows = ((recipe_id, run.status.value, json_text(run.extra), *values(run)) for run in new)
    insert_many(connection, runs, ("recipe_id", "status", "extra", *_PLAIN_FIELDS), rows)


def _packed_rows(recipe_id: int, new: RunColumns) -> Iterator[tuple[Any, ...]]:
    """As many runs at a time as their columns are read by."""
    parts = [column.pieces(partial(_json_part, name)) for name, column in new.extra.items()]
    for at, some in enumerate(zip(*parts, strict=True) if parts else repeat(())):
        if at * ROWS_AT_ONCE >= len(new):
            return
        fields = new.fields(slice(at * ROWS_AT_ONCE, (at + 1) * ROWS_AT_ONCE))
        fields["excluded"] = [None] * len(fields["run_key"])
        said = [", ".join(filter(None, each)) for each in zip(*some, strict=True)] if some else repeat("")
        extra = [f"{{{text}}}" for text, _ in zip(said, fields["run_key"], strict=False)]
        status = map(str, fields["status"])
        yield from zip(repeat(recipe_id), status, extra, *(fields[name] for name in _PLAIN_FIELDS), strict=False)


def _json_part(name: str, value: Any) -> str:
    return "" if value is None else f"{json_text(name)}: {json_text(value)}"


def _stored_runs(connection: sa.Connection, recipe_id: int, keys: Sequence[str]) -> Stored:
    """The runs of these keys, and others of the recipe where they are many."""
    columns = (runs.c.id, runs.c.run_key, runs.c.source, *(runs.c[name] for name in _RUN_FIELDS))
    query = sa.select(*columns).where(runs.c.recipe_id == recipe_id)
    found = (row for each in of_keys(query, keys) for row in connection.execute(each).mappings())
    return {row["run_key"]: dict(row) for row in found}


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
