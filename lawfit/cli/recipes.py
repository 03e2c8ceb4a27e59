"""`lawfit recipes`: the recipes of a store, what parts them, and how two become one or one several."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from lawfit.cli.corrections import FITS_STAY
from lawfit.cli.options import DatabaseOption, JsonOption, open_store
from lawfit.cli.output import heading, note, plain, print_json, show, table
from lawfit.units import counted

if TYPE_CHECKING:
    from lawfit.storage.store import Store

app = typer.Typer(help="List the recipes and what parts them; merge and split them.")


@app.callback(invoke_without_command=True)
def recipes(ctx: typer.Context, as_json: JsonOption = False, database: DatabaseOption = None) -> None:
    """List the recipes with what the store holds of each, and the settings that part them."""
    if ctx.invoked_subcommand is not None:
        return
    store = open_store(ctx, database)
    found, parting = store.recipes(), store.parting()
    if not found:
        store.recipe()  # says so
    if as_json:
        print_json({"schema": "lawfit.recipes/1", "recipes": [_document(each) for each in found], "parted_by": parting})
        return
    counts = [
        (s.recipe.name, f"{s.runs:,}", f"{s.diverged:,}", f"{s.excluded:,}", f"{s.fits:,}", s.recipe.key) for s in found
    ]
    columns = ("recipe", "runs", "diverged", "excluded", "fits", "key")
    show(table(columns, counts, right=columns[1:5]))
    if parting:
        names = list(parting)
        rows = [(s.recipe.name, *(str(parting[name][s.recipe.key]) or "unknown" for name in names)) for s in found]
        show(plain(""), heading("What parts them"), table(("recipe", *names), rows))
    elif len(found) > 1:
        note("they state the same settings, and are kept apart by their names")


@app.command("merge")
def merge(
    ctx: typer.Context,
    into: Annotated[str, typer.Argument(metavar="A", help="Recipe that takes the runs, by name or key.")],
    other: Annotated[str, typer.Argument(metavar="B", help="Recipe whose runs go to A.")],
    as_json: JsonOption = False,
    database: DatabaseOption = None,
) -> None:
    """Put the runs of B into A, so that one fit sees both. Each run then says for itself the settings that parted them.

    Nothing is lost: B's settings and fits stay, and a later ingest of B's logs finds its runs in A. Refused where both
    have a run of the same key, and where their losses or parameter counts are of other kinds.
    """
    store = open_store(ctx, database)
    one, two = store.recipe(into), store.recipe(other)
    names = store.parting([one.key, two.key])
    moved = store.merge_recipes(one.key, two.key)
    if as_json:
        print_json(
            {"schema": "lawfit.recipes/1", "into": one.name, "merged": two.name, "moved": moved, "said": [*names]}
        )
        return
    said = f"; each run now says its {', '.join(names)}" if names else ""
    show(plain(f"{counted(moved, 'row')} of {two.name} moved to {one.name}{said}"))
    note(FITS_STAY)


@app.command("split")
def split(
    ctx: typer.Context,
    recipe: Annotated[str, typer.Argument(metavar="R", help="Recipe to part, by name or key.")],
    by: Annotated[str, typer.Option("--by", metavar="COLUMN", help="Column of the runs: each value a recipe.")],
    as_json: JsonOption = False,
    database: DatabaseOption = None,
) -> None:
    """Part a recipe by a column of its runs: a recipe for each value. Runs that do not say it stay.

    A later ingest of the same logs goes the same way. `lawfit recipes merge` puts parts together again.
    """
    store = open_store(ctx, database)
    chosen = store.recipe(recipe)
    parts = store.split_recipe(chosen.key, by)
    if as_json:
        document = [{"recipe": part.name, "key": part.key, "moved": count} for part, count in parts]
        print_json({"schema": "lawfit.recipes/1", "split": chosen.name, "by": by, "parts": document})
        return
    show(table(("recipe", "rows"), [(part.name, f"{count:,}") for part, count in parts], right=("rows",)))
    left = _runs(store, chosen.key)
    note(
        f"{counted(left, 'run')} that {'does' if left == 1 else 'do'} not say {by} stay in {chosen.name}"
        if left
        else FITS_STAY
    )


def _runs(store: Store, key: str) -> int:
    return next((summary.runs for summary in store.recipes() if summary.recipe.key == key), 0)


def _document(summary: Any) -> dict[str, Any]:
    import dataclasses

    return {**dataclasses.asdict(summary), "key": summary.recipe.key}
