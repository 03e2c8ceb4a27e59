"""What `ingest` puts into the store, by what a file holds: runs, steps to targets, curves."""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import TYPE_CHECKING

from lawfit.errors import LogFormatError
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
    from lawfit.ingest.table import Table
    from lawfit.storage import Store


def ingest_targets(store: Store, table: Table, options: IngestOptions, file: str) -> IngestReport:
    """Steps to a target loss, a row per batch size."""
    from lawfit.ingest.targets import read_targets

    read = read_targets(table, options)
    found = read.found
    changes = store.put_targets(read.sweeps, named=found.named, dry_run=options.dry_run)
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
        of="targets",
    )


def put_curves(store: Store, found: Ingested, changes: Changes) -> list[CurveChange]:
    put: list[CurveChange] = []
    for recipe, sweep in zip(changes.recipes, found.sweeps, strict=True):
        keys = {run.run_key for run in sweep.runs}
        if curves := [curve for curve in found.curves if curve.run_key in keys]:
            put += store.put_curves(recipe.key, curves)
    return put


def curve_notes(put: Sequence[CurveChange]) -> list[str]:
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


def ingest_curves(store: Store, table: Table, columns: CurveColumns, options: IngestOptions, file: str) -> IngestReport:
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
        notes=(*table.notes, f"a table of curves: points of {known} in the store", *curve_notes(put)),
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
                both = f"{homes[key][0].name}, {candidate.name}"
                raise LogFormatError(f"{file}: run '{key}' is in the recipes {both}; say which with --recipe")
            homes[key] = (candidate, batch_tokens)
    return homes
