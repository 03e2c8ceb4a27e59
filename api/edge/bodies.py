"""How long a request's body may be, and how slowly it may come."""

from __future__ import annotations

import asyncio
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .messages import header, refuse

PIECE_SECONDS: Final = 20.0  # without a byte of a body that is not at its end


class _Refused(Exception):
    def __init__(self, status: int, detail: str, kind: str) -> None:
        super().__init__(detail)
        self.status, self.detail, self.kind = status, detail, kind


class Bodies:
    """ASGI middleware: 413 beyond `most` bytes, told at once where the length is stated; 408 where nothing comes."""

    def __init__(self, app: ASGIApp, most: int, piece_seconds: float = PIECE_SECONDS) -> None:
        self.app, self.most, self.piece_seconds = app, most, piece_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        stated = header(scope, "content-length")
        if stated.isdigit() and int(stated) > self.most:
            await self._answer(scope, receive, send, self._too_long())
            return
        taken, ended, begun = 0, False, False

        async def limited() -> Message:
            nonlocal taken, ended
            if ended:
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), self.piece_seconds)
            except TimeoutError:
                detail = f"no byte of the body came for {self.piece_seconds:g} seconds"
                raise _Refused(408, detail, "SlowRequest") from None
            taken += len(message.get("body", b""))
            ended = not message.get("more_body", False)
            if taken > self.most:
                raise self._too_long()
            return message

        async def noticed(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self.app(scope, limited, noticed)
        except _Refused as refused:
            if not begun:
                await self._answer(scope, receive, send, refused)

    def _too_long(self) -> _Refused:
        return _Refused(413, f"the body is longer than {self.most:,} bytes, the most that is taken", "TooLarge")

    async def _answer(self, scope: Scope, receive: Receive, send: Send, refused: _Refused) -> None:
        await refuse(
            scope, receive, send, refused.status, refused.detail, refused.kind, headers={"Connection": "close"}
        )
