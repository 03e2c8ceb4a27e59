"""Curves in the table: what an incoming one adds to the stored one, and whether it is a fuller log of the same run."""

from __future__ import annotations

import bisect
import dataclasses
from collections.abc import Iterable, Sequence
from itertools import islice
from operator import attrgetter
from typing import Final

import numpy as np
import sqlalchemy as sa

from lawfit.errors import NoRun
from lawfit.findings import finding
from lawfit.records import Curve, CurveChange
from lawfit.storage import curves as curve_chunks
from lawfit.storage.bulk import insert_many
from lawfit.storage.tables import curves, runs

CURVES_AT_ONCE: Final = 500  # whose runs are looked up in one query
_CHUNK_FIELDS: Final = tuple(f.name for f in dataclasses.fields(curve_chunks.Chunk))
_values_of: Final = attrgetter(*_CHUNK_FIELDS)
SAME: Final = 1e-3  # relative: tables of curves are rounded to four digits and more


def write_curves(
    connection: sa.Connection, recipe_ids: Sequence[int], given: Iterable[Curve], *, dry_run: bool
) -> list[CurveChange]:
    """`write_curve` for many runs of one recipe (or of its parts), those that are new in bulk; in the order given.

    Raises
    ------
    NoRun
        A run is not in the store.
    """
    changes: list[CurveChange] = []
    given = iter(given)
    while some := list(islice(given, CURVES_AT_ONCE)):
        ids = _run_ids(connection, recipe_ids, {curve.run_key for curve in some})
        ends = curve_ends(connection, list(ids.values()))
        rows: list[tuple[object, ...]] = []
        for curve in some:
            if curve.run_key not in ids:
                raise NoRun(finding("store.no_run", run=curve.run_key))
            place = ids[curve.run_key], curve.metric
            if place in ends or not len(curve.steps):
                changes.append(write_curve(connection, place[0], curve, dry_run=dry_run))
                continue
            ends.add(place)
            if not dry_run:
                pieces = enumerate(curve_chunks.pack(curve.steps, curve.numbers))
                rows += [(*place, number, *_values_of(piece)) for number, piece in pieces]
            changes.append(all_new(curve))
        insert_many(connection, curves, ("run_id", "metric", "chunk", *_CHUNK_FIELDS), rows)
    return changes


def all_new(curve: Curve) -> CurveChange:
    """The change that a curve makes where there is none of its run and metric."""
    steps = tuple(curve.steps)
    return CurveChange(run_key=curve.run_key, metric=curve.metric, new_steps=steps, replaced=0, differs=False)


def _run_ids(connection: sa.Connection, recipe_ids: Sequence[int], keys: set[str]) -> dict[str, int]:
    asked = [key for key in keys if "\x00" not in key]  # which PostgreSQL's driver refuses, and no text there holds
    query = sa.select(runs.c.run_key, runs.c.id).where(runs.c.recipe_id.in_(recipe_ids), runs.c.run_key.in_(asked))
    return {row.run_key: row.id for row in connection.execute(query)}


def curve_ends(connection: sa.Connection, run_ids: Sequence[int]) -> set[tuple[int, str]]:
    """Runs and metrics that have a curve."""
    query = sa.select(curves.c.run_id, curves.c.metric).where(curves.c.run_id.in_(run_ids)).distinct()
    return {(row.run_id, row.metric) for row in connection.execute(query)}


