"""`lawfit ingest`: tables of finished runs into the store, saying what was recognised and what was rejected."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lawfit.cli.main import ExitCode
from lawfit.cli.options import DatabaseOption, JsonOption, open_store, whole_quantity
from lawfit.cli.output import heading, note, pairs, plain, print_error, print_json, progress, show, table
from lawfit.errors import LawfitError, NoRun
from lawfit.units import PARAMS_CONVENTIONS, counted

if TYPE_CHECKING:
    from lawfit.ingest.source import Source
    from lawfit.ingest.table import Table
    from lawfit.records import IngestReport

REJECTIONS_SHOWN = 20


class BatchUnit(StrEnum):
    """What the batch column counts."""

    TOKENS = "tokens"
    SEQUENCES = "sequences"


def _held(name: str, what: str) -> Any:
    return typer.Option(f"--{name}", metavar="TEXT", help=f"Recipe: {what}", show_default=False)


def ingest(
    ctx: typer.Context,
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...",
            help="CSV, TSV, JSON lines or Parquet, one row per run; logs of trackers and trainers (W&B, MLflow, "
            "TensorBoard, Trainer, Lightning, Trackio, Optuna, text); a folder with any of them in it or below; "
            "postgresql://...; tables of curves (run_id, step, train_loss, ...).",
        ),
    ],
    mapping: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            metavar="COLUMN=FIELD",
            help="Read FIELD (params, tokens, batch_tokens, lr, loss, ...) from COLUMN, not as guessed; repeatable.",
            show_default=False,
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="What to call the recipe. [default: the file's name]", show_default=False),
    ] = None,
    seq_len: Annotated[
        int | None,
        typer.Option(
            parser=whole_quantity,
            metavar="T",
            help="Tokens per sequence; needed when the batch counts sequences.",
            show_default=False,
        ),
    ] = None,
    batch_unit: Annotated[
        BatchUnit | None,
        typer.Option(help="What the batch column counts, when its name does not say.", show_default=False),
    ] = None,
    optimizer: Annotated[str | None, _held("optimizer", "adamw, muon, ...")] = None,
    schedule: Annotated[str | None, _held("schedule", "learning-rate schedule, such as 'cosine to 10 %'.")] = None,
    data: Annotated[str | None, _held("data", "training corpus.")] = None,
    tokenizer: Annotated[str | None, _held("tokenizer", "tokenizer.")] = None,
    parametrization: Annotated[str | None, _held("parametrization", "standard, mup, ...")] = None,
    params_convention: Annotated[
        str | None, _held("params-convention", f"what the parameter count counts: {', '.join(PARAMS_CONVENTIONS)}.")
    ] = None,
    held: Annotated[
        list[str] | None,
        typer.Option(
            "--held",
            metavar="NAME=VALUE",
            help="Recipe: anything else held fixed, such as beta2=0.95; repeatable.",
            show_default=False,
        ),
    ] = None,
    file_format: Annotated[
        str | None,
        typer.Option(
            "--format", metavar="NAME", help="Format, when neither name nor content tells it.", show_default=False
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would happen, and store nothing.")] = False,
    as_json: JsonOption = False,
    database: DatabaseOption = None,
) -> None:
    """Store finished runs from tables, one row per run. The same file twice changes nothing; a corrected row updates.

    Columns are recognised by name, and the guess is shown; --map overrides it. What a sweep holds fixed is its
    recipe: runs of different recipes are never pooled. Rows that cannot be used are listed with line, column and
    reason, the rest is stored. Exit code 3: some rows (or files) were rejected.
    """
    from lawfit.ingest.options import IngestOptions
    from lawfit.ingest.source import Source, without_password
    from lawfit.pipeline.ingesting import find_tables, read_source, store_source

    fields = {
        "optimizer": optimizer,
        "schedule": schedule,
        "data": data,
        "tokenizer": tokenizer,
        "parametrization": parametrization,
        "params_convention": params_convention,
        **_assignments(held or [], "--held", "beta2=0.95"),
    }
    try:
        options = IngestOptions(
            column_map=_assignments(mapping or [], "--map", "learning_rate=lr"),
            recipe=recipe,
            seq_len=seq_len,
            batch_unit=None if batch_unit is None else batch_unit.value,
            recipe_fields={name: value for name, value in fields.items() if value is not None},
            format=file_format,
            dry_run=dry_run,
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    # A database that is not there yet is made once there is something to put into it, and not by a bad file.
    store, made = open_store(ctx, database, create=True, dry_run=True), dry_run
    reports: list[IngestReport] = []
    shown: dict[frozenset[tuple[str, str]], str] = {}  # columns -> the first file that has them
    failures: list[dict[str, str]] = []
    known = len(files)  # of tables, as far as they are found
    waiting: list[tuple[str | Source, Table | None, bool]] = [(name, None, True) for name in files]
    while waiting:
        path, found, first = waiting.pop(0)
        try:
            with progress(f"reading {Path(str(path)).name}", quiet=as_json):
                if found is None:  # a folder or a database may hold many
                    several = find_tables(path, options)
                    parts = [(each, None) if isinstance(each, Source) else (path, each) for each in several]
                    waiting[:0] = [(part, table, True) for part, table in parts]
                    known += len(parts) - 1
                    continue
                read = read_source(_label(path, found), options, found)
                if not made and read.begins_a_store:
                    store, made = open_store(ctx, database, create=True), True
                report = store_source(store, read)
        except LawfitError as error:
            if isinstance(error, NoRun) and first and known > 1:
                waiting.append((path, found, False))  # curves that stand before their runs: once more, after the others
                continue
            if known == 1:
                raise
            failures.append({"file": without_password(str(path)), "type": type(error).__name__, "message": str(error)})
            if not as_json:
                print_error(type(error).__name__, str(error), ExitCode.FAILED, as_json=False)
        else:
            reports.append(report)
            if not as_json:
                if reports[1:]:
                    show(plain(""))
                _show(report, shown.setdefault(frozenset(report.columns.items()), report.file))
    code = _exit_code(reports, failures)
    if as_json:
        print_json(_document(reports, failures, code))
    elif not dry_run and (recipes := {name for report in reports for name in report.recipes}):
        stored = {summary.recipe.name: summary.runs for summary in store.recipes()}
        note(_next({name: runs for name, runs in stored.items() if name in recipes}, several=len(stored) > 1))
    if code is not ExitCode.OK:
        raise typer.Exit(int(code))


def _label(path: str | Source, table: Table) -> str:
    """How the report calls a table: as its file, and as its project where that has another name."""
    from lawfit.ingest.source import without_password

    name = without_password(str(path))
    return name if Path(name).name == table.name else f"{name} ({table.name})"


def _assignments(words: Sequence[str], option: str, example: str) -> dict[str, str]:
    given = {}
    for word in words:
        # From the right for columns, whose names may hold an equals sign; settings rarely do.
        name, separator, value = word.rpartition("=")
        if not separator or not name.strip() or not value.strip():
            raise typer.BadParameter(f"'{word}' is not of the form {option} {example}")
        given[name.strip()] = value.strip()
    return given


def _next(runs: Mapping[str, int], *, several: bool) -> str:
    """The next command to type, for the recipe with most runs; it has to be named where the store has several."""
    if not several or not runs:
        return "next: lawfit fit"
    largest = max(runs, key=lambda name: runs[name])
    if len(runs) < 2:
        return f"next: lawfit fit --recipe {shlex.quote(largest)}"
    others = f"{len(runs) - 1:,} other recipe{'s' * (len(runs) > 2)}"
    return f"next: lawfit fit --recipe {shlex.quote(largest)} (and {others}: lawfit runs list)"


def _exit_code(reports: Sequence[IngestReport], failures: Sequence[object]) -> ExitCode:
    if not reports:
        return ExitCode.FAILED
    if failures or any(report.rejections for report in reports):
        return ExitCode.REJECTED
    return ExitCode.OK


def _document(reports: Sequence[IngestReport], failures: Sequence[Mapping[str, str]], code: ExitCode) -> dict[str, Any]:
    document: dict[str, Any] = {
        "schema": "lawfit.ingest/1",
        "files": [report.to_json() for report in reports],
        "failed": list(failures),
    }
    if code is ExitCode.FAILED:
        message = "no file could be read: " + "; ".join(failure["message"] for failure in failures)
        document["error"] = {"type": failures[0]["type"], "message": message, "exit_code": int(code)}
    return document


def _show(report: IngestReport, like: str) -> None:
    """One file; its columns are listed unless they are those of the file `like`, which was shown before."""
    rows = [
        ("File", f"{report.file} ({report.format}, {counted(report.rows, 'row')})"),
        ("Recipe", ", ".join(report.recipes) or "-"),
    ]
    counts = [f"{report.inserted:,} new", f"{report.updated:,} updated", f"{report.unchanged:,} unchanged"]
    counts.append(f"{len(report.rejections):,} rejected")
    if report.of == "runs":
        rows.append(("Runs", ", ".join(counts) + f"; {report.diverged:,} diverged"))
    else:
        rows.append(("Targets" if report.of == "targets" else "Points", ", ".join(counts)))
    if report.curve_points and report.of == "runs":
        rows.append(("Curves", f"{report.curve_points:,} points added"))
    rows += [("Note" if i == 0 else "", sentence) for i, sentence in enumerate(report.notes)]
    if like != report.file:
        rows.append(("Columns", f"read as those of {like}"))
    show(pairs(rows))
    if like == report.file:
        columns = table(("field", "from column"), list(report.columns.items()))
        show(plain(""), heading("Columns as they were read"), columns)
    if report.rejections:
        shown = report.rejections[:REJECTIONS_SHOWN]
        cells = [("-" if item.line is None else str(item.line), item.column or "-", item.reason) for item in shown]
        if all(item.file == Path(report.file).name for item in shown):
            rejected = table(("line", "column", "reason"), cells, right=("line",))
        else:
            named = [(item.file, *row) for item, row in zip(shown, cells, strict=True)]
            rejected = table(("file", "line", "column", "reason"), named, right=("line",))
        show(plain(""), heading("Rejected"), rejected)
        if len(report.rejections) > REJECTIONS_SHOWN:
            note(f"{len(report.rejections) - REJECTIONS_SHOWN:,} more rejected rows; --json lists all of them")
    if report.dry_run:
        note("dry run: nothing was stored")
