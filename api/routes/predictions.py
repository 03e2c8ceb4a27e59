"""/v1/predictions: what `lawfit predict --json` prints; POST keeps it, and GET of its id brings it back."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends

from lawfit import pipeline
from lawfit.ask import Target
from lawfit.documents import Answer
from lawfit.storage.store import Store

from ..deps import FitId, Levels, RecipeName, StoreDep, contradiction, question
from ..problems import documented
from ..told import Told

router = APIRouter(tags=["predictions"])


@router.get("/predictions", response_model=Answer, responses=documented(404, 409, 422, 503))
def predict(
    store: StoreDep,
    asked: Annotated[Target, Depends(question(Target))],
    recipe: RecipeName = None,
    fit: FitId = None,
    at: Levels = None,
) -> Told:
    """Recommended peak learning rate and batch size at one scale, with intervals and what being wrong costs."""
    # A response of its own, so that the document goes out as it is: the model above is its description.
    return Told(_answer(store, recipe, asked, fit, at, keep=False))


@router.post("/predictions", status_code=201, response_model=Answer, responses=documented(404, 409, 422, 503))
def keep_prediction(
    store: StoreDep,
    asked: Annotated[Target, Depends(question(Target))],
    recipe: RecipeName = None,
    fit: FitId = None,
    at: Levels = None,
) -> Told:
    """The same recommendation, kept under its id."""
    return Told(_answer(store, recipe, asked, fit, at, keep=True), status_code=201)


@router.get("/predictions/{prediction_id}", response_model=Answer, responses=documented(404, 503))
def read_prediction(store: StoreDep, prediction_id: str) -> Told:
    """A recommendation as it was given, whatever was ingested or fitted since."""
    return Told(store.prediction(prediction_id).answer)


def _answer(
    store: Store, recipe: str | None, asked: Target, fit: str | None, at: list[str] | None, *, keep: bool
) -> Answer:
    try:
        return pipeline.recommend(store, recipe, asked, fit_id=fit, at=at or (), keep=keep)
    except ValueError as error:  # a batch that contradicts the run
        raise contradiction(error) from None
