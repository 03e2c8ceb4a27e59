"""Errors as problem+json (RFC 9457): a status, a title and the sentence that says what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from .told import Told

LONGEST = 4000  # characters of a sentence: what it quotes of a request may be anything
MEDIA_TYPE = "application/problem+json"


class Problem(BaseModel):
    """What every failed request answers."""

    type: str = Field(description="Kind of failure: the name of lawfit's error, or about:blank")
    title: str = Field(description="The HTTP status in words")
    status: int
    detail: str = Field(description="What was wrong, where, and what to do")
    errors: list[dict[str, str]] = Field(default=[], description="For bad input: each field and what is wrong with it")
    lacking: list[dict[str, Any]] = Field(
        default=[], description="Where a fit may not be used: what its runs lack (code, numbers), and runs to add"
    )
    questions: list[dict[str, Any]] = Field(
        default=[], description="What a table or a run leaves open: columns, the sentence, and choices of answers"
    )

    def plain(self) -> dict[str, Any]:
        """As JSON, without lists that are empty."""
        return self.model_dump(exclude={name for name in ("errors", "lacking", "questions") if not getattr(self, name)})


def problem_document(
    status: int,
    detail: str,
    *,
    kind: str = "about:blank",
    errors: Sequence[Mapping[str, str]] = (),
    lacking: Sequence[Mapping[str, Any]] = (),
    questions: Sequence[Mapping[str, Any]] = (),
) -> Problem:
    """A problem, with the title of its status."""
    return Problem(
        type=kind,
        title=HTTPStatus(status).phrase,
        status=status,
        detail=_whole(detail),
        errors=[{name: _whole(text) for name, text in item.items()} for item in errors],
        lacking=[dict(item) for item in lacking],
        questions=[dict(item) for item in questions],
    )


def _whole(text: str) -> str:
    """Without half characters, which a sentence may quote from a request and no JSON has; and no longer than a page."""
    whole = text.encode("utf-8", "replace").decode()
    return whole if len(whole) <= LONGEST else f"{whole[:LONGEST]}..."


def problem(
    status: int, detail: str, *, kind: str = "about:blank", headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """A problem+json answer."""
    return answered(problem_document(status, detail, kind=kind), headers)


def answered(said: Problem, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """A problem as an answer."""
    return Told(said.plain(), status_code=said.status, media_type=MEDIA_TYPE, headers=dict(headers or {}))


_CONTENT: Mapping[str, Any] = MappingProxyType({MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}})


def any_problem() -> dict[int | str, dict[str, Any]]:
    """The `responses` that all routes have: what may come before a route is reached, or of a body that is no JSON."""
    said = "Another problem: 400 no JSON, 401 and 403 tokens, 405, 408 and 413 bodies, 421 hosts, 422 input, 503 busy"
    return {"default": {"description": said, "content": dict(_CONTENT)}}


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route, so that OpenAPI tells which problems to expect."""
    return {status: {"description": HTTPStatus(status).phrase, "content": dict(_CONTENT)} for status in statuses}
