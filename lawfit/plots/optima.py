"""Where each scale of a fit has its best setting, with an interval."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lawfit.advise.draws import draw_worlds

Floats = NDArray[np.float64]

LEVEL: Final = 0.9


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
    near: int | None  # settings tried near it; None in fits of before they were counted

    @property
    def shown(self) -> bool:
        """Whether the runs bracket it, and lie near."""
        return self.status == "inside" and self.near != 0

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
        near=found.get("near"),
    )
