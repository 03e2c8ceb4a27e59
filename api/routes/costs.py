"""GET /v1/settings/cost: what `lawfit predict --lr --json` prints."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends

from lawfit import pipeline
from lawfit.ask import SettingQuestion
from lawfit.documents import SettingCost

from ..deps import FitId, Levels, RecipeName, StoreDep, contradiction, question
from ..problems import documented
from ..told import Told

router = APIRouter(tags=["settings"])


@router.get("/settings/cost", response_model=SettingCost, responses=documented(404, 409, 422, 503))
def cost_of_setting(
    store: StoreDep,
    asked: Annotated[SettingQuestion, Depends(question(SettingQuestion))],
    recipe: RecipeName = None,
    fit: FitId = None,
    at: Levels = None,
) -> Told:
    """What a learning rate, batch and weight decay of yours cost at one scale over the best, and the loss there."""
    try:
        return Told(pipeline.cost_of_setting(store, recipe, asked, fit_id=fit, at=at or ()))
    except ValueError as error:  # a batch that contradicts the run
        raise contradiction(error) from None
