"""The page at `/`: the store at a glance, and how to begin."""

from __future__ import annotations

from urllib.parse import urlencode

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from ..deps import StoreDep
from .common import page

router = APIRouter(include_in_schema=False)


@router.get("/")
def home(store: StoreDep, request: Request) -> Response:
    """Recipes, answers, a place to drop a sweep. Targets were asked for here once: such links go to the advisor."""
    if request.query_params:
        root = request.scope.get("root_path", "")
        return RedirectResponse(f"{root}/advisor?{urlencode(request.query_params.multi_items())}", status_code=307)
    return page(request, "home.html", title="Home", heading="Your sweeps", recipes=store.recipes())
