"""/v1/runs and /v1/curves: stored runs page by page, one of them, what was logged along it; and who counts in fits."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query

from lawfit.storage.listing import RunsAsked, one_run, page_of_runs

from ..cursors import cursor_of, place_of
from ..deps import StoreDep, contradiction
from ..problems import documented
from ..queries import RunsQuery
from ..schemas import CurveOut, CurvesOut, Marked, RunOut, RunsExcluded, RunsOut, RunsRestored

router = APIRouter(tags=["runs"])

MOST_POINTS = 100_000
RecipeInPath = Annotated[str, Path(description="Recipe, by name or key")]
KeyInPath = Annotated[str, Path(description="Key of the run; slashes in it may stand as they are")]


@router.get("/runs", response_model=RunsOut, responses=documented(404, 422, 503))
def list_runs(store: StoreDep, query: Annotated[RunsQuery, Query()]) -> dict[str, Any]:
    """Stored runs of a recipe, filtered and sorted, page by page."""
    chosen = store.recipe(query.recipe)
    asked = RunsAsked(
        status=query.status, excluded=query.excluded, run_key=query.run_key, ranges=query.ranges, sort=query.sort,
        descending=query.descending,
    )  # fmt: skip
    question = [chosen.key, dataclasses.asdict(asked)]
    after = None if query.cursor is None else place_of(question, query.cursor)
    page = page_of_runs(store, chosen.key, asked, after=after, limit=query.limit)
    return {
        "recipe": chosen.name,
        "total": page.total,
        "runs": [dataclasses.asdict(run) for run in page.runs],
        "next": None if page.end is None else cursor_of(question, page.end),
    }


@router.get("/runs/{recipe}/{run_key:path}", response_model=RunOut, responses=documented(404, 503))
def read_run(store: StoreDep, recipe: RecipeInPath, run_key: KeyInPath) -> dict[str, Any]:
    """One run: settings, loss, columns that were not recognised, where it came from, and the curves it has."""
    chosen = store.recipe(recipe)
    run, metrics = one_run(store, chosen.key, run_key)
    return {**dataclasses.asdict(run), "recipe": chosen.name, "curves": [vars(metric) for metric in metrics]}


@router.get("/curves/{recipe}/{run_key:path}", response_model=CurvesOut | CurveOut, responses=documented(404, 422, 503))
def read_curves(
    store: StoreDep,
    recipe: RecipeInPath,
    run_key: KeyInPath,
    metric: Annotated[str | None, Query(description="Give its points; left out: the metrics that there are")] = None,
    most: Annotated[int, Query(ge=2, le=MOST_POINTS, description="At most so many points, evenly chosen")] = 10_000,
) -> dict[str, Any]:
    """What was logged along a run: its metrics, or the points of one of them, the first and the last among them."""
    chosen = store.recipe(recipe)
    run, metrics = one_run(store, chosen.key, run_key)
    if metric is None:
        return {"recipe": chosen.name, "run_key": run.run_key, "curves": [vars(each) for each in metrics]}
    if metric not in {each.metric for each in metrics}:
        there = ", ".join(each.metric for each in metrics) or "none"
        raise contradiction(ValueError(f"the run has no curve '{metric}'; there are: {there}"))
    steps, numbers = store.curve(chosen.key, run.run_key, metric)
    count = min(most, len(steps))
    shown = [round(place * (len(steps) - 1) / max(count - 1, 1)) for place in range(count)]
    return {
        "recipe": chosen.name,
        "run_key": run.run_key,
        "metric": metric,
        "points": len(steps),
        "steps": steps[shown].tolist(),
        "values": numbers[shown].tolist(),
    }


@router.post("/runs/exclude", name="exclude_runs", response_model=Marked, responses=documented(404, 422, 503))
def exclude(store: StoreDep, asked: RunsExcluded) -> dict[str, Any]:
    """Take runs out of every later fit, with a reason that is shown beside each of them. Nothing is deleted."""
    chosen = store.recipe(asked.recipe)
    matched = store.match_runs(chosen.key, asked.run_keys)
    changed = store.exclude(chosen.key, matched, asked.reason)
    return {"recipe": chosen.name, "matched": matched, "changed": changed}


@router.post("/runs/restore", name="restore_runs", response_model=Marked, responses=documented(404, 422, 503))
def restore(store: StoreDep, asked: RunsRestored) -> dict[str, Any]:
    """Put excluded runs back, so that later fits use them again. Without keys: all that are excluded."""
    chosen = store.recipe(asked.recipe)
    if asked.run_keys is None:
        matched = [run.run_key for run in store.runs(chosen.key) if run.excluded is not None]
    else:
        matched = store.match_runs(chosen.key, asked.run_keys)
    return {"recipe": chosen.name, "matched": matched, "changed": store.restore(chosen.key, matched)}
