"""The tree of commands. One thin module per group; heavy imports happen inside the commands."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from lawfit import __version__
from lawfit.cli import db, demo, fit, ingest, laws, predict, predictions, runs, serve, simulate
from lawfit.cli.options import DatabaseOption, State

app = typer.Typer(
    name="lawfit",
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


app.command("ingest")(ingest.ingest)
app.add_typer(runs.app, name="runs")
app.command("fit")(fit.fit)
app.command("predict")(predict.predict)
app.add_typer(predictions.app, name="predictions")
app.add_typer(laws.app, name="laws")
app.command("simulate")(simulate.simulate)
app.add_typer(db.app, name="db")
app.command("serve")(serve.serve)
app.command("demo")(demo.demo)


def command() -> Any:
    """The command that `main` calls with the words of one command line."""
    return typer.main.get_command(app)
