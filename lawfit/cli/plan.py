"""`lawfit plan`: how to spend a training budget."""

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


def plan(
    ctx: typer.Context,
    flops: Annotated[
        float | None,
        typer.Option(parser=quantity, metavar="C", help="Training compute, 6 x parameters x tokens; 1e21."),
    ] = None,
    gpu_hours: Annotated[
        float | None,
        typer.Option(parser=quantity, metavar="H", help="Budget in GPU-hours instead; with --flops-per-second."),
    ] = None,
    gpus: Annotated[
        int | None,
        typer.Option(parser=whole_quantity, metavar="G", help="How many GPUs train; with --flops-per-second."),
    ] = None,
    days: Annotated[
        float | None, typer.Option(parser=quantity, metavar="T", help="Budget as wall-clock time on --gpus instead.")
    ] = None,
    flops_per_second: Annotated[
        float | None,
        typer.Option(
            parser=quantity, metavar="F", help="What one GPU sustains in training: its peak x its utilisation; 4e14."
        ),
    ] = None,
    params: Annotated[
        float | None, typer.Option(parser=quantity, metavar="N", help="The size is given, counted as in the recipe.")
    ] = None,
    tokens: Annotated[
        float | None, typer.Option(parser=quantity, metavar="D", help="The training tokens are given.")
    ] = None,
    loss: Annotated[
        float | None,
        typer.Option(parser=quantity, metavar="L", help="Nats per token to reach, as cheaply as can be."),
    ] = None,
    inference_tokens: Annotated[
        float | None,
        typer.Option(
            parser=quantity,
            metavar="T",
            help="Tokens to serve later, at 2 FLOPs per parameter, paid from the same budget: a smaller model, longer.",
        ),
    ] = None,
    step_seconds: Annotated[
        float | None,
        typer.Option(parser=quantity, metavar="S", help="The quickest step, however small its batch."),
    ] = None,
    tokens_per_second: Annotated[
        float | None,
        typer.Option(parser=quantity, metavar="R", help="Speed of all GPUs together at the planned size."),
    ] = None,
    recipe: RecipeOption = None,
    seq_len: Annotated[
        int | None,
        typer.Option(parser=whole_quantity, metavar="T", help="Tokens per sequence, to count the batch in sequences."),
    ] = None,
    batch_multiple: Annotated[
        int | None,
        typer.Option(parser=whole_quantity, metavar="M", help="The batch must be a multiple of M sequences."),
    ] = None,
    max_batch: Annotated[
        float | None, typer.Option("--max-batch", parser=quantity, metavar="B", help="Largest batch, tokens per step.")
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
        typer.Option(metavar="ID", help="Plan from this stored fit instead of the newest one.", show_default=False),
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
    """Plan a run: from a budget to a model size, training tokens, settings, loss and time.

    Give a budget (--flops, --gpu-hours, or --gpus with --days), or start from --params, --tokens or --loss; a budget
    with a size (or tokens) plans that run and compares it with the best split. The compute-optimal split comes from
    the recipe's own loss law with all its resamples; where the runs do not say it, you are told which runs would. With
    --at the settings come from the newest fit that holds at that level. With --unique-tokens tokens repeat beyond them,
    and the plan says how often each is best seen; where runs vary the share of active experts, which share is best.
    Exit code 4: there is no law to plan with, or it leaves the optimum open.

    Example: lawfit plan --gpus 64 --days 2 --flops-per-second 4e14
    """
    from lawfit import pipeline
    from lawfit.records import PlanQuestion

    try:
        question = PlanQuestion(
            flops=flops,
            params=params,
            tokens=tokens,
            loss=loss,
            gpu_hours=gpu_hours,
            gpus=gpus,
            days=days,
            flops_per_second=flops_per_second,
            step_seconds=step_seconds,
            tokens_per_second=tokens_per_second,
            inference_tokens=inference_tokens,
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
        document = pipeline.plan(store, recipe, question, fit_id=fit, at=at or ())
    except ValueError as error:  # a question that contradicts itself
        raise typer.BadParameter(in_options(str(error))) from None
    if report is not None:
        from lawfit.plots.report import write_plan_report

        stored = store.fit(document["evidence"]["loss_fit_id"])
        note(f"report: {write_plan_report(report, stored, document)}")
    if as_json:
        print_json(document)
    else:
        from lawfit.cli.plan_card import plan_card

        show(*plan_card(document))
    if pipeline.runs_changed_since(store, document["evidence"]["prediction_fit_id"]):
        note("the runs of this recipe have changed since that fit was made; lawfit fit takes them in")
