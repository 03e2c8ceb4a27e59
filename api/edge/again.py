"""The same change twice is one: a POST with an Idempotency-Key gets the answer that it got the first time."""

from __future__ import annotations

import hashlib
import re
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lawfit.errors import StoreError
from lawfit.storage.replies import OtherRequest, Reply, UnderWay, begin, finish

from ..deps import StoreHolder
from .messages import Held, TooLarge, header, refuse

KEY: Final = "Idempotency-Key"
_A_KEY: Final = re.compile(r"[\x21-\x7e]{1,200}")


class Again:
    """ASGI middleware: see above. What failed in a way that may pass (5xx, 409, 429) is not kept, and may be tried."""

    def __init__(self, app: ASGIApp, holder: StoreHolder) -> None:
        self.app, self.holder = app, holder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or not (key := header(scope, KEY)):
            await self.app(scope, receive, send)
            return
        if not _A_KEY.fullmatch(key):
            await refuse(scope, receive, send, 422, f"{KEY} takes 1 to 200 printable characters", "InvalidRequest")
            return
        held = Held(receive)
        who = scope["state"]["who"]
        try:
            if not await held.read():
                return
            asked = hashlib.sha256(b"\n".join([scope["path"].encode(), scope["query_string"], held.body])).hexdigest()
            before = await run_in_threadpool(begin, self.holder.get(), who, key, asked)
        except TooLarge:
            detail = f"a request with {KEY} holds at most a mebibyte; uploads know their files by content without it"
            await refuse(scope, receive, send, 413, detail, "TooLarge")
            return
        except OtherRequest:
            await refuse(scope, receive, send, 422, f"this {KEY} was used for another request", "KeyReused")
            return
        except UnderWay:
            detail = "the same request is being worked on; ask again in a moment"
            await refuse(scope, receive, send, 409, detail, "UnderWay", {"Retry-After": "1"})
            return
        except StoreError:
            await self.app(scope, held.receive, send)  # which answers that the database is away
            return
        if before is not None:
            headers = [(b"content-type", before.media_type.encode()), (b"idempotent-replayed", b"true")]
            headers.append((b"content-length", str(len(before.body)).encode()))
            await send({"type": "http.response.start", "status": before.status, "headers": headers})
            await send({"type": "http.response.body", "body": before.body})
            return
        await self._first(scope, held, send, who, key)

    async def _first(self, scope: Scope, held: Held, send: Send, who: str, key: str) -> None:
        status, media_type, parts = 500, "", list[bytes]()

        async def noticed(message: Message) -> None:
            nonlocal status, media_type
            if message["type"] == "http.response.start":
                status = message["status"]
                media_type = dict(message["headers"]).get(b"content-type", b"").decode()
            else:
                parts.append(message.get("body", b""))
                if not message.get("more_body", False):  # kept before the client hears of it
                    lasting = status < 300 or status == 422
                    reply = Reply(status=status, media_type=media_type, body=b"".join(parts)) if lasting else None
                    await run_in_threadpool(finish, self.holder.get(), who, key, reply)
                    parts.clear()
            await send(message)

        try:
            await self.app(scope, held.receive, noticed)
            if not media_type:  # the client went away, and nothing was answered
                await run_in_threadpool(finish, self.holder.get(), who, key, None)
        except BaseException:
            await run_in_threadpool(finish, self.holder.get(), who, key, None)
            raise
        finally:
            held.end()
