"""`lawfit runs`: look at the stored runs, correct them, take some out of the fits with a reason, and put them back."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from lawfit.cli import corrections
from lawfit.cli.options import DatabaseOption, JsonOption, RecipeOption, open_store, whole_quantity
from lawfit.cli.output import note, plain, print_json, show, table
from lawfit.units import counted, format_lr, format_quantity

if TYPE_CHECKING:
    from rich.console import RenderableType

    from lawfit.records import Run

app = typer.Typer(
    help="Look at the stored runs; correct them, exclude some from the fits, and restore them.", no_args_is_help=True
)

SHOWN_AT_MOST = 30

KeysArgument = Annotated[
    list[str], typer.Argument(metavar="KEY...", help="Keys as `lawfit runs list` shows them; * and ? match any text.")
]


class Show(StrEnum):
    """Which runs to list."""

    FINISHED = "finished"
    DIVERGED = "diverged"
    EXCLUDED = "excluded"


@app.command("list")
def list_runs(
    ctx: typer.Context,
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe", metavar="NAME", help="Only the runs of this recipe, by name or key.", show_default=False
        ),
    ] = None,
    status: Annotated[Show | None, typer.Option(help="Only these.", show_default=False)] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            parser=whole_quantity,
            metavar="K",
            help=f"Show at most K. [default: {SHOWN_AT_MOST}; all with --json]",
            show_default=False,
        ),
    ] = None,
    as_json: JsonOption = False,
    database: DatabaseOption = None,
) -> None:
    """List the stored runs by scale, batch size and learning rate, after a line for each recipe."""
    from lawfit import pipeline

    store = open_store(ctx, database)
    wanted = limit if limit is not None or as_json else SHOWN_AT_MOST
    listed = pipeline.list_runs(store, recipe, most=wanted, status=None if status is None else status.value)
    if as_json:
        print_json(listed.to_json())
        return
    summaries, total, found = listed.recipes, listed.total, listed.runs
    counts = [
        (s.recipe.name, f"{s.runs:,}", f"{s.diverged:,}", f"{s.excluded:,}", f"{s.fits:,}", s.recipe.schedule)
        for s in summaries
    ]
    columns = ("recipe", "runs", "diverged", "excluded", "fits", "schedule")
    show(table(columns, counts, right=columns[1:5]), plain(""))
    show(_runs(found, several=len(summaries) > 1))
    if len(found) < total:
        note(f"{total - len(found):,} more; --limit K shows more of them, --json all")


def _runs(found: Sequence[tuple[str, Run]], *, several: bool) -> RenderableType:
    """A row for each run, with its recipe where there are several."""
    seeds = len({run.seed for _, run in found}) > 1
    rows = [
        (
            *([name] if several else []),
            run.run_key,
            format_quantity(run.params),
            format_quantity(run.tokens),
            format_quantity(run.batch_tokens),
            format_lr(run.lr),
            _or_dash(run.weight_decay),
            *([_or_dash(run.seed)] if seeds else []),
            "diverged" if run.loss is None else f"{run.loss:.4f}",
            run.excluded or "",
        )
        for name, run in found
    ]
    numbers = ("params", "tokens", "batch", "lr", "decay", *(["seed"] if seeds else []), "loss")
    return table((*(["recipe"] if several else []), "run", *numbers, "excluded because"), rows, right=numbers)


@app.command("exclude")
def exclude(
    ctx: typer.Context,
    keys: KeysArgument,
    reason: Annotated[
        str, typer.Option(metavar="TEXT", help="Why: it is shown beside every fit that leaves the run out.")
    ],
    recipe: RecipeOption = None,
    as_json: JsonOption = False,
    database: DatabaseOption = None,
) -> None:
    """Take runs out of every later fit, with a reason. Nothing is deleted; `lawfit runs restore` takes it back."""
    if not reason.strip():
        raise typer.BadParameter("an exclusion needs a reason, for instance --reason 'loss spike from a bad node'")
    store = open_store(ctx, database)
    chosen = store.recipe(recipe)
    matched = store.match_runs(chosen.key, keys)
    changed = store.exclude(chosen.key, matched, reason)
    _report(chosen.name, "excluded", matched, changed, as_json)


@app.command("restore")
def restore(
    ctx: typer.Context,
    keys: Annotated[list[str] | None, typer.Argument(metavar="[KEY...]", help="Keys; * and ? match any text.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Restore every excluded run of the recipe.")] = False,
    recipe: RecipeOption = None,
    as_json: JsonOption = False,
    database: DatabaseOption = None,
) -> None:
    """Put excluded runs back, so that later fits use them again."""
    if bool(keys) == everything:
        raise typer.BadParameter("name the runs to restore, or say --all")
    store = open_store(ctx, database)
    chosen = store.recipe(recipe)
    if everything:
        matched = [run.run_key for run in store.runs(chosen.key) if run.excluded is not None]
    else:
        matched = store.match_runs(chosen.key, keys or [])
    changed = store.restore(chosen.key, matched)
    _report(chosen.name, "restored", matched, changed, as_json)


app.command("correct")(corrections.correct)
app.command("history")(corrections.history)
app.command("undo")(corrections.undo)


def _or_dash(number: float | None) -> str:
    return "-" if number is None else f"{number:.4g}"


def _report(recipe: str, what: str, matched: list[str], changed: int, as_json: bool) -> None:
    if as_json:
        print_json({"schema": "lawfit.runs/1", "recipe": recipe, "matched": matched, what: changed})
        return
    unchanged = len(matched) - changed
    same = f" ({unchanged:,} already were)" if unchanged else ""
    show(plain(f"{counted(changed, 'run')} of {recipe} {what}{same}"))
    if changed:
        note("stored fits stay as they are; run lawfit fit to make one that sees this")
