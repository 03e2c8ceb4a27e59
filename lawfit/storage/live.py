"""Runs that training loops are logging: what they were set to, and the points so far, until they are stored as runs."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from threading import Lock
from typing import Any, Final
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from lawfit.errors import NoRun, RunEnded
from lawfit.findings import finding
from lawfit.records import Json
from lawfit.storage.database import now
from lawfit.storage.store import Store
from lawfit.storage.tables import live_points, live_runs

_SAID, _FACTS, _ANSWERS = "said", "facts", "answers"  # parts of the column `summary`
_KEPT: Final = 1000  # runs
_lock: Final = Lock()
_COUNTED_SECONDS: Final = 5.0  # what other processes bring meanwhile may pass the most
# Of runs: how many points each had when it was counted last, with what came through this process since, and when.
_counted: Final[WeakKeyDictionary[Store, OrderedDict[int, tuple[int, float]]]] = WeakKeyDictionary()

Numbers = tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]


@dataclass(frozen=True, kw_only=True)
class LiveRun:
    """A run that is, or was, logged as it went."""

    project: str
    run_key: str
    state: str  # running, finished, crashed or diverged
    config: Mapping[str, Json]
    said: Mapping[str, Json] = field(default_factory=dict)  # about it at its end, such as its loss
    facts: Mapping[str, Json] = field(default_factory=dict)  # that its points gave, once those are stored with the run
    answers: tuple[tuple[str, str], ...] = ()  # options that a person answered with; they hold for its project
    began_at: str  # ISO 8601, UTC, as the others
    beat_at: str  # when it was last heard of
    stored_at: str | None
    points: int = 0  # that wait to be stored
    last_step: int | None = None  # of those


def begin_live_run(store: Store, project: str, run_key: str, config: Mapping[str, Json]) -> LiveRun:
    """Begin a run, or go on with one: settings are added to those that it has. One that is stored stays as it is."""
    with store.writing() as connection:
        row = {"project": project, "run_key": run_key, "state": "running", "config": {}, "summary": {}}
        row |= {"began_at": now(), "beat_at": now()}
        connection.execute(_insert(store.location.is_sqlite, live_runs).values(row).on_conflict_do_nothing())
        found = _locked(connection, project, run_key)
        if found["stored_at"] is None:
            changed = {"state": "running", "config": {**found["config"], **config}, "beat_at": now()}
            connection.execute(sa.update(live_runs).where(live_runs.c.id == found["id"]).values(changed))
        return _live(_locked(connection, project, run_key))


def put_points(
    store: Store, points: Mapping[tuple[str, str], Sequence[tuple[str, int, float]]], *, most_unstored: int
) -> int:
    """Keep points of runs (project, run_key): metric, step and value of each; how many were given.

    A step that was logged before has the later value then, so the same points twice are the same points.

    Raises
    ------
    NoRun
        One of the runs has not begun; nothing is kept.
    RunEnded
        One of them is stored already, or has more points than `most_unstored`; nothing is kept.
    """
    given = 0
    with store.writing() as connection:
        for (project, run_key), several in sorted(points.items()):
            beat = sa.update(live_runs).where(*_is(project, run_key)).values(beat_at=now())  # which locks it, too
            row = _there(connection.execute(beat.returning(live_runs.c.id, live_runs.c.stored_at)), project, run_key)
            if row["stored_at"] is not None:
                raise RunEnded(finding("store.run_ended", run=run_key, project=project))
            rows = {(metric, step): value for metric, step, value in several}
            given += len(several)
            if not _has_room(store, connection, row["id"], len(rows), most_unstored):
                raise RunEnded(finding("store.run_too_long", run=run_key, project=project, most=most_unstored))
            if rows:
                connection.execute(
                    _keep_points(store.location.is_sqlite),
                    [
                        {"live_run_id": row["id"], "metric": metric, "step": step, "value": repr(float(value))}
                        for (metric, step), value in rows.items()
                    ],
                )
    return given


def _has_room(store: Store, connection: sa.Connection, run_id: int, more: int, most: int) -> bool:
    """Whether a run may get so many more points: they are counted now and then and where it could be full, not each
    time, as that takes the longer the more there are."""
    kept, moment = _counted.setdefault(store, OrderedDict()), time.monotonic()
    with _lock:
        before, counted = kept.pop(run_id, (most, 0.0))
    if before + more > most or moment - counted > _COUNTED_SECONDS:
        mine = live_points.c.live_run_id == run_id
        before, counted = connection.execute(sa.select(sa.func.count()).where(mine)).scalar_one(), moment
    with _lock:
        kept[run_id] = before + more, counted
        while len(kept) > _KEPT:
            kept.popitem(last=False)
    return before + more <= most


@cache
def _keep_points(is_sqlite: bool) -> Any:
    insert = _insert(is_sqlite, live_points)
    return insert.on_conflict_do_update(
        index_elements=["live_run_id", "metric", "step"], set_={"value": insert.excluded.value}
    )


def end_live_run(store: Store, project: str, run_key: str, state: str, said: Mapping[str, Json]) -> None:
    """Write down how a run ended, and what was said of it. One that is stored stays as it is.

    Raises
    ------
    NoRun
        It has not begun.
    """
    with store.writing() as connection:
        row = _locked(connection, project, run_key)
        if row["stored_at"] is None:
            summary = {**row["summary"], _SAID: {**row["summary"].get(_SAID, {}), **said}}
            changed = {"state": state, "summary": summary, "beat_at": now()}
            connection.execute(sa.update(live_runs).where(live_runs.c.id == row["id"]).values(changed))


def ended_runs(store: Store, project: str) -> list[tuple[LiveRun, dict[str, Numbers]]]:
    """The ended runs of a project in the order in which they began, each with its points that are not stored yet."""
    mine = (live_runs.c.project == project) & live_runs.c.state.in_(("finished", "diverged"))
    points = sa.select(live_points).join(live_runs).where(mine)
    points = points.order_by(live_points.c.live_run_id, live_points.c.metric, live_points.c.step)
    pieces: dict[int, dict[str, tuple[list[int], list[float]]]] = {}
    with store.frozen() as connection:
        rows = connection.execute(sa.select(live_runs).where(mine).order_by(live_runs.c.id)).mappings().all()
        for run_id, metric, step, value in connection.execute(points):
            steps, values = pieces.setdefault(run_id, {}).setdefault(metric, ([], []))
            steps.append(step)
            values.append(float(value))
    return [
        (
            _live(row),
            {
                metric: (np.array(steps, dtype=np.int64), np.array(values))
                for metric, (steps, values) in pieces.get(row["id"], {}).items()
            },
        )
        for row in rows
    ]


def mark_stored(
    store: Store,
    project: str,
    facts: Mapping[str, tuple[int, Mapping[str, Json]]],
    answers: Sequence[tuple[str, str]] = (),
    answered: str = "",
) -> None:
    """Runs of a project are stored now: their points go, and what those gave stays.

    Parameters
    ----------
    facts : of each run, by its key, with the number of its points that are stored; one that has more meanwhile waits
    answers : that it took to store the run of key `answered`; later runs of the project have them too
    """
    with store.writing() as connection:
        for run_key, (points, found) in sorted(facts.items()):
            row = _locked(connection, project, run_key)
            mine = live_points.c.live_run_id == row["id"]
            if connection.execute(sa.select(sa.func.count()).where(mine)).scalar_one() != points:
                continue
            connection.execute(sa.delete(live_points).where(mine))
            summary = {**row["summary"], _FACTS: dict(found)}
            if run_key == answered and answers:
                summary[_ANSWERS] = [list(answer) for answer in answers]
            changed = {"stored_at": now(), "summary": summary}
            connection.execute(sa.update(live_runs).where(live_runs.c.id == row["id"]).values(changed))


def list_live_runs(store: Store, project: str | None = None, state: str | None = None, *, limit: int) -> list[LiveRun]:
    """Runs that were logged, those heard of last first, with what waits to be stored of each."""
    column = live_points.c
    wanted = [] if project is None else [live_runs.c.project == project]
    wanted += [] if state is None else [live_runs.c.state == state]
    query = sa.select(live_runs).where(*wanted).order_by(live_runs.c.beat_at.desc(), live_runs.c.id.desc()).limit(limit)
    with store.frozen() as connection:
        rows = connection.execute(query).mappings().all()
        counts = sa.select(column.live_run_id, sa.func.count().label("points"), sa.func.max(column.step).label("step"))
        counts = counts.where(column.live_run_id.in_([row["id"] for row in rows])).group_by(column.live_run_id)
        known = {row.live_run_id: (row.points, row.step) for row in connection.execute(counts)}
    return [_live(row, *known.get(row["id"], (0, None))) for row in rows]


def _locked(connection: sa.Connection, project: str, run_key: str) -> sa.RowMapping:
    query = sa.select(live_runs).where(*_is(project, run_key))
    return _there(connection.execute(query.with_for_update()), project, run_key)


def _is(project: str, run_key: str) -> tuple[sa.ColumnElement[bool], ...]:
    return live_runs.c.project == project, live_runs.c.run_key == run_key


def _there(found: sa.CursorResult[Any], project: str, run_key: str) -> sa.RowMapping:
    row = found.mappings().first()
    if row is None:
        raise NoRun(finding("store.no_live_run", run=run_key, project=project))
    return row


def _live(row: sa.RowMapping, points: int = 0, last_step: int | None = None) -> LiveRun:
    summary = row["summary"]
    names = ("project", "run_key", "state", "config", "began_at", "beat_at", "stored_at")
    return LiveRun(
        **{name: row[name] for name in names},
        said=summary.get(_SAID, {}),
        facts=summary.get(_FACTS, {}),
        answers=tuple((option, value) for option, value in summary.get(_ANSWERS, ())),
        points=points,
        last_step=last_step,
    )


def _insert(is_sqlite: bool, table: sa.Table) -> Any:  # both kinds have on_conflict_*, and no common type
    from sqlalchemy.dialects import postgresql, sqlite

    return sqlite.insert(table) if is_sqlite else postgresql.insert(table)
