"""Outermost: an id for each request, a line in the log, the counts of /metrics, and the headers of every answer."""

from __future__ import annotations

import json
import logging
import re
import secrets
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lawfit.words import over_http

from .messages import header, headers_of, template_of

log = logging.getLogger("lawfit.access")

# Plotly writes <style> elements and exports pictures as data and blob addresses; nothing may come from or go elsewhere.
SECURITY_HEADERS: Mapping[str, str] = MappingProxyType(
    {
        "Content-Security-Policy": "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
        "connect-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
    }
)
REQUEST_ID: Final = "X-Request-Id"
_AN_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_CLIENT_GONE: Final = 499  # as nginx writes it: nobody was there to be answered


class Counts:
    """What /metrics tells of one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        of = self.registry
        labels = ("method", "route", "status")
        self.requests = Counter("lawfit_http_requests", "Requests answered", labels, registry=of)
        self.seconds = Histogram(
            "lawfit_http_request_seconds", "Time to answer", ("route",), buckets=_SECONDS, registry=of
        )
        self.now = Gauge("lawfit_http_requests_now", "Requests being answered", registry=of)
        self.waiting = Gauge("lawfit_http_requests_waiting", "Questions that wait for a processor", registry=of)
        self.kept = Counter("lawfit_http_kept_answers", "Answers given again without working them out", registry=of)


class Requests:
    """ASGI middleware: see above. A HEAD is a GET whose body is not sent.

    Parameters
    ----------
    root_path : below which a proxy shows the service
    """

    def __init__(self, app: ASGIApp, counts: Counts, root_path: str = "") -> None:
        self.app, self.counts, self.root_path = app, counts, root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()
        given = header(scope, REQUEST_ID)
        request_id = given if _AN_ID.fullmatch(given) else secrets.token_hex(8)
        method, status, length = scope["method"], _CLIENT_GONE, 0
        scope.setdefault("state", {}).update(request_id=request_id, who="")
        # A scope of our own: the server's still says what was asked.
        scope = {**scope, "method": "GET" if method == "HEAD" else method}
        scope["root_path"] = self.root_path or scope.get("root_path", "")

        async def send_with_headers(message: Message) -> None:
            nonlocal status, length
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = headers_of(message)
                for name, value in SECURITY_HEADERS.items():
                    headers[name] = value
                headers[REQUEST_ID] = request_id
            elif message["type"] == "http.response.body":
                length += len(message.get("body", b""))
                if method == "HEAD":
                    message = {**message, "body": b""}
            await send(message)

        self.counts.now.inc()
        try:
            with over_http(on_page="/v1/" not in scope["path"]):
                await self.app(scope, receive, send_with_headers)
        except BaseException:
            status = 500
            raise
        finally:
            self.counts.now.dec()
            self._tell(scope, method, status, length, time.perf_counter() - began)

    def _tell(self, scope: Scope, method: str, status: int, length: int, seconds: float) -> None:
        route = template_of(scope) or scope["state"].get("route", "other")
        self.counts.requests.labels(method, route, status).inc()
        self.counts.seconds.labels(route).observe(seconds)
        if log.isEnabledFor(logging.INFO):
            client = scope.get("client")
            line = {
                "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "id": scope["state"]["request_id"],
                "who": scope["state"]["who"],
                "address": client[0] if client else "",
                "method": method,
                "path": scope["path"],
                "query": scope["query_string"].decode("latin-1"),
                "status": status,
                "bytes": length,
                "seconds": round(seconds, 6),
            }
            log.info("%s", json.dumps(line))
