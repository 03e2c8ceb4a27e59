"""Which recipe of the store a sweep belongs to.

Two sweeps may state the same settings and still be two experiments, because much goes unstated. So a sweep joins a
recipe when its name says so or when it repeats that recipe's runs, and otherwise is kept apart. What was decided
without being asked is said, with the way to have it otherwise. Only the trainer's own logs leave nothing unstated.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from lawfit.errors import RecipeConflict
from lawfit.findings import finding
from lawfit.records import Recipe, Run, Sweep
from lawfit.storage.corrections import EXCLUDED
from lawfit.storage.tables import corrections, recipes, runs

APART: Final = "sweep"  # key in Recipe.extra that tells two recipes with the same stated settings apart
RECIPE_FIELDS: Final = tuple(f.name for f in dataclasses.fields(Recipe))

_KEY_FROM_SETTINGS: Final = re.compile(r"[0-9a-f]{16}(-[0-9]+)?")  # see ingest: the log had no run ids
_ENOUGH_TO_CONTRADICT: Final = 4  # runs; with fewer, a correction of most of them is as likely

Stored = tuple[int, Recipe]  # row id and record


_KEYS_AT_ONCE = 500  # in one query: SQLite takes 999 parameters in its older builds


def recipe_of(row: sa.RowMapping) -> Recipe:
    """The record of one row of `recipes`."""
    return Recipe(**{name: row[name] for name in RECIPE_FIELDS})


def home(connection: sa.Connection, sweep: Sweep, *, named: bool) -> tuple[Recipe, int | None, str]:
    """The recipe that takes the runs, its row id (None: to be made), and what to tell the user.

    Raises
    ------
    RecipeConflict
        A person chose the name (`named`), and it holds other settings.
    """
    wanted = sweep.recipe
    known: list[Stored] = [(row["id"], recipe_of(row)) for row in connection.execute(sa.select(recipes)).mappings()]
    content = _content(wanted)
    alike = [stored for stored in known if _content(stored[1]) == content]
    if sweep.exact and alike and not named:
        row_id, recipe = next((stored for stored in alike if stored[1].name == wanted.name), alike[0])
        return recipe, row_id, ""
    by_name = {recipe.name: (row_id, recipe) for row_id, recipe in known}
    if wanted.name not in by_name:
        return _under_a_new_name(connection, sweep, alike, named=named)
    namesake = by_name[wanted.name]
    numbered = [stored for stored in alike if re.fullmatch(re.escape(wanted.name) + "-[0-9]+", stored[1].name)]
    free = free_name(wanted.name, set(by_name))
    if namesake not in alike:
        difference = _difference(namesake[1], wanted)
        if named:
            raise RecipeConflict(
                f"recipe '{wanted.name}' in the store is another one: {difference}. Nothing was written; "
                "give these runs another recipe name, or state what the file leaves out"
            )
        for row_id, recipe in numbered:
            return recipe, row_id, f"these runs belong to recipe '{recipe.name}'"
        note = f"recipe '{wanted.name}' in the store is another one ({difference}); these runs went to '{free}'"
        return _apart(dataclasses.replace(wanted, name=free), alike), None, note
    if named:
        return namesake[1], namesake[0], ""
    overlap = _overlap(connection, namesake[0], sweep.runs)
    if not overlap.contradicts:
        note = (
            str(finding("store.joined_runs", stored=overlap.stored, recipe=wanted.name))
            if overlap.stored and sweep.runs and not overlap.shared
            else ""
        )
        return namesake[1], namesake[0], note
    for row_id, recipe in numbered:
        if _overlap(connection, row_id, sweep.runs).repeats:
            return recipe, row_id, f"these runs belong to recipe '{recipe.name}'"
    note = str(finding("store.another_sweep", recipe=wanted.name, shared=overlap.shared, free=free))
    return _apart(dataclasses.replace(wanted, name=free), alike), None, note


def _under_a_new_name(
    connection: sa.Connection, sweep: Sweep, alike: Sequence[Stored], *, named: bool
) -> tuple[Recipe, int | None, str]:
    name = sweep.recipe.name
    if not named:
        for row_id, recipe in _sharing(connection, alike, sweep.runs):
            if _overlap(connection, row_id, sweep.runs).repeats:
                return recipe, row_id, f"taken as the same sweep as recipe '{recipe.name}', whose runs it repeats"
    note = ""
    if alike:
        other = alike[0][1].name
        note = (
            f"recipe '{name}' states the same settings as '{other}', but the two are kept apart: runs under two names "
            "are not pooled"
        )
    return _apart(sweep.recipe, alike), None, note


def _sharing(connection: sa.Connection, alike: Sequence[Stored], given: Sequence[Run]) -> Sequence[Stored]:
    """Those of the recipes that have a run of these keys, or all where one query cannot ask for so many."""
    if len(given) > _KEYS_AT_ONCE:
        return alike
    query = sa.select(runs.c.recipe_id).where(runs.c.run_key.in_([run.run_key for run in given])).distinct()
    homes = set(connection.execute(query).scalars())
    return [stored for stored in alike if stored[0] in homes]


@dataclass(frozen=True)
class Overlap:
    """How many runs a recipe has, has in common with those given, and has in common with the same numbers."""

    stored: int
    shared: int
    same: int
    from_settings: bool  # the common keys are made from settings, so they do not prove that the runs are the same

    @property
    def repeats(self) -> bool:
        return self.shared > 0 and 2 * self.same >= self.shared

    @property
    def contradicts(self) -> bool:
        """The same grid with other results: writing it would destroy an experiment."""
        return self.from_settings and self.shared >= _ENOUGH_TO_CONTRADICT and 2 * self.same < self.shared


def _overlap(connection: sa.Connection, recipe_id: int, given: Sequence[Run]) -> Overlap:
    columns = (runs.c.run_key, runs.c.params, runs.c.tokens, runs.c.batch_tokens, runs.c.lr, runs.c.loss)
    found = connection.execute(sa.select(*columns).where(runs.c.recipe_id == recipe_id))
    stored = {row[0]: tuple(row[1:]) for row in found}
    changed = sa.select(runs.c.run_key).join(corrections, corrections.c.run_id == runs.c.id)
    numbers = corrections.c.field != EXCLUDED
    changed = changed.where(runs.c.recipe_id == recipe_id, corrections.c.undone_at.is_(None), numbers)
    corrected = set(connection.execute(changed).scalars())  # by a person: that the log says otherwise is no wonder
    shared = [run for run in given if run.run_key in stored]
    return Overlap(
        stored=len(stored),
        shared=len(shared),
        same=sum(
            r.run_key in corrected or stored[r.run_key] == (r.params, r.tokens, r.batch_tokens, r.lr, r.loss)
            for r in shared
        ),
        from_settings=all(_KEY_FROM_SETTINGS.fullmatch(run.run_key) for run in shared),
    )


def _content(recipe: Recipe) -> Recipe:
    """The recipe less its name and less what keeps it apart from its like."""
    extra = {key: value for key, value in recipe.extra.items() if key != APART}
    return dataclasses.replace(recipe, name="", extra=extra)


def _apart(recipe: Recipe, alike: Sequence[Stored]) -> Recipe:
    return dataclasses.replace(recipe, extra={**recipe.extra, APART: recipe.name}) if alike else recipe


def _difference(old: Recipe, new: Recipe) -> str:
    said = []
    for name in RECIPE_FIELDS:
        before, after = getattr(_content(old), name), getattr(_content(new), name)
        if before != after:
            said.append(f"{name} is {_or_unknown(before)} there and {_or_unknown(after)} here")
    return "; ".join(said)


def _or_unknown(value: object) -> str:
    return "unknown" if value in ("", None) else repr(value)


def free_name(name: str, taken: set[str]) -> str:
    """The name with the first number behind it that makes it new."""
    number = 2
    while f"{name}-{number}" in taken:
        number += 1
    return f"{name}-{number}"
