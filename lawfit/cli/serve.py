"""`lawfit serve`: the HTTP API and the page, over the same store."""

from __future__ import annotations

import os
import socket
from typing import Annotated

import typer

from lawfit.cli.options import DatabaseOption, open_store, settings_for
from lawfit.cli.output import note
from lawfit.errors import LawfitError


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
    database: DatabaseOption = None,
) -> None:
    """Serve recommendations over HTTP, and a page to ask for them, from this machine only unless --host says otherwise.

    GET /v1/predictions?params=7e9&tokens=1.4e12 returns what `lawfit predict --json` prints; /openapi.json
    describes the rest. Ctrl-C stops it.
    """
    import uvicorn

    settings = settings_for(ctx, database)
    store = open_store(ctx, database, create=True)
    store.close()  # a database that cannot be used is said here, not with the first request
    host = settings.host if host is None else host
    port = settings.port if port is None else port
    os.environ["LAWFIT_DATABASE_URL"] = settings.database_url  # the app is made from its name and reads its settings
    config = uvicorn.Config("lawfit_api.app:create_app", factory=True, log_level="warning")
    with _listen(host, port) as listener:
        address, bound_port = listener.getsockname()[:2]
        shown = f"[{address}]" if ":" in address else address
        note(f"lawfit serves http://{shown}:{bound_port} (API described at /openapi.json); Ctrl-C stops it")
        try:
            uvicorn.Server(config).run(sockets=[listener])
        except KeyboardInterrupt:  # the usual way to end; uvicorn has finished what was under way
            note("stopped")


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket, so that the printed address is true before the application has started."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        reason = error.strerror or str(error)
        raise LawfitError(f"cannot listen on {host}:{port} ({reason}); choose others with --host and --port") from None
