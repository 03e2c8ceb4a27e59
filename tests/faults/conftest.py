from __future__ import annotations

from tests.storage.conftest import small_disk

__all__ = ["small_disk"]
