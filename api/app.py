"""The application: routes, the one table from errors to HTTP codes, and headers."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lawfit import __version__
from lawfit.errors import (
    FitError,
    LawfitError,
    LogFormatError,
    NoFit,
    NoRecipe,
    NoRun,
    RecipeConflict,
    SchemaOutOfDate,
    StoreError,
    Unanswerable,
    UnknownLaw,
)
from lawfit.settings import Settings

from .dashboard import assets, pages, plan_page
from .deps import StoreHolder
from .problems import problem
from .routes import configs, costs, fits, health, plans, predictions, recipes, transfer

logger = logging.getLogger("lawfit.api")

# The most specific class in an error's ancestry decides.
STATUS_OF: Mapping[type[Exception], int] = MappingProxyType(
    {
        NoRecipe: 404,
        NoFit: 404,
        Unanswerable: 409,  # a fit is there, and its runs cannot answer yet
        NoRun: 404,
        UnknownLaw: 404,
        LogFormatError: 422,
        FitError: 409,  # NotEnoughData too: the question is fine, the store cannot answer it yet
        RecipeConflict: 409,
        SchemaOutOfDate: 503,
        StoreError: 503,
        LawfitError: 500,
    }
)

# Plotly writes <style> elements and exports pictures as data and blob addresses; nothing may come from or go elsewhere.
SECURITY_HEADERS: Mapping[str, str] = MappingProxyType(
    {
        "Content-Security-Policy": "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
        "connect-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
    }
)


def create_app(settings: Settings | None = None) -> FastAPI:
    """The application over one store; `lawfit serve` names it by string.

    Parameters
    ----------
    settings : Settings, optional
        Where the database is. Left out: read from the environment and lawfit.toml.
    """
    holder = StoreHolder((settings or Settings.load()).database_url)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        holder.close()

    app = FastAPI(
        title="lawfit",
        version=__version__,
        summary="From run logs to the learning rate and batch size of the next run.",
        docs_url=None,  # the usual documentation pages fetch their scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.store = holder
    app.add_middleware(SecurityHeaders)
    app.add_exception_handler(LawfitError, _lawfit_error)
    app.add_exception_handler(RequestValidationError, _invalid_request)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _unexpected)
    app.include_router(health.router)
    for routes in (predictions, costs, configs, plans, recipes, fits, transfer):
        app.include_router(routes.router, prefix="/v1")
    app.include_router(pages.pages(status_of))
    app.include_router(plan_page.plan_page(status_of))
    app.include_router(assets.router)
    return app


def status_of(error: Exception) -> int:
    """The HTTP status of a failure, by the table above."""
    return next(STATUS_OF[kind] for kind in type(error).__mro__ if kind in STATUS_OF)


def _lawfit_error(_request: Request, error: Exception) -> Response:
    lacking = error.lacking if isinstance(error, Unanswerable) else ()
    return problem(status_of(error), str(error), kind=type(error).__name__, lacking=lacking)


def _invalid_request(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    # The input itself is not echoed: it may be NaN, which JSON does not have.
    errors = [{"field": str(item["loc"][-1]), "message": _sentence(item["msg"])} for item in error.errors()]
    detail = "; ".join(f"{item['field']}: {item['message']}" for item in errors)
    return problem(422, detail, kind="InvalidRequest", errors=errors)


def _sentence(message: str) -> str:
    return message.removeprefix("Value error, ").removeprefix("Input should be ")


def _http_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return problem(error.status_code, error.detail, headers=error.headers)


def _unexpected(request: Request, error: Exception) -> JSONResponse:
    logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
    detail = "lawfit failed in a way it does not know; the server's log has the traceback"
    return problem(500, detail, kind="Unexpected", headers=SECURITY_HEADERS)  # made outside the middleware


class SecurityHeaders:
    """ASGI middleware that puts `SECURITY_HEADERS` on every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.headers = [(name.lower().encode(), value.encode()) for name, value in SECURITY_HEADERS.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *self.headers]
            await send(message)

        await self.app(scope, receive, send_with_headers if scope["type"] == "http" else send)
