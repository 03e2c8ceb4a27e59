"""Jobs of launches: what `lawfit launch` trains, where, and how it goes. Not the service's own jobs (`jobs.py`).

A launch claims runs before it trains them, so that of all launches on one store only one trains a run, wherever their
logs lie. It beats while it lives; what one claims that was killed goes to the next that asks.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from lawfit.errors import NoJob
from lawfit.findings import finding
from lawfit.records import Attempt, Launch, TrainingJob
from lawfit.storage.database import now
from lawfit.storage.processes import is_gone
from lawfit.storage.store import Store
from lawfit.storage.tables import launches, runs, training_claims, training_jobs

LOST_SECONDS: Final = 120.0  # without a beat: a launch is gone. Longer than a database is away for a restart
OPEN: Final = ("queued", "running", "cancelling")
STATES: Final = (*OPEN, "ended", "stopped", "split", "failed", "given_up", "cancelled")
_AT_ONCE: Final = 500  # keys in a query


@dataclass(frozen=True, kw_only=True)
class Claimed:
    """What came of asking for the runs of one job: all of them, or none and who has one."""

    stored: frozenset[str]  # runs that have been trained meanwhile
    holder: Launch | None  # None: they are claimed
    heirs_of: Mapping[str, Launch]  # by run: the launch that was killed with it


def claim_runs(store: Store, launch: Launch, wanted: Sequence[Sequence[str]]) -> list[Claimed]:
    """Claim the runs of jobs, of each all or none.

    A launch that stores a run does so before it lets go of it: what is claimed here and not stored is nowhere.
    """
    with store.writing() as connection:
        _put_launch(connection, launch)
        every = [run_id for own in wanted for run_id in own]
        held = _holders(connection, every)  # once: what is claimed from here on, an insert meets
        live = _living(connection, set(held.values()) - {launch.id})
        free = [own for own in wanted if not any(held.get(run_id) in live for run_id in own)]
        ids = [run_id for own in free for run_id in own]
        before = _launches(connection, {held[i] for i in ids if held.get(i, launch.id) != launch.id})
        heirs_of = {i: before[held[i]] for i in ids if held.get(i, launch.id) != launch.id}
        for gone in {dead.id for dead in heirs_of.values()}:
            _let_go(connection, gone, ids)
        for some in _parts(ids):
            rows = [{"run_id": run_id, "launch_id": launch.id} for run_id in some]
            connection.execute(_insert(connection, training_claims).on_conflict_do_nothing(), rows)
        held = _holders(connection, every)  # another one may have been quicker, on a server
        now_held = _launches(connection, set(held.values()))
        found = []
        for own in wanted:
            others = [held[run_id] for run_id in own if held.get(run_id, launch.id) != launch.id]
            if others and (mine := [run_id for run_id in own if held.get(run_id) == launch.id]):
                _let_go(connection, launch.id, mine)
            holder = now_held[others[0]] if others else None
            dead = {} if holder else {i: heirs_of[i] for i in own if i in heirs_of}
            found.append(Claimed(stored=frozenset(), holder=holder, heirs_of=dead))
        stored = set[str]()
        for some in _parts(every):
            stored.update(connection.execute(sa.select(runs.c.run_key).where(runs.c.run_key.in_(some))).scalars())
    return [
        dataclasses.replace(claimed, stored=frozenset(stored.intersection(own)))
        for claimed, own in zip(found, wanted, strict=True)
    ]


@dataclass(frozen=True, kw_only=True)
class Told:
    """What a launch hears when it beats."""

    cancel: frozenset[str]  # jobs that somebody wants to end
    claims: frozenset[str]  # runs that it holds; not those that another launch took while this one was not heard


def beat(store: Store, launch: Launch, changed: Iterable[TrainingJob] = (), released: Iterable[str] = ()) -> Told:
    """Say that a launch lives, what has changed of its jobs, and which runs it lets go of."""
    with store.writing() as connection:
        _put_launch(connection, launch)
        claims = _put_jobs(connection, launch, changed)
        _let_go(connection, launch.id, gone := list(released))
        asked = (training_jobs.c.launch_id == launch.id) & (training_jobs.c.state == "cancelling")
        cancel = connection.execute(sa.select(training_jobs.c.id).where(asked)).scalars()
        return Told(cancel=frozenset(cancel), claims=claims.difference(gone))


def end_launch(
    store: Store, launch: Launch, changed: Iterable[TrainingJob] = (), unstored: Collection[str] = ()
) -> None:
    """The last that a launch says; nothing is held any more.

    Parameters
    ----------
    unstored : runs that have ended and could not be stored: whoever claims them is told whose they were, as of a launch
        that was killed, and finds them in its logs
    """
    with store.writing() as connection:
        _put_launch(connection, dataclasses.replace(launch, ended_at=now()))
        claims = _put_jobs(connection, launch, changed)
        _let_go(connection, launch.id, sorted(claims.difference(unstored)))


def take_up(store: Store, over: Collection[str], going_on: Collection[str], kept: Collection[str]) -> None:
    """Settle jobs of launches that were killed, as far as another launch takes up their runs.

    Parameters
    ----------
    over : runs that have ended; a job that has no other has
    going_on : runs that are trained now, by jobs that may be cut in another way
    kept : ids of jobs that go on as they are
    """
    asked = {*over, *going_on}
    with store.writing() as connection:
        for row in connection.execute(_joined().where(training_jobs.c.state.in_(OPEN))).mappings().all():
            job = _job(row)
            if not job.lost or job.id in kept or asked.isdisjoint(job.runs):
                continue
            state = "ended" if set(job.runs) <= set(over) else "split"
            lost = {"ended_at": now(), "reason": "launcher_lost", "said": "its launch was killed"}
            attempts = [
                {**dataclasses.asdict(attempt), **({} if attempt.ended_at else lost)} for attempt in job.attempts
            ]
            values = {"state": state, "finished_at": now(), "attempts": attempts}
            connection.execute(sa.update(training_jobs).where(training_jobs.c.id == job.id).values(values))
            _let_go(connection, job.launch.id, job.runs)


def training_job(store: Store, job_id: str) -> TrainingJob:
    """The job of that id, or of the only one that begins so.

    Raises
    ------
    NoJob
        There is none, or several.
    """
    with store.reading() as connection:
        return _found(connection, job_id)


def training_jobs_of(store: Store, ids: Sequence[str]) -> dict[str, TrainingJob]:
    """Those of the ids that there are."""
    found = {}
    with store.reading() as connection:
        for some in _parts(ids):
            for row in connection.execute(_joined().where(training_jobs.c.id.in_(some))).mappings():
                found[str(row["id"])] = _job(row)
    return found


def list_training_jobs(store: Store, state: str | None = None, *, limit: int = 100) -> list[TrainingJob]:
    """Jobs, those of the last launch first, and of one launch those that run first.

    Parameters
    ----------
    state : only these; "lost": those whose launch was killed
    """
    rank = sa.case((training_jobs.c.state.in_(("running", "cancelling")), 0), (training_jobs.c.state == "queued", 2))
    order = (launches.c.began_at.desc(), launches.c.id, sa.func.coalesce(rank, 1), training_jobs.c.created_at)
    query = _joined().order_by(*order, training_jobs.c.id)
    if state is not None:
        query = query.where(training_jobs.c.state.in_(OPEN if state == "lost" else (state,)))
    found: list[TrainingJob] = []
    with store.reading() as connection:
        for row in connection.execute(query).mappings():
            job = _job(row)
            if state is None or job.lost is (state == "lost"):
                found.append(job)
            if len(found) == limit:
                break
    return found


def cancel_training_job(store: Store, job_id: str) -> TrainingJob:
    """End a job: where its launch lives, that hears of it at its next beat; otherwise at once. What is over stays.

    Raises
    ------
    NoJob
        There is none of that id.
    """
    with store.writing() as connection:
        job = _found(connection, job_id)
        if job.state not in OPEN:
            return job
        row: dict[str, Any] = {"state": "cancelling"}
        if job.lost:
            row = {"state": "cancelled", "finished_at": now()}
            _let_go(connection, job.launch.id, job.runs)
        connection.execute(sa.update(training_jobs).where(training_jobs.c.id == job.id).values(row))
        return _found(connection, job.id)


def _found(connection: sa.Connection, job_id: str) -> TrainingJob:
    rows: Sequence[sa.RowMapping] = []
    if job_id.isascii() and job_id.isalnum():
        begins = training_jobs.c.id.startswith(job_id, autoescape=True)
        rows = connection.execute(_joined().where(begins).limit(2)).mappings().all()
    if not rows:
        raise NoJob(finding("store.no_training_job", job=job_id))
    if len(rows) > 1:
        raise NoJob(finding("store.several_training_jobs", job=job_id))
    return _job(rows[0])


_OF_LAUNCH: Final = {f"launch_{field.name}": field.name for field in dataclasses.fields(Launch)}


def _joined() -> sa.Select[Any]:
    own = [launches.c[name].label(label) for label, name in _OF_LAUNCH.items() if name != "id"]
    return sa.select(training_jobs, *own, launches.c.beat_at).join(launches, launches.c.id == training_jobs.c.launch_id)


def _job(row: sa.RowMapping) -> TrainingJob:
    launch = Launch(**{name: row[label] for label, name in _OF_LAUNCH.items()})
    own = {name: row[name] for name in TrainingJob.__dataclass_fields__ if name in row}
    attempts = tuple(Attempt(**attempt) for attempt in row["attempts"])
    gone = not _lives({**launch.__dict__, "beat_at": row["beat_at"]})
    own |= {"runs": tuple(row["runs"]), "attempts": attempts, "lost": row["state"] in OPEN and gone}
    return TrainingJob(launch=launch, **own)


def _lives(row: Mapping[str, Any]) -> bool:
    quiet = time.time() - row["beat_at"] > LOST_SECONDS
    return row["ended_at"] is None and not quiet and not is_gone(row["process"])


def _put_launch(connection: sa.Connection, launch: Launch) -> None:
    row = {**dataclasses.asdict(launch), "beat_at": time.time()}
    later = {"beat_at": row["beat_at"], "ended_at": launch.ended_at}
    insert = _insert(connection, launches).values(row)
    connection.execute(insert.on_conflict_do_update(index_elements=["id"], set_=later))


def _put_jobs(connection: sa.Connection, launch: Launch, changed: Iterable[TrainingJob]) -> frozenset[str]:
    """Write rows, but not over those of jobs that another launch took; the runs that this one claims."""
    mine = training_claims.c.launch_id == launch.id
    claims = frozenset(connection.execute(sa.select(training_claims.c.run_id).where(mine)).scalars())
    jobs = {job.id: job for job in changed}.values()
    for claimed in (True, False):
        if rows := [_row(job) for job in jobs if claims.isdisjoint(job.runs) is not claimed]:
            connection.execute(_upsert(connection, claimed=claimed), rows)
    return claims


def _row(job: TrainingJob) -> dict[str, Any]:
    row = {name: getattr(job, name) for name in TrainingJob.__dataclass_fields__ if name in training_jobs.c}
    attempts = [dataclasses.asdict(attempt) for attempt in job.attempts]
    return row | {"launch_id": job.launch.id, "runs": list(job.runs), "attempts": attempts}


def _upsert(connection: sa.Connection, *, claimed: bool) -> Any:
    """Write a row, or write it anew.

    Parameters
    ----------
    claimed : its runs are claimed by the launch that writes; otherwise only a row of its own is written over
    """
    insert, there = _insert(connection, training_jobs), training_jobs.c
    new = insert.excluded
    later = {column.name: new[column.name] for column in there if column.name not in ("id", "created_at")}
    own = there.launch_id == new.launch_id
    still_open = (new.state == "queued") | (new.state == "running")
    asked = own & (there.state == "cancelling") & still_open  # meanwhile: that stays
    later["state"] = sa.case((asked, "cancelling"), else_=new.state)
    return insert.on_conflict_do_update(index_elements=["id"], set_=later, where=None if claimed else own)


def _insert(connection: sa.Connection, table: sa.Table) -> Any:
    if connection.dialect.name == "sqlite":
        from sqlalchemy.dialects.sqlite import insert as sqlite_insert

        return sqlite_insert(table)
    from sqlalchemy.dialects.postgresql import insert as postgres_insert

    return postgres_insert(table)


def _holders(connection: sa.Connection, run_ids: Sequence[str]) -> dict[str, str]:
    """Launch by run."""
    found = {}
    for some in _parts(run_ids):
        query = sa.select(training_claims.c.run_id, training_claims.c.launch_id)
        for row in connection.execute(query.where(training_claims.c.run_id.in_(some))):
            found[str(row.run_id)] = str(row.launch_id)
    return found


def _living(connection: sa.Connection, ids: Collection[str]) -> set[str]:
    rows = connection.execute(sa.select(launches).where(launches.c.id.in_(sorted(ids)))).mappings()
    return {str(row["id"]) for row in rows if _lives(dict(row))}


def _launches(connection: sa.Connection, ids: Collection[str]) -> dict[str, Launch]:
    rows = connection.execute(sa.select(launches).where(launches.c.id.in_(sorted(ids)))).mappings()
    return {str(row["id"]): Launch(**{name: row[name] for name in Launch.__dataclass_fields__}) for row in rows}


def _let_go(connection: sa.Connection, launch_id: str, run_ids: Sequence[str]) -> None:
    mine = training_claims.c.launch_id == launch_id
    for some in _parts(run_ids):
        connection.execute(sa.delete(training_claims).where(mine, training_claims.c.run_id.in_(some)))


def _parts(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (ids[begin : begin + _AT_ONCE] for begin in range(0, len(ids), _AT_ONCE))
