"""GET /v1/recipes: what the store has runs for."""

from __future__ import annotations

import dataclasses
from typing import Any

from fastapi import APIRouter

from ..deps import StoreDep
from ..problems import documented
from ..schemas import RecipesOut

router = APIRouter(tags=["recipes"])


@router.get("/recipes", response_model=RecipesOut, responses=documented(503))
def list_recipes(store: StoreDep) -> dict[str, Any]:
    """All recipes, each with its number of runs and fits."""
    listed = []
    for summary in store.recipes():
        counts = {name: getattr(summary, name) for name in ("runs", "diverged", "excluded", "fits")}
        listed.append({**dataclasses.asdict(summary.recipe), "key": summary.recipe.key, **counts})
    return {"recipes": listed}
