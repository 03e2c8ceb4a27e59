"""Answers that are given again while nothing that they depend on has changed, and ETags for all that is read."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .messages import header, headers_of, template_of
from .requests import Counts
from .watch import Version, Watch

MOST_BYTES: Final = 64 << 20
_BESIDE: Final = 2000  # bytes that an answer takes beside its body
_Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True, kw_only=True)
class Kept:
    """One answer as it went out."""

    version: Version
    route: str  # as `template_of` tells it
    headers: _Headers
    body: bytes
    etag: str


class Answers:
    """ASGI middleware: the same question again is the same bytes, until a new fit (or what else it rests on) is stored.

    Parameters
    ----------
    lasting : whether the answer to a path and query depends on nothing but what `Watch` sees
    """

    def __init__(self, app: ASGIApp, watch: Watch, lasting: Callable[[str, bytes], bool], counts: Counts) -> None:
        self.app, self.watch, self.lasting, self.counts = app, watch, lasting, counts
        self._kept: OrderedDict[tuple[str, bytes], Kept] = OrderedDict()
        self._bytes = 0
        self._version: Version = ()
        self._asked: dict[tuple[str, bytes], asyncio.Event] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if scope["type"] != "http" or scope["method"] != "GET" or not path.startswith("/v1/"):
            await self.app(scope, receive, send)
            if scope["type"] == "http" and scope["method"] not in ("GET", "OPTIONS"):
                self.watch.look_again()
            return
        key = (path, scope["query_string"])
        version = await self.watch.version() if self.lasting(*key) else None
        if version is None:
            await self._pass(scope, receive, send, None, key)
            return
        while (running := self._asked.get(key)) is not None:  # the same question is being worked on
            await running.wait()
        kept = self._kept.get(key)
        if kept is not None and kept.version == version:
            self._kept.move_to_end(key)
            self.counts.kept.inc()
            scope["state"]["route"] = kept.route
            await _give(scope, send, kept)
            return
        self._asked[key] = done = asyncio.Event()
        try:
            await self._pass(scope, receive, send, version, key)
        finally:
            del self._asked[key]
            done.set()

    async def _pass(
        self, scope: Scope, receive: Receive, send: Send, version: Version | None, key: tuple[str, bytes]
    ) -> None:
        """Let the application answer; what it says in one piece gets an ETag, and is kept where it lasts."""
        begun: Message | None = None

        async def tagged(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                if message["status"] == 200:
                    begun = message
                    return
            elif begun is not None:
                start, begun = begun, None
                if message.get("more_body", False):  # a stream
                    await send(start)
                else:
                    body = message.get("body", b"")
                    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
                    headers = headers_of(start)
                    headers["ETag"] = etag
                    headers.setdefault("Cache-Control", "private, no-cache")
                    kept = Kept(
                        version=version or (), route=template_of(scope), headers=list(start["headers"]), body=body,
                        etag=etag,
                    )  # fmt: skip
                    if version is not None:
                        self._keep(key, kept)
                    await _give(scope, send, kept)
                    return
            await send(message)

        await self.app(scope, receive, tagged)

    def _keep(self, key: tuple[str, bytes], kept: Kept) -> None:
        if kept.version != self._version:  # of another one none is given again
            self._version, self._bytes = kept.version, 0
            self._kept.clear()
        if (old := self._kept.pop(key, None)) is not None:
            self._bytes -= len(old.body) + _BESIDE
        self._kept[key] = kept
        self._bytes += len(kept.body) + _BESIDE
        while self._bytes > MOST_BYTES:
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= len(oldest.body) + _BESIDE


async def _give(scope: Scope, send: Send, kept: Kept) -> None:
    same = {tag.strip().removeprefix("W/") for tag in header(scope, "if-none-match").split(",")}
    if kept.etag in same or "*" in same:
        headers = [(name, value) for name, value in kept.headers if name not in (b"content-length", b"content-type")]
        await send({"type": "http.response.start", "status": 304, "headers": headers})
        await send({"type": "http.response.body", "body": b""})
        return
    await send({"type": "http.response.start", "status": 200, "headers": list(kept.headers)})
    await send({"type": "http.response.body", "body": kept.body})
