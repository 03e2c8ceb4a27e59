"""Recipes merged and split by a rule that is kept, so that logs which are read again find their runs.

Merging B into A: the runs of B go to A, and each run of both says for itself, under `extra`, the settings that part the
two. Splitting R by a column: the runs of each value go to a recipe of their own, which holds that value fixed; runs
that do not say it stay. B's row stays (its fits rest on it) and so does R's; nothing of a run is changed or dropped.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

import sqlalchemy as sa

from lawfit.errors import RecipeConflict
from lawfit.records import Recipe, Run, SizedLoss, StepsToTarget
from lawfit.storage.bulk import json_text
from lawfit.storage.database import now
from lawfit.storage.identity import APART, RECIPE_FIELDS, free_name, recipe_of
from lawfit.storage.tables import losses, moves, recipes, runs, targets

_TABLES: Final = (runs, targets, losses)
_INCOMPARABLE: Final = ("loss_kind", "params_convention")  # numbers of other kinds: no setting of a run mends that
_NO_SETTING: Final = ("name", "loss_column", "extra")

Item = TypeVar("Item", Run, StepsToTarget, SizedLoss)
Stored = tuple[Recipe, int]
Insert = Callable[[sa.Connection, Recipe], int]


def settings(recipe: Recipe) -> dict[str, Any]:
    """All that a recipe holds fixed, by name, less its own name and what only keeps it apart from its like."""
    fields = {name: getattr(recipe, name) for name in RECIPE_FIELDS if name not in _NO_SETTING}
    return fields | {name: value for name, value in recipe.extra.items() if name != APART}


def parting(found: Sequence[Recipe]) -> list[str]:
    """Names of the settings that are not the same in all of the recipes."""
    all_settings = [settings(recipe) for recipe in found]
    names = dict.fromkeys(name for each in all_settings for name in each)
    return [name for name in names if len({str(each.get(name, "")) for each in all_settings}) > 1]


def merge(connection: sa.Connection, into: Stored, other: Stored) -> int:
    """Move all of `other` to `into`; how many rows. See `Store.merge_recipes`."""
    (target, target_id), (source, source_id) = into, other
    if target_id == source_id:
        raise RecipeConflict(f"recipe '{target.name}' cannot be merged with itself")
    for name in _INCOMPARABLE:
        here, there = getattr(target, name), getattr(source, name)
        if here != there and here and there:
            raise RecipeConflict(
                f"{name} is '{here}' in '{target.name}' and '{there}' in '{source.name}': not comparable"
            )
    for recipe, row_id in (into, other):
        if row_id in merged(connection):
            raise RecipeConflict(f"recipe '{recipe.name}' was merged into another already; name that one")
        if parts := _parts(connection, row_id):
            raise RecipeConflict(f"recipe '{recipe.name}' was split by {parts[0].split_by}; merge its parts instead")
    for table in _TABLES:
        _require_free(connection, table, source_id, into, None)
    parted = _parted(connection, target, target_id) | set(parting([target, source]))
    moved = 0
    for table in _TABLES:
        for recipe, row_id in (into, other):
            _say(connection, table, row_id, {name: settings(recipe).get(name) for name in parted})
        done = connection.execute(sa.update(table).where(table.c.recipe_id == source_id).values(recipe_id=target_id))
        moved += done.rowcount
    connection.execute(sa.insert(moves).values(recipe_id=source_id, into_id=target_id, made_at=now()))
    return moved


def split(connection: sa.Connection, stored: Stored, column: str, insert: Insert) -> list[tuple[Recipe, int]]:
    """Recipes and how many rows each took; see `Store.split_recipe`."""
    recipe, row_id = stored
    rows = {table.name: _values(connection, table, row_id, column) for table in _TABLES}
    values = {value for of in rows.values() for value in of.values() if value is not None}
    if len(values) < 2:
        said = f"all that say it have {next(iter(values))}" if values else "no run says it"
        raise RecipeConflict(f"'{column}' does not part the runs of recipe '{recipe.name}': {said}")
    done = []
    for value in sorted(values):
        part, part_id = _part(connection, stored, column, value, insert)
        if part_id == row_id:
            continue
        count = 0
        for table in _TABLES:
            ids = [row for row, of in rows[table.name].items() if of == value]
            _require_free(connection, table, row_id, (part, part_id), set(ids))
            for row in ids:
                connection.execute(sa.update(table).where(table.c.id == row).values(recipe_id=part_id))
            count += len(ids)
        done.append((part, count))
    return done


def route(
    connection: sa.Connection, recipe: Recipe, row_id: int | None, items: Sequence[Item], insert: Insert | None
) -> list[tuple[Recipe, int | None, Sequence[Item]]]:
    """Where rows of a recipe belong since it was merged or split: recipe, row id, and the rows as they stand there."""
    if row_id is None or connection.execute(sa.select(moves.c.id).limit(1)).scalar() is None:
        return [(recipe, row_id, items)]
    given, own = list(items), settings(recipe)
    while True:
        parted = _parted(connection, recipe, row_id)
        query = sa.select(recipes).join(moves, moves.c.into_id == recipes.c.id)
        query = query.where(moves.c.recipe_id == row_id, moves.c.split_by.is_(None))
        target = connection.execute(query).mappings().first()
        if target is not None:
            parted |= _parted(connection, recipe_of(target), target["id"])
        given = [_saying(item, {name: own.get(name) for name in parted}) for item in given]
        if target is None:
            break
        recipe, row_id = recipe_of(target), int(target["id"])
    if not (parts := _parts(connection, row_id)):
        return [(recipe, row_id, given)]
    column = str(parts[0].split_by)
    routed: dict[str | None, list[Item]] = {}
    for item in given:
        routed.setdefault(_text(_said(item, column)), []).append(item)
    known = {part.split_value: part.into_id for part in parts}
    homes: list[tuple[Recipe, int | None, Sequence[Item]]] = []
    for value, some in routed.items():
        if value in known:
            row = connection.execute(sa.select(recipes).where(recipes.c.id == known[value])).mappings().one()
            homes += route(connection, recipe_of(row), row["id"], some, insert)
        elif value is None or insert is None:
            homes.append((recipe, row_id, some))
        else:
            part, part_id = _part(connection, (recipe, row_id), column, value, insert)
            homes.append((part, part_id, some))
    return homes


def family(connection: sa.Connection, row_id: int) -> list[int]:
    """Row ids of all recipes where rows of one may stand since merges and splits, itself among them."""
    found, waiting = {row_id}, [row_id]
    while waiting:
        query = sa.select(moves.c.into_id).where(moves.c.recipe_id.in_(waiting))
        waiting = [into for into in connection.execute(query).scalars() if into not in found]
        found.update(waiting)
    return sorted(found)


def merged(connection: sa.Connection) -> dict[int, int]:
    """Row ids of merged recipes -> of that which took their runs."""
    query = sa.select(moves.c.recipe_id, moves.c.into_id).where(moves.c.split_by.is_(None))
    return {row.recipe_id: row.into_id for row in connection.execute(query)}


def _part(connection: sa.Connection, stored: Stored, column: str, value: str, insert: Insert) -> Stored:
    """The recipe that holds one value fixed, made where there is none, and noted as the place of such rows."""
    recipe, row_id = stored
    if column in RECIPE_FIELDS:
        held: Any = {column: int(value) if column == "seq_len" else value}
        part = dataclasses.replace(recipe, **held)
    else:
        part = dataclasses.replace(recipe, extra={**recipe.extra, column: value})
    known = connection.execute(sa.select(recipes).where(recipes.c.key == part.key)).mappings().first()
    if known is None:
        taken = set(connection.execute(sa.select(recipes.c.name)).scalars())
        name = f"{recipe.name}-{column}-{re.sub('[^A-Za-z0-9._]+', '-', value).strip('-.') or 'other'}"
        part = dataclasses.replace(part, name=name if name not in taken else free_name(name, taken))
        part_id = insert(connection, part)
    else:
        part, part_id = recipe_of(known), int(known["id"])
        if (into := merged(connection).get(part_id)) not in (None, row_id):
            raise RecipeConflict(
                f"recipe '{part.name}' holds {column} {value}, and was merged into another; split that"
            )
        # Parted again by what was merged: the recipe of that value is there once more.
        connection.execute(sa.delete(moves).where(moves.c.recipe_id == part_id, moves.c.into_id == into))
    if part_id != row_id:
        values = {"recipe_id": row_id, "into_id": part_id, "split_by": column, "split_value": value}
        noted = sa.select(moves.c.id).where(moves.c.recipe_id == row_id, moves.c.split_value == value)
        if connection.execute(noted).scalar() is None:
            connection.execute(sa.insert(moves).values(**values, made_at=now()))
    return part, part_id


def _parts(connection: sa.Connection, row_id: int) -> Sequence[Any]:
    query = sa.select(moves.c.split_by, moves.c.split_value, moves.c.into_id)
    return connection.execute(query.where(moves.c.recipe_id == row_id, moves.c.split_by.is_not(None))).all()


def _parted(connection: sa.Connection, recipe: Recipe, row_id: int) -> set[str]:
    """Settings that rows of a recipe say for themselves, as recipes with other ones were merged into it."""
    query = sa.select(recipes).join(moves, moves.c.recipe_id == recipes.c.id)
    query = query.where(moves.c.into_id == row_id, moves.c.split_by.is_(None))
    others = [recipe_of(row) for row in connection.execute(query).mappings()]
    return {name for other in others for name in parting([recipe, other])}


def _require_free(
    connection: sa.Connection, table: sa.Table, source_id: int, target: Stored, only: set[int] | None
) -> None:
    """Refuse where rows that are to move (all, or those of `only`) have keys that the target has already."""
    there = table.alias()
    query = sa.select(table.c.id, table.c.run_key).join(there, there.c.run_key == table.c.run_key)
    rows = connection.execute(query.where(table.c.recipe_id == source_id, there.c.recipe_id == target[1]))
    if found := sorted(row.run_key for row in rows if only is None or row.id in only):
        raise RecipeConflict(
            f"{len(found)} {table.name} that were to move have keys that recipe '{target[0].name}' has already "
            f"({', '.join(found[:5])}{', ...' * (len(found) > 5)}); nothing was moved"
        )


def _say(connection: sa.Connection, table: sa.Table, row_id: int, said: Mapping[str, Any]) -> None:
    """Write settings into `extra` of all rows of a recipe that do not say them."""
    query = sa.select(table.c.id, table.c.extra).where(table.c.recipe_id == row_id)
    rows = [
        {"row_id": row.id, "extra": extra}
        for row in connection.execute(query)
        if (extra := _with(row.extra, said)) != row.extra
    ]
    if rows:
        statement = sa.update(table).where(table.c.id == sa.bindparam("row_id"))
        connection.execute(statement.values(extra=sa.bindparam("extra", type_=sa.JSON)), rows)


def _saying(item: Item, said: Mapping[str, Any]) -> Item:
    return dataclasses.replace(item, extra=_with(item.extra, said)) if said else item


def _with(extra: Mapping[str, Any], said: Mapping[str, Any]) -> dict[str, Any]:
    return {**{name: "unknown" if value in ("", None) else value for name, value in said.items()}, **extra}


def _values(connection: sa.Connection, table: sa.Table, row_id: int, column: str) -> dict[int, str | None]:
    """Row id -> its value of a column, as text; None where it does not say."""
    query = sa.select(table).where(table.c.recipe_id == row_id)
    return {row["id"]: _text(_value(row, column)) for row in connection.execute(query).mappings()}


def _said(item: Any, column: str) -> Any:
    return getattr(item, "weight_decay", None) if column == "weight_decay" else item.extra.get(column)


def _value(row: Any, column: str) -> Any:
    return row.get("weight_decay") if column == "weight_decay" else row["extra"].get(column)


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json_text(value)
