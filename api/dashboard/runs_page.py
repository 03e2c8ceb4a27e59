"""The pages at `/runs`: the table of runs, and their curves over each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from lawfit.plots.curves import ALONG, Logged
from lawfit.plots.parallel import MOST as MOST_LINES
from lawfit.records import Recipe, content_hash
from lawfit.report.html import chart_json, chart_place
from lawfit.report.run_charts import curves_chart, parallel_chart
from lawfit.storage.listing import Position, RunsAsked, one_run, page_of_runs, start_of_page_before
from lawfit.storage.store import Store

from ..cursors import cursor_of, place_of
from ..deps import StoreDep
from ..queries import RunsQuery
from .common import MOST_OF_A_NAME, page
from .looked_at import LookedAt, looked_at, with_query

ON_A_PAGE: Final = 50
MOST_CURVES: Final = 60
SORTED: Final = (
    ("params", "parameters"),
    ("tokens", "tokens"),
    ("batch_tokens", "batch (tokens)"),
    ("lr", "learning rate"),
    ("weight_decay", "weight decay"),
    ("loss", "loss"),
)
RANGES: Final = ("params", "tokens", "batch_tokens", "lr", "loss")
STATES: Final = (("", "all"), ("finished", "finished"), ("diverged", "diverged"), ("excluded", "excluded"))

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the table was asked, as it was typed and as the store takes it; `problems` where it cannot be."""

    said: Mapping[str, str]
    query: RunsQuery
    problems: Mapping[str, str]

    @property
    def runs(self) -> RunsAsked:
        query = self.query
        return RunsAsked(
            status=query.status, excluded=query.excluded, run_key=query.run_key, ranges=query.ranges,
            sort=query.sort, descending=query.descending,
        )  # fmt: skip


@router.get("/runs")
def runs(store: StoreDep, request: Request, recipe: Annotated[str, Query(max_length=MOST_OF_A_NAME)] = "") -> Response:
    """Runs of a recipe, filtered and sorted by the database, page by page."""
    found = looked_at(store, recipe)
    asked = _asked(request.query_params)
    more: dict[str, Any] = {"total": 0, "shown": [], "before": "", "following": "", "place": ""}
    if found.summary is not None and not asked.problems:
        question = content_hash([found.recipe.key, dict(asked.said)], 16)
        after = None if asked.query.cursor is None else place_of(question, asked.query.cursor)
        listed = page_of_runs(store, found.recipe.key, asked.runs, after=after, limit=ON_A_PAGE)
        here = {"recipe": found.name, **asked.said}
        more = {
            "total": listed.total,
            "shown": listed.runs,
            "before": "" if after is None else _page_before(store, found, asked, question, after),
            "following": with_query("/runs", here, {"cursor": cursor_of(question, listed.end)}) if listed.end else "",
            "place": _parallel_place(request, here) if listed.runs and after is None else "",
        }
    return page(
        request,
        "runs.html",
        title="Runs",
        status=422 if asked.problems else 200,
        scripts=("runs.js",),
        recipe=found.name,
        found=found,
        said=asked.said,
        problems=asked.problems,
        heads=_heads(found.name, asked),
        states=STATES,
        ranges=[(name, label) for name, label in SORTED if name in RANGES],
        first="" if asked.query.cursor is None else with_query("/runs", {"recipe": found.name}, asked.said),
        most_curves=MOST_CURVES,
        **more,
    )


def _page_before(store: Store, found: LookedAt, asked: Asked, question: str, after: Position) -> str:
    """Address of the page before one that goes on after a place; the first has none to go on from."""
    start = start_of_page_before(store, found.recipe.key, asked.runs, after=after, limit=ON_A_PAGE)
    cursor = {} if start is None else {"cursor": cursor_of(question, start)}
    return with_query("/runs", {"recipe": found.name, **asked.said}, cursor)


def _asked(typed: Mapping[str, str]) -> Asked:
    """The filter of a query, what is empty left out; "excluded" is one of the states a person chooses from."""
    names = ["run_key", "state", "sort", "descending", *(f"{name}_{end}" for name in RANGES for end in ("from", "to"))]
    said = {name: text for name in names if (text := typed.get(name, "").strip())}
    fields: dict[str, Any] = {name: text for name, text in said.items() if name != "state"}
    state = said.get("state")
    fields |= {"excluded": True} if state == "excluded" else {} if state is None else {"status": state}
    try:
        query = RunsQuery.model_validate({**fields, "cursor": typed.get("cursor") or None})
    except ValidationError as error:
        problems = {
            str(item["loc"][-1]): item["msg"].removeprefix("Value error, ").replace("Input should", "it should")
            for item in error.errors()
        }
        if "status" in problems:
            problems["state"] = problems.pop("status")
        return Asked(said=said, query=RunsQuery(), problems=problems)
    return Asked(said=said, query=query, problems={})


