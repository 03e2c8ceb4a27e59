"""`lawfit token`: who may use the service beyond this machine."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from lawfit.cli.options import DatabaseOption, JsonOption, open_store
from lawfit.cli.output import note, print_json, show, table

app = typer.Typer(help="Make, list and revoke the tokens that open the service; see what was changed with them.")


@app.command("create")
def create(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What uses it, such as a training job.")],
    scopes: Annotated[
        list[str] | None,
        typer.Option("--scope", metavar="SCOPE", help="read, ingest, fit, launch, admin; repeatable. [default: read]"),
    ] = None,
    days: Annotated[
        float | None, typer.Option("--days", metavar="D", help="Days until it expires; left out, it does not.")
    ] = None,
    as_json: JsonOption = False,
    database: DatabaseOption = None,
) -> None:
    """Make a token and print it, this once: the database keeps a hash of it alone.

    Example: lawfit token create trainer --scope ingest --days 90
    """
    from lawfit.storage.tokens import create_token

    token = create_token(open_store(ctx, database, create=True), name, scopes or ["read"], days=days)
    if as_json:
        print_json({"schema": "lawfit.token/1", "name": name, "scopes": scopes or ["read"], "token": token})
        return
    typer.echo(token)
    note("send it as Authorization: Bearer TOKEN (a browser: as the password); it is not shown again")


@app.command("list")
def list_all(ctx: typer.Context, as_json: JsonOption = False, database: DatabaseOption = None) -> None:
    """List the tokens: what each may do, until when, and when it was last used."""
    from lawfit.storage.tokens import list_tokens

    found = list_tokens(open_store(ctx, database))
    if as_json:
        rows = [{**dataclasses.asdict(token), "state": token.state} for token in found]
        print_json({"schema": "lawfit.tokens/1", "tokens": rows})
        return
    if not found:
        note("there are no tokens; lawfit token create NAME makes one")
        return
    columns = ("name", "scopes", "state", "created", "expires", "last used")
    rows_shown = [
        (t.name, " ".join(t.scopes), t.state, t.created_at, t.expires_at or "never", t.last_used_at or "never")
        for t in found
    ]
    show(table(columns, rows_shown))


@app.command("revoke")
def revoke(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The token that shall open nothing any more.")],
    database: DatabaseOption = None,
) -> None:
    """Take a token back. A service that is running hears of it within two seconds."""
    from lawfit.storage.tokens import revoke_token

    revoke_token(open_store(ctx, database), name)
    note(f"token '{name}' opens nothing any more")


@app.command("audit")
def audit(
    ctx: typer.Context,
    limit: Annotated[int, typer.Option("--limit", min=1, max=100_000, help="At most so many, the newest first.")] = 50,
    as_json: JsonOption = False,
    database: DatabaseOption = None,
) -> None:
    """List what was changed over HTTP: when, by which token, from where, and what."""
    from lawfit.storage.tokens import audit_rows

    found = audit_rows(open_store(ctx, database), limit=limit)
    if as_json:
        print_json({"schema": "lawfit.audit/1", "changes": [dataclasses.asdict(row) for row in found]})
        return
    if not found:
        note("nothing was changed over HTTP yet")
        return
    columns = ("at", "token", "from", "what", "status", "request")
    show(table(columns, [(r.at, r.who or "-", r.address, r.action, str(r.status), r.request_id) for r in found]))
