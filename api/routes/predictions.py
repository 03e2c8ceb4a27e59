"""GET /v1/predictions: the document that `lawfit predict --json` prints, and again from its id."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from lawfit import pipeline
from lawfit.ask import Target

from ..deps import StoreDep, contradiction, question
from ..problems import documented
from ..schemas import PredictionOut
from ..told import Told

router = APIRouter(tags=["predictions"])


@router.get("/predictions", response_model=PredictionOut, responses=documented(404, 409, 422, 503))
def predict(
    store: StoreDep,
    asked: Annotated[Target, Depends(question(Target))],
    recipe: Annotated[str | None, Query(description="Name or key; needed when the store has several")] = None,
    fit: Annotated[str | None, Query(description="Answer from this stored fit instead of the newest")] = None,
    at: Annotated[
        list[str] | None, Query(description="Level of a setting that varies in the runs, NAME=VALUE; repeatable")
    ] = None,
) -> Told:
    """Recommended peak learning rate and batch size at one scale, with intervals and what being wrong costs."""
    try:
        document = pipeline.recommend(store, recipe, asked, fit_id=fit, at=at or ())
    except ValueError as error:  # a batch that contradicts the run
        raise contradiction(error) from None
    # A response of its own, so that the document goes out as it is: the model above is its description.
    return Told(document)


@router.get("/predictions/{prediction_id}", response_model=PredictionOut, responses=documented(404, 503))
def read_prediction(store: StoreDep, prediction_id: str) -> Told:
    """A recommendation as it was given, whatever was ingested or fitted since."""
    return Told(store.prediction(prediction_id).answer)
