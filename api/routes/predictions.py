"""GET /v1/predictions: the document that `lawfit predict --json` prints, and again from its id."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.exceptions import RequestValidationError

from lawfit import pipeline
from lawfit.records import Target

from ..deps import StoreDep
from ..problems import documented
from ..schemas import ActiveShare, Count, Epochs, Experts, PredictionOut, Quantity, Size, UniqueTokens
from ..told import Told

router = APIRouter(tags=["predictions"])


@router.get("/predictions", response_model=PredictionOut, responses=documented(404, 409, 422, 503))
def predict(
    store: StoreDep,
    params: Annotated[Size, Query(description="Parameters of the target, counted as in the recipe; 7e9 or 7B")],
    tokens: Annotated[Size, Query(description="Training tokens of the target; 1.4e12 or 1.4T")],
    recipe: Annotated[str | None, Query(description="Name or key; needed when the store has several")] = None,
    batch_tokens: Annotated[Quantity | None, Query(description="Batch in tokens per step, when it is given")] = None,
    seq_len: Annotated[Count | None, Query(description="Tokens per sequence, to count the batch in sequences")] = None,
    batch_multiple: Annotated[Count | None, Query(description="The batch must be a multiple of this")] = None,
    max_batch_tokens: Annotated[Quantity | None, Query(description="Largest batch that can be run")] = None,
    unique_tokens: UniqueTokens = None,
    epochs: Epochs = None,
    active_share: ActiveShare = None,
    experts: Experts = None,
    level: Annotated[float, Query(ge=0.5, le=0.999, description="Level of the intervals")] = 0.9,
    fit: Annotated[str | None, Query(description="Answer from this stored fit instead of the newest")] = None,
    at: Annotated[
        list[str] | None, Query(description="Level of a setting that varies in the runs, NAME=VALUE; repeatable")
    ] = None,
) -> Told:
    """Recommended peak learning rate and batch size at one scale, with intervals and what being wrong costs."""
    try:
        target = Target(
            params=params,
            tokens=tokens,
            batch_tokens=batch_tokens,
            seq_len=seq_len,
            batch_multiple=batch_multiple,
            max_batch_tokens=max_batch_tokens,
            level=level,
            unique_tokens=unique_tokens,
            epochs=epochs,
            active_share=active_share,
            experts=experts,
        )
        document = pipeline.recommend(store, recipe, target, fit_id=fit, at=at or ())
    except ValueError as error:  # a target that cannot be, or a batch that contradicts it
        raise RequestValidationError([{"loc": ("query", "target"), "msg": str(error)}]) from None
    # A response of its own, so that the document goes out as it is: the model above is its description.
    return Told(document)


@router.get("/predictions/{prediction_id}", response_model=PredictionOut, responses=documented(404, 503))
def read_prediction(store: StoreDep, prediction_id: str) -> Told:
    """A recommendation as it was given, whatever was ingested or fitted since."""
    return Told(store.prediction(prediction_id).answer)
