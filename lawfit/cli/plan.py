"""`lawfit plan`: how to spend a training budget."""

from __future__ import annotations

import typer

from lawfit.ask import PlanQuestion
from lawfit.cli.options import (
    AtOption,
    DatabaseOption,
    JsonOption,
    PlanFitOption,
    RecipeOption,
    ReportOption,
    as_usage,
    asks,
    open_store,
)
from lawfit.cli.output import note, print_json, show


@asks(PlanQuestion)
def plan(
    ctx: typer.Context,
    asked: PlanQuestion,
    recipe: RecipeOption = None,
    at: AtOption = None,
    fit: PlanFitOption = None,
    report: ReportOption = None,
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

    store = open_store(ctx, database)
    with as_usage():
        document = pipeline.plan(store, recipe, asked, fit_id=fit, at=at or ())
    if report is not None:
        from lawfit.report.page import write_plan_report

        stored = store.fit(document["evidence"]["loss_fit_id"])
        note(f"report: {write_plan_report(report, stored, document)}")
    if as_json:
        print_json(document)
    else:
        from lawfit.cli.plan_card import plan_card

        show(*plan_card(document))
