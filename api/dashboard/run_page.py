"""The page of one run: what was set, its curves, where it stands among the runs of its scale, and what it feeds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Request
from fastapi.responses import Response

from lawfit.errors import NoFit
from lawfit.records import Fit, Recipe, Run
from lawfit.report.html import chart_place
from lawfit.storage.listing import CurveListed, RunsAsked, one_run, page_of_runs
from lawfit.storage.store import Store
from lawfit.units import counted, format_flops, format_lr, format_percent, format_quantity, training_flops
from lawfit.words import told

from ..deps import StoreDep
from .common import page
from .looked_at import scale_address, with_query

SAME_SCALE: Final = 1.02  # factor: runs of one scale differ by rounding of counts
CURVES_SHOWN: Final = 4

router = APIRouter(include_in_schema=False)


@router.get("/runs/{recipe}/{run_key:path}")
def run(
    store: StoreDep,
    request: Request,
    recipe: Annotated[str, Path(max_length=200)],
    run_key: Annotated[str, Path(max_length=2000)],
) -> Response:
    """One run."""
    chosen = store.recipe(recipe)
    found, metrics = one_run(store, chosen.key, run_key)
    return page(
        request,
        "run.html",
        title=found.run_key,
        heading=f"Run {found.run_key}",
        scripts=("runs.js",),
        recipe=chosen.name,
        name=chosen.name,
        run=found,
        settings=_settings(found),
        extra=sorted(found.extra.items()),
        standing=_standing(store, chosen, found),
        fit=_fed(store, chosen, found),
        corrections=[each for each in store.history(chosen.key) if each.run_key == found.run_key],
        scale_page=scale_address(chosen.name, found.params, found.tokens),
        places=_places(request, chosen.name, found, metrics),
        metrics=metrics,
    )


def _settings(run: Run) -> list[tuple[str, str]]:
    rows = [
        ("Parameters", f"{format_quantity(run.params)} ({run.params:,.0f})"),
        ("Training tokens", f"{format_quantity(run.tokens)} ({run.tokens:,.0f})"),
        ("Tokens per parameter", format_quantity(run.tokens / run.params)),
        ("Compute", f"{format_flops(training_flops(run.params, run.tokens))} FLOPs, 6 x parameters x tokens"),
        ("Peak learning rate", format_lr(run.lr)),
        ("Batch size", f"{run.batch_tokens:,.0f} tokens per step"),
    ]
    optional = (("Weight decay", run.weight_decay), ("Steps", run.steps), ("Seed", run.seed))
    rows += [(label, f"{value:,g}") for label, value in optional if value is not None]
    return [*rows, ("Read from", run.source or "not said")]


def _standing(store: Store, recipe: Recipe, run: Run) -> str:
    """Where its loss stands among the runs of its scale, in words."""
    scale = {name: (getattr(run, name) / SAME_SCALE, getattr(run, name) * SAME_SCALE) for name in ("params", "tokens")}
    asked = RunsAsked(ranges=scale, sort="loss")
    listed = page_of_runs(store, recipe.key, asked, after=None, limit=1)
    if run.loss is None:
        return f"diverged; one of {counted(listed.total, 'run')} at its scale"
    best = listed.runs[0].loss or run.loss
    better = page_of_runs(store, recipe.key, RunsAsked(ranges={**scale, "loss": (None, run.loss)}), after=None, limit=1)
    if run.loss <= best:
        return f"the lowest loss of {counted(listed.total, 'run')} at its scale"
    above = format_percent(run.loss / best - 1)
    return f"loss {better.total:,} of {listed.total:,} at its scale, counted from the lowest; {above} above that"


def _fed(store: Store, recipe: Recipe, run: Run) -> Mapping[str, Any]:
    """The latest fit of learning rate and batch, and whether this run is in it."""
    try:
        fit = store.latest_fit(recipe.key, "lr_batch")
    except NoFit:
        return {"id": "", "words": "No fit rests on it: the recipe has none yet."}
    return {"id": fit.id, "words": _in_fit(fit, run)}


def _in_fit(fit: Fit, run: Run) -> str:
    made = str(fit.created_at)[:16].replace("T", " ")
    why = told(fit.exclusions).get(run.run_key)
    if why:
        return f"Left out of the fit of {made} UTC: {why}."
    if run.excluded:
        return f"Excluded after the fit of {made} UTC, which still rests on it; fit again to leave it out."
    return f"One of {counted(fit.payload.get('runs_used') or 0, 'run')} behind the fit of {made} UTC."


def _places(request: Request, recipe: str, run: Run, metrics: list[CurveListed]) -> list[str]:
    """A figure for each curve, losses first, fetched when they are seen."""
    order = sorted(metrics, key=lambda each: (not each.metric.endswith("loss"), each.metric))
    root = request.scope.get("root_path", "").rstrip("/")
    places = []
    for index, each in enumerate(order[:CURVES_SHOWN]):
        asked = {"recipe": recipe, "metric": each.metric, "run": [run.run_key]}
        words = f"{counted(each.points, 'point')}, step {each.first_step:,} to {each.last_step:,}."
        name = each.metric.replace("_", " ").capitalize()
        places.append(chart_place(f"curve-{index}", name, words, root + with_query("/runs/curves.json", asked), 470))
    return places
