"""Scoring a recommendation on observed runs: what the measured losses of a cell say it costs.

The yardstick of every backtest: the loss interpolated linearly between the *observed* runs of one (params, tokens)
cell at the recommended point, over the cell's lowest observed loss, minus one. Never a fitted surface of one's own.

Two rules of linear interpolation agree to about 0.01 % of loss on real grids, and both are here:

- ``triangles`` (default): Delaunay triangles of the finished runs in (log lr, log batch_tokens). Works for grids with
  holes and for random search. On a regular grid both diagonals of a square are Delaunay; which one is taken depends
  on the order of the rows, so keep the rows in the order of the file when figures are to be compared to the digit.
- ``bilinear``: inside the square of four grid neighbours, no dependence on row order; where one of the four is
  missing or diverged, the triangles are used.

Outside the convex hull of the finished runs nothing was observed: the query is moved to the nearest point of the
hull (for a full grid that is clamping to its edges), scored there, and flagged `outside`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lawfit.errors import NotEnoughData
from lawfit.findings import finding

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Rule = Literal["triangles", "bilinear"]

LR_TOLERANCE = 0.002  # tables print one learning rate with different rounding: 0.002760 and 0.002762
EMPTIEST_GRID = 20  # cells of a table per run, beyond which the runs are scattered rather than on a grid
_HULL_SLACK = 1e-9  # in units of log: a point this close to the hull is inside


@dataclass(frozen=True, kw_only=True)
class ObservedRegret:
    """What each query costs as a fraction of the cell's lowest observed loss."""

    regret: Floats  # (m,), >= 0
    outside: Bools  # (m,), the query lies outside the runs and was scored at their nearest edge


class ObservedSurface:
    """The finished runs of one cell, ready to be interpolated at any number of points.

    Parameters
    ----------
    lr : (n,) positive floats
    batch_tokens : (n,) positive floats, tokens per step
    loss : (n,) floats, nats per token
        NaN (or infinite) for a diverged run: it is left out, and its neighbours are bridged linearly.
    rule : {"triangles", "bilinear"}

    Raises
    ------
    NotEnoughData
        No run with a finite loss.
    """

    def __init__(self, lr: ArrayLike, batch_tokens: ArrayLike, loss: ArrayLike, *, rule: Rule = "triangles") -> None:
        if rule not in ("triangles", "bilinear"):
            raise ValueError(f"rule must be 'triangles' or 'bilinear', got {rule!r}")
        x, y, z = (np.asarray(a, dtype=float).ravel() for a in (lr, batch_tokens, loss))
        if not len(x) == len(y) == len(z):
            raise ValueError(f"lr, batch_tokens and loss differ in length: {len(x)}, {len(y)}, {len(z)}")
        if not (np.all(x > 0) and np.all(y > 0)):
            raise ValueError("lr and batch_tokens must be positive")
        finite = np.isfinite(z)
        if not finite.any():
            raise NotEnoughData(finding("numerics.nothing_finished", runs=len(z)))
        self.rule = rule
        self._points, self._loss = _merge_repeats(np.log(np.column_stack([x, y])[finite]), z[finite])
        best = int(np.argmin(self._loss))
        self.lowest_loss = float(self._loss[best])
        self.best_lr, self.best_batch_tokens = (float(x) for x in np.exp(self._points[best]))
        self._axis = _only_axis(self._points)
        self._triangles: Any = None
        self._hull = np.empty((0, 2))
        if self._axis is None:
            from scipy.interpolate import LinearNDInterpolator
            from scipy.spatial import ConvexHull

            self._triangles = LinearNDInterpolator(self._points, self._loss)
            self._hull = self._points[ConvexHull(self._points).vertices]
        self._grid = _Grid.of(self._points, self._loss) if rule == "bilinear" else None

    def loss_at(self, at_lr: ArrayLike, at_batch: ArrayLike) -> tuple[Floats, Bools]:
        """Interpolated loss, and whether the query lay outside the runs; both of the broadcast query shape."""
        query_lr, query_batch = np.broadcast_arrays(np.asarray(at_lr, dtype=float), np.asarray(at_batch, dtype=float))
        if not (np.all(query_lr > 0) and np.all(query_batch > 0)):
            raise ValueError("the learning rate and batch size to score must be positive")
        query = np.log(np.column_stack([query_lr.ravel(), query_batch.ravel()]))
        if self._axis is not None:
            loss, outside = self._along_line(query, self._axis)
        else:
            inside, outside = _into_hull(query, self._hull)
            loss = np.full(len(query), np.nan) if self._grid is None else self._grid.loss_at(inside)
            for inwards in (0.0, 1e-7):  # on the border, beyond it by rounding: one step inwards
                if (open_ := ~np.isfinite(loss)).any():
                    centre = self._points.mean(axis=0)
                    loss[open_] = self._triangles(inside[open_] + inwards * (centre - inside[open_]))
        return loss.reshape(query_lr.shape), outside.reshape(query_lr.shape)

    def regret(self, at_lr: ArrayLike, at_batch: ArrayLike) -> ObservedRegret:
        """Interpolated loss over the lowest observed loss, minus one."""
        loss, outside = self.loss_at(at_lr, at_batch)
        return ObservedRegret(regret=loss / self.lowest_loss - 1.0, outside=outside)

    def lr_tried(self, count: int) -> Floats:
        """(count,) learning rates over the range of the finished runs, log-spaced."""
        log_lr = self._points[:, 0]
        return np.exp(np.linspace(log_lr.min(), log_lr.max(), count))

    def _along_line(self, query: Floats, axis: int) -> tuple[Floats, Bools]:
        """Runs that differ in one quantity only (a learning-rate sweep at one batch): interpolate along that one."""
        order = np.argsort(self._points[:, axis])
        place = self._points[order, axis]
        line = np.interp(query[:, axis], place, self._points[order, 1 - axis])
        off_line = np.abs(query[:, 1 - axis] - line) > LR_TOLERANCE
        beyond = (query[:, axis] < place[0] - _HULL_SLACK) | (query[:, axis] > place[-1] + _HULL_SLACK)
        return np.interp(query[:, axis], place, self._loss[order]), off_line | beyond


