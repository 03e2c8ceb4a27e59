"""A campaign: all jobs of a launch, from the first start to the last log that was read, with what went wrong."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lawfit.launch import folder
from lawfit.launch.book import Claim, Rows, job_id
from lawfit.launch.endings import NO_FAULT, Ended, Reason, why
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
FAILING: Final = "failing"
DEADLINE_GRACE_SECONDS: Final = 20.0
ASK_SECONDS: Final = 5.0  # between two questions for runs that another launch trains
LOOK_SECONDS: Final = 5.0  # between two looks at the log of one run, where that has to be read for its steps
TELL_SECONDS: Final = 20.0  # between two looks at how far jobs are, for those who keep it
MOST_PREEMPTIONS: Final = 20  # of a pack that comes no further
FIRST_JOBS: Final = 3  # that fail at once, all of them, before anything else ended: so would the rest
AT_ONCE_SECONDS: Final = 60.0


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
    stopped_by: str  # "", DEADLINE, SIGNAL or FAILING
    elsewhere: tuple[str, ...] = ()  # ids of runs that another launch trained meanwhile

    def to_json(self) -> dict[str, Json]:
        return dataclasses.asdict(self)


@dataclass
class _Entry:
    task: Task
    attempt: int = 0  # deaths since it last came further
    preempted: int = 0  # times, since it last came further
    reached: int = 0  # tokens of all its runs at its last death
    began: float = 0.0  # by the clock, its last attempt
    taken: bool = False  # by another launch, which trains its runs now
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
    rows : who keeps what becomes of jobs, and says which runs other launches train
    fails_alike : jobs are one command each, the same but for its settings: if the first fail at once, all do
    steps : (id of a run) -> the step that its log has come to, where jobs log in a way of their own
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
        rows: Rows | None = None,
        fails_alike: bool = False,
        steps: Callable[[str], int | None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._launcher, self._logs, self._rows = launcher, logs, rows or Rows()
        self._command, self._ended, self._report, self._stop = command, ended, report, stop
        self._steps = steps
        self._seen: dict[str, int] = {}  # tokens by run, as far as its steps were read
        self._looked: dict[str, float] = {}  # by run: when they were
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
        self._count = len(tasks)
        self._held: dict[str, _Entry] = {}  # another launch trains runs of these
        self._asked, self._told = clock(), clock()
        self._elsewhere: list[str] = []
        self._alike = fails_alike
        self._first_failures: list[str] | None = [] if fails_alike else None
        for task in tasks:
            self._entries[task.name] = _Entry(task)

    def run(self) -> Result:
        """To the end of the last job, or until told to stop."""
        start = self._clock()
        self._follower.look(self._tokens)
        self._at_start = {run_id: self._trained(run_id) for run_id in self._follower.runs}
        stopped_by, stopped_at = "", 0.0
        try:
            self._begin(list(self._entries.values()))
            while self._entries or self._held:
                for entry in list(self._entries.values()):
                    self._tend(entry, stopped_by)
                self._hand_on(self._follower.look(self._in_training()))
                self._look_at_one()
                if not stopped_by and (stopped_by := self._why_stop()):
                    stopped_at = self._clock()
                if stopped_by:
                    self._cancel(stopped_by, self._clock() - stopped_at)
                else:
                    self._heed()
                self._report(self._progress(start, stopped_by))
                if self._entries or self._held:
                    self._sleep(POLL_SECONDS)
        finally:
            try:
                self._launcher.close()
                self._hand_on(self._follower.look_anew(self._open()))
            finally:
                self._rows.close(entry.task for entry in self._entries.values())
        self._report(self._progress(start, stopped_by))
        return self._result(start, stopped_by)

    def _begin(self, entries: Sequence[_Entry]) -> None:
        """Submit what no other launch trains; what one does waits for it."""
        claims = self._rows.book.claim([entry.task.ids for entry in entries])
        ours: list[_Entry] = []
        for entry, claim in zip(entries, claims, strict=True):
            self._entries.pop(entry.task.name, None)
            waited = self._held.pop(entry.task.name, None) is not None
            left = self._leave_out(entry, claim)
            if left is None:
                continue
            if claim.held_by:
                self._held[left.task.name] = left
                if not waited:
                    self._news.append(f"{left.task.pack.name} waits: its runs are being trained by {claim.held_by}")
            else:
                ours.append(left)
        self._rows.begin([entry.task for entry in ours])
        for entry in ours:
            self._entries[entry.task.name] = entry
            self._submit(entry)

    def _leave_out(self, entry: _Entry, claim: Claim) -> _Entry | None:
        """Without the runs that another launch has trained; None: those are all."""
        name, over, adopted = entry.task.pack.name, claim.elsewhere, claim.adopted
        if not over and not adopted:
            return entry
        if adopted:
            self._news.append(f"{name}: {counted(len(adopted), 'run')} had ended in a launch that was killed")
            self._hand_on(self._follower.look_anew(adopted.intersection(self._open())))
        if over:
            self._news.append(f"{name}: {counted(len(over), 'run')} trained by another launch, left out")
            self._elsewhere += [run_id for run_id in entry.task.ids if run_id in over and run_id in self._tokens]
        for run_id in over:
            self._tokens.pop(run_id, None)
            self._follower.runs.pop(run_id, None)
        if not claim.held_by:
            self._rows.book.release(over | adopted)
        return self._rest(entry, over | adopted)

    def _rest(self, entry: _Entry, over: Collection[str]) -> _Entry | None:
        """A job of the runs that are left."""
        task = entry.task
        folder.forget(task, self._logs)
        left = tuple(run for i, run in zip(task.ids, task.pack.runs, strict=True) if i not in over)
        if not left:
            return None
        return _Entry(folder.task_of(dataclasses.replace(task.pack, runs=left)), attempt=entry.attempt)

    def _heed(self) -> None:
        """What others want or have done: jobs to be ended, runs that another launch trains or trained."""
        cancelled, taken = self._rows.book.cancelled(), self._rows.book.taken()
        for name, entry in self._entries.items() if cancelled or taken else ():
            if entry.state.cancelled or entry.state.status is JobStatus.ENDED:
                continue
            if not taken.isdisjoint(entry.task.ids):
                self._news.append(f"{entry.task.pack.name} is ended here: another launch took over its runs")
                entry.taken = True
            elif job_id(entry.task) not in cancelled:
                continue
            self._launcher.cancel(name)
        now = self._clock()
        if self._held and now - self._asked > ASK_SECONDS:
            self._begin(list(self._held.values()))
            self._asked = self._clock()
        if now - self._told > TELL_SECONDS:
            self._told = now
            for entry in self._entries.values():
                if entry.state.status is JobStatus.RUNNING:
                    self._rows.reached(entry.task, self._shown(entry.task))

    def _why_stop(self) -> str:
        if self._first_failures is not None and len(self._first_failures) >= min(FIRST_JOBS, self._count):
            return FAILING
        return self._stop()

    def _submit(self, entry: _Entry) -> None:
        folder.save(entry.task, self._logs)
        if not entry.task.resumes:  # a checkpoint of that name would be of logs that were overwritten since
            folder.checkpoint_of(entry.task, self._logs).unlink(missing_ok=True)
        command = tuple(self._command(folder.pack_file(entry.task, self._logs)))
        ids = entry.task.ids
        watched = [place for i in ids for place in (folder.log_of(i, self._logs), folder.own_folder(i, self._logs))]
        watched.append(folder.checkpoint_of(entry.task, self._logs))
        self._launcher.submit(
            Job(name=entry.task.name, command=command, folder=self._logs, claims=frozenset(ids), watched=tuple(watched))
        )

    def _look_at_one(self) -> None:
        """Read how far one run is, whose log was not looked at for longest: at most one in each round."""
        if self._steps is None:
            return
        now, running = self._clock(), self._in_training()
        run_id = min(running, key=lambda i: self._looked.get(i, -LOOK_SECONDS), default="")
        if not run_id or now - self._looked.get(run_id, -LOOK_SECONDS) < LOOK_SECONDS:
            return
        self._looked[run_id] = now
        batch = next(e.task.pack.batch_tokens for e in self._entries.values() if run_id in e.task.ids)
        self._seen[run_id] = min((self._steps(run_id) or 0) * batch, self._tokens[run_id])

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
        self._held.clear()
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
            entry.began = self._clock()
            self._rows.started(task, entry.state)
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
        if (rest := self._rest(entry, over)) is None:
            self._rows.over(task, "ended")
            return
        self._rows.split(task, [rest.task])
        self._rows.book.release(over)
        self._entries[rest.task.name] = rest
        self._submit(rest)

    def _settle(self, entry: _Entry, stopped_by: str) -> None:
        """A job is over: all of its runs are, or it was stopped, or it is tried again, or given up."""
        task, state = entry.task, entry.state
        self._hand_on(self._follower.look_anew(set(task.ids).intersection(self._open())))
        over = ended_runs(task.ids, self._logs)
        left = tuple(run_id for run_id in task.ids if run_id not in over)
        reached = self._reached(task)
        self._rows.reached(task, self._shown(task))
        if not left:
            self._first_failures = None
            folder.forget(task, self._logs)
            diverged = sum(status == "diverged" for status in over.values())
            said = "" if self._alike else f": {counted(len(over), 'run')}, {diverged} diverged"
            self._news.append(f"{task.pack.name} is done{said}")
            self._rows.tried(task, Reason.DONE)
            self._rows.over(task, "ended")
            return
        if entry.taken:
            self._rows.forget(task)
            return
        if stopped_by or state.cancelled or self._stop():
            asked = state.cancelled and not stopped_by
            self._rows.tried(task, Reason.CANCELLED if asked else Reason.STOPPED)
            self._rows.over(task, "cancelled" if asked else "stopped")
            return
        tail = _tail(self._launcher.logs(task.name))
        ended = why(state, tail)
        self._rows.tried(task, ended.reason, ended.said, tail)
        if entry.reached and reached > entry.reached:  # killed from outside, now and then, on a long way
            entry.attempt = entry.preempted = 0
        entry.reached = reached
        if self._fails_at_once(entry, ended) or ended.reason is Reason.OWN:
            self._give_up(task, left, ended.said, tail, "failed")
        elif ended.reason is Reason.PREEMPTED and entry.preempted < MOST_PREEMPTIONS:
            self._again(entry, ended)
        elif entry.attempt >= RETRIES:
            self._give_up(task, left, f"{ended.said}, {RETRIES + 1} times", tail, "given_up")
        else:
            self._again(entry, ended)

    def _fails_at_once(self, entry: _Entry, ended: Ended) -> bool:
        """Whether this is one of the first jobs, none of which came to an end, and it failed as it began."""
        own = ended.reason in (Reason.DIED, Reason.OWN, Reason.MEMORY)
        if self._first_failures is None or not own or self._clock() - entry.began > AT_ONCE_SECONDS:
            return False
        self._first_failures.append(ended.said)
        return True

    def _reached(self, task: Task) -> int:
        """Tokens of all runs of a job that are known here."""
        return sum(self._follower.runs[i].tokens for i in task.ids if i in self._follower.runs)

    def _shown(self, task: Task) -> int:
        """The same, as it is told: also of jobs that may begin anew what they reached."""
        return sum(self._come_to(i) for i in task.ids if i in self._follower.runs)

    def _come_to(self, run_id: str) -> int:
        return max(self._follower.runs[run_id].tokens, self._seen.get(run_id, 0))

    def _again(self, entry: _Entry, ended: Ended) -> None:
        """From the checkpoint where there is one that this attempt did not begin with, otherwise in halves.

        What was preempted, or stood on a machine that went, is whole: it goes on as it was.
        """
        task = entry.task
        checkpoint = folder.checkpoint_of(task, self._logs)
        progressed = checkpoint.exists() and not (task.resumes and entry.attempt)
        as_it_was = progressed or ended.reason in NO_FAULT
        parts = None if as_it_was else halves(task.pack)
        if parts is None:
            again = [task]
            how = "it goes on from its checkpoint" if checkpoint.exists() else "it is tried again"
        else:  # as the trainer itself cuts a pack for which memory is short, so that what it began goes on
            folder.forget(task, self._logs)
            again = [folder.task_of(part) for part in parts]
            how = "it is tried again in two halves"
        again = [folder.going_on(part, self._logs) for part in again]
        end = "stopped" if entry.state.ending is not None and ended.reason in NO_FAULT else "died"
        self._news.append(f"{task.pack.name} {end} ({ended.said}); {how}")
        self._rows.split(task, again)
        interrupted = ended.reason is Reason.PREEMPTED
        for part in again:
            self._entries[part.name] = _Entry(
                part,
                attempt=entry.attempt + (not interrupted),
                preempted=entry.preempted + interrupted,
                reached=entry.reached if part.ids == task.ids else 0,
            )
            self._submit(self._entries[part.name])

    def _give_up(self, task: Task, left: tuple[str, ...], reason: str, tail: str, state: str) -> None:
        self._failures.append(Failure(pack=task.pack.name, runs=left, reason=reason, tail=tail))
        self._news.append(f"{task.pack.name} failed: {reason}")
        self._rows.over(task, state, reason)

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
            packs_waiting=len(self._held)
            + sum(entry.state.status is JobStatus.QUEUED for entry in self._entries.values()),
            running=running,
            seconds=now - start,
            seconds_left=moving * (total - done) / here if moving > PACE_SECONDS and not stopped_by else None,
            news=news,
        )

    def _trained(self, run_id: str) -> int:
        """Tokens of a run beyond those that it shares with its trunk."""
        return max(0, self._come_to(run_id) - self._shared.get(run_id, 0))

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
            elsewhere=tuple(self._elsewhere),
        )


def _shared_tokens(task: Task) -> dict[str, int]:
    """By branch: the tokens of its trunk, which are trained once."""
    return {task.ids[branch.run]: branch.at * task.pack.batch_tokens for branch in plan(task.pack).branches}


def _tail(text: str) -> str:
    return "\n".join(text.rstrip().splitlines()[-TAIL_LINES:])
