"""How long a request's body may be, and how slowly it may come."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .messages import header, headers_of, refuse

MOST_HELD: Final = 32 << 20  # bytes of a body that is not a file: as Python's objects it takes ten times that
PIECE_SECONDS: Final = 20.0  # without a byte of a body that is not at its end


class _Refused(Exception):
    def __init__(self, status: int, detail: str, kind: str) -> None:
        super().__init__(detail)
        self.status, self.detail, self.kind = status, detail, kind


class Bodies:
    """ASGI middleware: 413 beyond so many bytes, told at once where the length is stated; 408 where nothing comes.

    Parameters
    ----------
    most : of a body that goes to disk piece by piece
    streamed : whether the body of a path does; all others are held in memory, and read as JSON
    """

    def __init__(
        self, app: ASGIApp, most: int, streamed: Callable[[str], bool], piece_seconds: float = PIECE_SECONDS
    ) -> None:
        self.app, self.most, self.streamed, self.piece_seconds = app, most, streamed, piece_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        most = self.most if self.streamed(scope["path"]) else min(self.most, MOST_HELD)
        stated = header(scope, "content-length")
        if stated.isdigit() and int(stated) > most:
            await self._answer(scope, receive, send, _too_long(most))
            return
        comes = stated not in ("", "0") or header(scope, "transfer-encoding") != ""
        taken, ended, begun = 0, False, False
        refused: _Refused | None = None

        async def limited() -> Message:
            nonlocal taken, ended, refused
            if ended:
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), self.piece_seconds)
            except TimeoutError:
                detail = f"no byte of the body came for {self.piece_seconds:g} seconds"
                refused = _Refused(408, detail, "SlowRequest")
                raise refused from None
            taken += len(message.get("body", b""))
            ended = not message.get("more_body", False)
            if taken > most:
                refused = _too_long(most)
                raise refused
            return message

        async def noticed(message: Message) -> None:
            nonlocal begun
            if refused is not None and not begun:
                return  # what the application makes of a body that broke off
            if message["type"] == "http.response.start":
                begun = True
                if comes and not ended:  # what is still to come of the body is not read: it may be a gigabyte
                    headers_of(message)["Connection"] = "close"
            await send(message)

        try:
            await self.app(scope, limited, noticed)
        except _Refused:
            if begun:
                return
        if refused is not None and not begun:
            await self._answer(scope, receive, send, refused)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, refused: _Refused) -> None:
        await refuse(
            scope, receive, send, refused.status, refused.detail, refused.kind, headers={"Connection": "close"}
        )


def _too_long(most: int) -> _Refused:
    return _Refused(413, f"the body is longer than {most:,} bytes, the most that is taken", "TooLarge")
