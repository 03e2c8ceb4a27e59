"""`lawfit runs correct`, `history`, `undo`: what a person knows better than the log, kept with its reason."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lawfit.cli.options import DatabaseOption, JsonOption, RecipeOption, open_store
from lawfit.cli.output import note, plain, print_json, show, table
from lawfit.units import counted

if TYPE_CHECKING:
    from lawfit.records import Correction

FITS_STAY = "stored fits stay as they are, and say that the runs have changed; lawfit fit makes one that sees this"


def correct(
    ctx: typer.Context,
    keys: Annotated[
        list[str],
        typer.Argument(metavar="KEY...", help="Keys as `lawfit runs list` shows them; * and ? match any text."),
    ],
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why: it is kept in the history of the runs.")],
    values: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="FIELD=VALUE",
            help="What is right: lr=0.003, weight_decay=none, loss=diverged, beta2=0.95; repeatable.",
            show_default=False,
        ),
    ] = None,
    factors: Annotated[
        list[str] | None,
        typer.Option(
            "--times", metavar="FIELD=FACTOR", help="Multiply what is stored: lr=0.001; repeatable.", show_default=False
        ),
    ] = None,
    recipe: RecipeOption = None,
    as_json: JsonOption = False,
    database: DatabaseOption = None,
) -> None:
    """Change fields of stored runs, with a reason. `lawfit runs undo` takes it back; a later ingest does not."""
    from lawfit import pipeline

    if not reason.strip():
        raise typer.BadParameter("a correction needs a reason, for instance --reason 'logged in units of 1e-3'")
    if not values and not factors:
        raise typer.BadParameter("say what is right: --set FIELD=VALUE, or --times FIELD=FACTOR")
    done = pipeline.correct(
        open_store(ctx, database),
        keys,
        values=_pairs(values or [], "--set"),
        factors=_pairs(factors or [], "--times"),
        reason=reason,
        recipe=recipe,
    )
    if as_json:
        print_json({"schema": "lawfit.runs/1", **vars(done)})
        return
    same = f" ({done.matched - done.changed:,} already were so)" if done.changed < done.matched else ""
    if not done.changed:
        show(plain(f"nothing to correct in {done.recipe}: {counted(done.matched, 'run')} already so"))
        return
    show(plain(f"change {done.change}: {counted(done.changed, 'run')} of {done.recipe} corrected{same}"))
    note(f"{FITS_STAY}. lawfit runs undo {done.change} takes it back")


def history(
    ctx: typer.Context,
    recipe: Annotated[
        str | None,
        typer.Option("--recipe", metavar="NAME", help="Only of this recipe, by name or key.", show_default=False),
    ] = None,
    as_json: JsonOption = False,
    database: DatabaseOption = None,
) -> None:
    """Show what was corrected, excluded and restored in stored runs, by which change and why, the latest first."""
    store = open_store(ctx, database)
    found = store.history(None if recipe is None else store.recipe(recipe).key)
    if as_json:
        print_json({"schema": "lawfit.runs/1", "corrections": [dataclasses.asdict(each) for each in found]})
        return
    if not found:
        show(plain("no run was corrected, excluded or restored"))
        return
    rows = [_row(list(group)) for _, group in groupby(found, key=lambda each: (each.change, each.recipe, each.field))]
    columns = ("change", "made", "recipe", "runs", "field", "before", "now", "because", "undone")
    show(table(columns, rows, right=("change", "runs")))


def undo(
    ctx: typer.Context,
    change: Annotated[
        int | None,
        typer.Argument(metavar="[CHANGE]", help="Its number in `lawfit runs history`. [default: the latest]"),
    ] = None,
    as_json: JsonOption = False,
    database: DatabaseOption = None,
) -> None:
    """Take a correction back: the fields are as they were before it."""
    number, restored = open_store(ctx, database).undo(change)
    runs = len({(each.recipe, each.run_key) for each in restored})
    if as_json:
        corrections = [dataclasses.asdict(each) for each in restored]
        print_json({"schema": "lawfit.runs/1", "change": number, "undone": runs, "corrections": corrections})
        return
    show(plain(f"change {number} undone: {counted(runs, 'run')} as before"))
    note(FITS_STAY)


def _pairs(words: Sequence[str], option: str) -> dict[str, str]:
    given = {}
    for word in words:
        name, separator, value = word.partition("=")
        if not separator or not name.strip() or not value.strip():
            raise typer.BadParameter(f"'{word}' is not of the form {option} lr=0.003")
        given[name.strip()] = value.strip()
    return given


def _row(same: Sequence[Correction]) -> tuple[str, ...]:
    first = same[0]
    before, after = (_range([getattr(each, name) for each in same]) for name in ("before", "after"))
    runs = first.run_key if len(same) == 1 else f"{len(same):,}"
    undone = first.undone_at or ""
    return str(first.change), first.made_at, first.recipe, runs, first.field, before, after, first.reason, undone


def _range(values: Sequence[Any]) -> str:
    numbers = [value for value in values if isinstance(value, int | float)]
    if len(numbers) == len(values):
        texts = [f"{end:.6g}" for end in (min(numbers), max(numbers))]
    else:
        texts = sorted({"none" if value is None else str(value) for value in values})
    return texts[0] if len(set(texts)) == 1 else f"{texts[0]} ... {texts[-1]}"
