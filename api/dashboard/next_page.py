"""The page at `/next`: a target and a budget go in as a query, the runs to make next come out, with their files."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping
from typing import Annotated, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, Response
from starlette.exceptions import HTTPException

from lawfit import pipeline
from lawfit.ask import NextQuestion
from lawfit.documents import NextRuns
from lawfit.errors import LawfitError
from lawfit.report.next_runs import commands, next_sections
from lawfit.storage.store import Store
from lawfit.units import format_scale
from lawfit.words import tell

from ..deps import StoreDep
from .common import MOST_OF_A_NAME, only_recipe, page
from .forms import asked, folded, in_labels, own_inputs, own_problems

FIRST: Final = ("params", "tokens", "budget")
RecipeName = Annotated[str, Query(max_length=MOST_OF_A_NAME)]


def next_page(status_of: Callable[[Exception], int]) -> APIRouter:
    """Its routes; `status_of` is the application's one table from failures to HTTP codes."""
    router = APIRouter(include_in_schema=False)

    @router.get("/next", response_class=HTMLResponse)
    def next_runs(store: StoreDep, request: Request, recipe: RecipeName = "") -> HTMLResponse:
        """Enter a target and a budget, see which runs would tell most."""
        return _next(store, request, _said(request), recipe, status_of)

    @router.get("/next/grid.json")
    def grid(store: StoreDep, request: Request, recipe: RecipeName = "") -> Response:
        """The grid file of a plan: `lawfit launch next.json`."""
        document = _planned(store, request, recipe)
        if document["grid_file"] is None:
            raise HTTPException(409, tell(document["missing"]["grid_file"]))
        return _file(json.dumps(document["grid_file"], indent=1) + "\n", "application/json", "next.json")

    @router.get("/next/runs.csv")
    def runs(store: StoreDep, request: Request, recipe: RecipeName = "") -> Response:
        """The runs of a plan, one row each."""
        rows, text = pipeline.run_rows(_planned(store, request, recipe)), io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return _file(text.getvalue(), "text/csv; charset=utf-8", "next.csv")

    return router


def _next(
    store: Store, request: Request, said: Mapping[str, str], recipe: str, status_of: Callable[[Exception], int]
) -> HTMLResponse:
    problems = own_problems(NextQuestion, said) if any(said.values()) else {}
    status, failure, title = 422 if problems else 200, "", "What to run next"
    document: NextRuns | None = None
    if any(said.values()) and not problems:
        try:
            question = asked(NextQuestion, said)
            document = pipeline.plan_next(store, recipe or None, question, keep=False)
            title = f"What to run next for {format_scale(question.params, question.tokens)}"
        except LawfitError as error:
            status, failure = status_of(error), str(error)
        except ValueError as error:  # a budget that is none
            status, failure = 422, in_labels(NextQuestion, str(error))
    recipes = store.recipes()
    query = urlencode(
        [*((name, text) for name, text in said.items() if text), *([("recipe", recipe)] if recipe else [])]
    )
    return page(
        request,
        "next.html",
        title=title,
        scripts=("next.js",),
        heading="What to run next",
        status=status,
        recipe=recipe,
        failure=failure,
        body="" if document is None else next_sections(document),
        document=document,
        no_grid="" if document is None else tell(document["missing"].get("grid_file", "")),
        commands="" if document is None else commands(document),
        query=query,
        **folded(own_inputs(NextQuestion, said, problems), FIRST),
        recipes=recipes,
        chosen=recipe or only_recipe(recipes),
        studies=len(pipeline.all_studies(store)["studies"]),
    )


def _said(request: Request) -> dict[str, str]:
    names = [field.name for field in own_inputs(NextQuestion, {}, {})]
    return {name: request.query_params.get(name, "").strip() for name in names}


def _planned(store: Store, request: Request, recipe: str) -> NextRuns:
    """The plan of a page's query.

    Raises
    ------
    HTTPException
        The query asks nothing that can be planned.
    """
    said = _said(request)
    if problems := own_problems(NextQuestion, said):
        raise HTTPException(422, " ".join(problems.values()))
    try:
        return pipeline.plan_next(store, recipe or None, asked(NextQuestion, said), keep=False)
    except ValueError as error:
        raise HTTPException(422, str(error)) from None


def _file(content: str, media_type: str, name: str) -> Response:
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(content, media_type=media_type, headers=headers)
