"""GET /v1/fits/{id}: a stored fit, whole."""

from __future__ import annotations

from fastapi import APIRouter

from ..deps import StoreDep
from ..problems import documented
from ..schemas import FitOut
from ..told import Told

router = APIRouter(tags=["fits"])


@router.get("/fits/{fit_id}", response_model=FitOut, responses=documented(404, 503))
def read_fit(store: StoreDep, fit_id: str) -> Told:
    """A stored fit: options, exclusions, data hash, parameters and backtest."""
    return Told(store.fit(fit_id).to_json())
