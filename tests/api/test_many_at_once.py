"""Requests that come at once share what one of them could do for all: looks at the database, and rows of the audit."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence

import pytest
from starlette.types import ASGIApp, Message

from lawfit.storage.tokens import AuditRow, Token
from lawfit_api.deps import StoreHolder
from lawfit_api.edge import access
from lawfit_api.edge.watch import Version, Watch
from tests.api.test_edge import empty, reads_all, scope_of


def test_changes_that_come_while_others_are_written_down_go_together(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[list[str]] = []
    first, rest = threading.Event(), threading.Event()

    def write(_store: object, rows: Sequence[AuditRow]) -> None:
        written.append([row.action for row in rows])
        first.set()
        assert rest.wait(10)

    async def scene() -> None:
        app = access.Access(reads_all, StoreHolder("sqlite://"), needed=False)
        waiting = [asyncio.ensure_future(change(app, "/first"))]
        assert await asyncio.to_thread(first.wait, 10)
        waiting += [asyncio.ensure_future(change(app, f"/{number}")) for number in range(5)]
        await asyncio.sleep(0.05)
        rest.set()
        await asyncio.gather(*waiting)

    monkeypatch.setattr(access, "write_audit", write)
    asyncio.run(scene())
    assert written == [["POST /first"], [f"POST /{number}" for number in range(5)]]


async def change(app: ASGIApp, path: str) -> None:
    async def send(message: Message) -> None:
        pass

    scope = scope_of(path, "POST")
    scope["state"] = {"who": "", "request_id": path}
    await app(scope, empty, send)


def test_many_that_show_a_token_at_once_have_it_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []

    def valid(_store: object, text: str) -> Token:
        looked.append(text)
        time.sleep(0.05)
        return Token(name="", scopes=("read",), created_at="", expires_at=None, last_used_at=None, revoked_at=None)

    async def scene() -> None:
        app = access.Access(reads_all, StoreHolder("sqlite://"), needed=True)
        await app._token("a")
        monkeypatch.setattr(access.time, "monotonic", lambda: begun + access.KNOWN_SECONDS + 1)
        await asyncio.gather(*(app._token("a") for _ in range(64)))

    begun = time.monotonic()
    monkeypatch.setattr(access, "valid_token", valid)
    asyncio.run(scene())
    assert looked == ["a", "a"]


def test_many_that_ask_at_once_look_once_whether_anything_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []

    def read(_watch: Watch) -> tuple[int, ...]:
        looked.append(1)
        time.sleep(0.02)
        return (1,)

    async def scene() -> list[Version | None]:
        watch = Watch(StoreHolder("sqlite://"))
        return await asyncio.gather(*(watch.version() for _ in range(64)))

    monkeypatch.setattr(Watch, "_read", read)
    assert asyncio.run(scene()) == [(1,)] * 64
    assert looked == [1]
