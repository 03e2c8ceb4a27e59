"""Which runs stand behind each setting of the observations, so that a dot of a figure leads to its run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from lawfit.estimate.observe.observations import Observations
    from lawfit.records import Run

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
Keys = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class RunKeys:
    """Keys of the runs that were merged into each setting, seeds in the order of the runs."""

    settings: tuple[Keys, ...]  # (n,) rows of the observations
    diverged: tuple[Keys, ...]  # (m,)


def run_keys(observed: Observations, runs: Sequence[Run]) -> RunKeys:
    """The runs of each setting: the nearest one of their scale, as observing moves values by rounding alone."""
    rejected = {key for key, _ in observed.rejected}
    used = [run for run in runs if run.run_key not in rejected]
    rows: tuple[list[list[str]], list[list[str]]] = (
        [[] for _ in observed.cell],
        [[] for _ in observed.diverged_cell],
    )
    if used and observed.n_cells:
        logs = np.log([(run.params, run.tokens, run.lr, run.batch_tokens) for run in used])
        scales = np.log(np.column_stack([observed.params, observed.tokens]))
        cells = _nearest(logs[:, :2], scales)
        live = np.column_stack([observed.log_lr, observed.log_batch])
        gone = np.column_stack([observed.diverged_log_lr, observed.diverged_log_batch])
        for cell in range(observed.n_cells):
            mine = np.flatnonzero(cells == cell)
            places = np.flatnonzero(observed.cell == cell), np.flatnonzero(observed.diverged_cell == cell)
            settings = np.concatenate([live[places[0]], gone[places[1]]])
            if not len(mine) or not len(settings):
                continue
            for run, at in zip(mine, _nearest(logs[mine, 2:], settings), strict=True):
                lost = at >= len(places[0])
                row = places[1][at - len(places[0])] if lost else places[0][at]
                rows[int(lost)][row].append(used[run].run_key)
    return RunKeys(settings=tuple(map(tuple, rows[0])), diverged=tuple(map(tuple, rows[1])))


def _nearest(points: Floats, places: Floats) -> Ints:
    """(points,) index of the place that each point is nearest to."""
    away = np.abs(points[:, None, :] - places[None, :, :]).sum(axis=2)
    return np.asarray(away.argmin(axis=1), dtype=np.intp)
