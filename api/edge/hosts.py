"""Whom a request was meant for, and which page sent it: a service without tokens must not be led by other sites."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from lawfit.settings import is_loopback

from .messages import header, refuse

SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})


class Hosts:
    """ASGI middleware: refuses foreign names in `Host` (DNS rebinding), and changes that another site's page asks for.

    Parameters
    ----------
    names : further names that this service is reached by; None: any name
    origins : pages of these may change something, too
    """

    def __init__(self, app: ASGIApp, names: Collection[str] | None, origins: Collection[str]) -> None:
        self.app, self.names, self.origins = app, names, frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        host = header(scope, "host")
        if self.names is not None and not self._ours(host):
            detail = (
                "the Host header names another machine; ask this service by a name that it was told (allowed_hosts)"
            )
            await refuse(scope, receive, send, 421, detail, "ForeignHost")
            return
        origin = header(scope, "origin")
        foreign = origin not in {"", *self.origins} and urlsplit(origin).netloc != host
        if scope["method"] not in SAFE and (foreign or header(scope, "sec-fetch-site") == "cross-site"):
            detail = "a page of another site may not change anything here"
            await refuse(scope, receive, send, 403, detail, "ForeignSite")
            return
        await self.app(scope, receive, send)

    def _ours(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        return is_loopback(name) or name in (self.names or ())
