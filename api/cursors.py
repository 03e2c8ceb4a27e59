"""Where the next page begins, as an opaque text: good for the question that it came with and for no other."""

from __future__ import annotations

import base64
import json

from fastapi.exceptions import RequestValidationError

from lawfit.records import content_hash
from lawfit.storage.listing import Position


def cursor_of(question: object, place: Position) -> str:
    """The text for a place in the answer to a question (a JSON value)."""
    text = json.dumps([content_hash(question, 12), place], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def place_of(question: object, cursor: str) -> Position:
    """The place that a text stands for.

    Raises
    ------
    RequestValidationError
        It came with another question, or from nowhere.
    """
    try:
        asked, (value, number) = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, TypeError, RecursionError):
        asked, value, number = "", None, None
    sound = type(value) in (float, int, type(None)) and type(number) is int and abs(number) < 2**63
    if asked != content_hash(question, 12) or not sound or (type(value) is int and abs(value) >= 2**63):
        problem = "comes from another question; take the one that the page before this gave, and ask all else as then"
        raise RequestValidationError([{"loc": ("query", "cursor"), "msg": problem}])
    return value, number
