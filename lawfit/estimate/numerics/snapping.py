"""Numbers of a table that are one: a rate printed in two ways, a horizon cut to whole steps, a size less a norm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lawfit.estimate.numerics.scoring import group_starts, median
from lawfit.factors import is_shape
from lawfit.records import Run

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

# Tables print one learning rate with different rounding (0.002760 and 0.002762); tokens = steps x batch is rounded
# to whole steps; parameter counts of one size differ by a norm layer.
SETTING_TOLERANCE = 0.002
TOKENS_TOLERANCE = 0.02
PARAMS_TOLERANCE = 0.005
NEXT_SHAPE = 1e-9  # of ln params
FEWEST_OF_A_FAMILY = 3  # sizes
OFF_THE_RULE = 0.05  # of ln of a dimension: widths are rounded to eights, heads are whole
WIDEST_STEP = 0.1  # of a horizon: runs of fewer than ten steps are not merged for being cut to whole steps


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where runs stand, ln of each number, those that are one snapped to one value."""

    log_params: Floats  # (n,)
    log_tokens: Floats
    log_lr: Floats
    log_batch: Floats  # tokens per step

    @classmethod
    def of(cls, runs: Sequence[Run]) -> Places:
        table = np.log(np.array([(r.params, r.tokens, r.lr, r.batch_tokens) for r in runs], dtype=float).reshape(-1, 4))
        log_params, log_tokens = _by_shape(runs, table[:, 0]), table[:, 1].copy()
        for size in np.unique(log_params):
            rows = log_params == size
            log_tokens[rows] = snap_horizons(log_tokens[rows], table[rows, 3])
        return cls(
            log_params=log_params,
            log_tokens=log_tokens,
            log_lr=snap(table[:, 2], SETTING_TOLERANCE),
            log_batch=snap(table[:, 3], SETTING_TOLERANCE),
        )

    @cached_property
    def scale(self) -> Ints:
        """(n,) index of the scale of each run."""
        return indexed(self.log_params, self.log_tokens)


def _by_shape(runs: Sequence[Run], log_params: Floats) -> Floats:
    """Sizes snapped, those of several shapes apart: by a billionth, which is shown nowhere, where their counts are one.

    A run that does not state its shape is of its size's only shape, where there is but one.
    """
    snapped = snap(log_params, PARAMS_TOLERANCE)
    names = sorted({name for run in runs for name in run.extra if is_shape(name)})
    if not names:
        return snapped
    apart = snapped.copy()
    shapes = np.array(["|".join(str(run.extra.get(name, "")) for name in names) for run in runs])
    unsaid = "|" * (len(names) - 1)
    for size in np.unique(snapped):
        rows = np.flatnonzero(snapped == size)
        said = np.unique(shapes[rows])
        if len(said[said != unsaid]) < 2:
            continue
        taken: list[float] = []
        for shape in said:
            mine = rows[shapes[rows] == shape]
            middle = median(log_params[mine])
            apart[mine] = middle + NEXT_SHAPE * taken.count(middle)
            taken.append(middle)
    return apart


def one_family(runs: Sequence[Run]) -> bool:
    """Whether sizes differ by one rule: every dimension that the runs state is a power of the parameter count.

    Such are widths at one depth, or a ladder that is scaled evenly; not sizes whose depths were chosen one by one. It
    takes three sizes or more that all state two dimensions.
    """
    log_params = snap(np.log(np.array([run.params for run in runs])), PARAMS_TOLERANCE)
    names = sorted({name for run in runs for name in run.extra if is_shape(name)})
    sizes = np.unique(log_params)
    if len(sizes) < FEWEST_OF_A_FAMILY or len(names) < 2:
        return False
    design = np.column_stack([np.ones_like(sizes), sizes])
    for name in names:
        stated = {(size, _number(run.extra.get(name))) for size, run in zip(log_params.tolist(), runs, strict=True)}
        of_size = {size: number for size, number in stated if number > 0}
        if len(of_size) < len(sizes) or any(number > 0 and number != of_size[size] for size, number in stated):
            return False  # a size that does not say, or one of two shapes
        values = np.log([of_size[size] for size in sizes.tolist()])
        off = values - design @ np.linalg.lstsq(design, values, rcond=None)[0]
        if not np.abs(off).max() < OFF_THE_RULE:
            return False
    return True


def _number(value: Any) -> float:
    """NaN where a column does not hold one."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")


def indexed(*columns: NDArray[Any]) -> Ints:
    """(n,) for each row of some columns the index of its combination, in ascending order of the combinations."""
    index = np.zeros(len(columns[0]), dtype=np.intp)
    for column in columns:  # one after the other: sorting rows whole takes many times as long
        _, place = np.unique(column, return_inverse=True)
        _, index = np.unique(index * (int(place.max(initial=0)) + 1) + place, return_inverse=True)
    return np.asarray(index, dtype=np.intp)


def distinct(*columns: Ints) -> Ints:
    """(m, columns) the combinations that occur, ascending."""
    _, first = np.unique(indexed(*columns), return_index=True)
    return np.column_stack(columns)[first]


def snap(log_values: Floats, tolerance: float) -> Floats:
    """Values within `tolerance` of the lowest of their group become one: the median of the group."""
    order = np.argsort(log_values, kind="stable")
    ordered = log_values[order]
    starts = group_starts(ordered, tolerance)
    middle = np.array([median(part) for part in np.split(ordered, starts[1:])])
    snapped = np.empty_like(log_values)
    snapped[order] = np.repeat(middle, np.diff([*starts, len(ordered)]))
    return snapped


def snap_horizons(log_tokens: Floats, log_batch: Floats) -> Floats:
    """ln tokens of the runs of one size, each group of one horizon as its median.

    A horizon is cut to whole steps, so runs of one horizon differ by up to a step: by more than `TOKENS_TOLERANCE`
    where there are few steps. Runs within a step of the lowest of their group (the longest step among them) are of its
    horizon.

    Parameters
    ----------
    log_tokens, log_batch : (n,) ln of training tokens, and of tokens per step
    """
    step = np.exp(np.minimum(log_batch - log_tokens, np.log(WIDEST_STEP)))
    if step.max(initial=0.0) <= TOKENS_TOLERANCE:
        return snap(log_tokens, TOKENS_TOLERANCE)
    order = np.argsort(log_tokens, kind="stable")
    at, reach = log_tokens[order], np.log1p(np.maximum(step[order], TOKENS_TOLERANCE))
    starts = [0]
    for i in range(1, len(at)):
        first = starts[-1]
        if at[i] - at[first] > max(reach[i], reach[first : i + 1].max()) * (1 + 1e-9):
            starts.append(i)
    snapped = np.empty_like(log_tokens)
    middle = [np.median(part) for part in np.split(at, starts[1:])]
    snapped[order] = np.repeat(middle, np.diff([*starts, len(at)]))
    return snapped
