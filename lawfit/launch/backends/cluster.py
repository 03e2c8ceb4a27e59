"""What launchers on clusters share: a queue, claims, and what `node` writes down of each job in the shared folder."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Final

from lawfit.launch import claims
from lawfit.launch.backends.files import GRACE_SECONDS, own_folder, stderr_of, tail
from lawfit.launch.backends.ledger import Batch, Ledger
from lawfit.launch.backends.node import record_of
from lawfit.launch.launcher import Ending, Job, JobState, JobStatus
from lawfit.launch.resources import Resources

LOOK_SECONDS: Final = 0.5  # between two looks at what the jobs wrote down
UNBOUNDED: Final = 1_000_000  # places where the scheduler alone says how many jobs run at a time
ENDED, QUEUED, RUNNING = JobStatus.ENDED, JobStatus.QUEUED, JobStatus.RUNNING


@dataclass
class Entry:
    """A job, and what is known of it."""

    job: Job
    batch: Batch | None = None  # once it was handed to the cluster
    index: int = 0
    state: JobState = field(default_factory=lambda: JobState(status=QUEUED))
    start: Mapping[str, Any] | None = None  # what it wrote down
    end: Mapping[str, Any] | None = None
    said: str = ""  # by the scheduler, where the job could not say anything
    taken_over: bool = False  # from a launch that is gone
    killed: bool = False  # without asking

    @property
    def live(self) -> bool:
        return self.batch is not None and self.state.status is not ENDED

    def ended(self, code: int | None, ending: Ending | None = None) -> None:
        self.state = replace(self.state, status=ENDED, exit_code=code, ending=ending, waits_for="")


class ClusterLauncher(ABC):
    """Hands jobs to a cluster whose machines share the folder of logs with this one.

    Parameters
    ----------
    gpus : none; see `Launcher`
    """

    name: ClassVar[str]
    elsewhere: ClassVar[bool] = True

    def __init__(
        self,
        gpus: Sequence[str] = (),  # noqa: ARG002
        *,
        workers: int = 1,
        resources: Resources = Resources(),  # noqa: B008 - frozen
        grace_seconds: float = GRACE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._workers, self._resources, self._grace, self._clock = workers, resources, grace_seconds, clock
        self._entries: dict[str, Entry] = {}  # all there ever were
        self._waiting: dict[str, Entry] = {}  # not handed on yet, in the order of submission
        self._others: dict[str, Entry] = {}  # left by a launch that is gone, of other names but overlapping runs
        self._ledgers: dict[Path, Ledger] = {}
        self._batches: dict[str, Batch] = {}  # this launch's, by token
        self._to_ask: list[Entry] = []  # to stop, and the scheduler is not told yet: of many, at once
        self._to_drop: list[Entry] = []
        self._next_look = 0.0

    @property
    def places(self) -> int:
        return self._resources.jobs_at_a_time or UNBOUNDED

    def submit(self, job: Job) -> None:
        before = self._entries.get(job.name)
        if before is not None and before.state.status is not ENDED:
            raise ValueError(f"job {job.name} is not over yet")
        self._entries[job.name] = self._waiting[job.name] = Entry(job)
        self._ledger_of(job)

    def state(self, name: str) -> JobState:
        self._tend()
        return self._entries[name].state

    def cancel(self, name: str) -> None:
        entry = self._entries[name]
        self._tend()
        if entry.state.status is ENDED or entry.state.cancelled:
            return
        if entry.batch is not None and entry.start is None:  # it may have begun since the last look
            entry.start = _read(record_of(entry.batch.path, entry.index, "start"))
            self.started(entry)
        entry.state = replace(entry.state, cancelled=True)
        if self._waiting.pop(name, None):
            entry.ended(None)
        elif entry.state.status is RUNNING:
            self._to_ask.append(entry)
        else:
            self._to_drop.append(entry)
            entry.ended(None)

    def logs(self, name: str) -> str:
        entry = self._entries[name]
        said = tail(stderr_of(entry.job))
        if not said and entry.batch is not None and entry.start is None:
            said = tail(entry.batch.path.with_suffix(f".{entry.index}.out"))
        return said or entry.said

    def close(self) -> None:
        for entry in self._waiting.values():
            entry.state = replace(entry.state, cancelled=True)
            entry.ended(None)
        self._waiting.clear()
        self._pass_on()
        with contextlib.suppress(OSError):
            self._read_records()
        live = [entry for entry in self._entries.values() if entry.live]
        if live:
            self.kill(live)
            for entry in live:
                code = -9 if entry.state.status is RUNNING else None
                entry.state = replace(entry.state, cancelled=True)
                entry.ended(code)
        self.let_go(self._others.values())
        kept = {entry.batch.token for entry in self._others.values() if entry.batch is not None}
        for batch in [batch for token, batch in self._batches.items() if token not in kept]:
            self._ledger_at(batch.path.parent).forget(batch)
        for ledger in self._ledgers.values():
            ledger.close()
            with contextlib.suppress(OSError):  # the folder may be what went away
                claims.clean(ledger.folder.parent)
        self._ledgers.clear()

    @classmethod
    @abstractmethod
    def require_here(cls) -> None:
        """Refuse a machine from which jobs cannot be handed on at all.

        Raises
        ------
        LaunchError
        """

    @abstractmethod
    def look(self) -> None:
        """Ask the scheduler how the live jobs are, where it is time to."""

    @abstractmethod
    def hand_on(self, ready: Sequence[Entry]) -> None:
        """Give jobs to the scheduler; each of them has a batch then, or has ended."""

    @abstractmethod
    def ask(self, entries: Sequence[Entry]) -> None:
        """Ask running jobs to stop."""

    @abstractmethod
    def drop(self, entries: Sequence[Entry]) -> None:
        """Take jobs that have not begun out of the queue of the scheduler."""

    @abstractmethod
    def kill(self, entries: Sequence[Entry]) -> None:
        """End jobs, begun or not, at once."""

    def let_go(self, entries: Iterable[Entry]) -> None:  # noqa: B027 - only where jobs outlive a launch
        """This launch ends: what becomes of jobs that it did not ask for."""

    @abstractmethod
    def inherit(self, ledger: Ledger, batch: Batch, folder: Path) -> None:
        """What becomes of a batch with jobs that this launch wants, and whose own launch is gone."""

    def room(self, live: int) -> int:
        """How many jobs can be handed on beside those that the cluster has."""
        return self.places - live

    def new_batch(self, entries: Sequence[Entry]) -> Batch | None:
        """Write down what is about to be handed on, less what another launch has taken: from then on it is claimed."""
        ledger, folder = self._ledger_of(entries[0].job), entries[0].job.folder
        with ledger.alone():
            held = self._held_by_others(entries)
            free = [entry for entry in entries if held.keys().isdisjoint(entry.job.claims)]
            if not free:
                return None
            batch = ledger.new(self.shared(folder), [to_json(entry.job) for entry in free])
        self._batches[batch.token] = batch
        for index, entry in enumerate(free):
            entry.batch, entry.index, entry.start, entry.end, entry.said = batch, index, None, None, ""
        return batch

    def _wanted_by_others(self, entries: Iterable[Entry]) -> Iterator[tuple[Path, Ledger, Batch]]:
        """Batches of other launches with runs that are wanted here as well."""
        wanted: dict[Path, set[str]] = {}
        for entry in entries:
            wanted.setdefault(entry.job.folder, set()).update(entry.job.claims)
        for folder, runs in wanted.items():
            ledger = self._ledger_at(own_folder(folder) / self.name)
            for batch in ledger.others():
                if not runs.isdisjoint(run for job in batch.jobs for run in job["claims"]):
                    yield folder, ledger, batch

    def _held_by_others(self, entries: Iterable[Entry]) -> dict[str, str]:
        """Who holds runs that are wanted here, of other launches, by run."""
        held: dict[str, str] = {}
        for _, ledger, batch in self._wanted_by_others(entries):
            who = f" of process {batch.process}" + ("" if batch.host == ledger.host else f" on {batch.host}")
            for job in (job for index, job in enumerate(batch.jobs) if not is_over(batch, index)):
                held |= dict.fromkeys(job["claims"], f"job {job['name']}{who}")
        return held

    def live(self) -> list[Entry]:
        """Jobs that the cluster has and that are not known to be over."""
        return [entry for entry in (*self._entries.values(), *self._others.values()) if entry.live]

    def _tend(self) -> None:
        if self._clock() < self._next_look:
            return
        try:
            self._look_once()
        finally:  # counted from its end: where a look takes long, a campaign of many jobs must not look for each
            self._next_look = self._clock() + LOOK_SECONDS

    def _look_once(self) -> None:
        for ledger in self._ledgers.values():
            ledger.beat()
        self._read_records()
        self.look()
        for entry in self.live():
            if entry.end is not None and (entry.state.cancelled or not entry.end["signalled"]):
                self._settle(entry)
        for name in [name for name, entry in self._others.items() if not entry.live]:
            del self._others[name]
        self._pass_on()
        if self._waiting:
            self._send()

    def _pass_on(self) -> None:
        if self._to_ask:
            self.ask(self._to_ask)
        if self._to_drop:
            self.drop(self._to_drop)
        self._to_ask, self._to_drop = [], []

    def _read_records(self) -> None:
        live = self.live()
        folders = {entry.batch.path.parent for entry in live if entry.batch is not None}
        there = {name for folder in folders for name in os.listdir(folder)}  # noqa: PTH208 - thousands of names
        for entry in live:
            assert entry.batch is not None
            path, index, stem = entry.batch.path, entry.index, f"{entry.batch.token}.{entry.index}"
            if f"{stem}.end.json" not in there:
                entry.end = None  # begun again
            elif entry.end is None:
                entry.end = _read(record_of(path, index, "end"))
                entry.start = _read(record_of(path, index, "start")) or entry.start
            if entry.start is None and f"{stem}.start.json" in there:
                entry.start = _read(record_of(path, index, "start"))
                self.started(entry)

    def started(self, entry: Entry) -> None:
        """A job wrote down that it runs."""
        if entry.start is not None:
            gpus = f" gpu {entry.start['gpus']}" if entry.start["gpus"] else ""
            place = f"{entry.start['host']}{gpus}{self.called(entry)}"
            entry.state = replace(entry.state, status=RUNNING, place=place, host=entry.start["host"], waits_for="")

    def called(self, entry: Entry) -> str:  # noqa: ARG002
        """How the scheduler calls a job, for people."""
        return ""

    def _settle(self, entry: Entry) -> None:
        """A job that wrote down its end."""
        assert entry.end is not None
        if entry.end["ending"] == Ending.CLAIMED and entry.job.name not in self._others:
            who = tail(stderr_of(entry.job)).strip().rpartition("trained by ")[2]
            self.again(entry)
            entry.state = replace(entry.state, waits_for=who)
            return
        if entry.start is not None and entry.state.status is QUEUED:
            self.started(entry)
        entry.ended(entry.end["exit_code"], Ending(entry.end["ending"]) if entry.end["ending"] else None)

    def again(self, entry: Entry) -> None:
        """Back into the queue of this launch."""
        if entry.state.cancelled:
            entry.ended(None)
            return
        entry.batch = entry.start = entry.end = None
        entry.taken_over = False
        entry.state = JobState(status=QUEUED)
        self._waiting[entry.job.name] = entry

    def _send(self) -> None:
        waiting = list(self._waiting.values())
        for folder, ledger, batch in self._wanted_by_others(waiting):
            if not ledger.lives(batch):
                self.inherit(ledger, batch, folder)
        held = self._held_by_others(waiting)
        for folder in {entry.job.folder for entry in self._waiting.values()}:
            held |= {run: str(holder) for run, holder in claims.taken(own_folder(folder)).items()}
        live = self.live()
        for other in live:
            held |= dict.fromkeys(other.job.claims, f"job {other.job.name}{self.called(other)}")
        room = self.room(len(live))
        ready: list[Entry] = []
        for entry in [entry for entry in self._waiting.values() if entry.batch is None]:
            who = next((held[run] for run in sorted(entry.job.claims) if run in held), "")
            if who or len(ready) >= room:
                entry.state = JobState(status=QUEUED, waits_for=who)
            else:
                ready.append(entry)
                held |= dict.fromkeys(entry.job.claims, f"job {entry.job.name}")
        for entry in ready:
            entry.state = JobState(status=QUEUED)
        if ready:
            self.hand_on(ready)
        for name in [name for name, entry in self._waiting.items() if entry.batch is not None or not _waits(entry)]:
            del self._waiting[name]

    def shared(self, folder: Path) -> dict[str, Any]:
        """What holds for all jobs of a batch."""
        asked = self._resources
        return {
            "cwd": str(Path.cwd()), "folder": str(own_folder(folder).resolve()), "grace": self._grace,
            "hung_after": asked.hung_after_seconds, "stop_after": asked.stop_after_seconds,
            "gpus": asked.gpus_per_job or 0, "cpus": asked.cpus_per_job,
        }  # fmt: skip

    def _ledger_of(self, job: Job) -> Ledger:
        return self._ledger_at(own_folder(job.folder) / self.name)

    def _ledger_at(self, folder: Path) -> Ledger:
        if folder not in self._ledgers:
            self._ledgers[folder] = Ledger(folder)
        return self._ledgers[folder]


def to_json(job: Job) -> dict[str, Any]:
    return {
        "name": job.name, "command": list(job.command), "claims": sorted(job.claims),
        "watched": [str(path.resolve()) for path in job.watched],
    }  # fmt: skip


def of_json(content: Mapping[str, Any], folder: Path) -> Job:
    return Job(
        name=content["name"], command=tuple(content["command"]), folder=folder, claims=frozenset(content["claims"]),
        watched=tuple(map(Path, content["watched"])),
    )  # fmt: skip


def node_command(python: str, batch: Batch) -> str:
    """What a machine of the cluster runs, before the job's index, as a line of a shell."""
    node = Path(__file__).with_name("node.py")
    return shlex.join([python, "-IS", str(node), str(batch.path.resolve())])


def is_over(batch: Batch, index: int) -> bool:
    """Whether a job ended by itself: one that was told to may be begun again."""
    end = _read(record_of(batch.path, index, "end"))
    return end is not None and not end["signalled"]


def _waits(entry: Entry) -> bool:
    return entry.state.status is QUEUED


def _read(path: Path) -> Mapping[str, Any] | None:
    try:
        content: Mapping[str, Any] = json.loads(path.read_bytes())
    except FileNotFoundError:  # begun again in this instant
        return None
    return content
