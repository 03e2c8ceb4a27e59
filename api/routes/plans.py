"""GET /v1/plans: the document that `lawfit plan --json` prints."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends

from lawfit import pipeline
from lawfit.ask import PlanQuestion
from lawfit.documents import Plan

from ..deps import FitId, Levels, RecipeName, StoreDep, contradiction, question
from ..problems import documented
from ..told import Told

router = APIRouter(tags=["plans"])


@router.get("/plans", response_model=Plan, responses=documented(404, 409, 422, 503))
def plan(
    store: StoreDep,
    asked: Annotated[PlanQuestion, Depends(question(PlanQuestion))],
    recipe: RecipeName = None,
    fit: FitId = None,
    at: Levels = None,
) -> Told:
    """How to spend a training budget: model size, tokens, settings, other sizes, and what saving time costs."""
    try:
        document = pipeline.plan(store, recipe, asked, fit_id=fit, at=at or (), keep=False)
    except ValueError as error:
        raise contradiction(error) from None
    return Told(document)
