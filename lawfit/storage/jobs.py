"""Work that a request began and that outlasts it: queued, claimed by one worker at a time, which beats while it works.

A worker that dies stops beating, and another one claims its job. Moments are of the clock of whoever writes them: the
machines of one service agree to within `LOST_SECONDS`.
"""

from __future__ import annotations

import secrets
import socket
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from lawfit.errors import NoJob, TooManyJobs
from lawfit.findings import finding
from lawfit.records import Json
from lawfit.storage.database import now
from lawfit.storage.processes import is_gone, this_process
from lawfit.storage.store import Store
from lawfit.storage.tables import jobs

LOST_SECONDS: Final = 15.0  # without a beat: the worker is gone
LAUNCH_LOST_SECONDS: Final = 120.0  # the same of one that works on a launch, where its process cannot be seen
MOST_ATTEMPTS: Final = 3  # a job whose workers die so often is what kills them
LAUNCH: Final = "launch"  # a kind that takes hours, and a machine
MOST_WAITING: Final = 200  # of a kind: each of them is looked at when another one comes
_KEPT: Final = 10_000
_CREATE_LOCK: Final = 0x6C61776A  # any number that nothing else takes


@dataclass(frozen=True, kw_only=True)
class Job:
    """One piece of work."""

    id: str
    kind: str
    state: str  # queued, running, cancelling, done, failed or cancelled
    asked: Mapping[str, Json]
    result: Mapping[str, Json] | None
    problem: str | None  # why it failed
    progress: float  # share that is done
    doing: str
    attempts: int
    who: str  # name of the token; "" without one
    worker: str | None
    created_at: str  # ISO 8601, UTC, as the others
    started_at: str | None
    finished_at: str | None

    @property
    def ended(self) -> bool:
        """Whether nothing will happen to it any more."""
        return self.state in ("done", "failed", "cancelled")


def create_job(store: Store, kind: str, asked: Mapping[str, Json], *, who: str, while_it_runs: bool = False) -> Job:
    """Queue a job; one that asks the same and waits still is that job.

    Raises
    ------
    TooManyJobs
        `MOST_WAITING` of its kind wait or are worked on.

    Parameters
    ----------
    while_it_runs : also one that is being worked on: it would do the same once more
    """
    row = {
        "id": secrets.token_hex(8), "kind": kind, "state": "queued", "asked": dict(asked), "progress": 0.0,
        "doing": "", "attempts": 0, "who": who, "created_at": now(),
    }  # fmt: skip
    with store.writing() as connection:
        if connection.dialect.name != "sqlite":  # which has one writer anyway: two that ask the same get one job
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_CREATE_LOCK)))
        states = ("queued", "running") if while_it_runs else ("queued",)
        waiting = sa.select(jobs).where(jobs.c.state.in_(states), jobs.c.kind == kind)
        there = 0
        for found in connection.execute(waiting).mappings():
            if found["asked"] == row["asked"]:
                return _job(found)
            there += 1
        if there >= MOST_WAITING:
            raise TooManyJobs(finding("store.many_waiting", waiting=there))
        last = sa.select(jobs.c.created_at).order_by(jobs.c.created_at.desc()).offset(_KEPT).limit(1)
        ended = jobs.c.state.in_(("done", "failed", "cancelled"))
        connection.execute(sa.delete(jobs).where(ended, jobs.c.created_at <= last.scalar_subquery()))
        connection.execute(sa.insert(jobs).values(row))
        return _job(connection.execute(sa.select(jobs).where(jobs.c.id == row["id"])).mappings().one())


def read_job(store: Store, job_id: str) -> Job:
    """The job of that id.

    Raises
    ------
    NoJob
        There is none.
    """
    with store.reading() as connection:
        return _found(connection, job_id)


def list_jobs(store: Store, state: str | None = None, *, limit: int = 100) -> list[Job]:
    """Jobs, those created last first."""
    query = sa.select(jobs).order_by(jobs.c.created_at.desc(), jobs.c.id).limit(limit)
    if state is not None:
        query = query.where(jobs.c.state == state)
    with store.reading() as connection:
        return [_job(row) for row in connection.execute(query).mappings()]


