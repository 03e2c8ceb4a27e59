"""A campaign: all jobs of a launch, from the first start to the last log that was read, with what went wrong."""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lawfit.launch import folder
from lawfit.launch.folder import Task
from lawfit.launch.follow import Follower, ended_runs
from lawfit.launch.launcher import Job, JobState, JobStatus, Launcher
from lawfit.proxy.trunks import halves, plan
from lawfit.records import Json
from lawfit.units import counted

RETRIES: Final = 2  # of a pack that died and came no further: from its checkpoint if it left one, else in halves
POLL_SECONDS: Final = 0.2
PACE_SECONDS: Final = 5.0  # of training before it is said how long the rest takes
TAIL_LINES: Final = 12
DEADLINE: Final = "deadline"
SIGNAL: Final = "signal"
DEADLINE_GRACE_SECONDS: Final = 20.0
_OWN_ERROR: Final = re.compile(r"^error: (.*)", re.MULTILINE)  # the trainer's: trying again gives the same


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A pack that was given up."""

    pack: str
    runs: tuple[str, ...]  # those that have not ended
    reason: str  # one sentence
    tail: str  # of its stderr


@dataclass(frozen=True, kw_only=True)
class Running:
    """A pack in training."""

    pack: str
    place: str
    tokens: int  # trained
    tokens_total: int


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How a campaign stands."""

    runs: int  # to be trained by this launch
    finished: int
    diverged: int
    failed: int
    tokens: int
    tokens_total: int
    packs_waiting: int
    running: tuple[Running, ...]
    seconds: float
    seconds_left: float | None  # at the pace so far; None before there is one
    news: tuple[str, ...]  # plain sentences, since the last report


@dataclass(frozen=True, kw_only=True)
class Result:
    """How a campaign ended."""

    finished: tuple[str, ...]  # ids of runs
    diverged: tuple[str, ...]
    unfinished: tuple[str, ...]  # stopped, or never begun; the same launch goes on with them
    failures: tuple[Failure, ...]
    tokens: int  # trained by this launch
    seconds: float
    stopped_by: str  # "", DEADLINE or SIGNAL

    def to_json(self) -> dict[str, Json]:
        return dataclasses.asdict(self)


@dataclass
class _Entry:
    task: Task
    attempt: int = 0  # deaths since it last came further
    reached: int = 0  # tokens of all its runs at its last death
    state: JobState = dataclasses.field(default_factory=lambda: JobState(status=JobStatus.QUEUED))


