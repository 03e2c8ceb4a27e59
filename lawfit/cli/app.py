"""The tree of commands. One thin module per group; heavy imports happen inside the commands."""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from lawfit import __version__
from lawfit.cli import (
    convert,
    corpus,
    db,
    demo,
    export,
    fit,
    ingest,
    jobs,
    launch,
    laws,
    mcp,
    plan,
    plan_next,
    predict,
    predictions,
    recipes,
    runs,
    schedules,
    serve,
    simulate,
    study,
    token,
    transfer,
)
from lawfit.cli.options import DatabaseOption, State

ORDER = (
    *(
        "ingest",
        "runs",
        "recipes",
        "fit",
        "predict",
        "plan",
        "predictions",
        "corpus",
        "launch",
        "jobs",
        "study",
        "laws",
        "convert",
        "transfer",
    ),
    "schedules",
    *("simulate", "export", "db", "serve", "token", "mcp", "demo"),
)


class InOrder(TyperGroup):
    """Lists commands in the order in which one needs them."""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        return sorted(super().list_commands(ctx), key=ORDER.index)


app = typer.Typer(
    name="lawfit",
    cls=InOrder,
    help="From run logs to the learning rate and batch size of the next run.\n\n"
    "Usual order: `lawfit ingest sweep.csv`, `lawfit fit`, `lawfit predict --params 7B --tokens 1.4T`.",
    no_args_is_help=True,
    rich_markup_mode=None,  # help is plain text: quick, and the same in a pipe
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"lawfit {__version__}")
        raise typer.Exit


@app.callback()
def start(
    ctx: typer.Context,
    database: DatabaseOption = None,
    version: Annotated[  # noqa: ARG001 - its callback acts
        bool, typer.Option("--version", help="Print the version and stop.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    ctx.obj = State(database=database)


app.command("ingest", short_help="Store finished runs from tables.")(ingest.ingest)
app.add_typer(runs.app, name="runs", short_help="Look at the stored runs; correct, exclude and restore some.")
app.add_typer(recipes.app, name="recipes", short_help="What parts the recipes; merge and split them.")
app.command("fit", short_help="Fit how the best lr and batch size move with scale.")(fit.fit)
app.command("predict", short_help="Recommend lr and batch size for a target.")(predict.predict)
plans = typer.Typer(invoke_without_command=True)
plans.callback()(plan.plan)
plans.command("next", short_help="Which small runs would tell most about a target.")(plan_next.plan_next)
app.add_typer(plans, name="plan", short_help="Spend a budget on a run; or plan next: on runs that tell most.")
app.add_typer(predictions.app, name="predictions", short_help="Show a recommendation given before.")
app.command("launch", short_help="Train grids of small models on this machine's GPUs.")(launch.launch)
app.add_typer(jobs.app, name="jobs", short_help="What launches train: list, watch, show, cancel.")
app.add_typer(study.app, name="study", short_help="Plan, launch and fit in rounds until a target is known.")
app.add_typer(laws.app, name="laws", short_help="Published laws, and what each costs on your runs.")
app.command("transfer", short_help="Does the best lr stay put with width and horizon?")(transfer.transfer)
app.add_typer(schedules.app, name="schedules", short_help="The loss that other lr schedules would end at.")
app.add_typer(convert.app, name="convert", short_help="Carry settings to another batch, horizon or width.")
app.command("simulate", short_help="Write a sweep whose truth is known.")(simulate.simulate)
app.add_typer(corpus.app, name="corpus", short_help="Make the tokenised text that runs train on.")
app.command("export", short_help="Write runs and curves to a file, to be ingested anywhere.")(export.export)
app.add_typer(db.app, name="db", short_help="Upgrade, back up, copy and check the database.")
app.command("serve", short_help="Serve the API and the page on this machine.")(serve.serve)
app.add_typer(token.app, name="token", short_help="Who may use the service from elsewhere.")
app.command("mcp", short_help="Answer agents over the Model Context Protocol.")(mcp.mcp)
app.command("demo", short_help="See the whole path on a shipped sweep.")(demo.demo)


@cache
def command() -> Any:
    """The command that `main` calls with the words of one command line; making it takes longer than most commands."""
    return typer.main.get_command(app)
