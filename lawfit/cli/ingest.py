"""`lawfit ingest`: tables of finished runs into the store, saying what was recognised and what was rejected."""

from __future__ import annotations

import gc
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lawfit.cli.gathered import Options, gathers
from lawfit.cli.main import ExitCode
from lawfit.cli.options import DatabaseOption, JsonOption, open_store, quantity, whole_quantity
from lawfit.cli.output import heading, note, pairs, plain, print_error, print_json, progress, show, table
from lawfit.errors import Doubted, LawfitError, NoRun, Unavailable
from lawfit.findings import finding
from lawfit.units import PARAMS_CONVENTIONS, counted

if TYPE_CHECKING:
    from lawfit.cli.questions import Doubts
    from lawfit.ingest.options import IngestOptions
    from lawfit.ingest.source import Source
    from lawfit.ingest.table import Table
    from lawfit.pipeline.ingesting import SourceRead
    from lawfit.records import IngestReport, Rejection
    from lawfit.storage.store import Store

REJECTIONS_SHOWN = 20


class BatchUnit(StrEnum):
    """What the batch column counts."""

    TOKENS = "tokens"
    SEQUENCES = "sequences"


def _held(name: str, what: str) -> Any:
    return typer.Option(f"--{name}", metavar="TEXT", help=f"Recipe: {what}", show_default=False)


def _pair(name: str, metavar: str, what: str) -> Any:
    return typer.Option(f"--{name}", metavar=metavar, help=what, show_default=False)


