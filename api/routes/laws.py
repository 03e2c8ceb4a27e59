"""/v1/laws: the published laws, and what one of them says at a target."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query

from lawfit import pipeline

from ..deps import Quantity
from ..problems import documented
from ..schemas import LawAtOut, LawsOut
from ..told import Told

router = APIRouter(tags=["laws"])


def _inputs(
    params: Annotated[Quantity | None, Query(description="Parameters, counted as the law counts them")] = None,
    tokens: Annotated[Quantity | None, Query(description="Training tokens")] = None,
    batch_tokens: Annotated[Quantity | None, Query(description="Tokens per step")] = None,
    flops: Annotated[Quantity | None, Query(description="Training FLOPs; left out: 6 x params x tokens")] = None,
    width: Annotated[Quantity | None, Query(description="Hidden width")] = None,
    loss: Annotated[Quantity | None, Query(description="Nats per token, at the end of the run")] = None,
    steps: Annotated[Quantity | None, Query(description="Optimizer steps")] = None,
    unique_tokens: Annotated[Quantity | None, Query(description="Different tokens among those of the run")] = None,
    active_fraction: Annotated[
        Quantity | None, Query(description="Share of a mixture's experts that a token meets")
    ] = None,
) -> dict[str, float]:
    return {name: value for name, value in locals().items() if value is not None}


@router.get("/laws", response_model=LawsOut)
def list_laws() -> Told:
    """Every published law that lawfit knows: formulas, where it was measured, caveats, source."""
    return Told({"laws": pipeline.list_laws()})


@router.get("/laws/{law}", response_model=LawAtOut, responses=documented(404, 422))
def read_law(law: str, inputs: Annotated[dict[str, Any], Depends(_inputs)]) -> Told:
    """One published law; with a target (params, tokens, ...) what it says there, and whether it was measured there."""
    return Told(pipeline.law_at(law, inputs))
