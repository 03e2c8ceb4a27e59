"""GET /v1/plans: the document that `lawfit plan --json` prints."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.exceptions import RequestValidationError

from lawfit import pipeline
from lawfit.records import PlanQuestion

from ..deps import StoreDep
from ..plan_schemas import PlanOut
from ..problems import documented
from ..schemas import ActiveShare, Count, Epochs, Experts, Quantity, Size, UniqueTokens
from ..told import Told

router = APIRouter(tags=["plans"])


@router.get("/plans", response_model=PlanOut, responses=documented(404, 409, 422, 503))
def plan(
    store: StoreDep,
    flops: Annotated[Quantity | None, Query(description="Training compute, 6 x parameters x tokens; 1e21")] = None,
    gpu_hours: Annotated[Quantity | None, Query(description="Budget in GPU-hours, with flops_per_second")] = None,
    gpus: Annotated[Count | None, Query(description="How many GPUs train, with flops_per_second")] = None,
    days: Annotated[Quantity | None, Query(description="Budget as wall-clock time on these GPUs")] = None,
    flops_per_second: Annotated[Quantity | None, Query(description="What one GPU sustains in training; 4e14")] = None,
    params: Annotated[Size | None, Query(description="The size is given, counted as in the recipe")] = None,
    tokens: Annotated[Size | None, Query(description="The training tokens are given")] = None,
    loss: Annotated[Quantity | None, Query(description="Nats per token to reach, as cheaply as can be")] = None,
    inference_tokens: Annotated[Quantity | None, Query(description="Tokens to serve from the same budget")] = None,
    step_seconds: Annotated[Quantity | None, Query(description="The quickest step, however small its batch")] = None,
    tokens_per_second: Annotated[
        Quantity | None, Query(description="Of all GPUs together, at the planned size")
    ] = None,
    recipe: Annotated[str | None, Query(description="Name or key; needed when the store has several")] = None,
    seq_len: Annotated[Count | None, Query(description="Tokens per sequence, to count the batch in sequences")] = None,
    batch_multiple: Annotated[Count | None, Query(description="The batch must be a multiple of this")] = None,
    max_batch_tokens: Annotated[Quantity | None, Query(description="Largest batch that can be run")] = None,
    unique_tokens: UniqueTokens = None,
    epochs: Epochs = None,
    active_share: ActiveShare = None,
    experts: Experts = None,
    level: Annotated[float, Query(ge=0.5, le=0.999, description="Level of the intervals")] = 0.9,
    fit: Annotated[str | None, Query(description="Plan from this stored fit instead of the newest")] = None,
    at: Annotated[
        list[str] | None, Query(description="Level of a setting that varies in the runs, NAME=VALUE; repeatable")
    ] = None,
) -> Told:
    """How to spend a training budget: model size, tokens, settings, other sizes, and what saving time costs."""
    try:
        question = PlanQuestion(
            flops=flops,
            params=params,
            tokens=tokens,
            loss=loss,
            gpu_hours=gpu_hours,
            gpus=gpus,
            days=days,
            flops_per_second=flops_per_second,
            step_seconds=step_seconds,
            tokens_per_second=tokens_per_second,
            inference_tokens=inference_tokens,
            seq_len=seq_len,
            batch_multiple=batch_multiple,
            max_batch_tokens=max_batch_tokens,
            level=level,
            unique_tokens=unique_tokens,
            epochs=epochs,
            active_share=active_share,
            experts=experts,
        )
        document = pipeline.plan(store, recipe, question, fit_id=fit, at=at or ())
    except ValueError as error:  # a question that contradicts itself
        raise RequestValidationError([{"loc": ("query", "question"), "msg": str(error)}]) from None
    return Told(document)