@dataclass(frozen=True, kw_only=True)
class Reading(Options):
    """How the files are read: what their columns mean, and what they do not say."""

    mapping: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            metavar="COLUMN=FIELD",
            help="Read FIELD (params, tokens, batch_tokens, lr, loss, ...) from COLUMN, not as guessed; repeatable.",
            show_default=False,
        ),
    ] = None
    recipe: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="What to call the recipe. [default: the file's name]", show_default=False),
    ] = None
    seq_len: Annotated[
        int | None,
        typer.Option(
            parser=whole_quantity,
            metavar="T",
            help="Tokens per sequence; needed when the batch counts sequences.",
            show_default=False,
        ),
    ] = None
    batch_unit: Annotated[
        BatchUnit | None,
        typer.Option(help="What the batch column counts, when its name does not say.", show_default=False),
    ] = None
    optimizer: Annotated[str | None, _held("optimizer", "adamw, muon, ...")] = None
    schedule: Annotated[str | None, _held("schedule", "learning-rate schedule, such as 'cosine to 10 %'.")] = None
    data: Annotated[str | None, _held("data", "training corpus.")] = None
    tokenizer: Annotated[str | None, _held("tokenizer", "tokenizer.")] = None
    parametrization: Annotated[str | None, _held("parametrization", "standard, mup, ...")] = None
    params_convention: Annotated[
        str | None, _held("params-convention", f"what the parameter count counts: {', '.join(PARAMS_CONVENTIONS)}.")
    ] = None
    held: Annotated[
        list[str] | None,
        typer.Option(
            "--held",
            metavar="NAME=VALUE",
            help="Recipe: anything else held fixed, such as beta2=0.95; repeatable.",
            show_default=False,
        ),
    ] = None
    file_format: Annotated[
        str | None,
        typer.Option(
            "--format", metavar="NAME", help="Format, when neither name nor content tells it.", show_default=False
        ),
    ] = None
    units: Annotated[
        list[str] | None, _pair("unit", "COLUMN=UNIT", "Unit of a column: K, M, B, T, 1e-3, log10, ln, 1; repeatable.")
    ] = None
    constants: Annotated[
        list[str] | None,
        _pair("set", "FIELD=VALUE", "A constant that no column says: batch_tokens=524288; repeatable."),
    ] = None
    split: Annotated[
        list[str] | None, _pair("split", "COLUMN", "A setting: its levels are recipes of their own; repeatable.")
    ] = None
    pool: Annotated[
        list[str] | None, _pair("pool", "COLUMN", "Noise: runs that differ in it are seeds of each other; repeatable.")
    ] = None
    only: Annotated[list[str] | None, _pair("only", "COLUMN=VALUE", "Read these rows alone; repeatable.")] = None
    fill: Annotated[
        list[str] | None,
        _pair("fill", "COLUMN=down", "Empty cells are as the row above, or =no: they are empty; repeatable."),
    ] = None
    metric: Annotated[
        str | None,
        _pair("metric", "KIND", "What the loss measures: nats, bits_per_byte, perplexity, error, score, ..."),
    ] = None
    kind: Annotated[str | None, _pair("kind", "KIND", "What a row is: runs, curves, targets or losses.")] = None
    size_from: Annotated[
        str | None, _pair("size-from", "FAMILY", "Count parameters from the shape: gpt, llama or mixtral.")
    ] = None

    def options(self, manner: Manner) -> IngestOptions:
        """With the answers of a mapping file that is there; what cannot be is a usage error."""
        from lawfit.ingest.options import IngestOptions, read_mapping

        recipe_fields = self._recipe_fields()
        try:
            options = IngestOptions(
                column_map=_assignments(self.mapping or [], "--map", "learning_rate=lr"),
                recipe=self.recipe,
                seq_len=self.seq_len,
                batch_unit=None if self.batch_unit is None else self.batch_unit.value,
                recipe_fields=recipe_fields,
                format=self.file_format,
                dry_run=manner.dry_run,
                units=_assignments(self.units or [], "--unit", "tokens=B"),
                constants=_assignments(self.constants or [], "--set", "batch_tokens=524288"),
                split=tuple(self.split or ()),
                pool=tuple(self.pool or ()),
                only=_assignments(self.only or [], "--only", "attention=gqa"),
                fill=_assignments(self.fill or [], "--fill", "params=down"),
                metric=self.metric,
                kind=self.kind,
                size_from=self.size_from,
                yes=manner.yes,
            )
            if manner.mapping_file is not None and manner.mapping_file.exists():
                options = read_mapping(manner.mapping_file, options)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
        return options

    def _recipe_fields(self) -> dict[str, str]:
        stated = ("optimizer", "schedule", "data", "tokenizer", "parametrization", "params_convention")
        fields: dict[str, str | None] = {name: getattr(self, name) for name in stated}
        fields |= _assignments(self.held or [], "--held", "beta2=0.95")
        return {name: value for name, value in fields.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class Manner(Options):
    """How often is looked, who answers questions, and whether anything is stored."""

    mapping_file: Annotated[
        Path | None,
        typer.Option(
            "--mapping",
            metavar="FILE",
            help="Answers: read where it is there, and written for the next time.",
            show_default=False,
        ),
    ] = None
    watch: Annotated[
        bool, typer.Option("--watch", help="Go on looking, and store what is new or has grown; Ctrl-C ends it.")
    ] = False
    interval: Annotated[
        float,
        typer.Option(parser=quantity, metavar="SECONDS", help="Time between two looks of --watch."),
    ] = 10.0
    yes: Annotated[bool, typer.Option("--yes", help="Take the safe answer to each question that has one.")] = False
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would happen, and store nothing.")] = False


@gathers
def ingest(
    ctx: typer.Context,
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...",
            help="CSV, TSV, JSON lines or Parquet, one row per run; logs of trackers and trainers (W&B, MLflow, "
            "TensorBoard, Trainer, Lightning, Trackio, Optuna, text); a folder with any of them in it or below; "
            "postgresql://...; wandb://ENTITY/PROJECT; tables of curves (run_id, step, train_loss, ...).",
        ),
    ],
    reading: Reading,
    manner: Manner,
    as_json: JsonOption = False,
    database: DatabaseOption = None,
) -> None:
    """Store finished runs from tables, one row per run. The same file twice changes nothing; a corrected row updates.

    Columns are recognised by name, and the guess is shown; --map overrides it. What a sweep holds fixed is its
    recipe: runs of different recipes are never pooled. Rows that cannot be used are listed with line, column and
    reason, the rest is stored. What a file leaves open is asked at once, and nothing of it is stored before it is
    answered: by the flags that each question names, on a terminal, or in a file (--mapping). Exit code 3: some rows
    (or files) were rejected, or questions are open. With --watch, runs are stored as they come, a line for each
    change; what has a question waits for its answer in the mapping file.
    """
    from lawfit.cli.questions import Doubts
    from lawfit.cli.watch import follow

    options, mapping_file = reading.options(manner), manner.mapping_file
    if manner.watch:
        store = open_store(ctx, database, create=True)
        follow(store, files, options, mapping_file, manner.interval, as_json=as_json)
        return
    # Rows are millions of objects in no cycle: looking through them for garbage is a fifth of the time. Who runs
    # commands inside a process of their own gets their collector back.
    ctx.call_on_close(partial(gc.set_threshold, *gc.get_threshold()))
    gc.set_threshold(500_000, 20, 20)
    doubts = Doubts(mapping_file, as_json=as_json)
    open_at = partial(open_store, ctx, database, create=True)
    intake = Intake(open_at, options, doubts, dry_run=manner.dry_run, quiet=as_json)
    intake.take(files)
    code = _exit_code(intake.reports, intake.failures) if intake.stopped is None else ExitCode.FAILED
    doubts.write()
    if as_json:
        print_json(_document(intake.reports, intake.failures, code, intake.stopped))
    else:
        _say_next(intake, dry_run=manner.dry_run)
    if code is not ExitCode.OK:
        raise typer.Exit(int(code))


