"""The page at `/scales`: all scales of a fit in small, and the runs to add."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from lawfit import pipeline
from lawfit.plots.optima import ScaleOptimum, scale_optima
from lawfit.plots.scales import COLUMNS, PANEL, shown_words
from lawfit.records import Fit
from lawfit.report.html import chart_json, chart_place
from lawfit.report.scale_charts import CAPTION, scales_chart
from lawfit.words import told

from ..deps import Quantity, StoreDep
from .common import MOST_OF_A_NAME, page
from .looked_at import fit_of, looked_at, scale_address, with_query

NARROW_COLUMNS: Final = 2

router = APIRouter(include_in_schema=False)


@router.get("/scales")
def scales(
    store: StoreDep, request: Request, recipe: Annotated[str, Query(max_length=MOST_OF_A_NAME)] = ""
) -> Response:
    """Where each scale has its optimum, and whether its runs show it."""
    found = looked_at(store, recipe)
    fit = fit_of(store, found)
    more: dict[str, Any] = {"rows": [], "grids": [], "places": []}
    if fit is not None:
        more = {
            "rows": _rows(found.name, fit.payload["cells"], scale_optima(fit.payload)),
            "grids": told(fit.payload.get("next_grid") or []),
            "places": _places(request, fit),
        }
    return page(
        request,
        "scales.html",
        title="Scales",
        recipe=found.name,
        scripts=("run-links.js",),
        found=found,
        fit=fit,
        **more,
    )


def _rows(recipe: str, cells: Sequence[Mapping[str, Any]], optima: Sequence[ScaleOptimum]) -> list[dict[str, Any]]:
    return [
        {
            "cell": cell,
            "optimum": optimum,
            "words": shown_words(optimum),
            "shown": optimum.shown,
            "address": scale_address(recipe, cell["params"], cell["tokens"]),
        }
        for cell, optimum in zip(cells, optima, strict=True)
    ]


def _places(request: Request, fit: Fit) -> list[str]:
    """The figure for a wide and for a narrow screen; the one that is hidden is never fetched."""
    root = request.scope.get("root_path", "").rstrip("/")
    places = []
    for name, columns in (("wide-only", COLUMNS), ("narrow-only", NARROW_COLUMNS)):
        source = root + with_query("/scales/all.json", {"fit": fit.id, "columns": columns})
        rows = math.ceil(len(fit.payload["cells"]) / columns)
        place = chart_place(f"scales-{name}", "All scales", CAPTION, source, PANEL * rows + 110)
        places.append(f'<div class="{name}">{place}</div>')
    return places


@router.get("/scales/all.json")
def all_scales(
    store: StoreDep, fit: Annotated[str, Query(max_length=64)], columns: Annotated[int, Query(ge=1, le=12)] = COLUMNS
) -> Response:
    """The figure of all scales."""
    stored = store.fit(fit)
    if "cells" not in stored.payload:
        raise HTTPException(404, f"fit {fit} is none of learning rate and batch, and has no scales")
    chart = scales_chart(stored, store.runs(stored.recipe_key), columns=columns)
    return Response(chart_json(chart), media_type="application/json")


@router.get("/scales/next-grid.json")
def next_grid(
    store: StoreDep,
    recipe: Annotated[str, Query(max_length=MOST_OF_A_NAME)] = "",
    params: Annotated[Quantity | None, Query()] = None,
    tokens: Annotated[Quantity | None, Query()] = None,
) -> Response:
    """The grid of the runs to add, to be saved and trained: `lawfit launch next-grid.json`."""
    found = looked_at(store, recipe)
    scale = None if params is None or tokens is None else (params, tokens)
    grid = pipeline.next_grid(store, found.recipe.key, scale=scale)
    headers = {"Content-Disposition": 'attachment; filename="next-grid.json"'}
    return Response(json.dumps(grid, indent=1) + "\n", media_type="application/json", headers=headers)
