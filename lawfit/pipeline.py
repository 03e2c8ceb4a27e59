"""THE MAIN PATH: ingest -> refit -> recommend. Start reading here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lawfit.records import IngestReport, Json

if TYPE_CHECKING:
    from lawfit.ingest.options import IngestOptions
    from lawfit.storage import Store


def open_store(url: str | Path, *, dry_run: bool = False) -> Store:
    """Open the database, created and migrated on first use.

    Parameters
    ----------
    url : a file name ("lawfit.db"), or a SQLAlchemy URL
    dry_run : a file that does not exist is not created; an empty store in memory stands in for it

    Raises
    ------
    StoreError
        It cannot be opened; `SchemaOutOfDate` when a newer version of lawfit wrote it.
    """
    from lawfit.storage import Store
    from lawfit.storage.database import Location, check_file

    location = Location.parse(url)
    if dry_run and location.path is not None and not location.path.exists():
        check_file(location.path)
        return Store.open(":memory:")
    return Store.open(url)


def ingest(store: Store, path: str | Path, options: IngestOptions | None = None) -> IngestReport:
    """Read a table of runs and put them into the store, in one transaction.

    Raises
    ------
    LogFormatError
        The file as a whole cannot be taken.
    RecipeConflict
        The recipe name that was asked for holds other settings in the store.
    """
    from lawfit.ingest import IngestOptions, read_file

    options = options or IngestOptions()
    found = read_file(path, options)
    changes = store.put_sweeps(found.sweeps, named=found.named, dry_run=options.dry_run)
    return IngestReport(
        file=str(path),
        format=found.format,
        rows=found.rows,
        inserted=changes.inserted,
        updated=changes.updated,
        unchanged=changes.unchanged,
        diverged=found.diverged,
        rejections=found.rejections,
        columns=found.columns,
        recipes=tuple(recipe.name for recipe in changes.recipes),
        notes=(*found.notes, *changes.notes),
        dry_run=options.dry_run,
    )


def list_laws() -> list[dict[str, Json]]:
    """Every published law of the catalogue, as `show_law` gives one."""
    from lawfit.laws.published import published_laws

    return [show_law(law_id) for law_id in published_laws()]


def show_law(law_id: str) -> dict[str, Json]:
    """One published law: formulas, what its inputs count and where they were measured, caveats, source.

    Raises
    ------
    UnknownLaw
        With the ids that exist.
    """
    from lawfit.laws.published import published_law

    law = published_law(law_id)
    names = ("id", "label", "cite", "checked", "verified", "form_checked", "coefficients_checked", "at_batch")
    document: dict[str, Json] = {name: getattr(law, name) for name in names}
    document |= {"fixed_batch_tokens": law.fixed_batch_tokens, "needs": list(law.needs), "caveats": list(law.caveats)}
    document |= {"context": dict(law.context), "inputs": {name: vars(spec) for name, spec in law.inputs.items()}}
    document["formulas"] = {
        target: {**vars(formula), "law": formula.law.name, "formula": formula.law.formula}
        for target, formula in law.formulas.items()
    }
    return document
