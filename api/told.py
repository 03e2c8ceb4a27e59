"""A document as JSON, with sentences in place of findings."""

from __future__ import annotations

from typing import Any

from fastapi.responses import JSONResponse

from lawfit.words import told


class Told(JSONResponse):
    """What routes answer: the document goes out as it is, its findings in words."""

    def render(self, content: Any) -> bytes:
        return super().render(told(content))