class Intake:
    """Tables that are read and stored one after the other, and what became of each.

    Parameters
    ----------
    open_at : the store; one that is not there yet is made once there is something to put into it, not by a bad file
    doubts : who answers questions
    """

    def __init__(
        self, open_at: Callable[..., Store], options: IngestOptions, doubts: Doubts, *, dry_run: bool, quiet: bool
    ) -> None:
        self._open, self._options, self._doubts, self._quiet = open_at, options, doubts, quiet
        self.store, self._made = open_at(dry_run=True), dry_run
        self.reports: list[IngestReport] = []
        self.failures: list[dict[str, Any]] = []
        self.stopped: Unavailable | None = None  # by what no further file was tried
        self.waiting: list[tuple[str | Source, Table | None, bool]] = []  # whether it is tried for the first time
        self._known = 0  # of tables, as far as they are found
        self._shown: dict[frozenset[tuple[str, str]], str] = {}  # columns -> the first file that has them

    def take(self, files: Sequence[str]) -> None:
        """All files, and what is found in them; of a single one, a failure is raised."""
        self._known = len(files)
        self.waiting = [(name, None, True) for name in files]
        while self.waiting and self.stopped is None:
            path, table, first = self.waiting.pop(0)
            try:
                if table is None:
                    self._find(path)
                else:
                    self._store(path, table)
            except LawfitError as error:
                if isinstance(error, NoRun) and first and self._known > 1:
                    self.waiting.append((path, table, False))  # curves before their runs: again, after the others
                    continue
                if self._known == 1 and not isinstance(error, Doubted):
                    raise
                self._fail(path, error)

    def _find(self, path: str | Source) -> None:
        """A folder or a database may hold many tables."""
        from lawfit.ingest.source import Source
        from lawfit.pipeline.ingesting import find_tables

        with progress(f"reading {Path(str(path)).name}", quiet=self._quiet):
            several = find_tables(path, self._options, self.store)
        parts = [(each, None) if isinstance(each, Source) else (path, each) for each in several]
        self.waiting[:0] = [(part, table, True) for part, table in parts]
        self._known += len(parts) - 1

    def _store(self, path: str | Source, table: Table) -> None:
        from lawfit.pipeline.ingesting import store_source

        read = self._doubts.settle(partial(_read, path, table, self._quiet), self._options)
        if not self._made and read.begins_a_store:
            self.store, self._made = self._open(), True
        with progress(f"storing {Path(str(path)).name}", quiet=self._quiet):
            report = store_source(self.store, read)
        self.reports.append(report)
        if not self._quiet:
            if self.reports[1:]:
                show(plain(""))
            _show(report, self._shown.setdefault(frozenset(report.columns.items()), report.file))

    def _fail(self, path: str | Source, error: LawfitError) -> None:
        from lawfit.ingest.source import without_password

        asked = {"questions": list(error.questions)} if isinstance(error, Doubted) else {}
        named = without_password(str(path))
        self.failures.append({"file": named, "type": type(error).__name__, "message": str(error), **asked})
        if not self._quiet:
            print_error(type(error).__name__, str(error), ExitCode.FAILED, as_json=False)
        if isinstance(error, Unavailable):
            self.stopped = error
            self.failures += [_not_tried(later, error) for later, _, _ in self.waiting]


