"""/v1/plans/next: what `lawfit plan next --json` prints; POST keeps it, and GET of its id brings it back."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends

from lawfit import pipeline
from lawfit.ask import NextQuestion
from lawfit.documents import NextRuns
from lawfit.storage.store import Store

from ..deps import FitId, RecipeName, StoreDep, contradiction, question
from ..problems import documented
from ..told import Told

router = APIRouter(tags=["plans"])
Asked = Annotated[NextQuestion, Depends(question(NextQuestion))]


@router.get("/plans/next", response_model=NextRuns, responses=documented(404, 409, 422, 503))
def next_runs(store: StoreDep, asked: Asked, recipe: RecipeName = None, fit: FitId = None) -> Told:
    """Which runs would tell most about a target for a budget, what they are expected to bring, and their grid file.

    Without a usable fit, an empty store included: the first sweep, around what published laws say.
    """
    return Told(_plan(store, recipe, asked, fit, keep=False))


@router.post("/plans/next", status_code=201, response_model=NextRuns, responses=documented(404, 409, 422, 503))
def keep_next_runs(store: StoreDep, asked: Asked, recipe: RecipeName = None, fit: FitId = None) -> Told:
    """The same plan, kept under its id."""
    return Told(_plan(store, recipe, asked, fit, keep=True), status_code=201)


@router.get("/plans/next/{plan_id}", response_model=NextRuns, responses=documented(404, 503))
def read_next_runs(store: StoreDep, plan_id: str) -> Told:
    """A plan as it was given, whatever was ingested or fitted since."""
    return Told(pipeline.kept_plan(store, plan_id))


def _plan(store: Store, recipe: str | None, asked: NextQuestion, fit: str | None, *, keep: bool) -> NextRuns:
    try:
        return pipeline.plan_next(store, recipe, asked, fit_id=fit, keep=keep)
    except ValueError as error:  # a budget that is none
        raise contradiction(error) from None
