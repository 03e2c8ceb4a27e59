"""GET /v1/recipes: what the store has runs for."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from lawfit import pipeline

from ..deps import StoreDep
from ..problems import documented
from ..schemas import RecipesOut

router = APIRouter(tags=["recipes"])


@router.get("/recipes", response_model=RecipesOut, responses=documented(503))
def list_recipes(store: StoreDep) -> dict[str, Any]:
    """All recipes, each with its number of runs and fits."""
    return pipeline.list_recipes(store)
