"""Gradient norms along runs: of the trainer's logs, or of a table with a row per logged step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lawfit.errors import LogFormatError
from lawfit.factors import normal
from lawfit.ingest.curves import RUN_NAMES, STEP_NAMES
from lawfit.ingest.numbers import CellError, is_missing, is_number, number, positive, positive_whole
from lawfit.ingest.table import Table
from lawfit.records import Rejection

Floats = NDArray[np.float64]

_NORMS: Final = (
    *("grad_norm", "gradient_norm", "grad_norm_l2", "grad_norm_l1", "gradnorm", "global_grad_norm", "total_grad_norm"),
    *("train_grad_norm", "grad_l2_norm", "grad_l1_norm", "grad_norm_before_clipping", "grad_norm_global"),
)
_OF_LOG: Final = "grad_norm"  # of the trainer's lines: the 2-norm before clipping


@dataclass(frozen=True, kw_only=True)
class NormCurves:
    """Steps (ascending, from 1) and gradient norms by run."""

    runs: Mapping[str, tuple[Floats, Floats]]
    rejections: tuple[Rejection, ...]
    column: str


def read_gradient_norms(table: Table, column: str | None = None) -> NormCurves:
    """The gradient norms of a table or log. Rows without one, and step 0, are passed over.

    Parameters
    ----------
    column : where the norms stand; found by its name if None

    Raises
    ------
    LogFormatError
        No column of steps or norms, or a log whose runs logged none.
    """
    logged = {curve.run_key: curve for curve in table.curves if curve.metric == (column or _OF_LOG)}
    if logged:
        runs = {
            key: (np.array(curve.steps, dtype=float), np.array(curve.numbers, dtype=float))
            for key, curve in logged.items()
        }
        return NormCurves(
            runs={key: _positive(*rows) for key, rows in runs.items()},
            rejections=(),  # of other runs, such as one that has not ended
            column=column or _OF_LOG,
        )
    names = [normal(name) for name in table.columns]
    places = {
        "step": _first(names, STEP_NAMES),
        "gradient norm": _first(names, _NORMS if column is None else (normal(column),)),
    }
    if missing := [field for field, place in places.items() if place is None]:
        raise LogFormatError(
            f"{table.name} has no column of a {' or a '.join(missing)}: a schedule is refined by a row per logged step "
            f"with step and grad_norm (name another with --column); its columns are {', '.join(table.columns)}"
        )
    step, norm = (place for place in places.values() if place is not None)
    run = _first(names, RUN_NAMES)
    rejections = list(table.rejections)
    points: dict[str, dict[int, float]] = {}
    for line, cells in table.rows:
        place = step
        if is_missing(cells[norm]) or (is_number(cells[step]) and number(cells[step]) == 0):
            continue
        try:
            at = positive_whole(cells[step])
            place = norm
            value = positive(cells[norm])
        except CellError as error:
            rejections.append(Rejection(file=table.name, line=line, column=table.columns[place], reason=str(error)))
            continue
        key = "" if run is None else str(cells[run]).strip()
        mine = points.setdefault(key, {})
        if at in mine:
            reason = f"step {at}{f' of run {key!r}' if key else ''} is there already"
            rejections.append(Rejection(file=table.name, line=line, column=table.columns[step], reason=reason))
            continue
        mine[at] = value
    return NormCurves(
        runs={key: (np.array(sorted(rows), dtype=float), np.array([rows[s] for s in sorted(rows)]))
              for key, rows in points.items()},
        rejections=tuple(rejections),
        column=table.columns[norm],
    )  # fmt: skip


def _positive(steps: Floats, norms: Floats) -> tuple[Floats, Floats]:
    """A gradient of zero, or one that overflowed, says nothing about its size."""
    fine = np.isfinite(norms) & (norms > 0)
    return steps[fine], norms[fine]


def _first(names: list[str], wanted: tuple[str, ...]) -> int | None:
    return next((names.index(name) for name in wanted if name in names), None)
