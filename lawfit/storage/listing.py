"""What is read page by page: runs and fits, filtered and sorted by the database; a page begins where one ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from lawfit.errors import NoRun
from lawfit.findings import finding
from lawfit.records import FitStatus, Run, RunStatus
from lawfit.storage.moves import family
from lawfit.storage.store import Store
from lawfit.storage.streams import run_of
from lawfit.storage.tables import curves, fits, predictions, recipes, refits, runs

Position = tuple[float | int | None, int]  # value that a page ended at (None: there is none), and the row's number


@dataclass(frozen=True, kw_only=True)
class RunsAsked:
    """Which runs of a recipe, in which order; None: all of them, in the order in which they were stored."""

    status: RunStatus | None = None
    excluded: bool | None = None
    run_key: str | None = None  # a key; * and ? match any text and any character
    ranges: Mapping[str, tuple[float | None, float | None]] = field(default_factory=dict)  # by column, ends included
    sort: str | None = None  # a column of numbers; runs without it come last
    descending: bool = False


@dataclass(frozen=True, kw_only=True)
class RunsPage:
    """Some of the runs that were asked for."""

    total: int  # that meet what was asked, on all pages
    runs: tuple[Run, ...]
    end: Position | None  # from where the next page goes on; None: this was the last


@dataclass(frozen=True, kw_only=True)
class CurveListed:
    """A metric that is stored along a run."""

    metric: str
    points: int
    first_step: int
    last_step: int


@dataclass(frozen=True, kw_only=True)
class FitListed:
    """A stored fit, without its numbers."""

    id: str
    recipe_key: str
    recipe_name: str  # as it was called then
    kind: str
    status: FitStatus
    data_hash: str
    code_version: str
    created_at: str
    made_at: str  # last: the same fit may be made again
    runs: int | None  # that it rests on; None where its kind does not say
    number: int  # of the making, which orders them


@dataclass(frozen=True, kw_only=True)
class PredictionListed:
    """An answer that was kept, without its reasons."""

    id: str
    fit_id: str
    recipe_name: str
    created_at: str
    target: Mapping[str, Any]
    recommendation: Mapping[str, Any]


def latest_predictions(store: Store, *, limit: int) -> list[PredictionListed]:
    """Answers that were kept, the newest first."""
    column = predictions.c
    query = sa.select(column.id, column.fit_id, column.created_at, column.target, column.answer, fits.c.recipe_name)
    query = query.join_from(predictions, fits).order_by(column.created_at.desc(), column.id).limit(limit)
    with store.reading() as connection:
        rows = connection.execute(query).mappings().all()
    return [
        PredictionListed(
            id=row["id"], fit_id=row["fit_id"], recipe_name=row["recipe_name"], created_at=row["created_at"],
            target=row["target"], recommendation=row["answer"]["recommendation"],
        )
        for row in rows
    ]  # fmt: skip


def values_among_runs(store: Store, recipe_key: str, column: str) -> list[float]:
    """What the runs of a recipe have in a column of numbers, each once, from small to large."""
    home = sa.select(recipes.c.id).where(recipes.c.key == recipe_key).scalar_subquery()
    query = sa.select(runs.c[column]).where(runs.c.recipe_id == home, runs.c[column].is_not(None)).distinct()
    with store.reading() as connection:
        return sorted(float(value) for value in connection.execute(query).scalars())


def page_of_runs(store: Store, recipe_key: str, asked: RunsAsked, *, after: Position | None, limit: int) -> RunsPage:
    """One page of a recipe's runs.

    Parameters
    ----------
    after : `end` of the page before
    limit : at most so many
    """
    column = runs.c
    home = sa.select(recipes.c.id).where(recipes.c.key == recipe_key).scalar_subquery()
    wanted = [column.recipe_id == home, *_conditions(asked, sqlite=store.location.is_sqlite)]
    by = None if asked.sort is None else column[asked.sort]
    later = [] if after is None else [_behind(by, after, descending=asked.descending)]
    order: list[Any] = [column.id.desc() if by is None and asked.descending else column.id]
    if by is not None:
        order = [by.is_(None), by.desc() if asked.descending else by, column.id]
    # Ids first: rows are wide, and few of those that are sorted are shown.
    first = sa.select(column.id).where(*wanted, *later).order_by(*order).limit(limit + 1).subquery()
    query = sa.select(runs).join(first, first.c.id == column.id).order_by(*order)
    with store.reading() as connection:
        total = connection.execute(sa.select(sa.func.count()).select_from(runs).where(*wanted)).scalar_one()
        rows = connection.execute(query).mappings().all()
    shown, end = rows[:limit], None
    if len(rows) > limit:
        end = (None if asked.sort is None else shown[-1][asked.sort], shown[-1]["id"])
    return RunsPage(total=total, runs=tuple(run_of(row) for row in shown), end=end)


def start_of_page_before(
    store: Store, recipe_key: str, asked: RunsAsked, *, after: Position, limit: int
) -> Position | None:
    """From where the page before goes on, as `page_of_runs` takes it; None: it is the first.

    Parameters
    ----------
    after : from where the page goes on whose predecessor is looked for
    limit : rows of a page
    """
    column = runs.c
    home = sa.select(recipes.c.id).where(recipes.c.key == recipe_key).scalar_subquery()
    wanted = [column.recipe_id == home, *_conditions(asked, sqlite=store.location.is_sqlite)]
    by = None if asked.sort is None else column[asked.sort]
    order: list[Any] = [column.id if by is None and asked.descending else column.id.desc()]
    if by is not None:
        order = [by.is_(None).desc(), by if asked.descending else by.desc(), column.id.desc()]
    upto = sa.not_(_behind(by, after, descending=asked.descending))
    value = sa.null() if by is None else by
    query = sa.select(value, column.id).where(*wanted, upto).order_by(*order).offset(limit).limit(1)
    with store.reading() as connection:
        row = connection.execute(query).first()
    return None if row is None else (row[0], row[1])


def one_run(store: Store, recipe_key: str, run_key: str) -> tuple[Run, list[CurveListed]]:
    """A run of a recipe (or of one that it was merged into), and the metrics that are stored along it.

    Raises
    ------
    NoRun
        There is none of that key.
    """
    column = curves.c
    row = None
    with store.reading() as connection:
        home = connection.execute(sa.select(recipes.c.id).where(recipes.c.key == recipe_key)).scalar()
        if home is not None and "\x00" not in run_key:
            query = sa.select(runs).where(runs.c.recipe_id.in_(family(connection, home)), runs.c.run_key == run_key)
            row = connection.execute(query).mappings().first()
        if row is None:
            raise NoRun(finding("store.no_run", run=run_key))
        listed = sa.select(
            column.metric,
            sa.func.sum(column.points).label("points"),
            sa.func.min(column.first_step).label("first_step"),
            sa.func.max(column.last_step).label("last_step"),
        ).where(column.run_id == row["id"])
        found = connection.execute(listed.group_by(column.metric).order_by(column.metric)).mappings().all()
    metrics = [CurveListed(**{name: each[name] for name in CurveListed.__dataclass_fields__}) for each in found]
    return run_of(row), metrics


def page_of_fits(
    store: Store, recipe_key: str | None = None, kind: str | None = None, *, before: int | None, limit: int
) -> list[FitListed]:
    """Stored fits, the one made (or made again) last first.

    Parameters
    ----------
    before : `number` of the last one of the page before
    limit : at most so many
    """
    made = sa.select(refits.c.fit_id, sa.func.max(refits.c.id).label("number")).group_by(refits.c.fit_id).subquery()
    wanted = [] if recipe_key is None else [recipes.c.key == recipe_key]
    wanted += [] if kind is None else [fits.c.kind == kind]
    wanted += [] if before is None else [made.c.number < before]
    own = [fits.c[name] for name in FitListed.__dataclass_fields__ if name in fits.c]
    first = sa.select(
        *own, recipes.c.key.label("recipe_key"), refits.c.made_at, made.c.number,
        fits.c.payload["runs_used"].as_integer().label("runs"),
    ).join_from(fits, recipes).join(made, made.c.fit_id == fits.c.id)  # fmt: skip
    query = first.join(refits, refits.c.id == made.c.number).where(*wanted).order_by(made.c.number.desc()).limit(limit)
    with store.reading() as connection:
        rows = connection.execute(query).mappings().all()
    return [FitListed(**{**row, "status": FitStatus(row["status"])}) for row in rows]


def _conditions(asked: RunsAsked, *, sqlite: bool) -> list[sa.ColumnElement[bool]]:
    column, found = runs.c, list[sa.ColumnElement[bool]]()
    if asked.status is not None:
        found.append(column.status == asked.status.value)
    if asked.excluded is not None:
        found.append(column.excluded.is_not(None) if asked.excluded else column.excluded.is_(None))
    for name, (low, high) in asked.ranges.items():
        found += [] if low is None else [column[name] >= low]
        found += [] if high is None else [column[name] <= high]
    if asked.run_key is not None:
        found.append(_fits_pattern(column.run_key, asked.run_key, sqlite=sqlite))
    return found


def _fits_pattern(column: sa.ColumnElement[str], pattern: str, *, sqlite: bool) -> sa.ColumnElement[bool]:
    """``*`` and ``?`` as in a shell, and nothing else: upper and lower case differ on both databases."""
    if "\x00" in pattern:
        return sa.false()
    if sqlite:
        return column.op("GLOB")(pattern.replace("[", "[[]"))
    escaped = pattern.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return column.like(escaped.replace("*", "%").replace("?", "_"), escape="\\")


def _behind(by: sa.ColumnElement[Any] | None, after: Position, *, descending: bool) -> sa.ColumnElement[bool]:
    """Rows that come after a place in the order."""
    value, number = after
    if by is None:
        return runs.c.id < number if descending else runs.c.id > number
    if value is None:
        return sa.and_(by.is_(None), runs.c.id > number)
    beyond = by < value if descending else by > value
    return sa.or_(beyond, sa.and_(by == value, runs.c.id > number), by.is_(None))
