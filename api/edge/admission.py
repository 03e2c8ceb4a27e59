"""How many questions are worked on at once: one more than there are processors would only make all of them late."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from .messages import Held, TooLarge, refuse
from .requests import Counts

MOST_WAITING: Final = 256
WAIT_SECONDS: Final = 30.0


class Gone(Exception):
    """Nobody waits for the answer any more."""


class Turn:
    """A processor's turn of one request, which work in many pieces gives back between two of them."""

    def __init__(self, admission: Admission, held: Held) -> None:
        self._admission, self._held, self._mine = admission, held, True

    async def give_way(self) -> None:
        """Let those go first that wait.

        Raises
        ------
        Gone
            The client went away.
        """
        self.end()
        self._mine = await self._admission.turn(self._held, None)
        if not self._mine or self._held.gone().done():
            raise Gone

    def end(self) -> None:
        if self._mine:
            self._admission.end_turn()
        self._mine = False


class Admission:
    """ASGI middleware: costly requests take turns; one whose client has gone meanwhile is not worked on.

    Parameters
    ----------
    costly : whether a request takes a processor for long, told from its method and its path
    at_once : how many of them run at a time
    """

    def __init__(
        self,
        app: ASGIApp,
        costly: Callable[[str, str], bool],
        counts: Counts,
        *,
        at_once: int,
        most_waiting: int = MOST_WAITING,
        wait_seconds: float = WAIT_SECONDS,
    ) -> None:
        self.app, self.costly, self.counts = app, costly, counts
        self.most_waiting, self.wait_seconds = most_waiting, wait_seconds
        self._turns = asyncio.Semaphore(at_once)
        self._waiting = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not self.costly(scope["method"], scope["path"]):
            await self.app(scope, receive, send)
            return
        held = Held(receive)
        try:
            if self._waiting >= self.most_waiting:
                await self._busy(scope, receive, send, f"{self._waiting} questions wait already")
                return
            if not await held.read():
                return
            if not await self.turn(held, self.wait_seconds):
                if not held.gone().done():
                    await self._busy(scope, held.receive, send, f"no turn came within {self.wait_seconds:g} seconds")
                return
            turn = Turn(self, held)
            scope.setdefault("state", {})["give_way"] = turn.give_way
            try:
                await self.app(scope, held.receive, send)
            finally:
                turn.end()
        except Gone:
            return
        except TooLarge:
            await refuse(
                scope, receive, send, 413, "the body of a question is longer than a question can be", "TooLarge"
            )
        finally:
            held.end()

    async def turn(self, held: Held, wait_seconds: float | None) -> bool:
        """Whether a turn was taken; not where the client went or it took too long."""
        if not self._turns.locked():
            await self._turns.acquire()
            return True
        self._waiting += 1
        self.counts.waiting.inc()
        mine = asyncio.ensure_future(self._turns.acquire())
        try:
            await asyncio.wait({mine, held.gone()}, timeout=wait_seconds, return_when=asyncio.FIRST_COMPLETED)
            if held.gone().done() and mine.done():
                self._turns.release()
                return False
            return mine.done()
        finally:
            if not mine.done():
                mine.cancel()
            self._waiting -= 1
            self.counts.waiting.dec()

    def end_turn(self) -> None:
        self._turns.release()

    async def _busy(self, scope: Scope, receive: Receive, send: Send, why: str) -> None:
        detail = f"the service is busy: {why}; ask again in a few seconds"
        await refuse(scope, receive, send, 503, detail, "Busy", {"Retry-After": "2"})