def launches_without(store: Store, templates: Collection[str]) -> list[Job]:
    """Launches that wait, and none of these templates is theirs: those begun first, first."""
    waiting = (jobs.c.state == "queued") & (jobs.c.kind == LAUNCH)
    query = sa.select(jobs).where(waiting).order_by(jobs.c.created_at, jobs.c.id)
    with store.reading() as connection:
        found = [_job(row) for row in connection.execute(query).mappings()]
    return [job for job in found if job.asked["template"] not in templates]


@dataclass(frozen=True, kw_only=True)
class Lane:
    """Which jobs a worker takes."""

    launches: bool = False  # those, or all others
    templates: frozenset[str] = frozenset()  # that launches may name
    at_a_time: int = 1  # jobs; of launches on one machine, whichever of its processes have them
    beside: frozenset[str] | None = None  # templates whose launches do not count as that; None: all but its own

    def takes(self, job: Job) -> bool:
        """Whether it is for this lane."""
        return (job.kind == LAUNCH and job.asked["template"] in self.templates) if self.launches else job.kind != LAUNCH

    @property
    def where(self) -> sa.ColumnElement[bool]:
        """The same, for a query."""
        if not self.launches:
            return jobs.c.kind != LAUNCH
        template = jobs.c.asked["template"].as_string()
        return sa.and_(jobs.c.kind == LAUNCH, template.in_(sorted(self.templates)))

    @property
    def counts(self) -> sa.ColumnElement[bool]:
        """Which launches take a place of this lane, for a query."""
        template = jobs.c.asked["template"].as_string()
        mine = template.in_(self.templates) if self.beside is None else template.not_in(self.beside)
        return sa.and_(jobs.c.kind == LAUNCH, mine)


def worker_name() -> str:
    """A name that tells a worker from all others, on which machine it is, and in which process."""
    return f"{socket.gethostname()}:{this_process()}:{secrets.token_hex(4)}"


def claim(store: Store, worker: str, lane: Lane = Lane()) -> Job | None:
    """Take the job that has waited longest, or one whose worker is gone; None: there is nothing to do.

    A job that was being cancelled when its worker went is cancelled, and one that ended several workers has failed. A
    launch that nobody here may take up waits again, for whoever has its template.

    Parameters
    ----------
    worker : name, as `worker_name` makes it
    """
    moment = time.time()
    under_way = jobs.c.state.in_(("running", "cancelling"))
    quiet = under_way & (jobs.c.beat_at < moment - LOST_SECONDS)
    open_ones = sa.select(jobs.c.id).where(((jobs.c.state == "queued") & lane.where) | quiet)
    if lane.launches:
        open_ones = open_ones.where(lane.where)
    launches = sa.select(jobs.c.worker, jobs.c.beat_at).where(lane.counts, under_way)

    def busy(connection: sa.Connection) -> bool:
        """Whether as many launches of this lane as may be are being worked on here."""
        here = f"{worker.partition(':')[0]}:"
        rows = connection.execute(launches).all() if lane.launches else []
        working = [row for row in rows if row.worker.startswith(here) and not _gone(LAUNCH, row, moment)]
        return lane.launches and len(working) >= lane.at_a_time

    with store.reading() as connection:  # a look that takes no lock: there is mostly nothing
        if connection.execute(open_ones.limit(1)).first() is None or busy(connection):
            return None
    with store.writing() as connection:
        # Workers that look for launches wait for each other here, so that each sees what the one before it took.
        order = open_ones.order_by(jobs.c.created_at, jobs.c.id).with_for_update(skip_locked=not lane.launches)
        for job_id in connection.execute(order).scalars().all():
            if busy(connection):
                return None
            beaten = connection.execute(sa.select(jobs.c.worker, jobs.c.beat_at).where(jobs.c.id == job_id)).one()
            found = _found(connection, job_id)
            if found.state != "queued" and not _gone(found.kind, beaten, moment):
                continue
            if found.state == "cancelling":
                _end(connection, job_id, {"state": "cancelled"})
            elif found.attempts >= MOST_ATTEMPTS:
                problem = f"the processes that worked on it ended {found.attempts} times without a word"
                if found.kind == LAUNCH:
                    problem += "; the same request goes on with what it left"
                _end(connection, job_id, {"state": "failed", "problem": problem})
            elif not lane.takes(found):
                gone = {"state": "queued", "worker": None, "beat_at": None, "doing": "its process is gone; it waits"}
                connection.execute(sa.update(jobs).where(jobs.c.id == job_id).values(gone))
            else:
                begun = {"state": "running", "worker": worker, "beat_at": moment, "attempts": found.attempts + 1}
                begun |= {"started_at": now(), "progress": 0.0, "doing": ""}
                connection.execute(sa.update(jobs).where(jobs.c.id == job_id).values(begun))
                return _found(connection, job_id)
    return None


