"""`lawfit serve`: the HTTP API and the page, over the same store."""

from __future__ import annotations

import ctypes
import os
import platform
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from lawfit.cli.options import DatabaseOption, open_store, settings_for
from lawfit.cli.output import note
from lawfit.errors import LawfitError, SchemaOutOfDate, StoreError

if TYPE_CHECKING:
    from uvicorn import Config

_SHUTDOWN_SECONDS: Final = 20  # for requests that are under way
_KEEP_ALIVE_SECONDS: Final = 15
_ARENAS: Final = 2
_M_ARENA_MAX: Final = -8  # its number in <malloc.h>
_MOST_FILES: Final = 65_536  # open at once, connections among them


def serve(
    ctx: typer.Context,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on. [default: LAWFIT_HOST or 127.0.0.1]", show_default=False)
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65535, help="Port. [default: LAWFIT_PORT or 8765; 0 takes a free one]", show_default=False
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, max=64, help="Processes. [default: LAWFIT_WORKERS or 1]", show_default=False),
    ] = None,
    training_templates: Annotated[
        Path | None,
        typer.Option(
            "--training-templates",
            metavar="FILE",
            help="Let clients train with these templates, by name (docs/own-trainer.md). "
            "[default: LAWFIT_TRAINING_TEMPLATES or none: nothing is trained]",
            show_default=False,
        ),
    ] = None,
    access_log: Annotated[
        bool, typer.Option("--access-log", help="Write a JSON line for each request to standard output.")
    ] = False,
    database: DatabaseOption = None,
) -> None:
    """Serve recommendations over HTTP, and a page to ask for them, from this machine only unless --host says otherwise.

    GET /v1/predictions?params=7e9&tokens=1.4e12 returns what `lawfit predict --json` prints; /openapi.json
    describes the rest. Beyond this machine each request needs a token (lawfit token create). Ctrl-C stops it.
    """
    from lawfit import pipeline

    settings = settings_for(ctx, database)
    host = settings.host if host is None else host
    port = settings.port if port is None else port
    templates = settings.training_templates if training_templates is None else str(training_templates)
    if templates:
        pipeline.read_training_templates(templates)  # what stands against one is said here
    _look_at(ctx, database)
    # The app is made from its name, in each process, and reads its settings.
    os.environ |= {"LAWFIT_DATABASE_URL": settings.database_url, "LAWFIT_HOST": host}
    os.environ["LAWFIT_TRAINING_TEMPLATES"] = templates
    config = _config(settings.workers if workers is None else workers, access_log=access_log)
    _allow_connections()
    _share_memory()
    with _listen(host, port) as listener:
        address, bound_port = listener.getsockname()[:2]
        shown = f"[{address}]" if ":" in address else address
        note(f"lawfit serves http://{shown}:{bound_port} (API described at /openapi.json); Ctrl-C stops it")
        _run(config, listener)
        note("stopped")


def _config(workers: int, *, access_log: bool) -> Config:
    import uvicorn

    return uvicorn.Config(
        "lawfit_api.app:create_app",
        factory=True,
        http="lawfit_api.edge.heads:Heads",
        ws="none",
        workers=workers,
        log_config=_log_config(access_log=access_log),
        access_log=False,  # our own says more
        server_header=False,
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
    )


def _run(config: Config, listener: socket.socket) -> None:
    """Serve until it is stopped."""
    import uvicorn
    from uvicorn.supervisors import Multiprocess

    server = uvicorn.Server(config)
    try:
        if config.workers > 1:
            Multiprocess(config, sockets=[listener]).run()
        else:
            server.run(sockets=[listener])
    except KeyboardInterrupt:  # the usual way to end; uvicorn has finished what was under way
        pass


def _allow_connections() -> None:
    """Each connection takes a file: as many as the machine allows, where a shell or a service manager allows fewer."""
    try:
        import resource
    except ImportError:  # Windows, which has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _share_memory() -> None:
    """Let threads share memory that they gave back: with a part of it for each, as glibc has it, a service grows."""
    os.environ.setdefault("MALLOC_ARENA_MAX", str(_ARENAS))  # of further processes
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, _ARENAS)


def _look_at(ctx: typer.Context, database: str | None) -> None:
    """Make or upgrade the database; one that cannot be used is said here, not with the first request.

    A server that is away may come back: until then requests are told to try again.
    """
    from lawfit.storage.database import Location

    try:
        open_store(ctx, database, create=True).close()
    except StoreError as error:
        if isinstance(error, SchemaOutOfDate) or Location.parse(settings_for(ctx, database).database_url).is_sqlite:
            raise
        note(f"{error}; serving all the same, with answers once it is there")


def _log_config(*, access_log: bool) -> dict[str, Any]:
    """Failures to standard error; a line for each request, where it is wanted, to standard output."""
    streams = {"error": "ext://sys.stderr", "access": "ext://sys.stdout"}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "error": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"},
            "access": {"format": "%(message)s"},
        },
        "handlers": {
            name: {"class": "logging.StreamHandler", "stream": stream, "formatter": name}
            for name, stream in streams.items()
        },
        "loggers": {
            "uvicorn": {"handlers": ["error"], "level": "WARNING", "propagate": False},
            "lawfit.api": {"handlers": ["error"], "level": "INFO", "propagate": False},
            "lawfit.access": {
                "handlers": ["access"], "level": "INFO" if access_log else "WARNING", "propagate": False,
            },
        },
    }  # fmt: skip


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket, so that the printed address is true before the application has started."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        reason = error.strerror or str(error)
        raise LawfitError(f"cannot listen on {host}:{port} ({reason}); choose others with --host and --port") from None
