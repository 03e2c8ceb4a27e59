"""Records of a file of our own into the store, as they were: recipes keep their names, runs their exclusions."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Final

import sqlalchemy as sa

from lawfit.errors import LogFormatError, NoRun
from lawfit.records import Changes, Curve, CurveChange, Recipe, Run, SizedLoss, StepsToTarget
from lawfit.storage.curve_rows import all_new, write_curve
from lawfit.storage.identity import free_name, recipe_of
from lawfit.storage.moves import family
from lawfit.storage.sweeps import insert_recipe, update_notes, write_runs
from lawfit.storage.tables import losses, recipes, runs, targets
from lawfit.storage.targets import write_sized_rows

_RECORDS_AT_ONCE: Final = 5_000  # what is in memory of a file
_POINTS_LIKE_A_RECORD: Final = 20

Record = tuple[
    int, tuple[Recipe | str, Run | StepsToTarget | SizedLoss | Curve | None]
]  # line, recipe (or its name), what is of it


@dataclass(frozen=True, kw_only=True)
class PutBack:
    """What putting the records of a file back did, or on a dry run would do."""

    rows: Changes  # of runs, steps to targets, losses of sizes
    diverged: int
    points: int  # of curves, as given
    new_points: int
    differing: tuple[tuple[str, str], ...]  # runs and metrics whose stored curves have other numbers, and stay


def put_back(connection: sa.Connection, records: Iterable[Record], *, dry_run: bool) -> PutBack:
    """Write inside the caller's transaction; see `Store.put_back`."""
    return _Writing(connection, dry_run=dry_run).all(iter(records))


def _some(records: Iterator[Record]) -> list[Record]:
    """The next records: so many, or curves of so many points."""
    taken, weight = list[Record](), 0
    for record in records:
        taken.append(record)
        item = record[1][1]
        weight += 1 + (len(item.steps) // _POINTS_LIKE_A_RECORD if isinstance(item, Curve) else 0)
        if weight >= _RECORDS_AT_ONCE:
            break
    return taken


@dataclass
class _Home:
    recipe: Recipe  # as it stands in the store
    row_id: int | None  # None on a dry run, where it would be made
    seen: set[tuple[type, str]] = field(default_factory=set)  # kinds and keys that the file has given


class _Writing:
    """One file on its way."""

    def __init__(self, connection: sa.Connection, *, dry_run: bool) -> None:
        self._connection, self._dry_run = connection, dry_run
        rows = connection.execute(sa.select(recipes)).mappings().all()
        self._stored = {row["key"]: _Home(recipe_of(row), row["id"]) for row in rows}
        self._homes: dict[str, _Home] = {}  # by the name in the file
        self._counts = {"inserted": 0, "updated": 0, "unchanged": 0}
        self._notes: list[str] = []
        self._changed: list[str] = []
        self._differing: list[tuple[str, str]] = []
        self._diverged = self._points = self._new_points = 0

    def all(self, records: Iterator[Record]) -> PutBack:
        while some := _some(records):
            for (recipe, kind), group in groupby(some, key=lambda record: (record[1][0], type(record[1][1]))):
                self._take(recipe, kind, [(line, item) for line, (_, item) in group])
        recipes_met = tuple(home.recipe for home in self._homes.values())
        notes = (*self._notes, *update_notes(self._changed))
        return PutBack(
            rows=Changes(
                inserted=self._counts["inserted"],
                updated=self._counts["updated"],
                unchanged=self._counts["unchanged"],
                recipes=recipes_met,
                notes=notes,
            ),
            diverged=self._diverged,
            points=self._points,
            new_points=self._new_points,
            differing=tuple(self._differing),
        )

    def _take(self, recipe: Recipe | str, kind: type, items: list[tuple[int, Any]]) -> None:
        if isinstance(recipe, str):
            home = self._home_of_curves(recipe, items[0][0])
            for line, curve in items:
                change = self._curve(home, line, curve)
                self._points += len(curve.steps)
                self._new_points += len(change.new_steps)
                self._differing += [(curve.run_key, curve.metric)] if change.differs else []
            return
        home = self._home(recipe)
        if kind is type(None):
            return
        for line, item in items:
            if (kind, item.run_key) in home.seen:
                raise LogFormatError(f"line {line}: '{item.run_key}' of recipe '{recipe.name}' stands there twice")
            home.seen.add((kind, item.run_key))
        given = [item for _, item in items]
        if kind is Run:
            self._diverged += sum(run.loss is None for run in given)
            written = write_runs(self._connection, home.recipe, home.row_id, given, exact=False, dry_run=self._dry_run)
            inserted, updated = written.inserted, len(written.changed)
            self._changed += written.changed
            self._notes += written.notes
        else:
            table = targets if kind is StepsToTarget else losses
            inserted, updated = write_sized_rows(
                self._connection, table, home.recipe, home.row_id, given, dry_run=self._dry_run
            )
        self._counts["inserted"] += inserted
        self._counts["updated"] += updated
        self._counts["unchanged"] += len(given) - inserted - updated

    def _home(self, recipe: Recipe) -> _Home:
        """The stored recipe with these settings, whatever it is called; else a new one, under a free name."""
        if (known := self._homes.get(recipe.name)) is not None:
            if recipe != known.recipe and recipe.key != known.recipe.key:
                raise LogFormatError(f"recipe '{recipe.name}' has other settings further up in the file")
            return known
        home = self._stored.get(recipe.key)
        if home is None:
            taken = {stored.recipe.name for stored in self._stored.values()}
            made = (
                recipe if recipe.name not in taken else dataclasses.replace(recipe, name=free_name(recipe.name, taken))
            )
            home = _Home(made, None if self._dry_run else insert_recipe(self._connection, made))
            self._stored[recipe.key] = home
        if home.recipe.name != recipe.name:
            self._notes.append(f"recipe '{recipe.name}' of the file is '{home.recipe.name}' in the store")
        self._homes[recipe.name] = home
        return home

    def _home_of_curves(self, name: str, line: int) -> _Home:
        named = (home for home in self._stored.values() if home.recipe.name == name)
        home = self._homes.get(name) or next(named, None)
        if home is None:
            raise NoRun(f"line {line}: no recipe '{name}' in the store; ingest the file of its runs first")
        return self._homes.setdefault(name, home)

    def _curve(self, home: _Home, line: int, curve: Curve) -> CurveChange:
        run_id = None
        if home.row_id is not None:
            homes = family(self._connection, home.row_id)
            query = sa.select(runs.c.id).where(runs.c.recipe_id.in_(homes), runs.c.run_key == curve.run_key)
            run_id = self._connection.execute(query).scalar()
        if run_id is None and not (self._dry_run and (Run, curve.run_key) in home.seen):
            raise NoRun(
                f"line {line}: no run '{curve.run_key}' of recipe '{home.recipe.name}' in the store; "
                "ingest the file of its runs first"
            )
        if run_id is None:
            return all_new(curve)
        return write_curve(self._connection, run_id, curve, dry_run=self._dry_run)
