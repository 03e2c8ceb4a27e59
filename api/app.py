"""The application: routes, middlewares in their order, and what a failure answers."""

from __future__ import annotations

import asyncio
import logging
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import BaseRoute

from lawfit import __version__, pipeline
from lawfit.errors import LawfitError, StoreError
from lawfit.jobs import Runner
from lawfit.settings import Settings

from .dashboard import (
    advisor_page,
    assets,
    home_page,
    laws_page,
    next_page,
    plan_page,
    run_page,
    runs_page,
    scale_page,
    scales_page,
    study_page,
)
from .dashboard.common import failure, is_page
from .deps import StoreHolder, known_query
from .edge.access import Access
from .edge.admission import Admission
from .edge.again import Again
from .edge.answers import Answers
from .edge.bodies import Bodies
from .edge.hosts import Hosts
from .edge.requests import SECURITY_HEADERS, Counts, Requests
from .edge.watch import Watch
from .failures import problem_of, status_of
from .problems import Problem, answered, any_problem, problem
from .routes import (
    bulk,
    configs,
    costs,
    fits,
    health,
    jobs,
    laws,
    live,
    next_runs,
    plans,
    predictions,
    recipes,
    runs,
    studies,
    training_jobs,
    transfer,
    uploads,
)

logger = logging.getLogger("lawfit.api")

# Paths whose answers take a processor for long, and those that rest on nothing but what `Watch` sees.
_COSTLY = re.compile(
    r"/advisor(/.*)?|/plan|/next(/.*)?|/v1/(predictions|plans|transfer|settings|schedules|configs)(/.*)?"
)
_LASTING = re.compile(r"/v1/(predictions|transfer|settings|configs)(/.*)?|/v1/plans|/v1/(fits|laws)/[^/]+")


def create_app(settings: Settings | None = None) -> FastAPI:
    """The application over one store; `lawfit serve` names it by string.

    Parameters
    ----------
    settings : Settings, optional
        Where the database is, and who may ask. Left out: read from the environment and lawfit.toml.

    Raises
    ------
    LaunchError
        The file of training templates that they name cannot be used.
    """
    settings = settings or Settings.load()
    holder, counts = StoreHolder(settings.database_url), Counts()
    templates = pipeline.read_training_templates(settings.training_templates) if settings.training_templates else {}
    watch, runner = Watch(holder), Runner(holder.get, settings.database_url, templates)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.openapi()  # takes long at the first call: not while somebody waits
        runner.start()
        yield
        runner.stop()
        watch.close()
        holder.close()

    app = _Described(
        title="lawfit",
        version=__version__,
        docs_url=None,  # the usual documentation pages fetch their scripts from elsewhere
        redoc_url=None,
        routes=list(_routes()),
        lifespan=lifespan,
    )
    app.state.store, app.state.counts, app.state.runner, app.state.templates = holder, counts, runner, templates
    app.state.uploads = asyncio.Semaphore(2)  # files that are read at once: each may take much memory
    names = None if settings.tokens_needed and not settings.allowed_hosts else settings.allowed_hosts
    # The last added is the first that a request meets.
    app.add_middleware(Admission, costly=_is_costly, counts=counts, at_once=max(1, (os.cpu_count() or 1)))
    app.add_middleware(Answers, watch=watch, lasting=_lasts, counts=counts)
    app.add_middleware(Again, holder=holder)
    app.add_middleware(Access, holder=holder, needed=settings.tokens_needed)
    app.add_middleware(GZipMiddleware, minimum_size=1000, compresslevel=5)
    app.add_middleware(Bodies, most=settings.max_body_mb << 20, streamed=lambda path: path == "/v1/uploads")
    app.add_middleware(Hosts, names=None if "*" in (names or ()) else names, origins=settings.cors_origins)
    if settings.cors_origins:
        allowed = ["Authorization", "Content-Type", "Idempotency-Key", "If-None-Match"]
        app.add_middleware(
            CORSMiddleware, allow_origins=list(settings.cors_origins), allow_methods=["*"],
            allow_headers=allowed, expose_headers=["ETag", "X-Request-Id"],
        )  # fmt: skip
    app.add_middleware(Requests, counts=counts, root_path=settings.root_path)
    app.add_exception_handler(LawfitError, _lawfit_error)
    app.add_exception_handler(RequestValidationError, _invalid_request)
    app.add_exception_handler(UnicodeEncodeError, _no_text)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _unexpected)
    return app


