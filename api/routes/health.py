"""Whether the process lives (/healthz) and whether it can answer (/readyz)."""

from __future__ import annotations

from fastapi import APIRouter

from lawfit import __version__

from ..deps import StoreDep
from ..problems import documented
from ..schemas import HealthOut

router = APIRouter(tags=["health"])


@router.get("/healthz")
def healthy() -> HealthOut:
    """The process answers; says nothing about the database."""
    return HealthOut(status="ok", version=__version__)


@router.get("/readyz", responses=documented(503))
def ready(store: StoreDep) -> HealthOut:
    """The database can be read; 503 otherwise."""
    store.recipes()
    return HealthOut(status="ready", version=__version__)