class Campaign:
    """Trains tasks through a launcher.

    Parameters
    ----------
    command : (file of the pack) -> command line that trains it
    ended : called with the logs of runs that have ended, soon after
    report : called several times a second
    stop : says why the campaign is to stop (DEADLINE or SIGNAL), or nothing
    news : sentences that the first report brings
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        launcher: Launcher,
        logs: Path,
        *,
        command: Callable[[Path], Sequence[str]],
        ended: Callable[[Sequence[Path]], None],
        report: Callable[[Progress], None] = lambda _: None,
        stop: Callable[[], str] = lambda: "",
        news: Sequence[str] = (),
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._launcher, self._logs = launcher, logs
        self._command, self._ended, self._report, self._stop = command, ended, report, stop
        self._clock, self._sleep = clock, sleep
        self._shared = {run_id: tokens for task in tasks for run_id, tokens in _shared_tokens(task).items()}
        tokens = {i: number - self._shared.get(i, 0) for task in tasks for i, number in task.tokens.items()}
        before = ended_runs(tokens, logs)  # of packs that go on
        self._tokens = {run_id: number for run_id, number in tokens.items() if run_id not in before}
        self._follower = Follower(logs)
        self._at_start: dict[str, int] = {}
        self._moving_since: float | None = None  # the first tokens: before them lies compilation, which is no pace
        self._entries: dict[str, _Entry] = {}
        self._failures: list[Failure] = []
        self._news = list(news)
        self._waiting_said: set[str] = set()
        for task in tasks:
            self._entries[task.name] = _Entry(task)

    def run(self) -> Result:
        """To the end of the last job, or until told to stop."""
        start = self._clock()
        self._follower.look(self._tokens)
        self._at_start = {run_id: self._trained(run_id) for run_id in self._follower.runs}
        stopped_by, stopped_at = "", 0.0
        try:
            for entry in list(self._entries.values()):
                self._submit(entry)
            while self._entries:
                for entry in list(self._entries.values()):
                    self._tend(entry, stopped_by)
                self._hand_on(self._follower.look(self._in_training()))
                if not stopped_by and (stopped_by := self._stop()):
                    stopped_at = self._clock()
                if stopped_by:
                    self._cancel(stopped_by, self._clock() - stopped_at)
                self._report(self._progress(start, stopped_by))
                if self._entries:
                    self._sleep(POLL_SECONDS)
        finally:
            self._launcher.close()
            self._hand_on(self._follower.look_anew(self._open()))
        self._report(self._progress(start, stopped_by))
        return self._result(start, stopped_by)

    def _submit(self, entry: _Entry) -> None:
        folder.save(entry.task, self._logs)
        if not entry.task.resumes:  # a checkpoint of that name would be of logs that were overwritten since
            folder.checkpoint_of(entry.task, self._logs).unlink(missing_ok=True)
        command = tuple(self._command(folder.pack_file(entry.task, self._logs)))
        claims = frozenset(entry.task.ids)
        self._launcher.submit(Job(name=entry.task.name, command=command, folder=self._logs, claims=claims))

    def _hand_on(self, ended: Sequence[str]) -> None:
        if ended:
            self._ended([folder.log_of(run_id, self._logs) for run_id in ended])

    def _in_training(self) -> list[str]:
        entries = (entry for entry in self._entries.values() if entry.state.status is JobStatus.RUNNING)
        return [run_id for entry in entries for run_id in entry.task.ids if run_id in self._tokens]

    def _open(self) -> list[str]:
        """The runs that are not known to have ended."""
        return [run_id for run_id in self._tokens if not self._follower.runs[run_id].status]

    def _cancel(self, stopped_by: str, seconds: float) -> None:
        """Begin nothing more, and end what runs; at a deadline, which jobs know themselves, only if they do not."""
        for name, entry in self._entries.items():
            waits = entry.state.status is JobStatus.QUEUED
            if not entry.state.cancelled and (waits or stopped_by != DEADLINE or seconds > DEADLINE_GRACE_SECONDS):
                self._launcher.cancel(name)

    def _tend(self, entry: _Entry, stopped_by: str) -> None:
        name, task = entry.task.name, entry.task
        before, entry.state = entry.state, self._launcher.state(name)
        if entry.state.status is JobStatus.QUEUED:
            if entry.state.waits_for and name not in self._waiting_said:
                self._waiting_said.add(name)
                self._news.append(f"{task.pack.name} waits: its runs are being trained by {entry.state.waits_for}")
            if entry.state.waits_for:
                self._leave_out_what_ended_elsewhere(entry)
            return
        if before.status is JobStatus.QUEUED and entry.state.place:
            how = "goes on" if task.resumes or entry.attempt else "begins"
            self._news.append(f"{task.pack.name} {how} on {entry.state.place} ({counted(len(task.ids), 'run')})")
        if entry.state.status is JobStatus.ENDED:
            del self._entries[name]
            self._settle(entry, stopped_by)

    def _leave_out_what_ended_elsewhere(self, entry: _Entry) -> None:
        """Runs that another launcher's pack, cut in another way, has done while this one waited for it."""
        task = entry.task
        over = {i for i in ended_runs(task.ids, self._logs) if folder.trained_elsewhere(task, i, self._logs)}
        if not over:
            return
        self._launcher.cancel(task.name)
        del self._entries[task.name]
        self._hand_on(self._follower.look_anew(over.intersection(self._open())))
        left = tuple(run for i, run in zip(task.ids, task.pack.runs, strict=True) if i not in over)
        folder.forget(task, self._logs)
        if left:
            rest = folder.task_of(dataclasses.replace(task.pack, runs=left))
            self._entries[rest.name] = _Entry(rest, attempt=entry.attempt)
            self._submit(self._entries[rest.name])

    def _settle(self, entry: _Entry, stopped_by: str) -> None:
        """A job is over: all of its runs are, or it was stopped, or it is tried again, or given up."""
        task, state = entry.task, entry.state
        self._hand_on(self._follower.look_anew(set(task.ids).intersection(self._open())))
        over = ended_runs(task.ids, self._logs)
        left = tuple(run_id for run_id in task.ids if run_id not in over)
        if not left:
            folder.forget(task, self._logs)
            diverged = sum(status == "diverged" for status in over.values())
            self._news.append(f"{task.pack.name} is done: {counted(len(over), 'run')}, {diverged} diverged")
            return
        if stopped_by or state.cancelled or self._stop():
            return
        reached = sum(self._follower.runs[run_id].tokens for run_id in task.ids if run_id in self._tokens)
        if entry.reached and reached > entry.reached:  # killed from outside, now and then, on a long way
            entry.attempt = 0
        entry.reached = reached
        tail = _tail(self._launcher.logs(task.name))
        own = _OWN_ERROR.findall(tail)
        if state.exit_code == 1 and own:
            self._give_up(task, left, own[-1], tail)
        elif entry.attempt >= RETRIES:
            self._give_up(task, left, f"{_how_it_died(state, tail)}, {RETRIES + 1} times", tail)
        else:
            self._again(entry, _how_it_died(state, tail))

    def _again(self, entry: _Entry, what: str) -> None:
        """From the checkpoint where there is one that this attempt did not begin with, otherwise in halves."""
        task = entry.task
        checkpoint = folder.checkpoint_of(task, self._logs)
        progressed = checkpoint.exists() and not (task.resumes and entry.attempt)
        parts = None if progressed else halves(task.pack)
        if parts is None:
            again = [task]
            how = "it goes on from its checkpoint" if checkpoint.exists() else "it is tried again"
        else:  # as the trainer itself cuts a pack for which memory is short, so that what it began goes on
            folder.forget(task, self._logs)
            again = [folder.task_of(part) for part in parts]
            how = "it is tried again in two halves"
        again = [folder.going_on(part, self._logs) for part in again]
        self._news.append(f"{task.pack.name} died ({what}); {how}")
        for part in again:
            reached = entry.reached if part.ids == task.ids else 0
            self._entries[part.name] = _Entry(part, attempt=entry.attempt + 1, reached=reached)
            self._submit(self._entries[part.name])

    def _give_up(self, task: Task, left: tuple[str, ...], reason: str, tail: str) -> None:
        self._failures.append(Failure(pack=task.pack.name, runs=left, reason=reason, tail=tail))
        self._news.append(f"{task.pack.name} failed: {reason}")

    def _progress(self, start: float, stopped_by: str) -> Progress:
        runs = self._follower.runs
        statuses = [run.status for run in runs.values()]
        # A run that diverged has no more to train.
        done = sum(self._tokens[run_id] if run.status else self._trained(run_id) for run_id, run in runs.items())
        here = self._trained_here()
        total, now = sum(self._tokens.values()), self._clock()
        if not here:  # also again, where a pack begins anew
            self._moving_since = None
        elif self._moving_since is None:
            self._moving_since = now
        moving = 0.0 if self._moving_since is None else now - self._moving_since
        failed = sum(len(failure.runs) for failure in self._failures)
        news, self._news = tuple(self._news), []
        running = tuple(
            Running(
                pack=entry.task.pack.name,
                place=entry.state.place,
                tokens=sum(
                    self._tokens[i] if runs[i].status else self._trained(i) for i in entry.task.ids if i in runs
                ),
                tokens_total=sum(self._tokens[i] for i in entry.task.ids if i in runs),
            )
            for entry in self._entries.values()
            if entry.state.status is JobStatus.RUNNING
        )
        return Progress(
            runs=len(self._tokens),
            finished=statuses.count("finished"),
            diverged=statuses.count("diverged"),
            failed=failed,
            tokens=done,
            tokens_total=total,
            packs_waiting=sum(entry.state.status is JobStatus.QUEUED for entry in self._entries.values()),
            running=running,
            seconds=now - start,
            seconds_left=moving * (total - done) / here if moving > PACE_SECONDS and not stopped_by else None,
            news=news,
        )

    def _trained(self, run_id: str) -> int:
        """Tokens of a run beyond those that it shares with its trunk."""
        return max(0, self._follower.runs[run_id].tokens - self._shared.get(run_id, 0))

    def _trained_here(self) -> int:
        return sum(max(0, self._trained(i) - self._at_start.get(i, 0)) for i in self._follower.runs)

    def _result(self, start: float, stopped_by: str) -> Result:
        runs = self._follower.runs
        given_up = {run_id for failure in self._failures for run_id in failure.runs}
        return Result(
            finished=tuple(run_id for run_id, run in runs.items() if run.status == "finished"),
            diverged=tuple(run_id for run_id, run in runs.items() if run.status == "diverged"),
            unfinished=tuple(i for i, run in runs.items() if not run.status and i not in given_up),
            failures=tuple(self._failures),
            tokens=self._trained_here(),
            seconds=self._clock() - start,
            stopped_by=stopped_by,
        )


def _shared_tokens(task: Task) -> dict[str, int]:
    """By branch: the tokens of its trunk, which are trained once."""
    return {task.ids[branch.run]: branch.at * task.pack.batch_tokens for branch in plan(task.pack).branches}


def _tail(text: str) -> str:
    return "\n".join(text.rstrip().splitlines()[-TAIL_LINES:])


def _how_it_died(state: JobState, tail: str) -> str:
    code = state.exit_code
    if code is not None and code < 0:
        hint = "; the system may have run out of memory" if code == -9 else ""
        return f"ended by signal {-code}{hint}"
    if code == 0:
        return "ended before its runs did"
    last = tail.splitlines()[-1].strip() if tail else ""
    return last[:200] or f"exit code {code}"
