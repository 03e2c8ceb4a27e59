"""The minimum along one sweep: loss against learning rates (or batch sizes) with everything else held fixed.

Every answer carries a status. The minimum never lies outside what was tried: a sweep whose best run is on its border
is `AT_EDGE` and says which values to try next. Diverged runs (loss not finite) are evidence too: a best run next to one
is bracketed by it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lawfit.errors import FitError
from lawfit.estimate.numerics.scoring import LR_TOLERANCE, group_starts
from lawfit.findings import finding
from lawfit.records import OptimumStatus

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

MIN_SWEEP: Final = 3  # finished values that can bracket a minimum
FLAT_BAND: Final = 5e-4  # of loss: the noise of single runs; a sweep that varies less does not tell its values apart
NEXT_POINTS: Final = 3  # grid points proposed beyond an edge
AKIMA_POINTS: Final = 100  # E2 searches the spline on this many log-spaced points (Porian)


@dataclass(frozen=True, kw_only=True)
class SweepOptimum:
    """The lowest loss along one sweep of learning rates (or of batch sizes)."""

    value: float  # NaN with TOO_FEW runs
    loss: float
    status: OptimumStatus
    next_values: tuple[float, ...] = ()  # what to try next, when AT_EDGE


def same_value(x: Floats) -> Ints:
    """For each x the index of its value in ascending order, where values within 0.2 % are one (0.002760, 0.002762)."""
    log_x = np.log(np.asarray(x, dtype=float))
    order = np.argsort(log_x, kind="stable")
    starts = group_starts(log_x[order], LR_TOLERANCE)
    index = np.empty(len(log_x), dtype=np.intp)
    index[order] = np.repeat(np.arange(len(starts)), np.diff([*starts, len(log_x)]))
    return index


def sweep_parabola(values: ArrayLike, loss: ArrayLike, *, window: int = 2, flat: float | None = None) -> SweepOptimum:
    """E3: vertex of the parabola through the best grid point and `window` neighbours on each side, in log value.

    The vertex is held between the two neighbours of the best point: a smooth minimum lies there, or the parabola does
    not describe the sweep. No upward curvature is `FLAT`, and so is a sweep that varies less than single runs do.

    Parameters
    ----------
    values : (n,) positive floats
        Learning rates or batch sizes. Repeats (within 0.2 %) are averaged.
    loss : (n,) floats
        NaN for a diverged run.
    flat : float, optional
        Spread below which the values are not told apart, where what is swept is not a loss; else `FLAT_BAND` of it.
    """
    x, y, tried = _prepare(values, loss)
    if (doubt := _in_doubt(x, y, flat)) is not None:
        return doubt
    best = int(np.argmin(y))
    if (edge := border_status(_with_tried_ends(x, tried), best + int(tried[0] < x[0]), float(y[best]))).status is (
        OptimumStatus.AT_EDGE
    ):
        return edge
    rows = slice(max(0, best - window), best + window + 1)
    log_x = np.log(x[rows])
    centre = float(log_x.mean())
    curvature, slope, offset = np.polyfit(log_x - centre, y[rows], deg=2)
    if curvature <= 0:
        return SweepOptimum(value=float(x[best]), loss=float(y[best]), status=OptimumStatus.FLAT)
    low, high = np.log(x[max(0, best - 1)]) - centre, np.log(x[min(len(x) - 1, best + 1)]) - centre
    vertex = float(np.clip(-slope / (2 * curvature), low, high))
    fitted = float((curvature * vertex + slope) * vertex + offset)
    return SweepOptimum(value=float(np.exp(vertex + centre)), loss=fitted, status=OptimumStatus.INSIDE)


def sweep_akima(values: ArrayLike, loss: ArrayLike, *, points: int = AKIMA_POINTS) -> SweepOptimum:
    """E2 along one axis: Akima spline of log loss against log value, lowest of `points` log-spaced positions.

    `AT_EDGE` when that falls in the first or last interval of what was tried (Porian's ``on_edge``).

    Parameters
    ----------
    values : (n,) positive floats
    loss : (n,) positive floats
        NaN for a diverged run.

    Raises
    ------
    FitError
        A loss that is not positive.
    """
    from scipy.interpolate import Akima1DInterpolator

    x, y, tried = _prepare(values, loss)
    if (doubt := _in_doubt(x, y)) is not None:
        return doubt
    if np.any(y <= 0):
        raise FitError(finding("numerics.no_logarithm", loss=y.min()))
    log_x = np.log(x)
    at = np.linspace(log_x[0], log_x[-1], points)
    log_loss = np.asarray(Akima1DInterpolator(log_x, np.log(y))(at), dtype=float)
    lowest = int(np.argmin(log_loss))
    value, lowest_loss = float(np.exp(at[lowest])), float(np.exp(log_loss[lowest]))
    low_edge = at[lowest] < log_x[1] and tried[0] >= x[0]
    high_edge = at[lowest] > log_x[-2] and tried[-1] <= x[-1]
    if not (low_edge or high_edge):
        return SweepOptimum(value=value, loss=lowest_loss, status=OptimumStatus.INSIDE)
    return SweepOptimum(
        value=value,
        loss=lowest_loss,
        status=OptimumStatus.AT_EDGE,
        next_values=_beyond(x, upwards=bool(high_edge)),
    )


def border_status(grid: Floats, at: int, loss: float, *, value: float | None = None) -> SweepOptimum:
    """The point ``grid[at]`` with the status that its place on the grid of everything tried gives it."""
    value = float(grid[at]) if value is None else value
    if len(grid) < MIN_SWEEP:
        return SweepOptimum(
            value=value, loss=loss, status=OptimumStatus.TOO_FEW, next_values=(float(grid[0]) / 2, float(grid[-1]) * 2)
        )
    if at in (0, len(grid) - 1):
        beyond = _beyond(grid, upwards=at > 0)
        return SweepOptimum(value=value, loss=loss, status=OptimumStatus.AT_EDGE, next_values=beyond)
    return SweepOptimum(value=value, loss=loss, status=OptimumStatus.INSIDE)


def _prepare(values: ArrayLike, loss: ArrayLike) -> tuple[Floats, Floats, Floats]:
    """Finished values ascending, the mean loss of their repeats, and (lowest, highest) value tried.

    A tried end within the tolerance of a finished one is that one.
    """
    x, y = np.asarray(values, dtype=float), np.asarray(loss, dtype=float)
    index = same_value(x)
    finite = np.isfinite(y)
    tried = np.exp(np.bincount(index, weights=np.log(x)) / np.bincount(index)) if len(x) else np.empty(0)
    runs = np.bincount(index[finite], minlength=len(tried))
    total = np.bincount(index[finite], weights=y[finite], minlength=len(tried))
    done = runs > 0
    return tried[done], total[done] / runs[done], tried[[0, -1]] if len(tried) else tried


def _in_doubt(x: Floats, y: Floats, flat: float | None = None) -> SweepOptimum | None:
    """`TOO_FEW` or `FLAT`, when the sweep cannot place a minimum at all."""
    if not len(x):
        return SweepOptimum(value=np.nan, loss=np.nan, status=OptimumStatus.TOO_FEW)
    best = int(np.argmin(y))
    if len(x) < MIN_SWEEP:
        return border_status(x, best, float(y[best]))
    if float(np.ptp(y)) < (FLAT_BAND * abs(float(y[best])) if flat is None else flat):
        beyond = (*_beyond(x, upwards=False), *_beyond(x, upwards=True))
        return SweepOptimum(
            value=float(x[best]), loss=float(y[best]), status=OptimumStatus.FLAT, next_values=tuple(sorted(beyond))
        )
    return None


def _with_tried_ends(x: Floats, tried: Floats) -> Floats:
    """Finished values, and beyond them the outermost diverged ones: a best run next to those is not at the edge."""
    lower = tried[:1] if tried[0] < x[0] else tried[:0]
    upper = tried[1:] if tried[-1] > x[-1] else tried[:0]
    return np.concatenate([lower, x, upper])


def _beyond(x: Floats, *, upwards: bool) -> tuple[float, ...]:
    """The next grid: the sweep's own typical ratio, continued past one end."""
    ratio = float(np.exp(np.median(np.diff(np.log(x)))))
    start = float(x[-1] if upwards else x[0])
    return tuple(start * ratio ** (k if upwards else -k) for k in range(1, NEXT_POINTS + 1))
