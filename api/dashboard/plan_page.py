"""The page at `/plan`: a budget goes in as a query, the plan with its figures comes out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Final

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse

from lawfit import pipeline
from lawfit.ask import PlanQuestion
from lawfit.errors import LawfitError
from lawfit.factors import levels_typed
from lawfit.report.plan import plan_sections
from lawfit.storage.store import Store
from lawfit.units import format_scale

from ..deps import StoreDep
from .common import MOST_OF_A_NAME, only_recipe, page
from .forms import asked, folded, inputs, problems_of, typed

FIRST: Final = ("flops", "gpus", "days", "flops_per_second", "loss")


def plan_page(status_of: Callable[[Exception], int]) -> APIRouter:
    """The route of the page; `status_of` is the application's one table from failures to HTTP codes."""
    router = APIRouter(include_in_schema=False)

    @router.get("/plan", response_class=HTMLResponse)
    def plan(
        store: StoreDep,
        request: Request,
        recipe: Annotated[str, Query(max_length=MOST_OF_A_NAME)] = "",
    ) -> HTMLResponse:
        """Enter a budget, see the plan."""
        return _plan(store, request, typed(PlanQuestion, request.query_params), recipe, status_of)

    return router


def _plan(
    store: Store, request: Request, said: Mapping[str, str], recipe: str, status_of: Callable[[Exception], int]
) -> HTMLResponse:
    problems = problems_of(PlanQuestion, said)
    status, failure, body, title = 200, "", "", "Plan"
    if problems:
        status = 422
    elif any(said.values()):
        try:
            question, at = asked(PlanQuestion, said), levels_typed(said["at"])
            document = pipeline.plan(store, recipe or None, question, at=at, keep=False)
            body = plan_sections(store.fit(document["evidence"]["loss_fit_id"]), document)
            title = f"Plan of {format_scale(document['plan']['params'], document['plan']['tokens'])}"
        except LawfitError as error:
            status, failure = status_of(error), str(error)
        except ValueError as error:  # a question that contradicts itself
            status, failure = 422, str(error)
    recipes = store.recipes()
    return page(
        request,
        "plan.html",
        title=title,
        heading="How to spend a training budget",
        status=status,
        recipe=recipe,
        failure=failure,
        body=body,
        **folded(inputs(PlanQuestion, said, problems), FIRST),
        recipes=recipes,
        chosen=recipe or only_recipe(recipes),
    )
