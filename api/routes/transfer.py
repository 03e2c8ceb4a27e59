"""GET /v1/transfer: the document that `lawfit transfer --json` prints."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from lawfit import pipeline
from lawfit.documents import Transfer

from ..deps import StoreDep
from ..problems import documented
from ..told import Told

router = APIRouter(tags=["transfer"])


@router.get("/transfer", response_model=Transfer, responses=documented(404, 409, 422, 503))
def transfer(
    store: StoreDep,
    recipe: Annotated[
        list[str] | None, Query(description="Name or key; repeatable. Left out: every recipe with an answer")
    ] = None,
    level: Annotated[float, Query(ge=0.5, le=0.999, description="Level of the intervals")] = 0.9,
) -> Told:
    """How the best learning rate moves with width and horizon, per recipe: flat within noise, or as which power."""
    return Told(pipeline.transfer(store, recipe or (), level=level))