@dataclass(frozen=True, kw_only=True)
class _Grid:
    """Losses on a grid of (log lr, log batch); NaN where there is no finished run."""

    log_lr: Floats
    log_batch: Floats
    loss: Floats  # (len(log_lr), len(log_batch))

    @classmethod
    def of(cls, points: Floats, loss: Floats) -> _Grid | None:
        """None when the runs are no grid (random search): a table of all their values would be empty, and huge."""
        log_lr, row = _distinct(points[:, 0])
        log_batch, column = _distinct(points[:, 1])
        if len(log_lr) * len(log_batch) > EMPTIEST_GRID * len(points):
            return None
        table = np.full((len(log_lr), len(log_batch)), np.nan)
        table[row, column] = loss
        return cls(log_lr=log_lr, log_batch=log_batch, loss=table)

    def loss_at(self, query: Floats) -> Floats:
        """Bilinear; NaN where a neighbour with weight is missing."""
        if min(self.loss.shape) < 2:
            return np.full(len(query), np.nan)
        i, u = _bracket(self.log_lr, query[:, 0])
        j, v = _bracket(self.log_batch, query[:, 1])
        total = np.zeros(len(query))
        for di, dj, weight in ((0, 0, (1 - u) * (1 - v)), (1, 0, u * (1 - v)), (0, 1, (1 - u) * v), (1, 1, u * v)):
            # a missing neighbour counts only where it has weight: a query on a grid line needs two, not four
            total += np.where(weight > 1e-12, weight * self.loss[i + di, j + dj], 0.0)
        return total


def _bracket(ticks: Floats, x: Floats) -> tuple[NDArray[np.intp], Floats]:
    lower = np.clip(np.searchsorted(ticks, x, side="right") - 1, 0, len(ticks) - 2)
    share = (x - ticks[lower]) / (ticks[lower + 1] - ticks[lower])
    return lower, np.clip(share, 0.0, 1.0)


def median(values: Floats) -> float:
    """`numpy.median` of a few hundred finite numbers, without most of its overhead: fits take it per cell."""
    middle = len(values) // 2
    if len(values) % 2:
        return float(np.partition(values, middle)[middle])
    low, high = np.partition(values, (middle - 1, middle))[middle - 1 : middle + 1]
    return float(low + high) / 2


def group_starts(ordered: Floats, tolerance: float) -> list[int]:
    """Where groups of equal values begin in an ascending array; a group reaches `tolerance` above its lowest value.

    Groups do not chain: in random search every learning rate has a close neighbour.
    """
    starts = [0] if len(ordered) else []
    while starts:
        following = int(np.searchsorted(ordered, ordered[starts[-1]] + tolerance, side="right"))
        if following >= len(ordered):
            break
        starts.append(following)
    return starts


def _distinct(x: Floats) -> tuple[Floats, NDArray[np.intp]]:
    """Values that differ by more than `LR_TOLERANCE`, ascending, and for each x the index of its value."""
    ordered = np.sort(x)
    values = ordered[group_starts(ordered, LR_TOLERANCE)]
    return values, np.clip(np.searchsorted(values, x + _HULL_SLACK, side="right") - 1, 0, len(values) - 1)


def _merge_repeats(points: Floats, loss: Floats) -> tuple[Floats, Floats]:
    """Average runs of equal settings (seeds), keeping the order in which settings first appear."""
    key = np.column_stack([_distinct(points[:, 0])[1], _distinct(points[:, 1])[1]])
    _, first, group = np.unique(key, axis=0, return_index=True, return_inverse=True)
    if len(first) == len(loss):
        return points, loss
    mean = np.bincount(group.ravel(), weights=loss) / np.bincount(group.ravel())
    order = np.argsort(first)
    return points[first[order]], mean[order]


def _only_axis(points: Floats) -> int | None:
    """0 or 1 when the runs differ along one axis only (or not at all); None when they span the plane.

    Runs on an oblique line (batch tied to lr) do not span the plane either: they are interpolated along lr.
    """
    centred = points - points.mean(axis=0)
    spread = np.linalg.svd(centred, compute_uv=False) if len(points) > 1 else np.zeros(2)
    if len(points) >= 3 and spread[1] > LR_TOLERANCE:
        return None
    return int(np.argmax(np.ptp(points, axis=0)))


def _into_hull(query: Floats, hull: Floats) -> tuple[Floats, Bools]:
    """Queries outside a convex polygon (vertices counter-clockwise) moved to its nearest point, and which were."""
    edge = np.roll(hull, -1, axis=0) - hull
    length = np.linalg.norm(edge, axis=1)
    offset = query[:, None, :] - hull[None, :, :]
    signed = (edge[:, 0] * offset[..., 1] - edge[:, 1] * offset[..., 0]) / length
    outside = np.asarray((signed < -_HULL_SLACK).any(axis=1))
    moved = query.copy()
    if outside.any():
        along = np.clip((offset[outside] * edge).sum(axis=-1) / length**2, 0.0, 1.0)
        feet = hull + along[..., None] * edge
        distance = np.linalg.norm(query[outside][:, None, :] - feet, axis=-1)
        moved[outside] = feet[np.arange(len(feet)), distance.argmin(axis=1)]
    return moved, outside
