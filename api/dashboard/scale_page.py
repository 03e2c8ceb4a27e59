"""The page at `/scales/one`: one scale whole, from its own runs alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from lawfit.errors import NoFit
from lawfit.plots.optima import scale_optimum
from lawfit.plots.scales import shown_words
from lawfit.records import Fit, Recipe, Run
from lawfit.report.html import chart_html
from lawfit.report.scale_charts import scale_charts
from lawfit.storage.listing import RunsAsked, page_of_runs
from lawfit.storage.store import Store
from lawfit.units import format_percent, format_scale
from lawfit.words import told

from ..deps import Quantity, StoreDep
from .common import MOST_OF_A_NAME, page
from .looked_at import fit_of, looked_at, scale_address, with_query

RUNS_LISTED: Final = 12
MOST_RUNS: Final = 20_000
SAME_SCALE: Final = 0.02  # ln units

router = APIRouter(include_in_schema=False)


@router.get("/scales/one")
def scale(
    store: StoreDep,
    request: Request,
    params: Annotated[Quantity, Query()],
    tokens: Annotated[Quantity, Query()],
    recipe: Annotated[str, Query(max_length=MOST_OF_A_NAME)] = "",
) -> Response:
    """Surface, losses along learning rate and weight decay, and the best runs of one scale."""
    found = looked_at(store, recipe)
    fit = fit_of(store, found)
    if fit is None:
        raise HTTPException(404, f"'{found.name}' has no fit yet, and so no scales; fit it on the first page")
    cells = fit.payload["cells"]
    at = _cell_at(cells, params, tokens)
    cell = cells[at]
    ends = {
        name: (cell[name] / math.exp(SAME_SCALE), cell[name] * math.exp(SAME_SCALE)) for name in ("params", "tokens")
    }
    listed = page_of_runs(store, found.recipe.key, RunsAsked(ranges=ends, sort="loss"), after=None, limit=MOST_RUNS)
    optimum = scale_optimum(fit.payload["model"], cell)
    asked = {f"{name}_{end}": f"{both[k]:.12g}" for name, both in ends.items() for k, end in enumerate(("from", "to"))}
    return page(
        request,
        "scale.html",
        title=format_scale(cell["params"], cell["tokens"]),
        recipe=found.name,
        scripts=("run-links.js",),
        found=found,
        cell=cell,
        optimum=optimum,
        words=shown_words(optimum),
        charts=_charts(store, found.recipe, fit, at, listed.runs),
        best=_best(listed.runs, fit),
        total=listed.total,
        all_runs=with_query("/runs", {"recipe": found.name, "sort": "loss"}, asked),
        grids=[row for row in told(fit.payload.get("next_grid") or []) if _away(row, cell) < SAME_SCALE],
        beside=_beside(found.name, cells, at),
    )


def _away(one: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    return max(abs(math.log(one[name] / other[name])) for name in ("params", "tokens"))


def _cell_at(cells: Sequence[Mapping[str, Any]], params: float, tokens: float) -> int:
    asked = {"params": params, "tokens": tokens}
    nearest = min(
        range(len(cells)), key=lambda i: math.dist(*([math.log(x[n]) for n in asked] for x in (cells[i], asked)))
    )
    if _away(cells[nearest], asked) > SAME_SCALE:
        there = format_scale(cells[nearest]["params"], cells[nearest]["tokens"])
        raise HTTPException(404, f"the fit has no scale of {format_scale(params, tokens)}; the nearest is {there}")
    return nearest


def _charts(store: Store, recipe: Recipe, fit: Fit, at: int, runs: Sequence[Run]) -> list[str]:
    try:
        timescale = store.latest_fit(recipe.key, "timescale")
    except NoFit:
        timescale = None
    return [chart_html(chart) for chart in scale_charts(fit, at, runs, timescale)]


def _best(runs: Sequence[Run], fit: Fit) -> list[dict[str, Any]]:
    """The runs of lowest loss; `runs` come sorted by it."""
    left_out = told(fit.exclusions)
    return [
        {
            "run": run,
            "above": "" if run.loss is None or runs[0].loss is None else format_percent(run.loss / runs[0].loss - 1),
            "left_out": left_out.get(run.run_key, ""),
        }
        for run in runs[:RUNS_LISTED]
    ]


def _beside(recipe: str, cells: Sequence[Mapping[str, Any]], at: int) -> list[dict[str, str]]:
    """The scales before and after it, by size and horizon."""
    found = []
    for words, there in (("Before", at - 1), ("After", at + 1)):
        if 0 <= there < len(cells):
            params, tokens = cells[there]["params"], cells[there]["tokens"]
            address = scale_address(recipe, params, tokens)
            found.append({"words": words, "name": format_scale(params, tokens), "address": address})
    return found
