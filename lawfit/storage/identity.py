"""Which recipe of the store a sweep belongs to.

Two sweeps may state the same settings and still be two experiments, because much goes unstated. So a sweep joins a
recipe when its name says so or when it repeats that recipe's runs, and otherwise is kept apart. What was decided
without being asked is said, with the way to have it otherwise. Only the trainer's own logs leave nothing unstated.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from lawfit.errors import RecipeConflict
from lawfit.findings import finding
from lawfit.records import Recipe, Run, Sweep, run_keys
from lawfit.storage.corrections import EXCLUDED
from lawfit.storage.tables import corrections, recipes, runs

APART: Final = "sweep"  # key in Recipe.extra that tells two recipes with the same stated settings apart
RECIPE_FIELDS: Final = tuple(f.name for f in dataclasses.fields(Recipe))

_KEY_FROM_SETTINGS: Final = re.compile(r"[0-9a-f]{16}(-[0-9]+)?")  # see ingest: the log had no run ids
_ENOUGH_TO_CONTRADICT: Final = 4  # runs; with fewer, a correction of most of them is as likely

Stored = tuple[int, Recipe]  # row id and record


_KEYS_AT_ONCE = 500  # in one query: SQLite takes 999 parameters in its older builds
_ASKED_BY_KEY = 5_000
_ROWS_AT_ONCE = 100  # of recipes, of which mostly the first is the one


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
    namesake = _namesake(connection, wanted.name)
    same = namesake is not None and _content(namesake[1]) == _content(wanted)
    if sweep.exact and not named and (own := namesake if same else next(_alike(connection, wanted), None)) is not None:
        return own[1], own[0], ""
    if namesake is None:
        return _under_a_new_name(connection, sweep, named=named)
    if not same:
        difference = _difference(namesake[1], wanted)
        if named:
            raise RecipeConflict(
                f"recipe '{wanted.name}' in the store is another one: {difference}. Nothing was written; "
                "give these runs another recipe name, or state what the file leaves out"
            )
        for row_id, recipe in _numbered(connection, wanted):
            return recipe, row_id, f"these runs belong to recipe '{recipe.name}'"
        alike = next(_alike(connection, wanted), None) is not None
        apart = _apart(wanted, _free_name(connection, wanted.name), alike=alike)
        note = f"recipe '{wanted.name}' in the store is another one ({difference}); these runs went to '{apart.name}'"
        return apart, None, note
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
    for row_id, recipe in _numbered(connection, wanted):
        if _overlap(connection, row_id, sweep.runs).repeats:
            return recipe, row_id, f"these runs belong to recipe '{recipe.name}'"
    apart = _apart(wanted, _free_name(connection, wanted.name), alike=True)  # its namesake is
    note = str(finding("store.another_sweep", recipe=wanted.name, shared=overlap.shared, free=apart.name))
    return apart, None, note


def _under_a_new_name(connection: sa.Connection, sweep: Sweep, *, named: bool) -> tuple[Recipe, int | None, str]:
    wanted = sweep.recipe
    if not named:
        for row_id, recipe in _sharing(connection, wanted, sweep.runs):
            if _overlap(connection, row_id, sweep.runs).repeats:
                return recipe, row_id, f"taken as the same sweep as recipe '{recipe.name}', whose runs it repeats"
    note, like = "", next(_alike(connection, wanted), None)
    if like is not None:
        note = (
            f"recipe '{wanted.name}' states the same settings as '{like[1].name}', but the two are kept apart: runs "
            "under two names are not pooled"
        )
    return _apart(wanted, wanted.name, alike=like is not None), None, note


# A store may hold thousands of recipes, and each table of a folder is looked up among them: by queries, never by
# reading them all.


def _namesake(connection: sa.Connection, name: str) -> Stored | None:
    row = connection.execute(sa.select(recipes).where(recipes.c.name == name)).mappings().first()
    return None if row is None else (row["id"], recipe_of(row))


def _alike(connection: sa.Connection, wanted: Recipe, *conditions: sa.ColumnElement[bool]) -> Iterator[Stored]:
    """Recipes that state the same settings, the first stored first; who wants the first alone reads no other."""
    content = _content(wanted)
    said = [recipes.c[name] == getattr(wanted, name) for name in RECIPE_FIELDS if name not in ("name", "extra")]
    query = sa.select(recipes).where(*said, *conditions).order_by(recipes.c.id)
    with connection.execute(query, execution_options={"yield_per": _ROWS_AT_ONCE}) as found:
        for row in found.mappings():
            recipe = recipe_of(row)
            if _content(recipe) == content:
                yield row["id"], recipe


def _numbered(connection: sa.Connection, wanted: Recipe) -> list[Stored]:
    """Recipes alike whose name is the wanted one with a number behind it."""
    found = _alike(connection, wanted, recipes.c.name.startswith(f"{wanted.name}-", autoescape=True))
    return [stored for stored in found if re.fullmatch(re.escape(wanted.name) + "-[0-9]+", stored[1].name)]


def _sharing(connection: sa.Connection, wanted: Recipe, given: Sequence[Run]) -> list[Stored]:
    """Recipes alike that have a run of these keys, or all of them where one query cannot ask for so many."""
    if len(given) > _KEYS_AT_ONCE:
        return list(_alike(connection, wanted))
    homes = sa.select(runs.c.recipe_id).where(runs.c.run_key.in_(list(run_keys(given))))
    return list(_alike(connection, wanted, recipes.c.id.in_(homes)))


def of_keys(query: sa.Select[Any], keys: Sequence[str]) -> list[sa.Select[Any]]:
    """Queries for the runs of these keys. Few are asked for by key, many by reading all that the query gives."""
    if len(keys) > _ASKED_BY_KEY:
        return [query]
    some = (keys[begin : begin + _KEYS_AT_ONCE] for begin in range(0, len(keys), _KEYS_AT_ONCE))
    return [query.where(runs.c.run_key.in_(each)) for each in some]


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
    queries = of_keys(sa.select(*columns).where(runs.c.recipe_id == recipe_id), run_keys(given))
    stored = {row[0]: tuple(row[1:]) for query in queries for row in connection.execute(query)}
    count = sa.select(sa.func.count()).select_from(runs).where(runs.c.recipe_id == recipe_id)
    changed = sa.select(runs.c.run_key).join(corrections, corrections.c.run_id == runs.c.id)
    numbers = corrections.c.field != EXCLUDED
    changed = changed.where(runs.c.recipe_id == recipe_id, corrections.c.undone_at.is_(None), numbers)
    corrected = set(connection.execute(changed).scalars())  # by a person: that the log says otherwise is no wonder
    shared = [run for run in given if run.run_key in stored]
    return Overlap(
        stored=connection.execute(count).scalar_one(),
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


def _apart(recipe: Recipe, name: str, *, alike: bool) -> Recipe:
    """The recipe under a name, told from those that state the same settings where there are any."""
    return dataclasses.replace(recipe, name=name, extra={**recipe.extra, APART: name} if alike else recipe.extra)


def _difference(old: Recipe, new: Recipe) -> str:
    said = []
    for name in RECIPE_FIELDS:
        before, after = getattr(_content(old), name), getattr(_content(new), name)
        if before != after:
            said.append(f"{name} is {_or_unknown(before)} there and {_or_unknown(after)} here")
    return "; ".join(said)


def _or_unknown(value: object) -> str:
    return "unknown" if value in ("", None) else repr(value)


def _free_name(connection: sa.Connection, name: str) -> str:
    like = sa.select(recipes.c.name).where(recipes.c.name.startswith(f"{name}-", autoescape=True))
    return free_name(name, set(connection.execute(like).scalars()))


def free_name(name: str, taken: set[str]) -> str:
    """The name with the first number behind it that makes it new."""
    number = 2
    while f"{name}-{number}" in taken:
        number += 1
    return f"{name}-{number}"
