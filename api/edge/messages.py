"""What the middlewares have in common: headers of a request, problems as answers, bodies that are read twice."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from ..dashboard.common import bare_failure, failure, is_page
from ..problems import problem

SMALL_BODY: Final = 1 << 20  # bytes of a request that a middleware may hold


class TooLarge(Exception):
    """A request's body is longer than may be held."""


def header(scope: Scope, name: str) -> str:
    """A header of a request, "" where it has none; of several the first."""
    wanted = name.lower().encode()
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == wanted), "")


def template_of(scope: Scope) -> str:
    """The path of the route that took a request, as it is described: ``/v1/fits/{fit_id}``; "" without one."""
    route = scope.get("route")
    path: str = getattr(route, "path_format", getattr(route, "path", ""))
    # Some versions of FastAPI keep the prefix of an included router in its path, others beside it.
    return f"/v1{path}" if path and scope["path"].startswith("/v1/") and not path.startswith("/v1/") else path


def headers_of(message: Message) -> MutableHeaders:
    """The headers of an answer that begins, to be changed in place."""
    return MutableHeaders(scope=message)


async def refuse(
    scope: Scope,
    receive: Receive,
    send: Send,
    status: int,
    detail: str,
    kind: str,
    headers: Mapping[str, str] | None = None,
) -> None:
    """Answer with a problem; whoever looks at a page is told on one."""
    request = Request(scope)
    if is_page(request):
        unserved = status in (401, 421)  # nor would what a page is made with be
        told: Response = bare_failure(status, detail) if unserved else failure(request, status, detail)
        told.headers.update(headers or {})
    else:
        told = problem(status, detail, kind=kind, headers=headers)
    await told(scope, receive, send)


class Held:
    """A request's body, read whole; `receive` gives it again, and then whether the client has gone."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._given = False
        self._gone: asyncio.Task[None] | None = None
        self.body = b""

    async def read(self, limit: int = SMALL_BODY) -> bool:
        """Read it; False where the client went away before its end.

        Raises
        ------
        TooLarge
        """
        parts: list[bytes] = []
        length = 0
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                return False
            parts.append(message.get("body", b""))
            length += len(parts[-1])
            if length > limit:
                raise TooLarge
            if not message.get("more_body", False):
                self.body = b"".join(parts)
                return True

    def gone(self) -> asyncio.Task[None]:
        """Done when the client has gone."""
        if self._gone is None:
            self._gone = asyncio.ensure_future(self._wait())
        return self._gone

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def receive(self) -> Message:
        if not self._given:
            self._given = True
            return {"type": "http.request", "body": self.body, "more_body": False}
        await self.gone()
        return {"type": "http.disconnect"}

    def end(self) -> None:
        if self._gone is not None:
            self._gone.cancel()
