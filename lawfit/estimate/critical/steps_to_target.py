"""E4: steps to a target loss at several batch sizes, from tables or read off loss curves (arXiv 2410.21676)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lawfit.errors import FitError
from lawfit.estimate.critical.hyperbola import HyperbolaFit, fit_hyperbola, share_bends
from lawfit.estimate.numerics.sweeps import same_value
from lawfit.findings import Finding, Found, finding

Floats = NDArray[np.float64]

AROUND: Final = 0.25  # ln steps on either side of a crossing, within which log loss is nearly straight in log steps
ENOUGH: Final = 8  # points there that tell a line; a curve with fewer is interpolated


@dataclass(frozen=True, kw_only=True)
class StepsTable:
    """E4's input: runs (or the best of each small sweep) with the steps they took to a target. No final loss."""

    params: Floats  # (n,)
    batch_tokens: Floats
    steps: Floats
    target_loss: Floats  # nats per token
    notes: tuple[Found, ...] = ()  # what was left out on the way here, and why

    @classmethod
    def of(
        cls,
        params: ArrayLike,
        batch_tokens: ArrayLike,
        steps: ArrayLike,
        target_loss: ArrayLike,
        notes: Sequence[Found] = (),
    ) -> StepsTable:
        columns = {"params": params, "batch_tokens": batch_tokens, "steps": steps, "target_loss": target_loss}
        arrays = {name: np.asarray(column, dtype=float).ravel() for name, column in columns.items()}
        if len({len(a) for a in arrays.values()}) != 1:
            raise ValueError(f"columns differ in length: { {name: len(a) for name, a in arrays.items()} }")
        for name, array in arrays.items():
            if not np.all((array > 0) & np.isfinite(array)):
                raise ValueError(f"{name} must be positive and finite in every row")
        return cls(**arrays, notes=tuple(notes))

    @classmethod
    def joined(cls, tables: Sequence[StepsTable]) -> StepsTable:
        """The rows and notes of several tables."""
        names = ("params", "batch_tokens", "steps", "target_loss")
        columns = {name: np.concatenate([getattr(table, name) for table in tables]) for name in names}
        return cls(**columns, notes=tuple(note for table in tables for note in table.notes))

    def __len__(self) -> int:
        return len(self.steps)


@dataclass(frozen=True, kw_only=True)
class Hyperbolas:
    """The fits of a table, one per model size and target, and what could not be fitted."""

    fits: tuple[HyperbolaFit, ...]
    refused: tuple[Found, ...]


def fit_steps_table(table: StepsTable, *, from_best: bool = False, level: float = 0.9) -> Hyperbolas:
    """A hyperbola for each (params, target loss) of a table: targets are never pooled, but for how the curve bends.

    `from_best` as of `fit_hyperbola`: for one's own runs; published tables are fitted whole, as their authors did.
    """
    fits, refused = [], []
    for params, target in np.unique(np.column_stack([table.params, table.target_loss]), axis=0):
        rows = (table.params == params) & (table.target_loss == target)
        try:
            fits.append(
                fit_hyperbola(
                    table.batch_tokens[rows],
                    table.steps[rows],
                    level=level,
                    params=float(params),
                    target_loss=float(target),
                    from_best=from_best,
                )
            )
        except FitError as error:
            refused.append(finding("critical.curve_refused", params=params, loss=target, why=error))
    return Hyperbolas(fits=share_bends(fits), refused=tuple(refused))


@dataclass(frozen=True, kw_only=True)
class LossCurve:
    """One run's loss against its own steps."""

    params: float
    batch_tokens: float
    lr: float
    steps: Floats  # (n,) ascending, of this very metric: evaluations have a step axis of their own
    loss: Floats  # (n,) nats per token; values that are not finite are skipped


def steps_table_from_curves(curves: Sequence[LossCurve], targets: ArrayLike) -> StepsTable:
    """E4 from stored curves: for each size, batch and target the fewest steps over all learning rates tried.

    The curves must come from runs whose learning rate does not decay towards the crossing (constant, or the stable
    part of WSD): a run that has its own decay has its loss at its end only, which is what E5 is for.
    Notes name batches that never reached a target, and those whose best learning rate lies at the edge of what was
    tried: such a batch may look worse than it is, and the critical batch too small.
    """
    goals = np.atleast_1d(np.asarray(targets, dtype=float))
    rows: list[tuple[float, float, float, float]] = []
    notes: list[Found] = []
    doubts: dict[tuple[float, Finding], list[float]] = {}  # (params, what) -> batches
    for params in sorted({c.params for c in curves}):
        mine = [c for c in curves if c.params == params]
        index = same_value(np.array([c.batch_tokens for c in mine]))
        for batch_index in range(index.max() + 1):
            tried = [c for c, i in zip(mine, index, strict=True) if i == batch_index]
            crossings = np.array([[first_crossing(c.steps, c.loss, goal) for goal in goals] for c in tried])
            batch = tried[0].batch_tokens
            for goal, column in zip(goals, crossings.T, strict=True):
                if not np.isfinite(column).any():
                    notes.append(finding("critical.not_reached", params=params, batch_tokens=batch, loss=goal))
                    continue
                best = int(np.nanargmin(column))
                if doubt := _lr_doubt([c.lr for c in tried], best):
                    doubts.setdefault((params, doubt), []).append(batch)
                rows.append((params, batch, float(column[best]), float(goal)))
    for (params, doubt), batches in doubts.items():
        where = {"batches": len(set(batches)), "low_tokens": min(batches), "high_tokens": max(batches)}
        notes.append(finding("critical.lr_in_doubt", params=params, doubt=doubt, **where))
    if not rows:
        raise FitError(finding("critical.none_reaches", curves=len(curves), lowest_loss=_lowest(curves)))
    params_column, batch_column, steps_column, target_column = np.array(rows).T
    return StepsTable.of(params_column, batch_column, steps_column, target_column, notes=notes)


