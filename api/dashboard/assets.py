"""Style, scripts and plotly.js under addresses that name their content, so a browser keeps them for good.

Scripts are modules that import each other by relative names (``import { swap } from "./page.js"``), so all of ours lie
in one folder whose name is the hash of them together: `/assets/1a2b3c4d5e/page.js`.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from fastapi import APIRouter, Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from lawfit.report.html import asset, plotly_js

FOREVER: Final = "public, max-age=31536000, immutable"
# Chromium then compiles a script beside the page as it comes, not each of its functions when it is called first.
COMPILE_AT_ONCE: Final = "//# allFunctionsCalledOnLoad"
MEDIA_TYPES: Final = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8"}

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True, kw_only=True)
class Asset:
    """One file as it is sent, plain and compressed."""

    media_type: str
    plain: bytes
    packed: bytes


@cache
def assets() -> dict[str, Asset]:
    """Every file by the path it is asked for with, made once per process: ``1a2b3c4d5e/page.js``."""
    static = Path(__file__).parent / "static"
    own = {name: asset(name).encode() for name in ("lawfit.css", "charts.js")}
    own |= {path.name: path.read_bytes() for path in sorted(static.iterdir()) if path.suffix in MEDIA_TYPES}
    return {**_folder(own), **_folder({"plotly.js": f"{COMPILE_AT_ONCE}\n{plotly_js()}".encode()})}


def address_of(name: str) -> str:
    """Path of an asset, below the root of the service: ``address_of("lawfit.css")``."""
    return next(f"/assets/{path}" for path in assets() if path.endswith(f"/{name}"))


@router.get("/assets/{folder}/{name}")
def get_asset(folder: str, name: str, request: Request) -> Response:
    """A file, compressed for whoever takes that."""
    found = assets().get(f"{folder}/{name}")
    if found is None:
        raise HTTPException(404, f"there is no file '{name}' here; reload the page, lawfit may have been updated")
    headers = {"Cache-Control": FOREVER, "Vary": "Accept-Encoding"}
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(found.packed, media_type=found.media_type, headers={**headers, "Content-Encoding": "gzip"})
    return Response(found.plain, media_type=found.media_type, headers=headers)


def _folder(files: Mapping[str, bytes]) -> dict[str, Asset]:
    digest = hashlib.sha256(b"\0".join(part for name, content in files.items() for part in (name.encode(), content)))
    return {
        f"{digest.hexdigest()[:10]}/{name}": Asset(
            media_type=MEDIA_TYPES[Path(name).suffix], plain=content, packed=gzip.compress(content, 6, mtime=0)
        )
        for name, content in files.items()
    }
