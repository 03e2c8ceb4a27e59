"""The page at `/`: the store at a glance, and how to begin."""

from __future__ import annotations

import json
from typing import Final
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from lawfit.report.html import json_block
from lawfit.words.choices import FIELD_WORDS, FILL_IN

from ..deps import StoreDep
from .cards import cards, kept_answers
from .common import fragment, page, root_of

MOST_COMPARED: Final = 1000  # runs; more are compared with their fits once the page is there

router = APIRouter(include_in_schema=False)


@router.get("/")
def home(store: StoreDep, request: Request) -> Response:
    """Recipes, answers, a place to drop a sweep. Targets were asked for here once: such links go to the advisor."""
    if request.query_params:
        query = urlencode(request.query_params.multi_items())
        return RedirectResponse(f"{root_of(request)}/advisor?{query}", status_code=307)
    return page(
        request,
        "home.html",
        title="Home",
        heading="Your sweeps",
        scripts=("home.js",),
        cards=cards(store, MOST_COMPARED),
        answers=kept_answers(store),
        words=json_block(json.dumps({"fields": dict(FIELD_WORDS), "fill_in": dict(FILL_IN)})),
    )


@router.get("/home/cards", response_class=HTMLResponse)
def home_cards(store: StoreDep, request: Request) -> HTMLResponse:
    """The recipes alone, as they are now."""
    return fragment(request, "cards.html", cards=cards(store))
