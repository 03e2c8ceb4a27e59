"""What `ingest` puts into the store, by what a file holds: runs, steps to targets, curves."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lawfit.errors import LogFormatError
from lawfit.findings import finding
from lawfit.pipeline.exporting import is_export, require_plain, take_back
from lawfit.records import (
    Changes,
    CurveChange,
    IngestReport,
    Recipe,
)
from lawfit.units import counted

if TYPE_CHECKING:
    from lawfit.ingest import Ingested
    from lawfit.ingest.curves import CurveColumns
    from lawfit.ingest.options import IngestOptions
    from lawfit.ingest.source import Source
    from lawfit.ingest.table import Table
    from lawfit.ingest.targets import ReadTargets
    from lawfit.storage import Store


@dataclass(frozen=True, kw_only=True)
class SourceRead:
    """What a file holds, before any store has seen it: runs, steps to targets, or curves of runs."""

    path: str
    options: IngestOptions
    table: Table | None = None  # None: a file of our own, which is read while it is stored
    runs: Ingested | None = None
    targets: ReadTargets | None = None
    curves: CurveColumns | None = None

    @property
    def begins_a_store(self) -> bool:
        """Whether it holds rows that can stand in an empty store, where curves have no runs to belong to."""
        if self.table is None:
            return True
        if self.runs is not None:
            return any(sweep.runs for sweep in self.runs.sweeps) or any(sweep.rows for sweep in self.runs.losses)
        return self.targets is not None and bool(self.targets.sweeps)


def find_tables(path: str | Path | Source, options: IngestOptions) -> list[Source] | list[Table]:
    """What there is at a place: sources, where they are several, each to be asked again; otherwise its tables.

    Raises
    ------
    LogFormatError
        There is nothing that lawfit reads.
    """
    from lawfit.ingest.formats import find_sources, read_source_tables
    from lawfit.ingest.source import Source
    from lawfit.ingest.table import Table

    one = path.paths[0] if isinstance(path, Source) and len(path.paths) == 1 else path
    if not isinstance(one, Source) and is_export(one):  # read while it is stored: it may be larger than memory
        return [Table(name=Path(one).name, format="lawfit export", columns=(), rows=())]
    sources = [path] if isinstance(path, Source) else find_sources(path, options.format)
    return sources if len(sources) > 1 else read_source_tables(sources[0])


def read_source(path: str | Path, options: IngestOptions, table: Table | None = None) -> SourceRead:
    """Read and interpret a file, or a table of it that was read.

    Raises
    ------
    Doubted
        It leaves something open that a guess could get wrong.
    LogFormatError
        The file as a whole cannot be taken.
    """
    from lawfit.ingest import interpret, read_table
    from lawfit.ingest.curves import curve_columns, has_rows_of_curves
    from lawfit.ingest.targets import is_target_table, read_targets

    if is_export(path):
        require_plain(path, options)
        return SourceRead(path=str(path), options=options)
    if table is None:
        table = read_table(path, options.format)
    asked = options.kind
    if asked is None and options.column_map.keys() & set(table.columns):
        asked = "targets" if is_target_table(table) else "runs"  # what a person maps are fields of runs
    columns = curve_columns(table) if asked in (None, "curves") else None
    if columns is not None and (asked == "curves" or has_rows_of_curves(table, columns)):
        return SourceRead(path=str(path), options=options, table=table, curves=columns)
    if asked == "curves":
        raise LogFormatError(finding("ingest.no_curves", file=table.name, columns=list(table.columns)))
    if asked == "targets" and not is_target_table(table):
        raise LogFormatError(finding("ingest.no_targets", file=table.name, columns=list(table.columns)))
    if asked in (None, "targets") and is_target_table(table):
        return SourceRead(path=str(path), options=options, table=table, targets=read_targets(table, options))
    return SourceRead(path=str(path), options=options, table=table, runs=interpret(table, options))


def store_source(store: Store, read: SourceRead) -> IngestReport:
    """Put what was read into the store, in one transaction; curves of logs follow in one of their own.

    Raises
    ------
    RecipeConflict
        The recipe name that was asked for holds other settings in the store.
    NoRun
        Curves of runs that the store does not have.
    """
    if read.table is None:
        return take_back(store, read.path, dry_run=read.options.dry_run)
    if read.curves is not None:
        return _store_curves(store, read.table, read.curves, read.options, read.path)
    if read.targets is not None:
        return _store_targets(store, read.targets, read.options, read.path)
    assert read.runs is not None
    if read.runs.losses:
        return _store_losses(store, read.runs, read.options, read.path)
    return _store_runs(store, read.runs, read.options, read.path)


def _store_runs(store: Store, found: Ingested, options: IngestOptions, file: str) -> IngestReport:
    changes = store.put_sweeps(found.sweeps, named=found.named, dry_run=options.dry_run)
    put = [] if options.dry_run else put_curves(store, found, changes)
    return dataclasses.replace(
        _report(found, changes, options, file),
        diverged=found.diverged,
        notes=(*found.notes, *changes.notes, *_curve_notes(put)),
        curve_points=sum(len(change.new_steps) for change in put),
    )


def _store_targets(store: Store, read: ReadTargets, options: IngestOptions, file: str) -> IngestReport:
    """Steps to a target loss, a row per batch size."""
    changes = store.put_targets(read.sweeps, named=read.found.named, dry_run=options.dry_run)
    return dataclasses.replace(_report(read.found, changes, options, file), of="targets")


def _store_losses(store: Store, found: Ingested, options: IngestOptions, file: str) -> IngestReport:
    """Losses of sizes, a row per size and length, where no learning rate was logged."""
    changes = store.put_losses(found.losses, named=found.named, dry_run=options.dry_run)
    return dataclasses.replace(_report(found, changes, options, file), of="losses")


def _report(found: Ingested, changes: Changes, options: IngestOptions, file: str) -> IngestReport:
    return IngestReport(
        file=file,
        format=found.format,
        rows=found.rows,
        inserted=changes.inserted,
        updated=changes.updated,
        unchanged=changes.unchanged,
        diverged=0,
        rejections=found.rejections,
        columns=found.columns,
        recipes=tuple(recipe.name for recipe in changes.recipes),
        notes=(*found.notes, *changes.notes),
        dry_run=options.dry_run,
    )


def put_curves(store: Store, found: Ingested, changes: Changes) -> list[CurveChange]:
    put: list[CurveChange] = []
    for recipe, sweep in zip(changes.recipes, found.sweeps, strict=True):
        keys = {run.run_key for run in sweep.runs}
        if curves := [curve for curve in found.curves if curve.run_key in keys]:
            put += store.put_curves(recipe.key, curves)
    return put


def _curve_notes(put: Sequence[CurveChange]) -> list[str]:
    """Which stored curves were replaced by fuller logs, and which stayed though the file says otherwise."""
    said = []
    if replaced := [change for change in put if change.replaced]:
        runs, points = len({change.run_key for change in replaced}), sum(change.replaced for change in replaced)
        new = sum(len(change.new_steps) for change in replaced)
        said.append(
            f"thinned curves of {counted(runs, 'run')} ({points:,} points) were replaced by the fuller "
            f"ones of this file, which have {new:,} more"
        )
    if differing := [change for change in put if change.differs]:
        first = differing[0]
        said.append(
            f"{counted(len(differing), 'curve has', 'curves have')} other numbers than those stored at "
            f"the same steps ('{first.metric}' of run '{first.run_key}'); what was stored stays"
        )
    return said


def _store_curves(store: Store, table: Table, columns: CurveColumns, options: IngestOptions, file: str) -> IngestReport:
    """Curves for runs that are stored, in the recipe that was named or the only one that has them."""
    from lawfit.ingest.curves import read_curves

    keys = {str(cells[columns.run]).strip() for _, cells in table.rows}
    homes = _homes(store, keys, options.recipe, table.name)
    found = read_curves(table, columns, {key: batch_tokens for key, (_, batch_tokens) in homes.items()})
    recipes = {homes[curve.run_key][0].name: homes[curve.run_key][0] for curve in found.curves}
    new: set[tuple[str, int]] = set()  # places (run, step): a row is new when one of its metrics is
    put: list[CurveChange] = []
    for recipe in recipes.values():
        curves = [curve for curve in found.curves if homes[curve.run_key][0] == recipe]
        put += store.put_curves(recipe.key, curves, dry_run=options.dry_run)
    for change in put:
        new.update((change.run_key, step) for step in change.new_steps)
    known = counted(len(found.rows), "run")
    return IngestReport(
        file=file,
        format=table.format,
        rows=len(table.rows) + len(table.rejections),
        inserted=len(new),
        updated=0,
        unchanged=sum(found.rows.values()) - len(new),
        diverged=0,
        rejections=found.rejections,
        columns=columns.shown(table),
        recipes=tuple(recipes),
        notes=(*table.notes, f"a table of curves: points of {known} in the store", *_curve_notes(put)),
        dry_run=options.dry_run,
        curve_points=0 if options.dry_run else sum(len(change.new_steps) for change in put),
        of="curves",
    )


def _homes(store: Store, keys: Set[str], recipe: str | None, file: str) -> dict[str, tuple[Recipe, float]]:
    """Recipe and batch (tokens per step) of the runs of these keys that are stored.

    Raises
    ------
    LogFormatError
        A run is in several recipes, and none was named.
    """
    homes: dict[str, tuple[Recipe, float]] = {}
    for candidate in [store.recipe(recipe)] if recipe else [found.recipe for found in store.recipes()]:
        stored = store.run_columns(candidate.key)
        for key, batch_tokens in zip(stored["run_key"], stored["batch_tokens"].tolist(), strict=True):
            if key in homes and key in keys:
                both = [homes[key][0].name, candidate.name]
                raise LogFormatError(finding("ingest.in_several_recipes", file=file, run=key, recipes=both))
            homes[key] = (candidate, batch_tokens)
    return homes


def ingest(store: Store, path: str | Path, options: IngestOptions | None = None) -> IngestReport:
    """Read a table of runs, the trainer's logs, or a table of curves, and put it into the store, in one transaction.

    Curves of logs follow in a transaction of their own: where that fails, the same ingest again adds what is missing.

    Raises
    ------
    LogFormatError
        The file as a whole cannot be taken.
    RecipeConflict
        The recipe name that was asked for holds other settings in the store.
    """
    from lawfit.ingest import IngestOptions

    return store_source(store, read_source(path, options or IngestOptions()))
