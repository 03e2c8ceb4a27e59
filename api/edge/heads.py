"""Connections that begin a request and do not go on are closed: each costs a file, and there is an end to those."""

from __future__ import annotations

import asyncio
from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ..problems import MEDIA_TYPE, problem
from .requests import SECURITY_HEADERS

HEAD_SECONDS: Final = 15.0  # for the first line and the headers of a request


class Heads(HttpToolsProtocol):
    """uvicorn's protocol with a time limit for the head of a request, on a new connection and on a kept one."""

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._wait()

    def on_headers_complete(self) -> None:
        self._stop()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002
        # In the form of all problems, which uvicorn's own words in plain text are not.
        said = problem(400, "this is no HTTP that can be read: a line is malformed, or too long; send it otherwise")
        headers = {**SECURITY_HEADERS, "Content-Type": MEDIA_TYPE, "Connection": "close"}
        lines = ["HTTP/1.1 400 Bad Request", f"Content-Length: {len(said.body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self.transport.write("\r\n".join([*lines, "", ""]).encode() + bytes(said.body))
        self.transport.close()

    def _wait(self) -> None:
        self._stop()
        self._late = self.loop.call_later(HEAD_SECONDS, self._close)

    def _stop(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _close(self) -> None:
        if not self.transport.is_closing():
            self.transport.abort()
