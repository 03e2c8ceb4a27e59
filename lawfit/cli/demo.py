"""`lawfit demo`: the whole path on a shipped sweep, from its file to a recommendation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lawfit.ask import Target
from lawfit.cli.options import JsonOption, open_at
from lawfit.cli.output import note, plain, print_json, progress, show
from lawfit.errors import LawfitError
from lawfit.settings import SHIPPED_SWEEP
from lawfit.units import counted

if TYPE_CHECKING:
    from lawfit.storage import Store

STEP = 5.0  # the demo's target has this many times the parameters and tokens of the largest run


def demo(
    ctx: typer.Context,
    folder: Annotated[Path, typer.Option(metavar="FOLDER", help="Where the demo's database and sweep go.")] = Path(
        "demo"
    ),
    as_json: JsonOption = False,
) -> None:
    """Ingest a shipped sweep, fit it, and recommend a learning rate and batch size for a run 5 times as large.

    Ends with the recommendation and the path of an HTML report that opens from disk, offline. Where the shipped
    sweep is missing the runs are simulated, and the demo says so.
    """
    from lawfit import pipeline
    from lawfit.report.page import write_report
    from lawfit.words.answers import is_simulated

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LawfitError(f"the folder {folder} cannot be made: {error.strerror}") from None
    sweep = _sweep(folder)
    database = folder / "lawfit.db"
    store = open_at(ctx, str(database), create=True)
    with progress("demo", quiet=as_json) as advance:
        advance("ingest", 0.0)
        _critical_batch(store)
        report = pipeline.ingest(store, sweep)
        recipe = report.recipes[0]
        fit = pipeline.refit(store, recipe, progress=advance)
    document = pipeline.recommend(store, recipe, _target(store, recipe), fit_id=fit.id)
    written = write_report(
        folder / "report.html", fit, document, store.runs(fit.recipe_key), pipeline.laws_of(store, fit)
    )
    if as_json:
        print_json(
            {
                "schema": "lawfit.demo/1",
                "simulated": is_simulated(document["recipe"]),
                "database": str(database),
                "report": str(written),
                "prediction": document,
            }
        )
        return
    from lawfit.cli.brief import answer_card

    note(f"{counted(report.rows, 'run')} from {sweep} are in {database}")
    show(*answer_card(document, verbose=False), plain(""), plain(f"Report: {written}"))
    note(f"next: lawfit --database {database} predict --recipe {recipe} --params 1B --tokens 20B")


def _critical_batch(store: Store) -> None:
    """Ingest and fit the shipped runs at constant rates, on which the sweep's critical batch size is measured."""
    from lawfit import pipeline
    from lawfit.settings import data_folder

    runs, curves = (data_folder() / f"proxy_critical_batch{part}.csv" for part in ("", "_curves"))
    if runs.is_file() and curves.is_file():
        recipe = pipeline.ingest(store, runs).recipes[0]
        pipeline.ingest(store, curves)
        pipeline.refit(store, recipe)


def _sweep(folder: Path) -> Path:
    """The shipped sweep, or a simulated one written into the folder."""
    from lawfit.settings import data_folder
    from lawfit.simulate import demo_sweep, write_csv

    shipped = data_folder() / SHIPPED_SWEEP
    if shipped.is_file():
        return shipped
    path = folder / "simulated_sweep.csv"
    write_csv(demo_sweep().runs, path)
    return path


def _target(store: Store, recipe: str) -> Target:
    columns = store.run_columns(store.recipe(recipe).key)
    return Target(params=STEP * float(columns["params"].max()), tokens=STEP * float(columns["tokens"].max()))
