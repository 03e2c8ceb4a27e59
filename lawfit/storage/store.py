"""`Store`: recipes, runs, curves, optima, fits and predictions in one database. The only code that opens a session.

Each method is one transaction and takes and gives records. Nothing here computes.
"""

from __future__ import annotations

import dataclasses
import difflib
import fnmatch
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from lawfit.errors import NoFit, NoRecipe, NoRun, NoRuns, StoreError
from lawfit.findings import finding
from lawfit.records import (
    Changes,
    Correction,
    Curve,
    CurveChange,
    Fit,
    FitStatus,
    Json,
    LossSweep,
    Optimum,
    Recipe,
    RecipeSummary,
    Run,
    RunStatus,
    SizedLoss,
    StepsToTarget,
    StoredPrediction,
    Sweep,
    TargetSweep,
    run_keys,
)
from lawfit.storage import corrections, moves, schema, tables
from lawfit.storage import curves as curve_chunks
from lawfit.storage import fits as fit_rows
from lawfit.storage.corrections import Change
from lawfit.storage.curve_rows import curve_end, insert_chunks, stored, write_curves
from lawfit.storage.database import (
    LOCK_WAIT_SECONDS,
    OUTSIDE,
    WRITE,
    Location,
    Result,
    check_file,
    create_engine,
    explained,
    network_file_system,
    persistently,
    use_wal,
)
from lawfit.storage.identity import recipe_of
from lawfit.storage.put_back import PutBack, Record, put_back
from lawfit.storage.streams import Snapshot, run_of
from lawfit.storage.sweeps import insert_recipe, write_sweeps
from lawfit.storage.targets import stored_losses, stored_targets, write_losses, write_targets

log = logging.getLogger("lawfit")

_ON_A_NETWORK = (
    "%s lies on a network file system (%s), where SQLite's locks may fail and two machines that write at once can "
    "damage it: write from one machine at a time, or use PostgreSQL (lawfit db copy takes all of it there)"
)
_INGEST_LOCK = 0x6C617767  # PostgreSQL: two ingests of one file at once queue instead of colliding
_KEYS_AT_ONCE = 500  # in one query: SQLite takes 999 parameters in its older builds


