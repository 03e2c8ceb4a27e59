"""Where one cell's loss is lowest: the published estimators of an optimum, on plain columns of runs.

All take the same columns (params, tokens, batch_tokens, lr, loss; a loss that is not finite is a diverged run) and
return one `CellOptimum` per (params, tokens) cell, in ascending order, with a status that says whether the sweep really
shows a minimum. Ids E1, E2, E3 are those of the literature sheet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lawfit.estimate.numerics.snapping import indexed
from lawfit.estimate.numerics.sweeps import SweepOptimum, border_status, same_value, sweep_akima, sweep_parabola
from lawfit.records import OptimumStatus

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.intp]

NEAR_OPTIMAL: Final = 0.0025  # relative band of E1 (Step Law, DeepSeek)


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Runs as columns; ``finite`` marks those that did not diverge."""

    params: Floats
    tokens: Floats
    batch_tokens: Floats
    lr: Floats
    loss: Floats
    finite: Bools

    @classmethod
    def of(
        cls, params: ArrayLike, tokens: ArrayLike, batch_tokens: ArrayLike, lr: ArrayLike, loss: ArrayLike
    ) -> Columns:
        arrays = [np.asarray(a, dtype=float).ravel() for a in (params, tokens, batch_tokens, lr, loss)]
        if len({len(a) for a in arrays}) != 1:
            raise ValueError(f"columns differ in length: {[len(a) for a in arrays]}")
        for name, a in zip(("params", "tokens", "batch_tokens", "lr"), arrays, strict=False):
            if not np.all((a > 0) & np.isfinite(a)):
                raise ValueError(f"{name} must be positive and finite in every row")
        n, d, b, x, z = arrays
        return cls(params=n, tokens=d, batch_tokens=b, lr=x, loss=z, finite=np.isfinite(z))

    def __len__(self) -> int:
        return len(self.loss)

    def take(self, rows: Bools | Ints) -> Columns:
        return Columns(
            params=self.params[rows],
            tokens=self.tokens[rows],
            batch_tokens=self.batch_tokens[rows],
            lr=self.lr[rows],
            loss=self.loss[rows],
            finite=self.finite[rows],
        )

    def cells(self) -> Iterator[Columns]:
        """One part per (params, tokens), ascending."""
        group = indexed(self.params, self.tokens)
        order = np.argsort(group, kind="stable")  # rows of a cell keep their order
        for rows in np.split(order, np.cumsum(np.bincount(group))[:-1]) if len(self) else ():
            yield self.take(rows)


@dataclass(frozen=True, kw_only=True)
class CellOptimum:
    """The best learning rate and batch of one cell by one estimator."""

    params: float
    tokens: float
    batch_tokens: float  # NaN with TOO_FEW runs
    lr: float
    loss: float
    status: OptimumStatus  # the worse of both axes
    lr_status: OptimumStatus
    batch_status: OptimumStatus
    runs: int
    diverged: int
    next_lr: tuple[float, ...] = ()
    next_batch_tokens: tuple[float, ...] = ()


def near_optimal_rows(runs: Columns, threshold: float = NEAR_OPTIMAL) -> Bools:
    """E1: runs with ``loss <= (1 + threshold) * lowest loss of their cell``."""
    group = indexed(runs.params, runs.tokens)
    loss = np.where(runs.finite, runs.loss, np.inf)
    lowest = np.full(group.max(initial=-1) + 1, np.inf)
    np.minimum.at(lowest, group, loss)
    return np.asarray(runs.finite & (loss <= (1 + threshold) * lowest[group]))


def locate_near_optimal(runs: Columns) -> list[CellOptimum]:
    """E1 as one point per cell: the geometric mean of the near-optimal runs."""
    found = []
    for cell in runs.cells():
        near = cell.take(near_optimal_rows(cell))
        if not len(near):
            found.append(_too_few(cell))
            continue
        lr, batch = (float(np.exp(np.log(x).mean())) for x in (near.lr, near.batch_tokens))
        over_lr = _border(cell.lr, near.lr, near.loss)
        over_batch = _border(cell.batch_tokens, near.batch_tokens, near.loss)
        found.append(_cell(cell, lr, batch, float(near.loss.min()), over_lr, over_batch))
    return found


def locate_argmin(runs: Columns) -> list[CellOptimum]:
    """The run with the lowest loss of each cell: noisy, and the baseline to beat."""
    found = []
    for cell in runs.cells():
        done = cell.take(cell.finite)
        if not len(done):
            found.append(_too_few(cell))
            continue
        best = done.take(np.array([int(np.argmin(done.loss))]))
        over_lr = _border(cell.lr, best.lr, best.loss)
        over_batch = _border(cell.batch_tokens, best.batch_tokens, best.loss)
        found.append(_cell(cell, over_lr.value, over_batch.value, over_lr.loss, over_lr, over_batch))
    return found


