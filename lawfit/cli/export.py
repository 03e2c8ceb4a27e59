"""`lawfit export`: the stored runs and curves to a file that any tool reads, and that `lawfit ingest` takes back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lawfit.cli.options import DatabaseOption, JsonOption, RecipeOption, open_store
from lawfit.cli.output import note, plain, print_json, progress, show
from lawfit.units import counted


def export(
    ctx: typer.Context,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="What to write: .csv, .parquet or .jsonl; it must not exist yet.")
    ],
    recipe: RecipeOption = None,
    runs: Annotated[bool, typer.Option("--runs", help="Only runs, a row each.")] = False,
    curves: Annotated[bool, typer.Option("--curves", help="Only curves, a row for each point.")] = False,
    as_json: JsonOption = False,
    database: DatabaseOption = None,
) -> None:
    """Write runs and curves to a file: every field, excluded runs with their reasons, numbers to the last bit.

    `lawfit ingest` of the file into an empty database gives an equal one. Fits and answers are not written: they are
    made again from the runs. Without --recipe all recipes are written.
    """
    from lawfit import pipeline

    if runs and curves:
        raise typer.BadParameter("--runs and --curves leave nothing out together; say one of them, or neither")
    store = open_store(ctx, database)
    with progress(f"writing {file.name}", quiet=as_json):
        written = pipeline.export(store, file, recipe, runs=not curves, curves=not runs)
    if as_json:
        print_json({"schema": "lawfit.export/1", **written.to_json()})
        return
    others = f", {counted(written.others, 'row')} of targets and losses" if written.others else ""
    points = "" if runs else f", {counted(written.points, 'point')} of curves"
    size = file.stat().st_size
    show(
        plain(f"{file}: {counted(written.runs, 'run')}{others}{points} of {_of(written.recipes)} ({size / 1e6:.1f} MB)")
    )
    note(f"lawfit ingest {file} takes it back; fits are made again with lawfit fit")


def _of(recipes: tuple[str, ...]) -> str:
    return f"recipe {recipes[0]}" if len(recipes) == 1 else f"{len(recipes)} recipes"