def _heads(recipe: str, asked: Asked) -> list[dict[str, str]]:
    """Each column's name, how it is sorted now, and the address that sorts by it: a second click turns it round."""
    heads = []
    for name, label in SORTED:
        mine = asked.query.sort == name
        order = "" if not mine else "descending" if asked.query.descending else "ascending"
        turn = {"sort": name, "descending": "true" if order == "ascending" else ""}
        heads.append(
            {"label": label, "order": order, "address": with_query("/runs", {"recipe": recipe}, asked.said, turn)}
        )
    return heads


def _parallel_place(request: Request, here: Mapping[str, object]) -> str:
    source = request.scope.get("root_path", "").rstrip("/") + with_query("/runs/parallel.json", here)
    caption = "A line for each run that the filter lets through, coloured by its rank among the losses of its scale."
    return chart_place("parallel", "Settings beside losses", caption, source, 470)


@router.get("/runs/parallel.json")
def parallel(
    store: StoreDep, request: Request, recipe: Annotated[str, Query(max_length=MOST_OF_A_NAME)] = ""
) -> Response:
    """The figure of the runs that a filter lets through."""
    found, asked = looked_at(store, recipe), _asked(request.query_params)
    if asked.problems:
        raise RequestValidationError([{"loc": ("query", name), "msg": said} for name, said in asked.problems.items()])
    listed = page_of_runs(store, found.recipe.key, asked.runs, after=None, limit=MOST_LINES)
    chart = parallel_chart(listed.runs, listed.total)
    if chart is None:
        raise HTTPException(404, "no run is left by this filter")
    return Response(chart_json(chart), media_type="application/json")


@router.get("/runs/curves")
def curves(
    store: StoreDep,
    request: Request,
    recipe: Annotated[str, Query(max_length=MOST_OF_A_NAME)] = "",
    run: Annotated[list[str] | None, Query(max_length=1000)] = None,
    metric: Annotated[str, Query(max_length=MOST_OF_A_NAME)] = "",
    along: Annotated[str, Query(max_length=20)] = "step",
) -> Response:
    """Curves of the runs that were chosen, or of the first that the filter lets through."""
    found = looked_at(store, recipe)
    chosen, total = _chosen(store, found.recipe, request, run)
    metrics = sorted({each.metric for key in chosen for each in one_run(store, found.recipe.key, key)[1]})
    metric = metric if metric in metrics else next((m for m in metrics if m.endswith("loss")), next(iter(metrics), ""))
    along = along if along in ALONG else "step"
    here = {"recipe": found.name, "metric": metric, "along": along, "run": chosen}
    source = request.scope.get("root_path", "").rstrip("/") + with_query("/runs/curves.json", here)
    title = "Curves of one run" if len(chosen) == 1 else f"Curves of {len(chosen)} runs"
    place = chart_place("curves", title, "", source, 470) if metrics else ""
    return page(
        request,
        "curves.html",
        title=title,
        scripts=("run-links.js",),
        recipe=found.name,
        found=found,
        chosen=chosen,
        total=total,
        metrics=metrics,
        metric=metric,
        along=along,
        alongs=ALONG,
        place=place,
        most_curves=MOST_CURVES,
    )


def _chosen(store: Store, recipe: Recipe, request: Request, run: list[str] | None) -> tuple[list[str], int]:
    """Keys of the runs to show, and of how many they are the first."""
    if run:
        keys = list(dict.fromkeys(run))
        return keys[:MOST_CURVES], len(keys)
    asked = _asked(request.query_params)
    listed = page_of_runs(store, recipe.key, asked.runs, after=None, limit=MOST_CURVES)
    return [each.run_key for each in listed.runs], listed.total


@router.get("/runs/curves.json")
def curves_figure(
    store: StoreDep,
    metric: Annotated[str, Query(max_length=MOST_OF_A_NAME)],
    run: Annotated[list[str], Query(max_length=MOST_CURVES)],
    recipe: Annotated[str, Query(max_length=MOST_OF_A_NAME)] = "",
    along: Annotated[str, Query(pattern="|".join(ALONG))] = "step",
) -> Response:
    """The figure of some runs' curves."""
    found = looked_at(store, recipe)
    logged: list[Logged] = []
    for key in run:
        steps, values = store.curve(found.recipe.key, key, metric)
        if len(steps):
            logged.append((one_run(store, found.recipe.key, key)[0], steps, values))
    if not logged:
        raise HTTPException(404, f"none of these runs has a curve '{metric}'")
    return Response(chart_json(curves_chart(logged, metric, along)), media_type="application/json")
