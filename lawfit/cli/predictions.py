"""`lawfit predictions`: answers that were given, again from their id."""

from __future__ import annotations

from typing import Annotated

import typer

from lawfit.cli.options import DatabaseOption, JsonOption, VerboseOption, open_store
from lawfit.cli.output import note, print_json, show
from lawfit.errors import LawfitError

app = typer.Typer(help="Recommendations that were given before.", no_args_is_help=True)


@app.command("show")
def show_prediction(
    ctx: typer.Context,
    prediction: Annotated[str, typer.Argument(metavar="ID", help="The id that `lawfit predict` printed.")],
    again: Annotated[
        bool, typer.Option("--again", help="Also compute it again from its stored fit; exit code 1 when it differs.")
    ] = False,
    verbose: VerboseOption = False,
    as_json: JsonOption = False,
    database: DatabaseOption = None,
) -> None:
    """Show a recommendation as it was given, from its id.

    Fits never change, so the same numbers come back whatever was ingested or fitted since.
    """
    from lawfit import pipeline

    store = open_store(ctx, database)
    stored = store.prediction(prediction)
    if again:
        if not pipeline.comes_out_the_same(store, stored):
            made_by = store.fit(stored.fit_id).code_version
            raise LawfitError(
                f"prediction {prediction} comes out differently today (made by lawfit {made_by}); "
                "the stored answer is still shown without --again"
            )
        note("computed again from its fit: the same")
    if as_json:
        print_json(stored.answer)
    else:
        from lawfit.cli.brief import answer_card

        show(*answer_card(stored.answer, verbose=verbose))
