"""What becomes of the jobs of a campaign, as rows that somebody keeps: states, attempts, places, costs.

A campaign writes here and never waits for whoever keeps the rows; only when it asks for runs does it hear an answer.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Protocol

from lawfit.launch.endings import Reason
from lawfit.launch.energy import JOULES_PER_KWH, EnergyMeter
from lawfit.launch.folder import Task
from lawfit.launch.launcher import JobState
from lawfit.records import Attempt, Launch, TrainingJob, content_hash

_TAIL: Final = 4000  # characters that are kept


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What came of asking for the runs of a job."""

    elsewhere: frozenset[str] = frozenset()  # runs of it that have been trained and stored
    adopted: frozenset[str] = frozenset()  # runs that a launch that was killed had ended: their logs are here now
    held_by: str = ""  # which launch trains one of them; "": they may be trained


class Book(Protocol):
    """Who keeps the rows."""

    launch: Launch

    def claim(self, wanted: Sequence[Sequence[str]]) -> list[Claim]:
        """Ask for the runs of jobs, before they are trained."""

    def before(self, job_ids: Sequence[str]) -> dict[str, TrainingJob]:
        """Rows of earlier launches."""

    def put(self, job: TrainingJob) -> None:
        """A row that has changed; it is kept in good time."""

    def release(self, run_ids: Iterable[str]) -> None:
        """Runs that are not trained here any more."""

    def cancelled(self) -> frozenset[str]:
        """Ids of jobs that somebody wants to end."""

    def taken(self) -> frozenset[str]:
        """Runs that another launch took, since this one was not heard for long."""


class NoBook:
    """Nobody keeps anything."""

    launch = Launch(id="", backend="", host="", process="", logs="", command="", began_at="")

    def claim(self, wanted: Sequence[Sequence[str]]) -> list[Claim]:
        return [Claim() for _ in wanted]

    def before(self, job_ids: Sequence[str]) -> dict[str, TrainingJob]:  # noqa: ARG002
        return {}

    def put(self, job: TrainingJob) -> None: ...

    def release(self, run_ids: Iterable[str]) -> None: ...

    def cancelled(self) -> frozenset[str]:
        return frozenset()

    def taken(self) -> frozenset[str]:
        return frozenset()


def job_id(task: Task) -> str:
    """The same whichever launch has it."""
    return content_hash(list(task.ids), length=12)


class Rows:
    """The rows of one campaign.

    Parameters
    ----------
    gpus : that a job has, or its share of one
    dollars_per_gpu_hour : what such an hour costs, where somebody said it
    """

    def __init__(
        self,
        book: Book | None = None,
        *,
        gpus: float = 0.0,
        dollars_per_gpu_hour: float | None = None,
        meter: EnergyMeter | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.book: Book = book or NoBook()
        self._gpus, self._dollars, self._meter, self._clock = gpus, dollars_per_gpu_hour, meter, clock
        self._jobs: dict[str, TrainingJob] = {}
        self._since: dict[str, tuple[float, float | None]] = {}  # of what runs: clock and joules at its start

    def begin(self, tasks: Sequence[Task]) -> None:
        """Jobs that wait to be run; what was tried before is part of them."""
        before = self.book.before([job_id(task) for task in tasks])
        for task in tasks:
            own = job_id(task)
            old = before.get(own)
            self._put(
                TrainingJob(
                    id=own, launch=self.book.launch, name=task.pack.name, runs=task.ids, state="queued",
                    created_at=old.created_at if old else _now(), attempts=_closed(old),
                    started_at=old.started_at if old else None, tokens=old.tokens if old else 0.0,
                    tokens_total=sum(task.tokens.values()), dollars_per_gpu_hour=self._dollars,
                )
            )  # fmt: skip

    def started(self, task: Task, state: JobState) -> None:
        """A job runs."""
        self.tried(task, Reason.PREEMPTED)  # it waited again meanwhile, and nobody said why
        job, moment = self._jobs[job_id(task)], _now()
        host = state.host or job.launch.host
        attempt = Attempt(launch_id=job.launch.id, host=host, place=state.place, began_at=moment, gpus=self._gpus)
        self._since[job.id] = self._clock(), self._joules(state.place)
        attempts, began = (*job.attempts, attempt), job.started_at or moment
        self._put(
            dataclasses.replace(job, state="running", place=state.place, attempts=attempts, started_at=began, tail="")
        )

    def reached(self, task: Task, tokens: int) -> None:
        """How far a job is; so that what it cost is known, should nobody see its end."""
        job = self._jobs[job_id(task)]
        if job.id in self._since:
            seconds = self._clock() - self._since[job.id][0]
            last = dataclasses.replace(job.attempts[-1], seconds=seconds)
            self._put(dataclasses.replace(job, tokens=float(tokens), attempts=(*job.attempts[:-1], last)))

    def tried(self, task: Task, reason: Reason, said: str = "", tail: str = "") -> None:
        """An attempt has ended."""
        job = self._jobs[job_id(task)]
        if job.id not in self._since:
            return
        since, joules = self._since.pop(job.id)
        *earlier, last = job.attempts
        now, kwh = self._joules(last.place), None
        if now is not None and joules is not None:
            kwh = min(self._gpus, 1.0) * (now - joules) / JOULES_PER_KWH
        last = dataclasses.replace(
            last, ended_at=_now(), reason=str(reason), said=said, seconds=self._clock() - since, kwh=kwh
        )
        self._put(
            dataclasses.replace(job, state="queued", attempts=(*earlier, last), tail=tail.replace("\x00", "")[-_TAIL:])
        )

    def over(self, task: Task, state: str, problem: str | None = None) -> None:
        """Nothing more happens to a job in this launch."""
        job = self._jobs[job_id(task)]
        self._put(dataclasses.replace(job, state=state, problem=problem, finished_at=_now()))
        self.book.release(task.ids)

    def split(self, task: Task, parts: Sequence[Task]) -> None:
        """A job goes on as others, which keep its claims."""
        job = self._jobs[job_id(task)]
        if any(part.ids == task.ids for part in parts):
            return
        self._put(dataclasses.replace(job, state="split", finished_at=_now()))
        self.begin(parts)

    def close(self, tasks: Iterable[Task]) -> None:
        """The launch ends, and what is not over is stopped with it."""
        for task in tasks:
            self.tried(task, Reason.STOPPED)
            self.over(task, "stopped")

    def forget(self, task: Task) -> None:
        """A job is another launch's now, and so is its row."""
        self._since.pop(job_id(task), None)
        self._jobs.pop(job_id(task), None)

    def _put(self, job: TrainingJob) -> None:
        self._jobs[job.id] = job
        self.book.put(job)

    def _joules(self, place: str) -> float | None:
        return None if self._meter is None else self._meter.joules(place)


def _closed(old: TrainingJob | None) -> tuple[Attempt, ...]:
    """Attempts of earlier launches; one whose end nobody saw ended with its launch."""
    if old is None:
        return ()
    lost = {"reason": str(Reason.LOST), "said": "its launch was killed", "ended_at": old.launch.ended_at or _now()}
    return tuple(a if a.ended_at else dataclasses.replace(a, **lost) for a in old.attempts)  # type: ignore[arg-type]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
