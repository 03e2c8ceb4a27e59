"""What `ingest` puts into the store, by what a file holds: runs, steps to targets, curves."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lawfit.errors import LogFormatError
from lawfit.findings import finding
from lawfit.pipeline.exporting import EXPORT, SUFFIXES, is_export, require_plain, take_back
from lawfit.records import (
    Changes,
    Curve,
    CurveChange,
    IngestReport,
    Recipe,
)
from lawfit.units import counted

if TYPE_CHECKING:
    from lawfit.ingest import Ingested
    from lawfit.ingest.changes import Kept
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


def find_tables(path: str | Path | Source, options: IngestOptions, store: Store) -> list[Source] | list[Table]:
    """What there is at a place: sources, where they are several, each to be asked again; otherwise its tables.

    Of a server, what the store does not have.

    Raises
    ------
    LogFormatError
        There is nothing that lawfit reads.
    """
    from lawfit.ingest.source import Source

    if isinstance(path, Source):
        return tables_of(path, store)
    sources = sources_at(path, options)
    return sources if len(sources) > 1 or sources[0].format == EXPORT else tables_of(sources[0], store)


def sources_at(path: str | Path, options: IngestOptions, kept: Kept | None = None) -> list[Source]:
    """What there is at a place, files that `export` wrote among it.

    Raises
    ------
    LogFormatError
        There is nothing that lawfit reads.
    """
    from lawfit.ingest.formats import find_sources
    from lawfit.ingest.source import Source

    if is_export(path):
        return [Source(format=EXPORT, root=Path(path).parent, paths=(Path(path),))]
    found: list[Source] = []
    for source in find_sources(path, options.format, kept):
        own = [each for each in source.paths if each.suffix.lower() in SUFFIXES and is_export(each)]
        others = tuple(each for each in source.paths if each not in own)
        found += [Source(format=EXPORT, root=source.root, paths=(each,)) for each in own]
        found += [dataclasses.replace(source, paths=others)] if others or not own else []
    return found


def tables_of(source: Source, store: Store, kept: Kept | None = None) -> list[Table]:
    """What a source holds. A file of our own is read while it is stored: it may be larger than memory.

    Of a server, runs that are stored as far as it has them are left out.

    Raises
    ------
    LogFormatError
        It cannot be read.
    """
    from lawfit.ingest import wandb_online
    from lawfit.ingest.formats import read_source_tables
    from lawfit.ingest.table import Table

    if source.format == EXPORT:
        return [Table(name=source.paths[0].name, format=EXPORT, columns=(), rows=())]
    if source.format == wandb_online.FORMAT:
        stored = (run for summary in store.recipes() for run in store.runs(summary.recipe.key))
        steps = {run.run_key: wandb_online.known_step(run.extra, source.uri) for run in stored}
        source = dataclasses.replace(source, known={key: step for key, step in steps.items() if step is not None})
    return read_source_tables(source, kept)


def label_of(path: str | Path | Source, table: Table) -> str:
    """How a report calls a table: as its file, and as its project where that has another name."""
    from lawfit.ingest.source import without_password

    name = without_password(str(path))
    return name if Path(name).name == table.name else f"{name} ({table.name})"


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
    from lawfit.ingest.formats.wandb_chart import FORMAT as CHART
    from lawfit.ingest.targets import is_target_table, read_targets

    if is_export(path):
        require_plain(path, options)
        return SourceRead(path=str(path), options=options)
    if table is None:
        table = read_table(path, options.format)
    asked = options.kind
    if asked is None and options.column_map.keys() & set(table.columns):
        asked = "targets" if is_target_table(table) else "runs"  # what a person maps are fields of runs
    chart = table.format == CHART
    columns = curve_columns(table, told=chart) if chart or asked in (None, "curves") else None
    if columns is not None and (chart or asked == "curves" or has_rows_of_curves(table, columns)):
        return SourceRead(path=str(path), options=options, table=table, curves=columns)
    if asked == "curves":
        raise LogFormatError(finding("ingest.no_curves", file=table.name, columns=list(table.columns)))
    if asked == "targets" and not is_target_table(table):
        raise LogFormatError(finding("ingest.no_targets", file=table.name, columns=list(table.columns)))
    if asked in (None, "targets") and is_target_table(table):
        return SourceRead(path=str(path), options=options, table=table, targets=read_targets(table, options))
    return SourceRead(path=str(path), options=options, table=table, runs=interpret(table, options))


def store_source(store: Store, read: SourceRead) -> IngestReport:
    """Put what was read into the store, in one transaction.

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
    changes = store.put_sweeps(found.sweeps, found.curves, named=found.named, dry_run=options.dry_run)
    return dataclasses.replace(
        _report(found, changes, options, file),
        diverged=found.diverged,
        notes=(*found.notes, *changes.notes, *_curve_notes(changes.curves)),
        curve_points=sum(len(change.new_steps) for change in changes.curves),
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
    from lawfit.ingest.curves import read_curves, with_keys

    keys = {str(cells[columns.run]).strip() for _, cells in table.rows}
    homes = _homes(store, keys, options.recipe, table.name)
    if strange := keys - homes.keys():
        table = with_keys(table, columns, _keys_of(store, strange, options.recipe, table.name))
    found = read_curves(table, columns, {key: batch_tokens for key, (_, batch_tokens) in homes.items()})
    recipes = {homes[curve.run_key][0].name: homes[curve.run_key][0] for curve in found.curves}
    new: set[tuple[str, int]] = set()  # places (run, step): a row is new when one of its metrics is
    curves: dict[str, list[Curve]] = {}
    for curve in found.curves:
        curves.setdefault(homes[curve.run_key][0].key, []).append(curve)
    put = store.put_curves_of(curves, dry_run=options.dry_run)
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


def _keys_of(store: Store, names: Set[str], recipe: str | None, file: str) -> dict[str, str]:
    """Keys of stored runs by the names that people see, where the tracker has ids of its own.

    Raises
    ------
    LogFormatError
        Two runs have one of the names.
    """
    from lawfit.ingest.curves import names_of

    keys: dict[str, str] = {}
    for candidate in [store.recipe(recipe)] if recipe else [found.recipe for found in store.recipes()]:
        for run in store.runs(candidate.key):
            for name in names_of(run) & names:
                if keys.setdefault(name, run.run_key) != run.run_key:
                    both = sorted((keys[name], run.run_key))
                    raise LogFormatError(finding("ingest.two_runs_of_a_name", file=file, name=name, keys=both))
    return keys


def ingest(store: Store, path: str | Path, options: IngestOptions | None = None) -> IngestReport:
    """Read a table of runs, the trainer's logs, or a table of curves, and put it into the store, in one transaction.

    Raises
    ------
    LogFormatError
        The file as a whole cannot be taken.
    RecipeConflict
        The recipe name that was asked for holds other settings in the store.
    """
    from lawfit.ingest import IngestOptions

    return store_source(store, read_source(path, options or IngestOptions()))