def first_crossing(steps: ArrayLike, loss: ArrayLike, target: float) -> float:
    """Step at which a loss curve first reaches a target; NaN where it never does.

    The curve is made monotone by isotonic regression (a running minimum would reward noise) and interpolated in (log
    step, log loss); where enough points lie around that place, a straight line through them tells it better.
    """
    x, y = np.asarray(steps, dtype=float), np.asarray(loss, dtype=float)
    if x.shape != y.shape:
        raise ValueError(f"a curve needs one loss per step, got {x.size} steps and {y.size} losses")
    if np.any(np.diff(x) <= 0):
        raise ValueError("steps of a curve must ascend: is this the step axis of another metric?")
    fine = np.isfinite(y) & (y > 0) & (x > 0)
    if not fine.any():
        return float("nan")
    raw_x, raw_y = np.log(x[fine]), np.log(y[fine])
    log_x, log_y = _falling(raw_x, raw_y)
    goal = float(np.log(target))
    below = np.flatnonzero(log_y <= goal)
    if not len(below) or below[0] == 0:
        return float("nan")  # never there, or there before the first point: no crossing is seen
    after = int(below[0])
    share = (log_y[after - 1] - goal) / (log_y[after - 1] - log_y[after])
    at = float(log_x[after - 1] + share * (log_x[after] - log_x[after - 1]))
    return float(np.exp(_by_line(raw_x, raw_y, goal, at)))


def _by_line(x: Floats, y: Floats, goal: float, at: float) -> float:
    """Where a line through the points around `at` takes the value `goal`; `at` itself where they show no such place.

    One step of isotonic regression is a mean over few points: of curves with noise of 0.2 % the line halves the error.
    """
    near = np.abs(x - at) < AROUND
    if int(near.sum()) < ENOUGH:
        return at
    slope, offset = np.polyfit(x[near] - at, y[near] - goal, deg=1)
    moved = -offset / slope if slope < 0 else np.inf
    return at + float(moved) if abs(moved) < AROUND else at


def common_targets(curves: Sequence[LossCurve], count: int = 5) -> dict[float, Floats]:
    """For each model size, losses that every batch reached: log-spaced, from the easiest batch's half-way on down.

    The lowest is a little above what the worst batch ended at, where its crossing is still well seen.
    """
    found = {}
    for params in sorted({c.params for c in curves}):
        mine = [c for c in curves if c.params == params]
        index = same_value(np.array([c.batch_tokens for c in mine]))
        ends, starts = [], []
        for batch_index in range(index.max() + 1):
            losses = [c.loss[np.isfinite(c.loss)] for c, i in zip(mine, index, strict=True) if i == batch_index]
            losses = [loss for loss in losses if len(loss)]
            if losses:
                ends.append(min(float(loss.min()) for loss in losses))
                starts.append(max(float(loss[0]) for loss in losses))
        if ends and (low := 1.002 * max(ends)) < (high := max(ends) + 0.5 * (min(starts) - max(ends))):
            found[params] = np.geomspace(high, low, count)
    return found


def _lr_doubt(rates: Sequence[float], best: int) -> Finding | None:
    of_value = same_value(np.array(rates))  # one rate printed with other digits is no other rate
    if (highest := int(of_value.max())) == 0:
        return finding("critical.one_lr")
    if of_value[best] in (0, highest):
        return finding("critical.lr_at_edge")
    return None


def _lowest(curves: Sequence[LossCurve]) -> float | None:
    losses = [c.loss[np.isfinite(c.loss)] for c in curves]
    return min((float(loss.min()) for loss in losses if len(loss)), default=None)


def _falling(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Isotonic regression, falling: each run of points that rise becomes its mean, standing at their mean place."""
    from scipy.optimize import isotonic_regression

    fitted = isotonic_regression(y, increasing=False)
    blocks = fitted.blocks
    size = np.diff(blocks)
    return np.add.reduceat(x, blocks[:-1]) / size, np.asarray(fitted.x[blocks[:-1]], dtype=float)
