"""`lawfit predict`: the recommendation for one target."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lawfit.cli.options import (
    ActiveShareOption,
    AtOption,
    DatabaseOption,
    EpochsOption,
    ExpertsOption,
    JsonOption,
    RecipeOption,
    UniqueTokensOption,
    in_options,
    open_store,
    quantity,
    whole_quantity,
)
from lawfit.cli.output import note, print_json, show


def predict(
    ctx: typer.Context,
    params: Annotated[
        float,
        typer.Option(
            parser=quantity,
            metavar="N",
            help="Parameters of the target, counted as in the recipe; 7e9, 7B or 7000000000.",
        ),
    ],
    tokens: Annotated[
        float, typer.Option(parser=quantity, metavar="D", help="Training tokens of the target; 1.4e12 or 1.4T.")
    ],
    batch_tokens: Annotated[
        float | None,
        typer.Option(
            parser=quantity, metavar="B", help="Batch in tokens per step, if it is given: only the lr is asked."
        ),
    ] = None,
    recipe: RecipeOption = None,
    seq_len: Annotated[
        int | None,
        typer.Option(parser=whole_quantity, metavar="T", help="Tokens per sequence, to count the batch in sequences."),
    ] = None,
    batch_multiple: Annotated[
        int | None,
        typer.Option(
            parser=whole_quantity,
            metavar="M",
            help="The batch must be a multiple of M sequences (of M tokens without a sequence length).",
        ),
    ] = None,
    max_batch: Annotated[
        float | None,
        typer.Option(
            "--max-batch",
            parser=quantity,
            metavar="B",
            help="Largest batch you can run, in tokens per step; the learning rate is then the best one at that batch.",
        ),
    ] = None,
    unique_tokens: UniqueTokensOption = None,
    epochs: EpochsOption = None,
    active_share: ActiveShareOption = None,
    experts: ExpertsOption = None,
    at: AtOption = None,
    level: Annotated[
        float, typer.Option(min=0.5, max=0.999, help="Probability that an interval holds the optimum.")
    ] = 0.9,
    fit: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Answer from this stored fit instead of the newest one.", show_default=False),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Also write an HTML report with figures; it opens offline.", show_default=False
        ),
    ] = None,
    as_json: JsonOption = False,
    database: DatabaseOption = None,
) -> None:
    """Recommend a peak learning rate and a batch size for a run of N parameters on D tokens.

    The answer comes from the newest stored fit of the recipe (`lawfit fit`), with an interval, the range in which
    being wrong costs little, what the published laws would use, and what each of them costs on your own runs. With
    --at it comes from the newest fit that holds at that level.
    Where no learning rate may be given, the law of the loss still answers, with what the runs lack. The expected loss
    is that of fresh tokens and of as many experts as most runs have; --unique-tokens or --epochs, --active-share or
    --experts ask for another, where the runs vary it.
    Exit code 4: there is no fit to answer from, or its runs carry no answer: what they lack is said, and which runs
    would mend it.

    Example: lawfit predict --params 7B --tokens 1.4T --seq-len 4096 --batch-multiple 64
    """
    from lawfit import pipeline
    from lawfit.records import Target

    try:
        target = Target(
            params=params,
            tokens=tokens,
            batch_tokens=batch_tokens,
            seq_len=seq_len,
            batch_multiple=batch_multiple,
            max_batch_tokens=max_batch,
            level=level,
            unique_tokens=unique_tokens,
            epochs=epochs,
            active_share=active_share,
            experts=experts,
        )
        store = open_store(ctx, database)
        document = pipeline.recommend(store, recipe, target, fit_id=fit, at=at or ())
    except ValueError as error:  # a target that cannot be, or a batch that contradicts it
        raise typer.BadParameter(in_options(str(error))) from None
    if report is not None:
        from lawfit.plots.report import write_report

        stored = store.fit(document["evidence"]["fit_id"])
        runs, laws = store.runs(stored.recipe_key), pipeline.laws_of(store, stored)
        note(f"report: {write_report(report, stored, document, runs, laws)}")
    if as_json:
        print_json(document)
    else:
        from lawfit.cli.card import card

        show(*card(document))
    if pipeline.runs_changed_since(store, document["evidence"]["fit_id"]):
        note("the runs of this recipe have changed since that fit was made; lawfit fit takes them in")
