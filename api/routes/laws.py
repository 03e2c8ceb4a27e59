"""/v1/laws: the published laws, and what one of them says at a target."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from lawfit import pipeline

from ..problems import documented
from ..queries import LawTarget
from ..schemas import LawAtOut, LawsOut
from ..told import Told

router = APIRouter(tags=["laws"])


@router.get("/laws", response_model=LawsOut)
def list_laws() -> Told:
    """Every published law that lawfit knows: formulas, where it was measured, caveats, source."""
    return Told({"laws": pipeline.list_laws()})


@router.get("/laws/{law}", response_model=LawAtOut, responses=documented(404, 422))
def read_law(law: str, at: Annotated[LawTarget, Query()]) -> Told:
    """One published law; with a target (params, tokens, ...) what it says there, and whether it was measured there."""
    return Told(pipeline.law_at(law, at.model_dump(exclude_none=True)))
