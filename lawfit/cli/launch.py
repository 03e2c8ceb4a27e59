"""`lawfit launch`: train grids and packs here or on a cluster, follow them, and store each run as it ends."""

from __future__ import annotations

import contextlib
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lawfit.cli.gathered import Options, gathers
from lawfit.cli.launch_options import launches
from lawfit.cli.main import ExitCode
from lawfit.cli.options import DatabaseOption, JsonOption, open_store, quantity, settings_for
from lawfit.cli.output import heading, note, pairs, plain, print_json, show, table
from lawfit.units import format_quantity

if TYPE_CHECKING:
    from lawfit.launch import Failure, LaunchOptions, LaunchReport, Progress, Result, Running

PACKS_SHOWN = 20
LINE_SECONDS = 30.0  # between two lines where no terminal shows bars


@dataclass(frozen=True, kw_only=True)
class Training(Options):
    """What trains, what it costs, and what the sweep is called."""

    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="What to call the sweep in the database, where it is a new one. [default: the first file's name]",
            show_default=False,
        ),
    ] = None
    template: Annotated[
        str | None,
        typer.Option(
            "--template",
            metavar="COMMAND",
            help="Train with a command of your own, a job for each run: 'torchrun train.py --lr {lr} --steps {steps} "
            "--out {folder}', or a file NAME.toml that holds it (docs/own-trainer.md).",
            show_default=False,
        ),
    ] = None
    template_format: Annotated[
        str | None,
        typer.Option(
            "--template-format",
            metavar="NAME",
            help="Format of the log that it writes, as of lawfit ingest --format. [default: auto, told from the log]",
            show_default=False,
        ),
    ] = None
    trial: Annotated[
        bool, typer.Option("--trial", help="Run one short job of the template first, and read its log.")
    ] = False
    dollars_per_gpu_hour: Annotated[
        float | None,
        typer.Option(
            "--dollars-per-gpu-hour",
            parser=quantity,
            metavar="X",
            help="What a GPU costs an hour: lawfit jobs then says what jobs cost.",
            show_default=False,
        ),
    ] = None
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be trained, and train nothing.")] = False

    def options(self, given: Mapping[str, Any]) -> LaunchOptions:
        """With what is said of how packs are run; a template that cannot be is a usage error."""
        from lawfit.launch import LaunchOptions, read_template

        try:
            return LaunchOptions.of(
                given,
                recipe=self.recipe,
                dollars_per_gpu_hour=self.dollars_per_gpu_hour,
                template=None if self.template is None else read_template(self.template, self.template_format),
                trial=self.trial,
                dry_run=self.dry_run,
            )
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None


@launches
@gathers
def launch(
    ctx: typer.Context,
    files: Annotated[
        list[Path], typer.Argument(metavar="GRID_OR_PACK...", help="Grid files and pack files (JSON), in any mixture.")
    ],
    given: dict[str, Any],
    training: Training,
    as_json: JsonOption = False,
    database: DatabaseOption = None,
) -> None:
    """Train the runs of grid and pack files, with lawfit's trainer or your own, here or on a cluster, and store each.

    Runs that the database has, or that another launch trains, are left out. It can be stopped at any time (Ctrl-C:
    packs leave a checkpoint; twice: at once) and killed in any way: the same command goes on where the logs end. A pack
    that dies is tried again, smaller; one that keeps failing is listed with what it said. lawfit jobs shows all of it
    from any terminal. A grid file lists what to combine:

    \b
      {"base": {"seq_len": 256, "corpus": "corpus", "eval_sequences": 4096},
       "warmup_fraction": 0.1,
       "shapes": {"0.8M": {"layers": 4, "width": 128, "heads": 4,
                           "hidden": 352}},
       "run": {"schedule": "linear", "beta2": 0.95},
       "blocks": [{"shape": "0.8M", "tokens": [16e6, 32e6],
                   "batch_tokens": [4096, 16384], "lr": [0.005, 0.01, 0.02],
                   "weight_decay": [0.1], "seeds": [0, 1]}]}

    A block is the product of its lists: here 2 x 2 x 3 x 1 x 2 runs. Batches are in tokens per step, multiples of
    seq_len. base holds fields of packs and of all models, shapes of models, run of runs; a block may say any of them
    again, and list those of runs. All fields with their defaults: python -m lawfit.train --schema. The validation part
    of the corpus must hold eval_sequences sequences: of a small corpus, ask for fewer. A run of more tokens than the
    training part has reads them again; "unique_tokens": [4e6, 16e6] in a block has its runs read so many tokens over
    and over.

    Exit code 3: some runs failed, the rest is stored. 5: the deadline came first. 130: stopped by a signal.
    """
    from lawfit import pipeline
    from lawfit.launch import make_plan
    from lawfit.storage.database import Location

    options = training.options(given)
    path = Location.parse(settings_for(ctx, database).database_url).path
    if not options.dry_run and path is not None and not path.exists():
        make_plan(files, lambda _: {}, options)  # what stands against a launch is said before there is a new file
    store = open_store(ctx, database, create=True, dry_run=options.dry_run)
    with shown(quiet=as_json) as progress:
        report = pipeline.launch(store, files, options, progress=progress)
    code = _exit_code(report)
    if as_json:
        print_json(_document(report, code))
    else:
        _summary(report)
        _advise(report)
    if code is not ExitCode.OK:
        raise typer.Exit(int(code))