def write_curve(connection: sa.Connection, run_id: int, curve: Curve, *, dry_run: bool) -> CurveChange:
    """Add the points behind the stored ones; replace a thinned curve by a fuller log of the same run.

    A fuller log has all stored steps, with the same numbers up to rounding, and further ones between them. Where the
    numbers differ it is another measurement: the stored one stays.
    """
    chunk, last_step, points = curve_end(connection, run_id, curve.metric)
    behind = 0 if last_step is None else bisect.bisect_right(curve.steps, last_step)
    fuller = differs = False
    held: set[int] = set()
    if behind > points:
        steps, numbers = stored(connection, run_id, curve.metric)
        held = set(steps.tolist())
        between = any(step not in held for step in curve.steps[:behind])
        given = dict(zip(curve.steps[:behind], curve.numbers[:behind], strict=True))
        shared = np.array([given.get(step, np.nan) for step in steps.tolist()])
        whole = held <= given.keys()
        differs = whole and not np.allclose(shared, numbers, rtol=SAME, atol=0.0, equal_nan=True)
        fuller = between and whole and not differs
    new = tuple(step for step in curve.steps if step not in held) if fuller else tuple(curve.steps[behind:])
    if new and not dry_run:
        if fuller:
            column = curves.c
            connection.execute(sa.delete(curves).where(column.run_id == run_id, column.metric == curve.metric))
            insert_chunks(connection, run_id, curve.metric, None, curve_chunks.pack(curve.steps, curve.numbers))
        else:
            pieces = curve_chunks.pack(curve.steps[behind:], curve.numbers[behind:])
            insert_chunks(connection, run_id, curve.metric, chunk, pieces)
    return CurveChange(
        run_key=curve.run_key, metric=curve.metric, new_steps=new, replaced=points if fuller else 0, differs=differs
    )


def stored(connection: sa.Connection, run_id: int, metric: str) -> tuple[curve_chunks.Steps, curve_chunks.Numbers]:
    """Steps and numbers as they were given; empty when there is no such curve."""
    column = curves.c
    query = sa.select(column.codec, column.points, column.steps, column.numbers)
    query = query.where(column.run_id == run_id, column.metric == metric).order_by(column.chunk)
    pieces = [
        curve_chunks.unpack(row.codec, row.points, row.steps, row.numbers) for row in connection.execute(query).all()
    ]
    if not pieces:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float64)
    return np.concatenate([steps for steps, _ in pieces]), np.concatenate([numbers for _, numbers in pieces])


def curve_end(connection: sa.Connection, run_id: int, metric: str) -> tuple[int | None, int | None, int]:
    """Number of the last chunk of a curve, its last step (None where there is none), and the points of all chunks."""
    column = curves.c
    query = sa.select(sa.func.max(column.chunk), sa.func.max(column.last_step), sa.func.sum(column.points))
    chunk, last_step, points = connection.execute(query.where(column.run_id == run_id, column.metric == metric)).one()
    return chunk, last_step, int(points or 0)


def insert_chunks(
    connection: sa.Connection, run_id: int, metric: str, last: int | None, chunks: Sequence[curve_chunks.Chunk]
) -> None:
    """Rows behind chunk number `last` of the curve; None: from the first."""
    first = 0 if last is None else last + 1
    rows = [
        {"run_id": run_id, "metric": metric, "chunk": first + number, **vars(piece)}
        for number, piece in enumerate(chunks)
    ]
    connection.execute(sa.insert(curves), rows)


def join_chunks(connection: sa.Connection) -> tuple[int, int]:
    """Pack each curve that stands in more chunks than it needs anew; chunks of all curves before and after."""
    column = curves.c
    total = connection.execute(sa.select(sa.func.count()).select_from(curves)).scalar_one()
    many = sa.func.count() > (sa.func.sum(column.points) + curve_chunks.CHUNK_POINTS - 1) / curve_chunks.CHUNK_POINTS
    query = sa.select(column.run_id, column.metric, sa.func.count()).group_by(column.run_id, column.metric)
    after = total
    for run_id, metric, chunks in connection.execute(query.having(many, sa.func.count() > 1)).all():
        pieces = curve_chunks.pack(*stored(connection, run_id, metric))
        if len(pieces) < chunks:
            connection.execute(sa.delete(curves).where(column.run_id == run_id, column.metric == metric))
            insert_chunks(connection, run_id, metric, None, pieces)
            after += len(pieces) - chunks
    return total, after
