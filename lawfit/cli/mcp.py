"""`lawfit mcp`: answer agents over the Model Context Protocol."""

from __future__ import annotations

import typer

from lawfit.cli.options import DatabaseOption, settings_for
from lawfit.errors import LawfitError


def mcp(ctx: typer.Context, database: DatabaseOption = None) -> None:
    """Serve the Model Context Protocol on standard input and output, for agents: predict, cost_of_setting, plan,
    config, recipes, runs, laws. Nothing they ask changes the database.

    A client starts it; see docs/agents.md for what to write into its settings.
    """
    try:
        from lawfit.agents.server import serve
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("mcp", "anyio"):
            raise
        raise LawfitError("the server for agents needs the package mcp: pip install 'lawfit[mcp]'") from None
    serve(settings_for(ctx, database).database_url)
