"""Whether anything that answers rest on has changed in the database, asked cheaply and often."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from contextlib import suppress
from typing import Final
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool

from lawfit.errors import LawfitError
from lawfit.storage.version import answers_version

from ..deps import StoreHolder

Version = tuple[int | str, ...]
LOOK_SECONDS: Final = 0.1  # other processes' changes show after so long


class Watch:
    """The version of what answers rest on; another process that stores a fit changes it, too."""

    def __init__(self, holder: StoreHolder) -> None:
        self._holder = holder
        self._version: Version | None = None
        self._looked = 0.0
        self._file: sqlite3.Connection | None = None
        self._state = -1
        self._looking = asyncio.Lock()  # many that ask at once take one look

    def look_again(self) -> None:
        """Something was changed through this process: the next question sees it."""
        self._looked = 0.0

    async def version(self) -> Version | None:
        """None where it cannot be known: a database in memory, or one that is away."""
        if time.monotonic() - self._looked < LOOK_SECONDS:
            return self._version
        async with self._looking:
            if time.monotonic() - self._looked >= LOOK_SECONDS:
                await self._look()
            return self._version

    async def _look(self) -> None:
        moment = time.monotonic()
        try:
            unchanged = self._version is not None and self._unchanged()
        except sqlite3.Error:
            self.close()
            unchanged = False
        if not unchanged:
            self._version = None
            with suppress(LawfitError):
                self._version = await run_in_threadpool(self._read)
        self._looked = time.monotonic() if self._version is None else moment  # those that waited do not look anew

    def _read(self) -> Version | None:
        store = self._holder.get()
        if store.location.is_sqlite and store.location.path is None:
            return None
        return answers_version(store)

    def _unchanged(self) -> bool:
        """Of a file: whether nobody has written to it at all, which SQLite knows without reading."""
        path = self._holder.get().location.path
        if path is None:
            return False
        if self._file is None:
            uri = f"file:{quote(str(path.absolute()))}?mode=ro"
            self._file = sqlite3.connect(uri, uri=True, check_same_thread=False)
        (state,) = self._file.execute("PRAGMA data_version").fetchone()
        before, self._state = self._state, state
        return bool(state == before)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file, self._state = None, -1
