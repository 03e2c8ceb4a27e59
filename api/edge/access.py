"""Who may ask for what: tokens and their scopes, and a row in the audit for each change."""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
import time
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lawfit.errors import StoreError
from lawfit.storage.database import now
from lawfit.storage.tokens import SCOPES, AuditRow, Token, valid_token, write_audit

from ..deps import StoreHolder
from .hosts import SAFE
from .messages import header, refuse

KNOWN_SECONDS: Final = 2.0  # a token that was revoked opens for so long still
_OPEN: Final = frozenset({"/healthz", "/readyz"})  # for whoever watches over the process
# Method and path -> the scopes of which it takes one, the first that fits; reading takes `read`, other changes `admin`.
_SCOPES: Final = (
    ("POST", re.compile(r"/v1/predictions(/bulk)?|/v1/plans/next"), ("read",)),  # keeps answers, and changes none
    ("POST", re.compile(r"/v1/fits|/v1/plans/next/(jobs|[^/]+/rehearsals)"), ("fit",)),
    ("POST", re.compile(r"/v1/jobs/[^/]+/cancel"), ("fit", "launch")),  # which of them, the job says
    ("POST", re.compile(r"/v1/training-jobs(/[^/]+/cancel)?"), ("launch",)),
    ("POST", re.compile(r"/v1/(uploads|live)(/.*)?|/v1/runs/(exclude|restore)"), ("ingest",)),
)
_MOST_KNOWN: Final = 1000


class Access:
    """ASGI middleware: a bearer token (or, for browsers, one as the password of HTTP Basic) and its scopes.

    Parameters
    ----------
    needed : False lets requests without a token do all, as on the machine's own loopback; a token that is given is
        looked at all the same
    """

    def __init__(self, app: ASGIApp, holder: StoreHolder, *, needed: bool) -> None:
        self.app, self.holder, self.needed = app, holder, needed
        self._known: dict[str, tuple[Token | None, float]] = {}
        self._looking: dict[str, asyncio.Future[Token | None]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in _OPEN or scope["method"] == "OPTIONS":
            await self.app(scope, receive, send)
            return
        given, wanted = _given(header(scope, "authorization")), scopes_of(scope["method"], scope["path"])
        scope["state"]["holds"] = frozenset(SCOPES)
        if given is not None or self.needed:
            try:
                token = None if given is None else await self._token(given)
            except StoreError:
                detail = "the database cannot be read at the moment, so no token can be looked up; try again"
                await refuse(scope, receive, send, 503, detail, "StoreError", {"Retry-After": "5"})
                return
            if token is None:
                detail = "no token was given" if given is None else "the token is unknown, has expired or was revoked"
                detail += "; send Authorization: Bearer TOKEN (an administrator makes one)"
                headers = {"WWW-Authenticate": 'Bearer realm="lawfit", Basic realm="lawfit", charset="UTF-8"'}
                await refuse(scope, receive, send, 401, detail, "NoToken", headers)
                return
            scope["state"]["who"] = token.name
            scope["state"]["holds"] = token.holds
            if token.holds.isdisjoint(wanted):
                needed = " or ".join(f"'{each}'" for each in wanted)
                detail = f"token '{token.name}' has the scopes {', '.join(token.scopes)}; this takes {needed}"
                await refuse(scope, receive, send, 403, detail, "MissingScope")
                return
        if scope["method"] in SAFE:
            await self.app(scope, receive, send)
            return
        status = 500

        async def noticed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        method = scope["method"]
        try:
            await self.app(scope, receive, noticed)
        finally:
            if status < 400:
                await self._write(scope, f"{method} {scope['path']}", status)

    async def _token(self, text: str) -> Token | None:
        moment = time.monotonic()
        token, until = self._known.get(text, (None, 0.0))
        if until > moment:
            return token
        if (looking := self._looking.get(text)) is None:  # one look is enough for all that ask meanwhile
            looking = asyncio.ensure_future(run_in_threadpool(lambda: valid_token(self.holder.get(), text)))
            self._looking[text] = looking
            looking.add_done_callback(lambda _: self._looking.pop(text, None))
        token = await asyncio.shield(looking)  # of which one that hangs up ends none of the others
        if len(self._known) >= _MOST_KNOWN:  # somebody guesses
            self._known.clear()
        self._known[text] = (token, moment + KNOWN_SECONDS)
        return token

    async def _write(self, scope: Scope, action: str, status: int) -> None:
        client = scope.get("client")
        row = AuditRow(
            at=now(), who=scope["state"]["who"], address=client[0] if client else "",
            request_id=scope["state"]["request_id"], action=action, status=status,
        )  # fmt: skip
        await run_in_threadpool(lambda: write_audit(self.holder.get(), row))


def scopes_of(method: str, path: str) -> tuple[str, ...]:
    """The scopes of which a request takes one."""
    if method in SAFE:
        return ("read",)
    return next((scopes for verb, which, scopes in _SCOPES if verb == method and which.fullmatch(path)), ("admin",))


def _given(authorization: str) -> str | None:
    """The token in a header, None without one."""
    kind, _, text = authorization.partition(" ")
    if kind.lower() == "bearer" and text.strip():
        return text.strip()
    if kind.lower() == "basic":
        try:
            return base64.b64decode(text, validate=True).decode().partition(":")[2] or None
        except (binascii.Error, UnicodeDecodeError):
            return ""
    return None
