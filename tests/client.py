"""The test client as requests on this machine come: a service without tokens takes no other Host."""

from __future__ import annotations

from typing import Any

from fastapi import testclient


class TestClient(testclient.TestClient):
    """Requests to loopback."""

    __test__ = False  # pytest: no tests in it

    def __init__(self, app: Any, **options: Any) -> None:
        super().__init__(app, **{"base_url": "http://127.0.0.1:8765", **options})
