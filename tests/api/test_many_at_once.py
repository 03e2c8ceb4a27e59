"""Requests that come at once share what one of them could do for all: looks at the database."""

from __future__ import annotations

import asyncio
import time

import pytest

from lawfit.errors import StoreError
from lawfit.storage.tokens import Token
from lawfit_api.deps import StoreHolder
from lawfit_api.edge import access
from lawfit_api.edge.watch import Version, Watch
from tests.api.test_edge import reads_all


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


def test_a_token_that_was_revoked_opens_for_no_one_who_waits_for_a_slow_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does a look that fails leave anything behind."""
    answers = iter([Token, None, StoreError("away"), Token])

    def valid(_store: object, _text: str) -> Token | None:
        time.sleep(0.05)
        found = next(answers)
        if isinstance(found, Exception):
            raise found
        return found and found(
            name="", scopes=("read",), created_at="", expires_at=None, last_used_at=None, revoked_at=None
        )

    async def scene() -> None:
        app = access.Access(reads_all, StoreHolder("sqlite://"), needed=True)
        assert await app._token("a") is not None
        monkeypatch.setattr(access, "KNOWN_SECONDS", 0.0)
        app._known.clear()
        assert await asyncio.gather(*(app._token("a") for _ in range(8))) == [None] * 8
        failed = await asyncio.gather(*(app._token("a") for _ in range(8)), return_exceptions=True)
        assert all(isinstance(each, StoreError) for each in failed)
        assert await app._token("a") is not None

    monkeypatch.setattr(access, "valid_token", valid)
    asyncio.run(scene())


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
