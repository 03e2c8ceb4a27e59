"""Whether the process lives (/healthz), whether it can answer (/readyz), and what it has done (/metrics)."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from lawfit import __version__

from ..deps import StoreDep
from ..problems import documented
from ..schemas import HealthOut

router = APIRouter(tags=["health"])


@router.get("/healthz")
async def healthy() -> HealthOut:
    """The process answers; says nothing about the database."""
    return HealthOut(status="ok", version=__version__)


@router.get("/readyz", responses=documented(503))
def ready(store: StoreDep) -> HealthOut:
    """The database can be read; 503 otherwise."""
    store.recipes()
    return HealthOut(status="ready", version=__version__)


@router.get("/metrics", include_in_schema=False)
async def metrics(request: Request) -> Response:
    """Counts of this process as Prometheus reads them."""
    return Response(generate_latest(request.app.state.counts.registry), media_type=CONTENT_TYPE_LATEST)