def _say_next(intake: Intake, *, dry_run: bool) -> None:
    """What was not tried, or the next command to type."""
    from lawfit.storage.database import persistently

    if intake.stopped is not None:
        if intake.waiting:
            note(f"{counted(len(intake.waiting), 'further file was', 'further files were')} not tried")
    elif not dry_run and (recipes := {name for report in intake.reports for name in report.recipes}):
        stored = {summary.recipe.name: summary.runs for summary in persistently(intake.store.recipes)}
        note(_next({name: runs for name, runs in stored.items() if name in recipes}, several=len(stored) > 1))


def _not_tried(path: str | Source, error: Unavailable) -> dict[str, Any]:
    from lawfit.ingest.source import without_password

    message = str(finding("storage.not_tried"))
    return {"file": without_password(str(path)), "type": type(error).__name__, "message": message}


def _read(path: str | Source, table: Table, quiet: bool, options: IngestOptions) -> SourceRead:
    from lawfit.pipeline.ingesting import label_of, read_source

    with progress(f"reading {Path(str(path)).name}", quiet=quiet):
        return read_source(label_of(path, table), options, table)


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


def _exit_code(reports: Sequence[IngestReport], failures: Sequence[Mapping[str, Any]]) -> ExitCode:
    if not reports:
        return ExitCode.REJECTED if any("questions" in failure for failure in failures) else ExitCode.FAILED
    if failures or any(report.rejections for report in reports):
        return ExitCode.REJECTED
    return ExitCode.OK


def _document(
    reports: Sequence[IngestReport],
    failures: Sequence[Mapping[str, Any]],
    code: ExitCode,
    stopped: Unavailable | None,
) -> dict[str, Any]:
    document: dict[str, Any] = {
        "schema": "lawfit.ingest/1",
        "files": [report.to_json() for report in reports],
        "failed": list(failures),
    }
    if stopped is not None:
        document["error"] = {"type": type(stopped).__name__, "message": str(stopped), "exit_code": int(code)}
    elif not reports:
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
        rows.append(({"targets": "Targets", "losses": "Losses"}.get(report.of, "Points"), ", ".join(counts)))
    if report.curve_points and report.of == "runs":
        rows.append(("Curves", f"{report.curve_points:,} points added"))
    rows += [("Note" if i == 0 else "", sentence) for i, sentence in enumerate(report.notes)]
    if like != report.file:
        rows.append(("Columns", f"read as those of {like}"))
    show(pairs(rows))
    if like == report.file and report.columns:
        columns = table(("field", "from column"), list(report.columns.items()))
        show(plain(""), heading("Columns as they were read"), columns)
    if report.rejections:
        _show_rejections(report)
    if report.dry_run:
        note("dry run: nothing was stored")


def _show_rejections(report: IngestReport) -> None:
    """One line per reason: how many rows, and the first of them."""
    groups: dict[tuple[str, str | None, str], list[Rejection]] = {}
    for item in report.rejections:
        groups.setdefault((item.file, item.column, _kind_of(item.reason)), []).append(item)
    shown = list(groups.values())[:REJECTIONS_SHOWN]
    cells = []
    for group in shown:
        line = "-" if group[0].line is None else str(group[0].line)
        first = group[0].reason if len(group) == 1 else f"{len(group):,} rows: {group[0].reason}, first at line {line}"
        cells.append((group[0].file, line, group[0].column or "-", first))
    if all(group[0].file == Path(report.file).name for group in shown):
        rejected = table(("line", "column", "reason"), [row[1:] for row in cells], right=("line",))
    else:
        rejected = table(("file", "line", "column", "reason"), cells, right=("line",))
    show(plain(""), heading("Rejected"), rejected)
    if len(groups) > REJECTIONS_SHOWN:
        note(f"rows rejected for {len(groups) - REJECTIONS_SHOWN:,} more reasons; --json lists all of them")


def _kind_of(reason: str) -> str:
    """A reason less the numbers that it quotes and counts, so that rows with the same fault are one line."""
    return re.sub(r"'[^']*[0-9][^']*'|[0-9][0-9.,e+-]*", "*", reason)
