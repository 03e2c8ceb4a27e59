"""`lawfit db`: upgrade, back up, restore, copy, compact, prune and check the database."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from lawfit.cli.options import DatabaseOption, JsonOption, settings_for
from lawfit.cli.output import pairs, plain, print_json, progress, show, table, warning_list
from lawfit.units import counted

app = typer.Typer(help="Upgrade, back up, restore, copy, compact, prune and check the database.", no_args_is_help=True)


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


@app.command("restore")
def restore(
    ctx: typer.Context,
    source: Annotated[Path, typer.Argument(metavar="FILE", help="A backup that lawfit db backup wrote.")],
    replace: Annotated[
        bool, typer.Option("--replace", help="Move the database that is there aside, and put the backup in its place.")
    ] = False,
    as_json: JsonOption = False,
    database: DatabaseOption = None,
) -> None:
    """Put a backup where the database is to be, once it is known to be whole. What was there is kept beside it."""
    from lawfit.storage import maintenance
    from lawfit.storage.database import Location

    url = settings_for(ctx, database).database_url
    aside = maintenance.restore(source, url, replace=replace)
    if as_json:
        print_json({"schema": "lawfit.db/1", "restored": str(source), "aside": None if aside is None else str(aside)})
    else:
        kept = "" if aside is None else f"; the one before is {aside}"
        show(plain(f"restored {Location.parse(url)} from {source}{kept}"))


@app.command("copy")
def copy(
    source: Annotated[str, typer.Argument(metavar="FROM", help="Database to copy: a file or a postgresql:// URL.")],
    target: Annotated[str, typer.Argument(metavar="TO", help="Empty database to copy to: a new file, or a URL.")],
    as_json: JsonOption = False,
) -> None:
    """Copy a whole database between SQLite and PostgreSQL: runs, curves, fits, answers, with their ids.

    The copy is read back and compared by a hash for each table before it is kept; FROM is only read.
    """
    from lawfit.storage import copying

    with progress("copying", quiet=as_json):
        done = copying.copy(source, target)
    if as_json:
        print_json({"schema": "lawfit.db/1", **vars(done)})
        return
    rows = [(name, f"{count:,}", done.hashes[name][:16]) for name, count in done.rows.items()]
    show(table(("table", "rows", "hash, equal in both"), rows, right=("rows",)))
    show(plain(f"copied {done.source} to {done.target}"))


@app.command("compact")
def compact(ctx: typer.Context, as_json: JsonOption = False, database: DatabaseOption = None) -> None:
    """Join what live runs wrote in small pieces, and give free space back. Nothing that is stored changes."""
    from lawfit.storage import maintenance

    done = maintenance.compact(settings_for(ctx, database).database_url)
    if as_json:
        print_json({"schema": "lawfit.db/1", **vars(done)})
        return
    chunks = f"; {done.chunks_before:,} chunks of curves are {done.chunks_after:,}" if done.chunks_before else ""
    sizes = f"{done.bytes_before / 1e6:.1f} MB to {done.bytes_after / 1e6:.1f} MB"
    show(plain(f"compacted {done.database}: {sizes}{chunks}"))


@app.command("prune")
def prune(
    ctx: typer.Context,
    days: Annotated[float, typer.Option("--days", min=0, help="Answers that were kept longer ago than this go.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say how many, and change nothing.")] = False,
    as_json: JsonOption = False,
    database: DatabaseOption = None,
) -> None:
    """Forget answers that were kept long ago (each is kept under its id). Runs, curves and fits stay.

    The same question to the same fit (lawfit predict --fit) gives the same numbers again.
    """
    from lawfit.storage import maintenance

    try:
        gone = maintenance.prune(settings_for(ctx, database).database_url, older_than_days=days, dry_run=dry_run)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if as_json:
        print_json({"schema": "lawfit.db/1", "answers": gone, "dry_run": dry_run})
    else:
        show(plain(f"{'would forget' if dry_run else 'forgot'} {counted(gone, 'answer')} older than {days:g} days"))


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
