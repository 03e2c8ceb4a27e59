"""`lawfit jobs`: what launches train, from any terminal: how far jobs are, why they were tried again, their end."""

from __future__ import annotations

import contextlib
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from lawfit.cli.options import DatabaseOption, JsonOption, open_store, whole_quantity
from lawfit.cli.output import heading, note, pairs, plain, print_json, show, table
from lawfit.units import counted, format_quantity

if TYPE_CHECKING:
    from lawfit.records import Attempt, TrainingJob
    from lawfit.storage import Store

app = typer.Typer(
    help="List the jobs of launches; show and cancel single ones.", invoke_without_command=True, no_args_is_help=False
)

SHOWN_AT_MOST = 40
LOOK_SECONDS = 2.0  # between two looks of --watch
MOST_WATCHED = 10_000
RUNS_SHOWN = 12

IdArgument = Annotated[str, typer.Argument(metavar="ID", help="As `lawfit jobs` shows it; its beginning is enough.")]


@app.callback()
def list_jobs(
    ctx: typer.Context,
    state: Annotated[
        str | None,
        typer.Option(
            metavar="STATE",
            help="Only these: queued, running, cancelling, lost, ended, stopped, split, failed, given_up, cancelled.",
            show_default=False,
        ),
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Look again and again, with bars, until nothing runs.")
    ] = False,
    limit: Annotated[
        int, typer.Option(parser=whole_quantity, metavar="K", help="Show at most K.", show_default="40")
    ] = SHOWN_AT_MOST,
    as_json: JsonOption = False,
    database: DatabaseOption = None,
) -> None:
    """List what launches train, the last launch first: packs of runs, or single runs of a trainer of your own.

    A job is queued, running, or over: ended; stopped with its launch or lost with it (the same `lawfit launch` goes
    on); split into smaller ones; failed, by its own words; given up after it died too often; cancelled.
    """
    from lawfit.storage.training_jobs import STATES, list_training_jobs

    if ctx.invoked_subcommand is not None:
        return
    if state is not None and state not in (*STATES, "lost"):
        raise typer.BadParameter(f"there is no state '{state}'; there are {', '.join((*STATES, 'lost'))}")
    if watch and (as_json or state):
        raise typer.BadParameter("--watch shows bars: leave --json and --state out")
    store = open_store(ctx, database)
    if watch:
        _watch(store)
        return
    found = list_training_jobs(store, state, limit=limit + 1)
    if as_json:
        print_json({"schema": "lawfit.jobs/1", "jobs": [job.to_json() for job in found[:limit]]})
        return
    if not found:
        note("there are no jobs" + (f" that are {state}" if state else "; lawfit launch makes some"))
        return
    _table(found[:limit])
    if len(found) > limit:
        note("there are more; --limit K shows more of them")
    if any(job.lost for job in found[:limit]):
        note("lost: the launch was killed; the same lawfit launch goes on with its jobs")


@app.command("show")
def show_job(
    ctx: typer.Context, job_id: IdArgument, as_json: JsonOption = False, database: DatabaseOption = None
) -> None:
    """Show one job: its runs, each attempt with how it ended, what it cost, and what it said last."""
    from lawfit.storage.training_jobs import training_job

    job = training_job(open_store(ctx, database), job_id)
    if as_json:
        print_json({"schema": "lawfit.job/1", **job.to_json()})
        return
    runs = ", ".join(job.runs[:RUNS_SHOWN])
    runs += f" and {len(job.runs) - RUNS_SHOWN:,} more" if len(job.runs) > RUNS_SHOWN else ""
    rows = [
        ("Job", f"{job.id}  {job.name}"),
        ("State", _state(job) + (f": {job.problem}" if job.problem else "")),
        ("Launch", f"{job.launch.id} on {job.launch.host}, backend {job.launch.backend}, began {job.launch.began_at}"),
        ("Logs", job.launch.logs),
        *([("Command", job.launch.command)] if job.launch.command else []),
        ("Runs", runs),
        ("Tokens", f"{format_quantity(job.tokens)} of {format_quantity(job.tokens_total)}" if job.tokens else "none"),
        ("Cost", _cost(job)),
    ]
    show(pairs(rows))
    if job.attempts:
        columns = ("attempt", "where", "began", "time", "ended by")
        shown = [
            (str(number), f"{a.place} of {a.host}", a.began_at, _time(a.seconds), _end(a))
            for number, a in enumerate(job.attempts, 1)
        ]
        show(plain(""), table(columns, shown, right=("attempt", "time")))
    if job.tail.strip():
        show(plain(""), heading("What it said last"), plain(job.tail.rstrip()))


@app.command("cancel")
def cancel(
    ctx: typer.Context, job_id: IdArgument, as_json: JsonOption = False, database: DatabaseOption = None
) -> None:
    """End one job, with a checkpoint where it runs; `lawfit launch` trains its runs when it is asked again.

    The launch hears of it within seconds, on whichever machine it is.
    """
    from lawfit.storage.training_jobs import cancel_training_job

    job = cancel_training_job(open_store(ctx, database), job_id)
    if as_json:
        print_json({"schema": "lawfit.job/1", **job.to_json()})
        return
    asked = "its launch ends it within seconds" if job.state == "cancelling" else f"nothing to end, it is {_state(job)}"
    note(f"job {job.id} ({job.name}): {asked}")