def _exit_code(report: LaunchReport) -> ExitCode:
    result = report.result
    if result is None:
        return ExitCode.OK
    if result.stopped_by == "signal":
        return ExitCode.INTERRUPTED
    if report.not_stored or result.stopped_by == "failing":
        return ExitCode.FAILED
    if result.failures or report.rejections:
        return ExitCode.REJECTED if result.finished or result.diverged else ExitCode.FAILED
    return ExitCode.UNFINISHED if result.unfinished else ExitCode.OK


def _document(report: LaunchReport, code: ExitCode) -> dict[str, Any]:
    document = {"schema": "lawfit.launch/1", **report.to_json()}
    if code is ExitCode.FAILED and report.result is not None:
        message = report.not_stored or _why_nothing(report)
        document["error"] = {"type": "LaunchError", "message": message, "exit_code": int(code)}
    return document


def _why_nothing(report: LaunchReport) -> str:
    """Why nothing more was trained, from what failed first."""
    failures = [failure.reason for failure in report.result.failures] if report.result else []
    first = next(iter([*failures, *(rejection.reason for rejection in report.rejections)]), "nothing is known of it")
    return f"no run ended: {first}"


@contextlib.contextmanager
def shown(*, quiet: bool) -> Iterator[Callable[[Progress], None] | None]:
    """How progress is shown: bars on a terminal, lines elsewhere, on stderr."""
    if quiet:
        yield None
    elif sys.stderr.isatty():
        with _bars() as draw:
            yield draw
    else:
        yield _Lines().take


class _Lines:
    """A line for what happens, and one now and then for how far it is."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def take(self, progress: Progress) -> None:
        for sentence in progress.news:
            note(sentence)
        if time.monotonic() - self._last >= LINE_SECONDS:
            self._last = time.monotonic()
            note(_line(progress))


@contextlib.contextmanager
def _bars() -> Iterator[Callable[[Progress], None]]:
    """A bar for all of it, and one for each pack in training."""
    from rich.console import Console
    from rich.progress import BarColumn, TaskID, TextColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}", markup=False), BarColumn(bar_width=24), TextColumn("{task.fields[words]}"),
    )  # fmt: skip
    console = Console(stderr=True, highlight=False)
    with Bars(*columns, console=console, transient=True) as bars:
        whole = bars.add_task("all", total=1.0, words="starting")
        packs: dict[str, TaskID] = {}

        def draw(progress: Progress) -> None:
            for sentence in progress.news:
                bars.console.print(plain(sentence))
            bars.update(whole, total=max(1, progress.tokens_total), completed=progress.tokens, words=_words(progress))
            names: dict[str, Running] = {}
            for running in progress.running:
                name = f"{running.place}  {running.pack}"
                while name in names:  # two parts of one pack
                    name += " "
                names[name] = running
            for name in set(packs) - set(names):
                bars.remove_task(packs.pop(name))
            for name, running in names.items():
                if name not in packs:
                    packs[name] = bars.add_task(name, total=1.0, words="")
                words = "starting" if not running.tokens else f"{running.tokens / running.tokens_total:.0%}"
                bars.update(packs[name], total=running.tokens_total, completed=running.tokens, words=words)

        yield draw


def _words(progress: Progress) -> str:
    """How far a launch is: runs, tokens, time."""
    parts = [f"{progress.finished + progress.diverged}/{progress.runs} runs"]
    parts += [f"{progress.diverged} diverged"] if progress.diverged else []
    parts += [f"{progress.failed} failed"] if progress.failed else []
    parts.append(f"{format_quantity(progress.tokens)}/{format_quantity(progress.tokens_total)} tokens")
    if progress.seconds_left is not None and progress.tokens < progress.tokens_total:
        parts.append(f"{_time(progress.seconds_left)} left")
    return ", ".join(parts)


def _line(progress: Progress) -> str:
    return f"{_time(progress.seconds)}: {_words(progress)}"


def _time(seconds: float) -> str:
    """``75`` -> ``1:15``, ``4000`` -> ``1:06:40``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _summary(report: LaunchReport) -> None:
    """What was asked for, what came of it, and what failed and why."""
    plan, result = report.plan, report.result
    asked = f"{len(plan.asked):,} asked for"
    there = len({*plan.known, *plan.in_logs})
    asked += f", {there:,} there already" if there else ""
    template = plan.options.template
    source = ("Corpus", f"{plan.corpus.folder} ({plan.corpus.hash})")
    rows = [source if template is None else ("Command", template.text), ("Runs", asked)]
    if result is None:
        tokens = sum(pack.tokens for pack in plan.packs)
        rows.append(("Packs", f"{len(plan.packs):,} to train, {format_quantity(tokens)} tokens"))
        show(pairs(rows))
        if plan.packs:
            _show_packs(report)
        _warn(report)
        note("dry run: nothing was trained")
        return
    rows.append(("Trained", _outcome(result) if plan.tasks else "nothing: every run is there already"))
    if report.recipes:
        rows.append(("Stored", f"{report.new:,} new in {', '.join(report.recipes)}"))
    if report.not_stored:
        rows.append(("Not stored", report.not_stored))
    rows.append(("Logs", str(plan.options.logs)))
    show(pairs(rows))
    if result.failures:
        show(plain(""), heading("Failed"))
        _show_failures(result)
    for rejection in report.rejections:
        note(f"{rejection.file}: {rejection.reason}")
    for sentence in report.notes:
        note(sentence)


