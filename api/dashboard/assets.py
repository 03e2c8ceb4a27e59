"""Style, scripts and plotly.js under addresses that name their content, so a browser keeps them for good."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from lawfit.report.html import asset, plotly_js

FOREVER = "public, max-age=31536000, immutable"
CSS, JS = "text/css; charset=utf-8", "text/javascript; charset=utf-8"

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True, kw_only=True)
class Asset:
    """One file as it is sent, plain and compressed."""

    name: str  # with its hash: lawfit.1a2b3c4d.css
    media_type: str
    plain: bytes
    packed: bytes


@cache
def assets() -> dict[str, Asset]:
    """Every file by the name it is asked for with, made once per process."""
    page = Path(__file__).parent / "static" / "page.css"
    found = (
        _asset("lawfit.css", CSS, asset("lawfit.css").encode()),
        _asset("page.css", CSS, page.read_bytes()),
        _asset("charts.js", JS, asset("charts.js").encode()),
        _asset("plotly.js", JS, plotly_js().encode()),
    )
    return {item.name: item for item in found}


def address_of(stem: str) -> str:
    """Address of an asset, seen from a page: ``address_of("lawfit.css")``; a proxy may show both below a path."""
    start, _, end = stem.rpartition(".")
    return next(f"assets/{name}" for name in assets() if name.startswith(f"{start}.") and name.endswith(f".{end}"))


@router.get("/assets/{name}")
def get_asset(name: str, request: Request) -> Response:
    """A file, compressed for whoever takes that."""
    found = assets().get(name)
    if found is None:
        raise HTTPException(404, f"there is no file '{name}'; reload the page, lawfit may have been updated")
    headers = {"Cache-Control": FOREVER, "Vary": "Accept-Encoding"}
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(found.packed, media_type=found.media_type, headers={**headers, "Content-Encoding": "gzip"})
    return Response(found.plain, media_type=found.media_type, headers=headers)


def _asset(stem: str, media_type: str, content: bytes) -> Asset:
    start, _, end = stem.rpartition(".")
    name = f"{start}.{hashlib.sha256(content).hexdigest()[:10]}.{end}"
    return Asset(name=name, media_type=media_type, plain=content, packed=gzip.compress(content, 6, mtime=0))