class _Described(FastAPI):
    """An application with the description that all share."""

    def openapi(self) -> dict[str, Any]:
        return _description()


@cache
def _description() -> dict[str, Any]:
    """The OpenAPI document, with `Problem` once for all that `documented` and `any_problem` say."""
    summary = "From run logs to the learning rate and batch size of the next run."
    made = get_openapi(title="lawfit", version=__version__, summary=summary, routes=_routes())
    made["components"]["schemas"]["Problem"] = Problem.model_json_schema()
    return made


@cache
def _routes() -> tuple[BaseRoute, ...]:
    """What every application answers: once in a process, as making it of the types of what routes take is slow."""
    made = APIRouter(generate_unique_id_function=lambda route: route.name)  # what clients that are generated call it
    made.include_router(health.router, responses=any_problem())
    answering = (bulk, predictions, costs, configs, plans, next_runs, laws, transfer)
    for routes in (*answering, recipes, runs, fits, jobs, training_jobs, studies, live, uploads):
        made.include_router(routes.router, prefix="/v1", dependencies=[Depends(known_query)], responses=any_problem())
    made.include_router(home_page.router)
    made.include_router(advisor_page.advisor_page(status_of))
    made.include_router(next_page.next_page(status_of))
    made.include_router(plan_page.plan_page(status_of))
    made.include_router(runs_page.router)
    made.include_router(run_page.router)
    made.include_router(scales_page.router)
    made.include_router(laws_page.router)
    made.include_router(scale_page.router)
    made.include_router(study_page.router)
    made.include_router(assets.router)
    return tuple(made.routes)


def _is_costly(method: str, path: str) -> bool:
    begins_launch = method == "POST" and path == "/v1/training-jobs"  # grids are checked run by run; lists are cheap
    return begins_launch or _COSTLY.fullmatch(path) is not None


def _lasts(path: str, query: bytes) -> bool:
    """What is asked at a level of a setting is looked up among the runs, which change more often than fits."""
    return _LASTING.fullmatch(path) is not None and b"at=" not in query


def _lawfit_error(request: Request, error: Exception) -> Response:
    if isinstance(error, StoreError):  # its sentence names files, hosts and users: for the log alone
        request_id = request.scope["state"]["request_id"]
        logger.error("%s %s (request %s): %s", request.method, request.url.path, request_id, error)
        detail = f"the database cannot be used at the moment; the server's log says why, at request {request_id}"
        if is_page(request):
            return failure(request, 503, detail)
        return problem(503, detail, kind=type(error).__name__, headers={"Retry-After": "5"})
    found = problem_of(error)
    return failure(request, found.status, found.detail) if is_page(request) else answered(found)


def _invalid_request(request: Request, error: Exception) -> Response:
    found = problem_of(error)
    return failure(request, found.status, found.detail) if is_page(request) else answered(found)


def _no_text(_request: Request, _error: Exception) -> Response:
    """Half a character (a lone surrogate) in a key, of which neither pydantic nor a database makes a text."""
    return problem(
        422, "the request holds half a character (a lone surrogate), which no text has", kind="InvalidRequest"
    )


def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if is_page(request):
        no_page = error.status_code == 404 and error.detail == "Not Found"  # what the router says of any path
        words = "there is no such page; the menu has those that there are" if no_page else error.detail
        return failure(request, error.status_code, words)
    return problem(error.status_code, error.detail, headers=error.headers)


def _unexpected(request: Request, error: Exception) -> Response:
    logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
    detail = "lawfit failed in a way it does not know; the server's log has the traceback"
    if is_page(request):
        answer = failure(request, 500, detail)
        answer.headers.update(SECURITY_HEADERS)  # made outside the middlewares
        return answer
    return problem(500, detail, kind="Unexpected", headers=SECURITY_HEADERS)
