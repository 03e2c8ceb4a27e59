"""What `export` writes, and how a file that it wrote goes into a store again."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lawfit.errors import LogFormatError
from lawfit.findings import finding
from lawfit.records import IngestReport, Json, Recipe

if TYPE_CHECKING:
    from lawfit.exchange.layout import Row
    from lawfit.exchange.writing import Points
    from lawfit.ingest.options import IngestOptions
    from lawfit.storage import Store
    from lawfit.storage.streams import Snapshot

EXPORT: Final = "lawfit export"  # the format of what it writes
SUFFIXES: Final = (".csv", ".jsonl", ".parquet")


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What one `export` wrote."""

    file: str
    recipes: tuple[str, ...]
    runs: int
    others: int  # steps to targets, losses of sizes
    points: int  # of curves

    def to_json(self) -> dict[str, Json]:
        return {**vars(self), "recipes": list(self.recipes)}


def export(
    store: Store, path: str | Path, recipe: str | None = None, *, runs: bool = True, curves: bool = True
) -> Exported:
    """Write the runs and curves of one recipe, or of all, to a file that `ingest` takes back.

    Steps to targets and losses of sizes go with the runs. Fits and answers are not in it: they are made again.

    Parameters
    ----------
    path : its suffix says what to write: .csv, .jsonl, .parquet

    Raises
    ------
    ExportError
        It cannot be written; no file is left.
    NoRecipe
        There is none of that name, or the store is empty.
    """
    from lawfit.exchange import write_file
    from lawfit.exchange.layout import COLUMNS, EXTRA, POINT_COLUMNS
    from lawfit.exchange.writing import kind_of

    path, counts = Path(path), {"runs": 0, "others": 0, "points": 0}
    kind_of(path)
    if recipe is not None or not store.recipes():
        chosen = [store.recipe(recipe).key]
    else:
        chosen = [summary.recipe.key for summary in store.recipes()]
    with store.snapshot() as snapshot:
        homes = [(row_id, found) for row_id, found in snapshot.recipes() if found.key in chosen]
        columns: list[str] = [*COLUMNS] if runs else []
        if runs and path.suffix.lower() != ".jsonl":
            columns += [EXTRA + name for name in snapshot.extra_names([row_id for row_id, _ in homes])]
        if curves:
            columns += [name for name in POINT_COLUMNS if name not in columns]
        rows = _rows(snapshot, homes if runs else (), counts)
        points = _points(snapshot, homes if curves else (), counts)
        with closing(rows), closing(points):  # whatever happens, the database is let go of
            write_file(path, columns, rows, points)
    return Exported(file=str(path), recipes=tuple(found.name for _, found in homes), **counts)


def _rows(snapshot: Snapshot, homes: Sequence[tuple[int, Recipe]], counts: dict[str, int]) -> Generator[Row]:
    from lawfit.exchange.layout import recipe_part, recipe_row, row_of

    for row_id, recipe in homes:
        before, part = sum(counts.values()), recipe_part(recipe)
        for run in snapshot.runs(row_id):
            counts["runs"] += 1
            yield row_of(part, run)
        for item in snapshot.other_rows(row_id):
            counts["others"] += 1
            yield row_of(part, item)
        if sum(counts.values()) == before:
            yield recipe_row(part)


def _points(snapshot: Snapshot, homes: Sequence[tuple[int, Recipe]], counts: dict[str, int]) -> Generator[Points]:
    for row_id, recipe in homes:
        for run_key, metric, steps, numbers in snapshot.curves(row_id):
            counts["points"] += len(steps)
            yield recipe.name, run_key, metric, steps, numbers


def is_export(path: str | Path) -> bool:
    """Whether `export` wrote the file."""
    from lawfit.exchange import is_own

    return is_own(Path(path))


def require_plain(path: str | Path, options: IngestOptions) -> None:
    """Refuse what a person states about a file that says everything itself.

    Raises
    ------
    LogFormatError
        Anything but a dry run is asked for.
    """
    from lawfit.ingest.options import IngestOptions as Options

    if options != Options(dry_run=options.dry_run, yes=options.yes):
        raise LogFormatError(finding("ingest.of_export", file=str(path)))


def take_back(store: Store, path: str | Path, *, dry_run: bool = False) -> IngestReport:
    """Put a file that `export` wrote into a store, in one transaction: into an empty one, and the two are equal.

    Raises
    ------
    LogFormatError
        A row is not as it was written.
    NoRun
        Curves of a run that is neither in the file nor in the store.
    """
    from lawfit.exchange import read_own
    from lawfit.storage.database import persistently

    path = Path(path)
    put = persistently(lambda: store.put_back(read_own(path), dry_run=dry_run))
    notes = [*put.rows.notes]
    if put.differing:
        run_key, metric = put.differing[0]
        notes.append(
            f"curves that are stored with other numbers stay as they are ({len(put.differing)}, such as '{metric}' "
            f"of run '{run_key}')"
        )
    changes, of_curves = put.rows, not put.rows.total and bool(put.points)
    return IngestReport(
        file=str(path),
        format=EXPORT,
        rows=put.points if of_curves else changes.total,
        inserted=put.new_points if of_curves else changes.inserted,
        updated=changes.updated,
        unchanged=put.points - put.new_points if of_curves else changes.unchanged,
        diverged=put.diverged,
        rejections=(),
        columns={"every field": "as lawfit export wrote it"},
        recipes=tuple(dict.fromkeys(recipe.name for recipe in changes.recipes)),
        notes=("written by lawfit export: taken as it stands, nothing was guessed", *notes),
        dry_run=dry_run,
        curve_points=0 if dry_run else put.new_points,
        of="curves" if of_curves else "runs",
    )
