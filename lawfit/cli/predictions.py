"""`lawfit predictions`: answers that were given, again from their id."""

from __future__ import annotations

from typing import Annotated

import typer

from lawfit.cli.options import DatabaseOption, JsonOption, open_store
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
    as_json: JsonOption = False,
    database: DatabaseOption = None,
) -> None:
    """Show a recommendation as it was given, from its id.

    Fits never change, so the same numbers come back whatever was ingested or fitted since.
    """
    from lawfit import pipeline
    from lawfit.records import Target

    store = open_store(ctx, database)
    stored = store.prediction(prediction)
    if again:
        level = (stored.answer["recommendation"]["lr"] or stored.answer["critical_batch"])["level"]
        asked = {name: value for name, value in stored.target.items() if name in Target.__dataclass_fields__}
        target = Target(**{**asked, "level": level})
        fit = store.fit(stored.fit_id)
        answer = pipeline.recommend(store, fit.recipe_key, target, fit_id=fit.id)
        if answer != stored.answer:
            raise LawfitError(
                f"prediction {prediction} comes out differently today (made by lawfit {fit.code_version}); "
                "the stored answer is still shown without --again"
            )
        note("computed again from its fit: the same")
    if as_json:
        print_json(stored.answer)
    else:
        from lawfit.cli.card import card

        show(*card(stored.answer))
