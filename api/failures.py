"""The one table from errors to HTTP codes, and the problem that each is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from fastapi.exceptions import RequestValidationError

from lawfit.errors import (
    Doubted,
    FitError,
    LawfitError,
    LogFormatError,
    MissingScope,
    NoFit,
    NoJob,
    NoRecipe,
    NoRun,
    NotEnabled,
    NoToken,
    RecipeConflict,
    RunEnded,
    SchemaOutOfDate,
    StoreError,
    TooManyJobs,
    Unanswerable,
    UnknownLaw,
    WrongToken,
)

from .problems import Problem, problem_document
from .questions import questions_of

MOST_ERRORS = 20  # of one request that are named: whoever sends what is no request need not get it back
LONGEST_NAME = 100  # characters of a field that is not there

# The most specific class in an error's ancestry decides.
STATUS_OF: Mapping[type[Exception], int] = MappingProxyType(
    {
        NoRecipe: 404,
        NoFit: 404,
        Unanswerable: 409,  # a fit is there, and its runs cannot answer yet
        NoRun: 404,
        NoToken: 404,
        NoJob: 404,
        TooManyJobs: 503,
        MissingScope: 403,
        NotEnabled: 403,
        UnknownLaw: 404,
        WrongToken: 422,
        LogFormatError: 422,
        FitError: 409,  # NotEnoughData too: the question is fine, the store cannot answer it yet
        RecipeConflict: 409,
        RunEnded: 409,
        SchemaOutOfDate: 503,
        StoreError: 503,
        LawfitError: 500,
    }
)


def status_of(error: Exception) -> int:
    """The HTTP status of a failure, by the table above."""
    return next(STATUS_OF[kind] for kind in type(error).__mro__ if kind in STATUS_OF)


def problem_of(error: Exception) -> Problem:
    """What a client is told of a failure, other than of the database's, whose sentences name files, hosts and users."""
    if isinstance(error, RequestValidationError):
        # The input itself is not echoed: it may be NaN, which JSON does not have.
        all_errors = error.errors()
        errors = [{"field": _field(e["loc"]), "message": _sentence(e["msg"])} for e in all_errors[:MOST_ERRORS]]
        further = len(all_errors) - len(errors)
        detail = "; ".join(f"{item['field']}: {item['message']}" for item in errors)
        detail += f"; and {further:,} more such errors" if further else ""
        return problem_document(422, detail, kind="InvalidRequest", errors=errors)
    lacking = error.lacking if isinstance(error, Unanswerable) else ()
    questions = questions_of(error) if isinstance(error, Doubted) else ()
    return problem_document(
        status_of(error), str(error), kind=type(error).__name__, lacking=lacking, questions=questions
    )


def _field(place: Sequence[int | str]) -> str:
    """As the request has it: `lr`; within the lists of a body `targets.3.lr`."""
    within = place[1:] if place[0] == "body" else place[-1:]
    name = ".".join(str(step) for step in within) or str(place[-1])
    return name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}..."


def _sentence(message: str) -> str:
    return message.removeprefix("Value error, ").removeprefix("Input should be ")
