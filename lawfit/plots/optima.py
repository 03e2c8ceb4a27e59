"""Where each scale of a fit has its best setting, with an interval, and whether runs lie near it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from lawfit.advise.draws import draw_worlds

if TYPE_CHECKING:
    from lawfit.estimate.observe.observations import Observations

Floats = NDArray[np.float64]

LEVEL: Final = 0.9
NEAR: Final = float(np.log(2.0)) * 1.05  # ln units: a step of a usual grid, with room for rounding


@dataclass(frozen=True, kw_only=True)
class ScaleOptimum:
    """The fitted optimum of one scale."""

    params: float
    tokens: float
    lr: float
    lr_low: float  # of a `LEVEL` interval
    lr_high: float
    batch_tokens: float
    batch_low: float
    batch_high: float
    status: str  # records.OptimumStatus
    edges: tuple[str, ...]
    batch_swept: bool

    def interval(self, quantity: str) -> tuple[float, float, float]:
        """Value, low and high of "lr" or "batch_tokens"."""
        if quantity == "lr":
            return self.lr, self.lr_low, self.lr_high
        return self.batch_tokens, self.batch_low, self.batch_high


def scale_optima(payload: Mapping[str, Any], level: float = LEVEL) -> tuple[ScaleOptimum, ...]:
    """The optimum of every scale of a fit, in the order of its cells.

    Intervals are those of a recommendation at that scale: what the scale's own runs and the law say together.
    """
    return tuple(scale_optimum(payload["model"], cell, level) for cell in payload["cells"])


def scale_optimum(model: Mapping[str, Any], cell: Mapping[str, Any], level: float = LEVEL) -> ScaleOptimum:
    """The optimum of one cell of a fit with that model."""
    found = cell["optimum"]
    worlds = draw_worlds(model, cell["params"], cell["tokens"])
    ends = np.exp(np.quantile(np.array([worlds.log_lr, worlds.log_batch]), [(1 - level) / 2, (1 + level) / 2], axis=1))
    return ScaleOptimum(
        params=cell["params"],
        tokens=cell["tokens"],
        lr=found["lr"],
        lr_low=min(float(ends[0, 0]), found["lr"]),
        lr_high=max(float(ends[1, 0]), found["lr"]),
        batch_tokens=found["batch_tokens"],
        batch_low=min(float(ends[0, 1]), found["batch_tokens"]),
        batch_high=max(float(ends[1, 1]), found["batch_tokens"]),
        status=found["status"],
        edges=tuple(found.get("edges", ())),
        batch_swept=bool(found.get("batch_swept", True)),
    )


def runs_near(observed: Observations, cell: int, lr: float, batch_tokens: float) -> int:
    """Settings of a scale that were tried within about a factor of 2 of a place, diverged ones among them.

    A place between the least and the largest values tried may still have no run near it, where learning rates and
    batches were not crossed.
    """
    rows, gone = observed.rows_of(cell), observed.diverged_cell == cell
    log_lr = np.concatenate([observed.log_lr[rows], observed.diverged_log_lr[gone]])
    log_batch = np.concatenate([observed.log_batch[rows], observed.diverged_log_batch[gone]])
    near = (np.abs(log_lr - np.log(lr)) < NEAR) & (np.abs(log_batch - np.log(batch_tokens)) < NEAR)
    return int(near.sum())
