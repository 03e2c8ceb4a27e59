"""What routes are given: the store, opened once per application."""

from __future__ import annotations

import threading
from typing import Annotated

from fastapi import Depends, Request

from lawfit import pipeline
from lawfit.storage.store import Store


class StoreHolder:
    """One store per application, opened at the first request that needs it.

    A database that is away when the server starts is therefore a 503 until it is back, not a server that never starts.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._lock = threading.Lock()
        self._store: Store | None = None

    def get(self) -> Store:
        with self._lock:
            if self._store is None:
                self._store = pipeline.open_store(self._url)
            return self._store

    def close(self) -> None:
        with self._lock:
            if self._store is not None:
                self._store.close()
                self._store = None


def _store(request: Request) -> Store:
    holder: StoreHolder = request.app.state.store
    return holder.get()


StoreDep = Annotated[Store, Depends(_store)]