def _table(jobs: Sequence[TrainingJob]) -> None:
    """A line for each job."""
    priced = any(job.dollars is not None for job in jobs)
    metered = any(job.kwh is not None for job in jobs)
    columns = ["id", "job", "state", "where", "runs", "done", "attempts", "time", "GPU-hours"]
    columns += ["dollars"] * priced + ["kWh"] * metered
    rows = []
    for job in jobs:
        seconds = sum(attempt.seconds for attempt in job.attempts)
        row = [job.id, job.name, _state(job), _where(job), str(len(job.runs)), f"{_share(job):.0%}"]
        row += [str(len(job.attempts)), _time(seconds), f"{job.gpu_hours:.2f}"]
        row += ["-" if job.dollars is None else f"{job.dollars:.2f}"] if priced else []
        row += ["-" if job.kwh is None else f"{job.kwh:.3f}"] if metered else []
        rows.append(row)
    show(table(columns, rows, right=columns[4:]))


def _share(job: TrainingJob) -> float:
    """How much of it is done; a run that diverged has no more to train."""
    return 1.0 if job.state == "ended" or not job.tokens_total else min(1.0, job.tokens / job.tokens_total)


def _state(job: TrainingJob) -> str:
    return "lost" if job.lost else job.state.replace("_", " ")


def _where(job: TrainingJob) -> str:
    host = job.attempts[-1].host if job.attempts else job.launch.host
    return f"{job.place} of {host}" if job.place else f"for {host}"


def _cost(job: TrainingJob) -> str:
    parts = [f"{job.gpu_hours:.3f} GPU-hours"]
    parts += [f"{job.dollars:.2f} dollars"] if job.dollars is not None else []
    parts += [f"{job.kwh:.3f} kWh"] if job.kwh is not None else []
    return ", ".join(parts)


def _end(attempt: Attempt) -> str:
    if attempt.ended_at is None:
        return "(runs)"
    word = attempt.reason.replace("_", " ")
    return f"{word}: {attempt.said}" if attempt.said and attempt.said != word else word


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _watch(store: Store) -> None:
    """Bars on a terminal, a line now and then elsewhere, until no job waits or runs."""
    from lawfit.storage.training_jobs import OPEN, list_training_jobs

    last: list[TrainingJob] = []
    with contextlib.suppress(KeyboardInterrupt), _shown() as draw:
        while True:
            jobs = list_training_jobs(store, limit=MOST_WATCHED)
            last = [job for job in jobs if job.launch.ended_at is None or job.launch.id == jobs[0].launch.id]
            draw(last)
            if not any(job.state in OPEN and not job.lost for job in last):
                break
            time.sleep(LOOK_SECONDS)
    _counts(last)


def _counts(jobs: Sequence[TrainingJob]) -> None:
    counts: dict[str, int] = {}
    for job in jobs:
        counts[_state(job)] = counts.get(_state(job), 0) + 1
    said = ", ".join(f"{number:,} {state}" for state, number in counts.items())
    show(plain(f"{counted(len(jobs), 'job')}: {said}" if jobs else "there are no jobs"))
    failed = next((job for job in jobs if job.state in ("failed", "given_up")), None)
    if failed is not None:
        note(f"lawfit jobs show {shlex.quote(failed.id)} says why {failed.name} failed")


@contextlib.contextmanager
def _shown() -> Iterator[Callable[[Sequence[TrainingJob]], None]]:
    """What draws jobs."""
    if not sys.stderr.isatty():
        said: list[str] = []

        def lines(jobs: Sequence[TrainingJob]) -> None:
            over = sum(job.state in ("ended", "split") for job in jobs)
            line = f"{over:,} of {counted(len(jobs), 'job')} done, {sum(j.state == 'running' for j in jobs):,} running"
            if [line] != said:
                note(line)
                said[:] = [line]

        yield lines
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskID, TextColumn

    columns = (
        TextColumn("{task.description}", markup=False), BarColumn(bar_width=24), TextColumn("{task.fields[words]}"),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True, highlight=False), transient=True) as bars:
        whole = bars.add_task("all", total=1.0, words="")
        shown: dict[str, TaskID] = {}

        def draw(jobs: Sequence[TrainingJob]) -> None:
            over = sum(job.state in ("ended", "split") for job in jobs)
            bars.update(whole, total=max(1, len(jobs)), completed=over, words=f"{over:,}/{len(jobs):,} jobs")
            running = {job.id: job for job in jobs if job.state in ("running", "cancelling") and not job.lost}
            for job_id in set(shown) - set(running):
                bars.remove_task(shown.pop(job_id))
            for job_id, job in running.items():
                if job_id not in shown:
                    shown[job_id] = bars.add_task(f"{job_id}  {_where(job)}  {job.name}", total=1.0, words="")
                bars.update(shown[job_id], completed=_share(job), words=f"{_share(job):.0%}")

        yield draw