class Store:
    """An open database. Use as a context manager; safe to share between threads."""

    def __init__(self, engine: sa.Engine, location: Location, notes: tuple[str, ...] = ()) -> None:
        self._engine = engine
        self._fits = fit_rows.FitReader()
        self.location = location
        self.notes = notes  # what opening it did, in plain sentences

    @classmethod
    def open(
        cls,
        url: str | Path = "lawfit.db",
        *,
        create: bool = True,
        migrate: bool = True,
        lock_wait_seconds: float = LOCK_WAIT_SECONDS,
    ) -> Self:
        """Open a database, and create or upgrade it first where needed.

        Parameters
        ----------
        url : path of a SQLite file, ``:memory:``, or a SQLAlchemy URL
        create : False refuses a file that does not exist
        migrate : False refuses a database whose schema is not this version's, instead of upgrading it

        Raises
        ------
        SchemaOutOfDate
            The database is from a newer version (or, without `migrate`, from an older one).
        StoreError
            It cannot be opened: missing folder, not a database, no server, locked.
        """
        location = Location.parse(url)
        if location.path is not None:
            check_file(location.path)
            if not (create and migrate) and not location.path.exists():
                raise StoreError(f"there is no database {location}; lawfit ingest creates it")
        engine = create_engine(location, lock_wait_seconds=lock_wait_seconds)
        try:
            with explained(location):
                if migrate:
                    note = schema.bring_up_to_date(engine, location)
                else:
                    note = None
                    with engine.connect() as connection:
                        schema.require_current(schema.revision_of(connection, location), location)
                if location.path is not None:
                    if network := network_file_system(location.path):
                        log.warning(_ON_A_NETWORK, location, network)
                    else:  # the log's index is shared memory, which other machines do not see
                        use_wal(engine)
        except BaseException:
            engine.dispose()
            raise
        return cls(engine, location, (note,) if note else ())

    def close(self) -> None:
        """Let go of the database; the file is then complete in itself."""
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A transaction that only reads. For this package; other code calls the methods below."""
        with explained(self.location), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """A transaction that writes: all of it lands, or nothing. For this package."""
        with (
            explained(self.location),
            self._engine.connect().execution_options(**{WRITE: True}) as connection,
            connection.begin(),
        ):
            yield connection

    @contextmanager
    def outside(self) -> Iterator[sa.Connection]:
        """A connection outside any transaction, as housekeeping wants it. For this package."""
        options = {"isolation_level": "AUTOCOMMIT", OUTSIDE: True}
        with explained(self.location), self._engine.connect().execution_options(**options) as connection:
            yield connection

    @contextmanager
    def _ingesting(self) -> Iterator[sa.Connection]:
        """`writing`, one at a time: what is there is looked up before it is written. SQLite has one writer anyway."""
        with self.writing() as connection:
            if not self.location.is_sqlite:
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_INGEST_LOCK)))
            yield connection

    def _take(self, write: Callable[[sa.Connection], Result], *, dry_run: bool) -> Result:
        """`write` in one transaction, which is begun anew where the connection to the server is lost."""

        def once() -> Result:
            with self.reading() if dry_run else self._ingesting() as connection:
                return write(connection)

        return persistently(once)

    # Recipes and runs

    def recipes(self) -> list[RecipeSummary]:
        """All recipes by name, with what the store holds for each. Merged ones that have no fit are left out."""
        runs, fits = tables.runs.c, tables.fits.c
        counts = (
            sa.select(
                runs.recipe_id,
                sa.func.count().label("runs"),
                sa.func.sum(sa.case((runs.status == RunStatus.DIVERGED.value, 1), else_=0)).label("diverged"),
                sa.func.count(runs.excluded).label("excluded"),
            )
            .group_by(runs.recipe_id)
            .subquery()
        )
        fitted = sa.select(fits.recipe_id, sa.func.count().label("fits")).group_by(fits.recipe_id).subquery()
        query = (
            sa.select(tables.recipes, counts.c.runs, counts.c.diverged, counts.c.excluded, fitted.c.fits)
            .outerjoin(counts, counts.c.recipe_id == tables.recipes.c.id)
            .outerjoin(fitted, fitted.c.recipe_id == tables.recipes.c.id)
        )
        with self.reading() as connection:
            gone = moves.merged(connection)
            rows = [row for row in connection.execute(query).mappings() if row["fits"] or row["id"] not in gone]
        found = [
            RecipeSummary(
                recipe=recipe_of(row),
                runs=row["runs"] or 0,
                diverged=int(row["diverged"] or 0),
                excluded=row["excluded"] or 0,
                fits=row["fits"] or 0,
            )
            for row in rows
        ]
        return sorted(found, key=lambda summary: summary.recipe.name)

    def recipe(self, name: str | None = None) -> Recipe:
        """The recipe of that name (or key); without a name, the only one there is.

        Raises
        ------
        NoRecipe
            There is none of that name, none at all (`NoRuns`), or several and no name to choose.
        """
        with self.reading() as connection:
            rows = connection.execute(sa.select(tables.recipes)).mappings().all()
            gone = moves.merged(connection)
        known = [recipe_of(row) for row in rows]
        if not known:
            raise NoRuns(finding("store.no_runs", database=str(self.location)))
        there = [recipe_of(row) for row in rows if row["id"] not in gone]
        names = sorted(recipe.name for recipe in there)
        if name is None:
            if len(there) == 1:
                return there[0]
            said = {"database": str(self.location), "count": len(there), "names": _listed(names)}
            raise NoRecipe(finding("store.several_recipes", **said))
        for recipe in known:
            if name in (recipe.name, recipe.key):
                return recipe
        close = next(iter(difflib.get_close_matches(name, names, n=1)), None)
        said = {"database": str(self.location), "recipe": name, "close": close, "names": _listed(names)}
        raise NoRecipe(finding("store.no_recipe", **said))

    def put_sweeps(
        self, sweeps: Sequence[Sweep], curves: Sequence[Curve] = (), *, named: bool = False, dry_run: bool = False
    ) -> Changes:
        """Insert and update the runs of one file with their curves, in one transaction.

        A run is known by its recipe and key. A stored run that is not given stays; an exclusion stays.

        Parameters
        ----------
        curves : of runs of these sweeps, as of `put_curves`; left out on a dry run, as are those of other runs
        named : a person chose the recipe names; a name that holds another recipe is then an error, else the
            runs go to a new name and a note says so
        dry_run : find out what would happen, write nothing

        Raises
        ------
        RecipeConflict
            `named`, and the store has another recipe under that name.
        """

        def write(connection: sa.Connection) -> Changes:
            changes = write_sweeps(connection, sweeps, named=named, dry_run=dry_run)
            put: list[CurveChange] = []
            for recipe, sweep in zip(changes.recipes, () if dry_run or not curves else sweeps, strict=False):
                keys = set(run_keys(sweep.runs))
                put += self._write_curves(connection, recipe.key, [c for c in curves if c.run_key in keys])
            return dataclasses.replace(changes, curves=tuple(put))

        return self._take(write, dry_run=dry_run)

    def put_runs(self, recipe: Recipe, runs: Iterable[Run]) -> tuple[int, int, int]:
        """Inserted, updated, unchanged: `put_sweeps` for one recipe under a chosen name."""
        changes = self.put_sweeps([Sweep(recipe=recipe, runs=tuple(runs))], named=True)
        return changes.inserted, changes.updated, changes.unchanged

    def runs(self, recipe_key: str, *, excluded: bool = True) -> list[Run]:
        """Runs of one recipe, by scale, batch size, learning rate and key: the same order on every database."""
        query = sa.select(tables.runs).where(tables.runs.c.recipe_id == _recipe_id(recipe_key))
        if not excluded:
            query = query.where(tables.runs.c.excluded.is_(None))
        with self.reading() as connection:
            found = [run_of(row) for row in connection.execute(query).mappings()]
        return sorted(found, key=lambda r: (r.params, r.tokens, r.batch_tokens, r.lr, r.run_key))

    def first_runs(self, recipe_key: str, limit: int | None, *, only: str | None = None) -> tuple[int, list[Run]]:
        """How many runs a recipe has, and the first of them by scale, batch size, rate, weight decay and key.

        Parameters
        ----------
        limit : at most so many; None: all
        only : "finished", "diverged" or "excluded" runs; None: all of them
        """
        column = tables.runs.c
        wanted = [column.recipe_id == _recipe_id(recipe_key)]
        if only is not None:
            wanted.append(column.excluded.is_not(None) if only == "excluded" else column.status == only)
        key = column.run_key if self.location.is_sqlite else column.run_key.collate("C")  # the same on every database
        order = (column.params, column.tokens, column.batch_tokens, column.lr, sa.func.coalesce(column.weight_decay, 0))
        first = sa.select(column.id).where(*wanted).order_by(*order, key).limit(limit).subquery()
        query = sa.select(tables.runs).join(first, first.c.id == column.id).order_by(*order, key)
        with self.reading() as connection:
            count = connection.execute(sa.select(sa.func.count()).select_from(tables.runs).where(*wanted)).scalar_one()
            return count, [run_of(row) for row in connection.execute(query).mappings()]

    def run_columns(self, recipe_key: str) -> dict[str, npt.NDArray[Any]]:
        """The numbers of `runs` as arrays, in the same order, for tables too long for records.

        Keys: run_key, params, tokens, batch_tokens, lr, loss (nan where diverged), diverged, weight_decay (nan
        where unknown), excluded.
        """
        column = tables.runs.c
        numbers = ("params", "tokens", "batch_tokens", "lr", "loss", "weight_decay")
        query = sa.select(column.run_key, column.status, column.excluded, *(column[name] for name in numbers))
        with self.reading() as connection:
            rows = connection.execute(query.where(column.recipe_id == _recipe_id(recipe_key))).all()
        rows = sorted(rows, key=lambda r: (r.params, r.tokens, r.batch_tokens, r.lr, r.run_key))
        columns: dict[str, npt.NDArray[Any]] = {
            name: np.array([np.nan if (x := getattr(row, name)) is None else x for row in rows], dtype=np.float64)
            for name in numbers
        }
        columns["run_key"] = np.array([row.run_key for row in rows], dtype=object)
        columns["diverged"] = np.array([row.status == RunStatus.DIVERGED.value for row in rows], dtype=bool)
        columns["excluded"] = np.array([row.excluded is not None for row in rows], dtype=bool)
        return columns

    def stored_of(self, run_keys: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """Those of the keys that are stored, with the names of the recipes that have them."""
        column, found = tables.runs.c.run_key, dict[str, tuple[str, ...]]()
        with_names = tables.runs.join(tables.recipes, tables.recipes.c.id == tables.runs.c.recipe_id)
        query = sa.select(column, tables.recipes.c.name).select_from(with_names).order_by(tables.recipes.c.name)
        with self.reading() as connection:
            for begin in range(0, len(run_keys), _KEYS_AT_ONCE):
                some = run_keys[begin : begin + _KEYS_AT_ONCE]
                for run_key, name in connection.execute(query.where(column.in_(some))):
                    found[run_key] = (*found.get(run_key, ()), name)
        return found

    def match_runs(self, recipe_key: str, patterns: Iterable[str]) -> list[str]:
        """Keys of the runs that a person named, exactly or with ``*`` and ``?``.

        Raises
        ------
        NoRun
            A pattern that fits no run.
        """
        query = sa.select(tables.runs.c.run_key).where(tables.runs.c.recipe_id == _recipe_id(recipe_key))
        with self.reading() as connection:
            keys = sorted(connection.execute(query).scalars())
        known = set(keys)
        matched: dict[str, None] = {}
        for pattern in patterns:
            found = [pattern] if pattern in known else fnmatch.filter(keys, pattern)
            if not found:
                if close := difflib.get_close_matches(pattern, keys[:5000], n=1):
                    raise NoRun(finding("store.no_run_but", run=pattern, close=close[0]))
                raise NoRun(finding("store.no_run", run=pattern))
            matched.update(dict.fromkeys(found))
        return list(matched)

    def exclude(self, recipe_key: str, run_keys: Iterable[str], reason: str) -> int:
        """Take runs out of every later fit; how many were not out already for that reason. `history` keeps it.

        Raises
        ------
        ValueError
            No reason given.
        NoRun
            One of the keys is not in the store; then none is excluded.
        """
        if not reason.strip():
            raise ValueError("an exclusion needs a reason: it is shown beside every fit that leaves the run out")
        return self._mark(recipe_key, run_keys, reason.strip())

    def restore(self, recipe_key: str, run_keys: Iterable[str] | None = None) -> int:
        """Take exclusions back, all of them when no keys are given; how many runs were excluded."""
        if run_keys is None:
            run_keys = [run.run_key for run in self.runs(recipe_key) if run.excluded is not None]
        return self._mark(recipe_key, run_keys, None)

    def excluded(self, recipe_key: str) -> set[str]:
        """Keys of the runs that are taken out of later fits."""
        column = tables.runs.c
        query = sa.select(column.run_key).where(
            column.recipe_id == _recipe_id(recipe_key), column.excluded.is_not(None)
        )
        with self.reading() as connection:
            return set(connection.execute(query).scalars())

    def _mark(self, recipe_key: str, run_keys: Iterable[str], reason: str | None) -> int:
        wanted = list(dict.fromkeys(run_keys))
        with self.writing() as connection:
            home = connection.execute(sa.select(_recipe_id(recipe_key))).scalar()
            return corrections.mark(connection, -1 if home is None else home, wanted, reason)

    def correct(
        self, recipe_key: str, run_keys: Sequence[str], changes: Mapping[str, Change], reason: str
    ) -> tuple[int, int]:
        """Change fields of runs; the number under which it can be undone, and how many runs were not so already.

        What was there is kept with the reason, and the log of a run does not change a corrected field back.

        Parameters
        ----------
        changes : field (of a run, or ``extra.NAME``) -> from the stored value to the right one; None as loss: diverged

        Raises
        ------
        WrongCorrection
            No such field, or a value that a run cannot have; then nothing is changed.
        NoRun
            One of the keys is not in the store; then nothing is changed.
        ValueError
            No reason given.
        """
        if not reason.strip():
            raise ValueError("a correction needs a reason: it is kept in the history of the runs")
        with self._ingesting() as connection:
            home = connection.execute(sa.select(_recipe_id(recipe_key))).scalar_one()
            return corrections.correct(connection, home, run_keys, changes, reason.strip())

    def undo(self, change: int | None = None) -> tuple[int, list[Correction]]:
        """Take a correction back (without a number, the latest); its number, and the fields that are as before.

        Raises
        ------
        NoRun
            There is no such change, or it was undone already.
        WrongCorrection
            A later change of the same field stands.
        """
        with self._ingesting() as connection:
            return corrections.undo(connection, change)

    def history(self, recipe_key: str | None = None) -> list[Correction]:
        """Corrections, exclusions and restorations of runs, the latest first, those that were undone among them."""
        conditions = [] if recipe_key is None else [tables.recipes.c.key == recipe_key]
        with self.reading() as connection:
            return corrections.history(connection, *conditions)

    def corrected_since(self, recipe_key: str, moment: str) -> int:
        """How many runs of a recipe a person's corrections make other than at a moment (ISO 8601, UTC)."""
        column = tables.corrections.c
        stands, stood = column.undone_at.is_(None), sa.or_(column.undone_at.is_(None), column.undone_at > moment)
        query = sa.select(sa.func.count(column.run_id.distinct())).join(tables.runs, column.run_id == tables.runs.c.id)
        query = query.where(tables.runs.c.recipe_id == _recipe_id(recipe_key))
        query = query.where(
            sa.or_(sa.and_(column.made_at > moment, stands), sa.and_(column.made_at <= moment, stood, ~stands))
        )
        with self.reading() as connection:
            return int(connection.execute(query).scalar_one())

    def parting(self, recipe_keys: Sequence[str] | None = None) -> dict[str, dict[str, Any]]:
        """Settings that are not the same in all recipes (of those keys): name -> recipe key -> what it holds fixed."""
        found = [summary.recipe for summary in self.recipes()]
        found = [recipe for recipe in found if recipe_keys is None or recipe.key in recipe_keys]
        held = {recipe.key: moves.settings(recipe) for recipe in found}
        return {name: {key: held[key].get(name, "") for key in held} for name in moves.parting(found)}

    def merge_recipes(self, into_key: str, other_key: str) -> int:
        """Move all rows of one recipe to another, each saying for itself what parts the two; how many were moved.

        Later ingests of either find their runs there.

        Raises
        ------
        RecipeConflict
            Both have a run of the same key, or their losses or sizes are of other kinds; then nothing is moved.
        """
        with self._ingesting() as connection:
            return moves.merge(connection, _stored(connection, into_key), _stored(connection, other_key))

    def split_recipe(self, recipe_key: str, column: str) -> list[tuple[Recipe, int]]:
        """Part a recipe by a column of its runs, a recipe for each value; which, and how many rows each took.

        Rows that do not say it stay. Later ingests of the recipe go the same way.

        Raises
        ------
        RecipeConflict
            The column has fewer than two values, or a recipe of that value has a run of the same key.
        """
        with self._ingesting() as connection:
            return moves.split(connection, _stored(connection, recipe_key), column, insert_recipe)

    # Curves

    def append_curve(
        self, recipe_key: str, run_key: str, metric: str, steps: npt.ArrayLike, numbers: npt.ArrayLike
    ) -> int:
        """Add points behind those already stored for a run's metric; how many the curve now has.

        Raises
        ------
        ValueError
            Steps that do not ascend, or do not lie behind the stored ones.
        NoRun
            The run is not in the store.
        """
        chunks = curve_chunks.pack(steps, numbers)
        with self.writing() as connection:
            run_id = self._run_id(connection, recipe_key, run_key)
            chunk, last_step, points = curve_end(connection, run_id, metric)
            if last_step is not None and chunks[0].first_step <= last_step:
                raise ValueError(
                    f"curve '{metric}' of run '{run_key}' reaches step {last_step}; got step {chunks[0].first_step}"
                )
            insert_chunks(connection, run_id, metric, chunk, chunks)
        return points + sum(piece.points for piece in chunks)

    def put_curves(self, recipe_key: str, curves: Iterable[Curve], *, dry_run: bool = False) -> list[CurveChange]:
        """Add what the curves of a recipe's runs have beyond what is stored, in one transaction; a change for each.

        A curve that was stored thinned is replaced by a fuller log of the same run. The same curves twice change
        nothing, and neither does a dry run.

        Raises
        ------
        ValueError
            Steps that do not ascend.
        NoRun
            A run is not in the store; then nothing is written.
        """
        return self.put_curves_of({recipe_key: list(curves)}, dry_run=dry_run)

    def put_curves_of(self, curves: Mapping[str, Sequence[Curve]], *, dry_run: bool = False) -> list[CurveChange]:
        """`put_curves` for runs of several recipes, by their keys, in one transaction."""

        def write(connection: sa.Connection) -> list[CurveChange]:
            of_each = (self._write_curves(connection, key, some, dry_run=dry_run) for key, some in curves.items())
            return [change for changes in of_each for change in changes]

        return self._take(write, dry_run=dry_run)

    @staticmethod
    def _write_curves(
        connection: sa.Connection, recipe_key: str, curves: Iterable[Curve], *, dry_run: bool = False
    ) -> list[CurveChange]:
        home = connection.execute(sa.select(_recipe_id(recipe_key))).scalar()
        homes = [] if home is None else moves.family(connection, home)
        return write_curves(connection, homes, curves, dry_run=dry_run)

    def curve(self, recipe_key: str, run_key: str, metric: str) -> tuple[curve_chunks.Steps, curve_chunks.Numbers]:
        """Steps and numbers of a run's metric, as they were given; empty when there is none."""
        with self.reading() as connection:
            return stored(connection, self._run_id(connection, recipe_key, run_key), metric)

    def curves(self, recipe_key: str, metric: str) -> dict[str, tuple[curve_chunks.Steps, curve_chunks.Numbers]]:
        """`curve` for every run of a recipe that has the metric, by its key, in one query."""
        column = tables.curves.c
        query = sa.select(tables.runs.c.run_key, column.codec, column.points, column.steps, column.numbers)
        query = query.join_from(tables.curves, tables.runs, column.run_id == tables.runs.c.id)
        query = query.where(tables.runs.c.recipe_id == _recipe_id(recipe_key), column.metric == metric)
        found: dict[str, list[tuple[curve_chunks.Steps, curve_chunks.Numbers]]] = {}
        with self.reading() as connection:
            for row in connection.execute(query.order_by(column.run_id, column.chunk)):
                piece = curve_chunks.unpack(row.codec, row.points, row.steps, row.numbers)
                found.setdefault(row.run_key, []).append(piece)
        return {
            key: (np.concatenate([steps for steps, _ in pieces]), np.concatenate([numbers for _, numbers in pieces]))
            for key, pieces in found.items()
        }

    def curve_counts(self, recipe_key: str) -> dict[str, int]:
        """How many runs of a recipe have each metric."""
        column = tables.curves.c
        query = sa.select(column.metric, sa.func.count(column.run_id.distinct()))
        query = query.join_from(tables.curves, tables.runs, column.run_id == tables.runs.c.id)
        query = query.where(tables.runs.c.recipe_id == _recipe_id(recipe_key)).group_by(column.metric)
        with self.reading() as connection:
            return {metric: int(count) for metric, count in connection.execute(query)}

    def curve_metrics(self, recipe_key: str, run_key: str) -> list[str]:
        """Names of the metrics that a run has curves for."""
        with self.reading() as connection:
            run_id = self._run_id(connection, recipe_key, run_key)
            query = sa.select(tables.curves.c.metric).where(tables.curves.c.run_id == run_id).distinct()
            return sorted(connection.execute(query).scalars())

    def _run_id(self, connection: sa.Connection, recipe_key: str, run_key: str) -> int:
        column = tables.runs.c
        home = connection.execute(sa.select(_recipe_id(recipe_key))).scalar()
        found = None
        if home is not None and _can_be_stored(run_key):
            homes = column.recipe_id.in_(moves.family(connection, home))
            found = connection.execute(sa.select(column.id).where(homes, column.run_key == run_key)).scalar()
        if found is None:
            raise NoRun(finding("store.no_run", run=run_key))
        return int(found)

    # Steps to a target loss

    def put_targets(self, sweeps: Sequence[TargetSweep], *, named: bool = False, dry_run: bool = False) -> Changes:
        """Insert and update steps to a target, in one transaction; arguments and errors as of `put_sweeps`."""
        return self._take(lambda c: write_targets(c, sweeps, named=named, dry_run=dry_run), dry_run=dry_run)

    def targets(self, recipe_key: str) -> list[StepsToTarget]:
        """Steps to a target of one recipe, by size, target, batch and key; empty when it has none."""
        with self.reading() as connection:
            return stored_targets(connection, _recipe_id(recipe_key))

    # Losses of sizes

    def put_losses(self, sweeps: Sequence[LossSweep], *, named: bool = False, dry_run: bool = False) -> Changes:
        """Insert and update losses of sizes, in one transaction; arguments and errors as of `put_sweeps`."""
        return self._take(lambda c: write_losses(c, sweeps, named=named, dry_run=dry_run), dry_run=dry_run)

    def losses(self, recipe_key: str) -> list[SizedLoss]:
        """Losses of sizes of one recipe, by size, tokens and key; empty when it has none."""
        with self.reading() as connection:
            return stored_losses(connection, _recipe_id(recipe_key))

    # All of it, in pieces

    @contextmanager
    def frozen(self) -> Iterator[sa.Connection]:
        """`reading`, in which several queries see one and the same store. For this package."""
        options: dict[str, Any] = {} if self.location.is_sqlite else {"isolation_level": "REPEATABLE READ"}
        with explained(self.location), self._engine.connect().execution_options(**options) as connection:
            yield connection

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """The store as it is now, to be read in pieces; what others write meanwhile is not seen."""
        with self.frozen() as connection:
            yield Snapshot(connection)

    def put_back(self, records: Iterable[Record], *, dry_run: bool = False) -> PutBack:
        """Insert and update the records of a file that was exported, in one transaction; each with its line.

        A recipe is known by its settings. A run that is new keeps the exclusion that the file tells; of a stored one
        the store's own stays.

        Raises
        ------
        LogFormatError
            A run that is given twice, or a recipe with two settings. Nothing was written.
        NoRun
            Curves of a run that is neither in the file nor in the store. Nothing was written.
        """
        with self.reading() if dry_run else self._ingesting() as connection:
            return put_back(connection, records, dry_run=dry_run)

    # Fits, what they rest on and what was said from them

    def put_fit(self, fit: Fit, optima: Iterable[Optimum] = ()) -> bool:
        """Store a fit with its optima, once; True when it was new. It becomes the latest of its recipe either way.

        A stored fit is never changed: one with the same id stays as it is.
        """
        with self.writing() as connection:
            return fit_rows.insert_fit(connection, fit, optima)

    def put_refit(self, fits: Sequence[Fit], main: Fit | None = None, optima: Iterable[Optimum] = ()) -> None:
        """Store all fits of one refit, the one that names the others last: all of them land, or none.

        Parameters
        ----------
        main : the fit of learning rate and batch, where the runs carry one; `optima` are its
        """
        with self.writing() as connection:
            for fit in fits:
                fit_rows.insert_fit(connection, fit, ())
            if main is not None:
                fit_rows.insert_fit(connection, main, optima)

    def fit(self, fit_id: str) -> Fit:
        """The fit of that id.

        Raises
        ------
        NoFit
            There is none.
        """
        found: list[Fit] = []
        if _can_be_stored(fit_id):
            with self.reading() as connection:
                found = self._fits.select(connection, tables.fits.c.id == fit_id)
        if not found:
            raise NoFit(finding("store.no_fit", fit_id=fit_id, database=str(self.location)))
        return found[0]

    def fits_of(self, fit_ids: Sequence[str]) -> list[Fit]:
        """The fits of those ids, in their order.

        Raises
        ------
        NoFit
            One of them is not there.
        """
        with self.reading() as connection:
            found = {fit.id: fit for fit in self._fits.select(connection, tables.fits.c.id.in_(fit_ids))}
        if lacking := [fit_id for fit_id in fit_ids if fit_id not in found]:
            raise NoFit(finding("store.no_fit", fit_id=lacking[0], database=str(self.location)))
        return [found[fit_id] for fit_id in fit_ids]

    def latest_fit(self, recipe_key: str, kind: str, *, usable_only: bool = True) -> Fit:
        """The fit of a recipe that was made (or made again, with the same result) last.

        Raises
        ------
        NoFit
            There is none, or (`usable_only`) none that may be used without being asked for by id.
        """
        conditions = [tables.recipes.c.key == recipe_key, tables.fits.c.kind == kind]
        if usable_only:
            conditions.append(tables.fits.c.status != FitStatus.UNCERTIFIED.value)
        with self.reading() as connection:
            found = self._fits.select(connection, *conditions, limit=1)
            query = sa.select(tables.recipes.c.name).where(tables.recipes.c.key == recipe_key)
            name = None if found else connection.execute(query).scalar()
        if not found:
            which = "usable fit" if usable_only else "fit"
            raise NoFit(finding("store.no_fit_yet", which=which, recipe=name or recipe_key))
        return found[0]

    def fits(self, recipe_key: str | None = None) -> list[Fit]:
        """Stored fits, the latest made first."""
        conditions = [] if recipe_key is None else [tables.recipes.c.key == recipe_key]
        with self.reading() as connection:
            return self._fits.select(connection, *conditions)

    def optima(self, fit_id: str) -> list[Optimum]:
        """The optima stored with a fit, in the order they were given."""
        with self.reading() as connection:
            return fit_rows.select_optima(connection, fit_id)

    def put_prediction(
        self, prediction_id: str, fit_id: str, target: Mapping[str, Json], answer: Mapping[str, Json]
    ) -> bool:
        """Keep what was answered, once per id; True when it was new. The id is a hash of the answer.

        Raises
        ------
        NoFit
            The fit is not stored.
        """
        with self.writing() as connection:
            return fit_rows.insert_prediction(connection, prediction_id, fit_id, target, answer)

    def prediction(self, prediction_id: str) -> StoredPrediction:
        """The answer that was given under that id.

        Raises
        ------
        NoFit
            There is none.
        """
        query = sa.select(tables.predictions).where(tables.predictions.c.id == prediction_id)
        row = None
        if _can_be_stored(prediction_id):
            with self.reading() as connection:
                row = connection.execute(query).mappings().first()
        if row is None:
            raise NoFit(finding("store.no_prediction", prediction_id=prediction_id, database=str(self.location)))
        return StoredPrediction(**row)


def _recipe_id(recipe_key: str) -> sa.ScalarSelect[int]:
    return sa.select(tables.recipes.c.id).where(tables.recipes.c.key == recipe_key).scalar_subquery()


def _stored(connection: sa.Connection, recipe_key: str) -> tuple[Recipe, int]:
    row = connection.execute(sa.select(tables.recipes).where(tables.recipes.c.key == recipe_key)).mappings().one()
    return recipe_of(row), int(row["id"])


def _can_be_stored(name: str) -> bool:
    """PostgreSQL's texts hold no NUL, and asking for one is an error of its driver; SQLite just finds nothing."""
    return "\x00" not in name


def _listed(names: Sequence[str], most: int = 12) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
