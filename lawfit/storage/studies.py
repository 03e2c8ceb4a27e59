"""Studies and their rounds. A round goes from `planned` over `trained` to `fitted`, each step one transaction that
happens once, whoever takes it: a process that is killed leaves a phase that the next one goes on from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from lawfit.errors import NoFit
from lawfit.findings import as_json, finding
from lawfit.records import Json, Run
from lawfit.storage.database import now
from lawfit.storage.fits import insert_or_ignore
from lawfit.storage.store import Store
from lawfit.storage.streams import run_of
from lawfit.storage.tables import recipes, runs, studies, study_rounds

PLANNED: Final = "planned"
TRAINED: Final = "trained"
FITTED: Final = "fitted"
_KEYS_AT_ONCE: Final = 500


@dataclass(frozen=True, kw_only=True)
class StoredRound:
    """One round as it is stored."""

    number: int  # from 1
    phase: str
    document: Mapping[str, Json]
    grid: Mapping[str, Json]  # as `lawfit launch` takes it
    seconds: float  # of its launches so far
    gpu_seconds: float


@dataclass(frozen=True, kw_only=True)
class StoredStudy:
    """A study with its rounds so far."""

    id: str
    recipe: str
    asked: Mapping[str, Json]
    launch: Mapping[str, Json]
    stopped: Json  # a finding; None while it can go on
    created_at: str  # ISO 8601, UTC, as the other
    updated_at: str
    rounds: tuple[StoredRound, ...]


def find_study(store: Store, study_id: str) -> StoredStudy | None:
    """The study of that id, if there is one."""
    if not study_id.isprintable():
        return None
    with store.reading() as connection:
        row = connection.execute(sa.select(studies).where(studies.c.id == study_id)).mappings().one_or_none()
        return None if row is None else _study(row, _rounds(connection, study_id))


def read_study(store: Store, study_id: str) -> StoredStudy:
    """The study of that id.

    Raises
    ------
    NoFit
        There is none.
    """
    if (found := find_study(store, study_id)) is None:
        raise NoFit(finding("study.none", study_id=study_id, database=str(store.location)))
    return found


def list_studies(store: Store) -> list[StoredStudy]:
    """All of them, the newest first."""
    with store.reading() as connection:
        rows = connection.execute(sa.select(studies).order_by(studies.c.created_at.desc(), studies.c.id)).mappings()
        return [_study(row, _rounds(connection, row["id"])) for row in rows.all()]


def begin_round(
    store: Store,
    study: StoredStudy,
    number: int,
    *,
    document: Mapping[str, Json],
    grid: Mapping[str, Json],
) -> bool:
    """Keep a round that was planned, with its study where that is new; False where another process was first."""
    row = {
        "id": study.id, "recipe": study.recipe, "asked": dict(study.asked), "launch": dict(study.launch),
        "created_at": now(), "updated_at": now(),
    }  # fmt: skip
    planned = {
        "study_id": study.id, "number": number, "phase": PLANNED, "document": as_json(dict(document)),
        "grid": dict(grid), "seconds": 0.0, "gpu_seconds": 0.0,
    }  # fmt: skip
    with store.writing() as connection:
        insert_or_ignore(connection, studies, row)
        return insert_or_ignore(connection, study_rounds, planned)


def add_time(store: Store, study_id: str, number: int, seconds: float, gpu_seconds: float) -> None:
    """What a launch has taken since it was last said."""
    columns = study_rounds.c
    more = {"seconds": columns.seconds + seconds, "gpu_seconds": columns.gpu_seconds + gpu_seconds}
    with store.writing() as connection:
        connection.execute(sa.update(study_rounds).where(_is(study_id, number)).values(more))


def end_phase(
    store: Store, study_id: str, number: int, phase: str, then: str, document: Mapping[str, Json], recipe: str = ""
) -> bool:
    """Take a round from one phase to the next; False where another process did.

    Parameters
    ----------
    recipe : what the runs of the study turned out to be stored under
    """
    values = {"phase": then, "document": as_json(dict(document))}
    with store.writing() as connection:
        where = _is(study_id, number) & (study_rounds.c.phase == phase)
        done = connection.execute(sa.update(study_rounds).where(where).values(values)).rowcount == 1
        if done:
            told = {"updated_at": now(), **({"recipe": recipe} if recipe else {})}
            connection.execute(sa.update(studies).where(studies.c.id == study_id).values(told))
        return done


def set_stopped(store: Store, study_id: str, why: Json) -> None:
    """Why a study ended; None: it can go on."""
    values = {"stopped": as_json(why), "updated_at": now()}
    with store.writing() as connection:
        connection.execute(sa.update(studies).where(studies.c.id == study_id).values(values))


def set_launch(store: Store, study_id: str, launch: Mapping[str, Json]) -> None:
    """How runs are made from now on."""
    with store.writing() as connection:
        connection.execute(sa.update(studies).where(studies.c.id == study_id).values(launch=dict(launch)))


def runs_of(store: Store, run_keys: Sequence[str]) -> tuple[list[Run], str]:
    """Those of some runs that are stored, and the recipe that has most of them; empty where none is."""
    found: list[Run] = []
    homes: Counter[str] = Counter()
    with store.reading() as connection:
        for begin in range(0, len(run_keys), _KEYS_AT_ONCE):
            some = runs.c.run_key.in_(run_keys[begin : begin + _KEYS_AT_ONCE])
            found += [run_of(row) for row in connection.execute(sa.select(runs).where(some)).mappings()]
            names = sa.select(recipes.c.name).join(runs, runs.c.recipe_id == recipes.c.id).where(some)
            homes.update(connection.execute(names).scalars())
    return found, homes.most_common(1)[0][0] if homes else ""


def _is(study_id: str, number: int) -> sa.ColumnElement[bool]:
    return (study_rounds.c.study_id == study_id) & (study_rounds.c.number == number)


def _rounds(connection: sa.Connection, study_id: str) -> tuple[StoredRound, ...]:
    query = sa.select(study_rounds).where(study_rounds.c.study_id == study_id).order_by(study_rounds.c.number)
    names = ("number", "phase", "document", "grid", "seconds", "gpu_seconds")
    return tuple(
        StoredRound(**{name: row[name] for name in names}) for row in connection.execute(query).mappings().all()
    )


def _study(row: sa.RowMapping, rounds: tuple[StoredRound, ...]) -> StoredStudy:
    return StoredStudy(**{name: row[name] for name in row}, rounds=rounds)


def unstored(study_id: str, recipe: str, asked: Mapping[str, Any], launch: Mapping[str, Any]) -> StoredStudy:
    """A study before its first round."""
    return StoredStudy(
        id=study_id, recipe=recipe, asked=asked, launch=launch, stopped=None, created_at="", updated_at="", rounds=()
    )
