"""The page at `/advisor`: a target goes in as a query, the recommendation with its figures comes out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse

from lawfit import pipeline
from lawfit.ask import Target
from lawfit.errors import LawfitError
from lawfit.factors import levels_typed
from lawfit.report.page import recommendation_body
from lawfit.storage.store import Store
from lawfit.units import format_scale

from ..deps import StoreDep
from .common import MOST_OF_A_NAME, only_recipe, page
from .forms import asked, inputs, problems_of, typed


def advisor_page(status_of: Callable[[Exception], int]) -> APIRouter:
    """The route of the page; `status_of` is the application's one table from failures to HTTP codes."""
    router = APIRouter(include_in_schema=False)

    @router.get("/advisor", response_class=HTMLResponse)
    def advisor(
        store: StoreDep, request: Request, recipe: Annotated[str, Query(max_length=MOST_OF_A_NAME)] = ""
    ) -> HTMLResponse:
        """Enter a target, see the recommendation."""
        return _advisor(store, request, typed(Target, request.query_params), recipe, status_of)

    return router


def _advisor(
    store: Store, request: Request, said: Mapping[str, str], recipe: str, status_of: Callable[[Exception], int]
) -> HTMLResponse:
    recipes = store.recipes()
    problems = problems_of(Target, said) if any(said.values()) else {}
    status, failure, body, title = 200, "", "", "Advisor"
    if problems:
        status = 422
    elif any(said.values()):
        try:
            target = asked(Target, said)
            document = pipeline.recommend(store, recipe or None, target, at=levels_typed(said["at"]), keep=False)
            fit = store.fit(document["evidence"]["fit_id"])
            body = recommendation_body(fit, document, store.runs(fit.recipe_key), pipeline.laws_of(store, fit))
            title = format_scale(target.params, target.tokens)
        except LawfitError as error:
            status, failure = status_of(error), str(error)
        except ValueError as error:  # a target that cannot be, or a batch that contradicts it
            status, failure = 422, str(error)
    return page(
        request,
        "advisor.html",
        title=title,
        heading="Settings for your next run",
        status=status,
        recipe=recipe,
        failure=failure,
        body=body,
        fields=inputs(Target, said, problems),
        recipes=recipes,
        chosen=recipe or only_recipe(recipes),
    )
