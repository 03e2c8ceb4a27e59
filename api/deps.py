"""What routes are given: the store, opened once per application, and the question that a query asks.

All but the opening is done where requests are read: handing it to a thread, which waits for its turn beside those that
work on answers, takes longer than the work.
"""

from __future__ import annotations

import difflib
import inspect
import threading
from collections.abc import Awaitable, Callable
from functools import cache
from typing import Annotated, Any, TypeVar

from fastapi import Depends, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BeforeValidator, Field
from starlette.concurrency import run_in_threadpool

from lawfit import ask, pipeline
from lawfit.ask import Misasked, questions_fields, value_of
from lawfit.declared import Field as Declared
from lawfit.storage.store import Store
from lawfit.units import parse_quantity

from .edge.messages import template_of


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

    async def given(self) -> Store:
        """The same for who must not wait for a database."""
        return await run_in_threadpool(self.get) if self._store is None else self._store

    def close(self) -> None:
        with self._lock:
            if self._store is not None:
                self._store.close()
                self._store = None


async def _store(request: Request) -> Store:
    holder: StoreHolder = request.app.state.store
    return await holder.given()


StoreDep = Annotated[Store, Depends(_store)]


async def known_query(request: Request) -> None:
    """Refuse parameters that a route does not have, and one that is given twice where it takes one value.

    Raises
    ------
    RequestValidationError
        With the field.
    """
    known = _query_of(request.app, template_of(request.scope), request.method.lower())
    wrong = []
    for name in request.query_params:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean '{close[0]}'?" if close else f"; there are {', '.join(sorted(known)) or 'none'}"
            wrong.append((name, f"there is no such parameter{hint}"))
        elif not known[name] and len(request.query_params.getlist(name)) > 1:
            wrong.append((name, "is given more than once, and takes one value"))
    if wrong:
        raise RequestValidationError([{"loc": ("query", name), "msg": problem} for name, problem in wrong])


@cache
def _query_of(app: FastAPI, path: str, method: str) -> dict[str, bool]:
    """The parameters of a route, as its description has them, and whether each takes several values."""
    parameters = app.openapi()["paths"][path][method].get("parameters", [])
    found = {}
    for each in parameters:
        kinds = {kind.get("type") for kind in each["schema"].get("anyOf", [each["schema"]])}
        if each["in"] == "query":
            found[each["name"]] = "array" in kinds
    return found


# what questions about a recipe have in common
RecipeName = Annotated[str | None, Query(description="Name or key; needed when the store has several")]
FitId = Annotated[str | None, Query(description="Answer from this stored fit instead of the newest")]
Levels = Annotated[
    list[str] | None, Query(description="Level of a setting that varies in the runs, NAME=VALUE; repeatable")
]

# a positive number as people write it: 7e9 or 7B
AS_TYPED = BeforeValidator(lambda value: parse_quantity(str(value)))
Quantity = Annotated[float, Field(gt=0, lt=1e300), AS_TYPED]

Question = TypeVar("Question", bound=ask.Question)


def question(kind: type[Question]) -> Callable[..., Awaitable[Question]]:
    """A dependency that reads a question from the query, a parameter for each of its fields."""

    async def read(**said: Any) -> Question:
        try:
            return kind(**said)
        except Misasked as error:
            raise invalid(error.field, error.problem) from None
        except ValueError as error:  # a question that contradicts itself
            raise invalid("question", str(error)) from None

    shown: Any = read
    shown.__signature__ = inspect.Signature(
        [
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                annotation=Annotated[_read_as(field), Query(description=field.about.text)],
                default=inspect.Parameter.empty if field.needed else field.default,
            )
            for field in questions_fields(kind)
        ]
    )
    return read


def contradiction(error: ValueError) -> RequestValidationError:
    """What the answer to a request says of a question that cannot be."""
    return invalid("question", str(error))


def invalid(field: str, problem: str) -> RequestValidationError:
    """What the answer to a request says of one of its fields."""
    return RequestValidationError([{"loc": ("query", field), "msg": problem}])


def _read_as(field: Declared) -> Any:
    """The type of a parameter, numbers as people write them; bounds are told here and checked by the question."""

    def read(value: object) -> float | int | str:
        try:
            return value_of(field, value)
        except Misasked as error:
            raise ValueError(error.problem) from None

    kind: Any = str if field.text else float if field.real else int
    found: Any = Annotated[kind, Field(json_schema_extra=dict(field.about.bounds)), BeforeValidator(read)]
    return found if field.needed or field.default is not None else found | None