def _show_failures(result: Result) -> None:
    """What failed and why; what failed alike is said once."""
    alike: dict[tuple[str, str], list[Failure]] = {}
    for failure in result.failures:
        alike.setdefault((failure.reason, failure.tail), []).append(failure)
    for (reason, tail), failures in alike.items():
        others = f" and {len(failures) - 1:,} more like it" if len(failures) > 1 else ""
        runs = sum(len(failure.runs) for failure in failures)
        show(plain(f"{failures[0].pack}{others} ({runs:,} run{'s' * (runs != 1)}): {reason}"))
        if tail and tail.strip() != f"error: {reason}":
            show(plain("\n".join(f"  {line}" for line in tail.splitlines())))


def _outcome(result: Result) -> str:
    failed = sum(len(failure.runs) for failure in result.failures)
    parts = [f"{len(result.finished):,} finished", f"{len(result.diverged):,} diverged"]
    parts += [f"{failed:,} failed"] if failed else []
    parts += [f"{len(result.unfinished):,} not done"] if result.unfinished else []
    parts += [f"{len(result.elsewhere):,} trained by another launch"] if result.elsewhere else []
    return f"{', '.join(parts)}; {format_quantity(result.tokens)} tokens in {_time(result.seconds)}, start-up included"


def _show_packs(report: LaunchReport) -> None:
    packs = report.plan.packs
    rows = [
        (pack.name, str(pack.runs), f"{pack.steps:,}", format_quantity(pack.tokens), "goes on" if pack.resumes else "")
        for pack in packs[:PACKS_SHOWN]
    ]
    columns = ("pack", "runs", "steps", "tokens", "")
    show(plain(""), table(columns, rows, right=columns[1:4]))
    if len(packs) > PACKS_SHOWN:
        note(f"{len(packs) - PACKS_SHOWN:,} more packs; --json lists all of them")


def _warn(report: LaunchReport) -> None:
    for sentence in report.plan.caveats:
        note(f"! {sentence}")


def _advise(report: LaunchReport) -> None:
    """The next command to type."""
    result = report.result
    if result is None:
        return
    _warn(report)
    if result.stopped_by == "failing":
        note(f"stopped: the first jobs all failed alike, and so would the rest; {_why_nothing(report)}")
    elif report.not_stored and report.plan.options.template is None:
        note(f"next: lawfit ingest {shlex.quote(str(report.plan.options.logs))}")
    elif report.not_stored or result.stopped_by or result.unfinished:
        note("next: the same command again; it goes on from there")
    elif result.failures:
        note("next: see what failed above; the same command tries only that again")
    elif report.recipes:
        first, *others = sorted(report.recipes)
        choice = f" --recipe {shlex.quote(first)} (or {', '.join(others)})" if others else ""
        note(f"next: lawfit fit{choice}")
    elif not report.plan.tasks:
        note("nothing is left to train; next: lawfit fit")