def _gone(kind: str, beaten: Any, moment: float) -> bool:
    """Whether nobody works any more on a job that somebody took.

    A launch is not begun anew for a database that was away for a while: its process tells, where it can be seen.
    """
    if kind != LAUNCH:
        return bool(beaten.beat_at < moment - LOST_SECONDS)
    process = beaten.worker.partition(":")[2].rpartition(":")[0]
    return bool(beaten.beat_at < moment - LAUNCH_LOST_SECONDS) or is_gone(process)


def beat(store: Store, job_id: str, worker: str, progress: float, doing: str) -> str:
    """Say that a job is worked on; ``running``, ``cancelling``: it is to be ended, ``lost``: another one has it."""
    mine = _mine(job_id, worker)
    row = {"beat_at": time.time(), "progress": min(max(progress, 0.0), 1.0), "doing": doing[:200]}
    with store.writing() as connection:
        connection.execute(sa.update(jobs).where(mine).values(row))
        state: str | None = connection.execute(sa.select(jobs.c.state).where(mine)).scalar()
    return state or "lost"


def end_job(
    store: Store, job_id: str, worker: str, *, result: Mapping[str, Any] | None = None, problem: str | None = None
) -> bool:
    """Done with a result, failed with a problem, cancelled with neither; False where another worker has it."""
    state = "done" if result is not None else "failed" if problem is not None else "cancelled"
    row: dict[str, Any] = {"state": state, "problem": problem}
    if result is not None:
        row |= {"result": dict(result), "progress": 1.0}
    with store.writing() as connection:
        if connection.execute(sa.select(jobs.c.id).where(_mine(job_id, worker)).with_for_update()).first() is None:
            return False
        _end(connection, job_id, row)
    return True


def put_back(store: Store, job_id: str, worker: str, *, own_fault: bool = False) -> None:
    """The worker stops, and the job waits for another one; where it is being cancelled it is that.

    Parameters
    ----------
    own_fault : this may be what happens to it each time: it counts as an attempt
    """
    with store.writing() as connection:
        state = connection.execute(sa.select(jobs.c.state).where(_mine(job_id, worker)).with_for_update()).scalar()
        if state == "cancelling":
            _end(connection, job_id, {"state": "cancelled"})
        elif state is not None:
            row = {"state": "queued", "worker": None, "beat_at": None, "progress": 0.0, "doing": ""}
            attempts = {} if own_fault else {"attempts": jobs.c.attempts - 1}
            connection.execute(sa.update(jobs).where(jobs.c.id == job_id).values(row | attempts))


def cancel_job(store: Store, job_id: str) -> Job:
    """End a job: at once where it waits, at the next beat where it runs. One that has ended stays as it is.

    Raises
    ------
    NoJob
        There is none of that id.
    """
    with store.writing() as connection:
        found = _found(connection, job_id, lock=True)
        if found.state == "queued":
            _end(connection, job_id, {"state": "cancelled"})
        elif found.state == "running":
            connection.execute(sa.update(jobs).where(jobs.c.id == job_id).values(state="cancelling"))
        return _found(connection, job_id)


def _mine(job_id: str, worker: str) -> sa.ColumnElement[bool]:
    return (jobs.c.id == job_id) & (jobs.c.worker == worker) & jobs.c.state.in_(("running", "cancelling"))


def _end(connection: sa.Connection, job_id: str, row: Mapping[str, Any]) -> None:
    ended = {**row, "finished_at": now(), "beat_at": None, "doing": ""}
    connection.execute(sa.update(jobs).where(jobs.c.id == job_id).values(ended))


def _found(connection: sa.Connection, job_id: str, *, lock: bool = False) -> Job:
    row = None
    if "\x00" not in job_id:
        query = sa.select(jobs).where(jobs.c.id == job_id)
        row = connection.execute(query.with_for_update() if lock else query).mappings().first()
    if row is None:
        raise NoJob(finding("store.no_job", job=job_id))
    return _job(row)


def _job(row: sa.RowMapping) -> Job:
    return Job(**{name: row[name] for name in Job.__dataclass_fields__})
