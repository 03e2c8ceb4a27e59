"""A document as JSON, with sentences in place of findings."""

from __future__ import annotations

import json
from typing import Any

from fastapi.responses import JSONResponse

from lawfit.words import told


class Told(JSONResponse):
    """What routes answer: the document goes out as it is, its findings in words."""

    def render(self, content: Any) -> bytes:
        text = json.dumps(told(content), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode("utf-8", "replace")  # a sentence may quote half a character that somebody sent
