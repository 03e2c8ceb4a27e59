"""`lawfit db`: upgrade, back up and check the database."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from lawfit.cli.options import DatabaseOption, JsonOption, settings_for
from lawfit.cli.output import pairs, plain, print_json, show, warning_list

app = typer.Typer(help="Upgrade, back up and check the database.", no_args_is_help=True)


@app.command("upgrade")
def upgrade(ctx: typer.Context, as_json: JsonOption = False, database: DatabaseOption = None) -> None:
    """Bring the database to the schema of this version of lawfit, and create it where there is none.

    Every command does this on its own; a copy of an older SQLite file is kept beside it.
    """
    from lawfit.storage import maintenance

    done = maintenance.upgrade(settings_for(ctx, database).database_url)
    if as_json:
        print_json({"schema": "lawfit.db/1", "done": done})
    else:
        show(plain(done))


@app.command("backup")
def backup(
    ctx: typer.Context,
    target: Annotated[Path, typer.Argument(metavar="FILE", help="The copy; it must not exist yet.")],
    as_json: JsonOption = False,
    database: DatabaseOption = None,
) -> None:
    """Copy a SQLite database to a new file, also while others use it. PostgreSQL: use pg_dump."""
    from lawfit.storage import maintenance

    written = maintenance.backup(settings_for(ctx, database).database_url, target)
    size = written.stat().st_size
    if as_json:
        print_json({"schema": "lawfit.db/1", "backup": str(written), "bytes": size})
    else:
        show(plain(f"copied to {written} ({size / 1e6:.1f} MB)"))


@app.command("check")
def check(ctx: typer.Context, as_json: JsonOption = False, database: DatabaseOption = None) -> None:
    """Look for damage and count what is stored, without changing anything. Exit code 1: there are problems."""
    from lawfit.storage import maintenance

    report = maintenance.check(settings_for(ctx, database).database_url)
    if as_json:
        found = dataclasses.asdict(report)
        print_json({"schema": "lawfit.db/1", "revision": found.pop("schema"), **found})
    else:
        rows = [("Database", report.database), ("Schema", report.schema or "could not be read")]
        rows += [
            ("Rows" if i == 0 else "", f"{name}: {count:,}") for i, (name, count) in enumerate(report.rows.items())
        ]
        rows.append(("Problems", "none" if not report.problems else str(len(report.problems))))
        show(pairs(rows))
        if report.problems:
            show(warning_list(report.problems))
    if report.problems:
        raise typer.Exit(1)