def locate_akima(runs: Columns) -> list[CellOptimum]:
    """E2, nested interpolation (Porian et al.): Akima of log loss over log lr per batch, then over log batch."""
    return _locate_nested(runs, sweep_akima)


def locate_parabola(runs: Columns) -> list[CellOptimum]:
    """E3: a parabola in log lr per batch size; then one through their lowest losses in log batch."""
    return _locate_nested(runs, sweep_parabola)


def _locate_nested(runs: Columns, sweep: Callable[[Floats, Floats], SweepOptimum]) -> list[CellOptimum]:
    """The best lr of each batch size, then the best batch of those; lr interpolated at that batch."""
    found = []
    for cell in runs.cells():
        per_batch = [(batch, sweep(lr, loss)) for batch, lr, loss in _sweeps(cell)]
        shown = [(batch, best) for batch, best in per_batch if best.status is not OptimumStatus.TOO_FEW]
        if not shown:
            found.append(_too_few(cell))
            continue
        batches, lrs, losses = (
            np.array(column) for column in zip(*((b, o.value, o.loss) for b, o in shown), strict=True)
        )
        over_batch = sweep(batches, losses)
        lr = float(np.exp(np.interp(np.log(over_batch.value), np.log(batches), np.log(lrs))))
        nearest = shown[int(np.abs(np.log(batches / over_batch.value)).argmin())][1]
        found.append(_cell(cell, lr, over_batch.value, over_batch.loss, nearest, over_batch))
    return found


@dataclass(frozen=True, kw_only=True)
class SweepOptima:
    """E3 per (params, tokens, batch_tokens): the rows of a law with the batch as an input."""

    params: Floats
    tokens: Floats
    batch_tokens: Floats
    optima: tuple[SweepOptimum, ...]

    @property
    def inside(self) -> Bools:
        return np.array([o.status is OptimumStatus.INSIDE for o in self.optima], dtype=bool)

    @property
    def lr(self) -> Floats:
        return np.array([o.value for o in self.optima], dtype=float)


def locate_lr_per_batch(runs: Columns, locate: Callable[[Floats, Floats], SweepOptimum] | None = None) -> SweepOptima:
    """The best learning rate of every (params, tokens, batch_tokens), by `sweep_parabola` unless said otherwise."""
    locate = sweep_parabola if locate is None else locate
    rows = [
        (float(cell.params[0]), float(cell.tokens[0]), batch, locate(lr, loss))
        for cell in runs.cells()
        for batch, lr, loss in _sweeps(cell)
    ]
    return SweepOptima(
        params=np.array([r[0] for r in rows]),
        tokens=np.array([r[1] for r in rows]),
        batch_tokens=np.array([r[2] for r in rows]),
        optima=tuple(r[3] for r in rows),
    )


ESTIMATORS: Final[Mapping[str, Callable[[Columns], list[CellOptimum]]]] = {
    "argmin": locate_argmin,
    "near_optimal": locate_near_optimal,  # E1
    "akima": locate_akima,  # E2
    "parabola": locate_parabola,  # E3
}


def _sweeps(cell: Columns) -> Iterator[tuple[float, Floats, Floats]]:
    """The learning-rate sweep of each batch size, ascending: (batch_tokens, lr, loss)."""
    index = same_value(cell.batch_tokens)
    for k in range(int(index.max(initial=-1)) + 1):
        rows = index == k
        yield float(cell.batch_tokens[rows].mean()), cell.lr[rows], cell.loss[rows]


def _border(tried: Floats, chosen: Floats, loss: Floats) -> SweepOptimum:
    """Whether the best of the chosen runs lies on the border of what its cell tried, diverged runs included."""
    index = same_value(tried)
    grid = np.exp(np.bincount(index, weights=np.log(tried)) / np.bincount(index))
    best = float(chosen[int(np.argmin(loss))])
    at = int(np.abs(np.log(grid / best)).argmin())
    return border_status(grid, at, float(loss.min()), value=best)


_WORSE: Final = (OptimumStatus.INSIDE, OptimumStatus.FLAT, OptimumStatus.AT_EDGE, OptimumStatus.TOO_FEW)


def _cell(
    cell: Columns, lr: float, batch: float, loss: float, over_lr: SweepOptimum, over_batch: SweepOptimum
) -> CellOptimum:
    return CellOptimum(
        params=float(cell.params[0]),
        tokens=float(cell.tokens[0]),
        batch_tokens=batch,
        lr=lr,
        loss=loss,
        status=max(over_lr.status, over_batch.status, key=_WORSE.index),
        lr_status=over_lr.status,
        batch_status=over_batch.status,
        runs=len(cell),
        diverged=int((~cell.finite).sum()),
        next_lr=over_lr.next_values,
        next_batch_tokens=over_batch.next_values,
    )


def _too_few(cell: Columns) -> CellOptimum:
    nothing = SweepOptimum(value=np.nan, loss=np.nan, status=OptimumStatus.TOO_FEW)
    return _cell(cell, np.nan, np.nan, np.nan, nothing, nothing)
