"""Cell by cell: where the fitted optimum lies, whether the sweep shows it, and which runs to add if it does not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lawfit.estimate.lr_batch.ensemble import Ensemble
from lawfit.estimate.observe.observations import Observations
from lawfit.findings import finding, joined
from lawfit.records import Optimum, OptimumStatus

Floats = NDArray[np.float64]

MIN_ROWS: Final = 4
EDGE_SLACK: Final = 0.05  # ln units: an optimum this close to the last setting tried has not been bracketed
FLAT_NOISE: Final = 3.0  # losses of a cell within so many noise sd of each other do not show a valley
NEAR: Final = 2.1  # factor: one step of a usual grid. Between the ends of what was tried there may be no run near
STEP: Final = float(np.log(2))  # between settings to add, whatever the sweep's own: steps of 4 overshoot, of 2 % crawl
STEPS_BEYOND: Final = (2, 4)  # fewest, most


@dataclass(frozen=True, kw_only=True)
class CellReport:
    params: float
    tokens: float
    runs: int
    diverged: int
    best_lr: float
    best_batch_tokens: float
    best_loss: float
    lr: float  # fitted optimum
    batch_tokens: float
    status: OptimumStatus
    edges: tuple[str, ...]  # "lr_low", "lr_high", "batch_low", "batch_high"
    batch_swept: bool
    near: int  # settings that were tried, and may have diverged, within a factor `NEAR` of it in both

    @property
    def seen_lr(self) -> float:
        """Where the sweep shows the best learning rate: at one batch size, that at this batch, not at the best one."""
        return self.lr if self.batch_swept else self.best_lr

    def to_json(self) -> dict[str, Any]:
        return {
            "params": self.params,
            "tokens": self.tokens,
            "runs": self.runs,
            "diverged": self.diverged,
            "best": {"lr": self.best_lr, "batch_tokens": self.best_batch_tokens, "loss": self.best_loss},
            "optimum": {
                "lr": self.lr,
                "batch_tokens": self.batch_tokens,
                "status": self.status.value,
                "edges": list(self.edges),
                "batch_swept": self.batch_swept,
                "near": self.near,
            },
        }

    def to_optimum(self) -> Optimum:
        return Optimum(
            params=self.params,
            tokens=self.tokens,
            estimator="surface",
            status=self.status,
            lr=self.lr,
            batch_tokens=self.batch_tokens,
            loss=self.best_loss,
            detail={"edges": list(self.edges), "runs": self.runs, "batch_swept": self.batch_swept},
        )


def locate_cells(observed: Observations, ensemble: Ensemble) -> list[CellReport]:
    """The optimum of every cell by the joint surface (its own scatter included), with a status."""
    log_lr, log_batch = ensemble.optima(observed).T
    noise = ensemble.weights @ np.array([m.fit.noise_of_cells for m in ensemble.members])
    return [
        _locate(observed, cell, float(log_lr[cell]), float(log_batch[cell]), float(noise[cell]))
        for cell in range(observed.n_cells)
    ]


def next_grids(observed: Observations, cells: Sequence[CellReport], seq_len: int | None = None) -> list[dict[str, Any]]:
    """For every scale whose optimum is not bracketed, the settings just beyond the edge, written out.

    Two to four settings a factor of 2 apart, past the fitted optimum where it lies within a factor of 8. Batches are
    whole sequences where their length is known. An edge beyond which there is less than one sequence a step has
    nothing to add.
    """
    grids = []
    for index, cell in enumerate(cells):
        rows = observed.rows_of(index)
        gone = observed.diverged_cell == index
        lr_tried = np.unique(np.concatenate([observed.log_lr[rows], observed.diverged_log_lr[gone]]))
        batch_tried = np.unique(observed.log_batch[rows])
        tried = _whole(batch_tried, seq_len)
        best_batch, best_lr = np.log(cell.batch_tokens), np.log(cell.seen_lr)
        beyond = {
            edge: _whole(_beyond(batch_tried, edge, best_batch), seq_len) - tried
            for edge in cell.edges
            if edge.startswith("batch")
        }
        edges = [edge for edge in cell.edges if beyond.get(edge, tried)]
        if not edges:
            continue
        lr = [x for edge in edges if edge.startswith("lr") for x in _beyond(lr_tried, edge, best_lr)]
        near_lr = lr_tried[np.argsort(np.abs(lr_tried - np.log(cell.best_lr)))[:3]]
        near_batch = batch_tried[np.argsort(np.abs(batch_tried - np.log(cell.best_batch_tokens)))[:2]]
        batches = set().union(*beyond.values())
        grids.append(
            {
                "params": cell.params,
                "tokens": cell.tokens,
                "lr": sorted(float(f"{np.exp(x):.4g}") for x in lr or near_lr),
                "batch_tokens": sorted(batches or _whole(near_batch, seq_len)),
                "why": joined([finding("lr_batch.open_edge", edge=edge) for edge in edges]),
            }
        )
    return grids


def _whole(log_batch: Floats, seq_len: int | None) -> set[float]:
    """Batches in tokens per step, as whole sequences (at least one) or whole tokens."""
    unit = seq_len or 1
    return {float(max(1, round(float(np.exp(x)) / unit)) * unit) for x in log_batch}


def _locate(observed: Observations, cell: int, log_lr: float, log_batch: float, noise: float) -> CellReport:
    rows = observed.rows_of(cell)
    x, z, y = observed.log_lr[rows], observed.log_batch[rows], observed.log_loss[rows]
    gone = observed.diverged_cell == cell
    best = int(np.argmin(y))
    batch_swept = len(np.unique(np.round(z, 3))) > 1
    edges = []
    seen = log_lr if batch_swept else float(x[best])  # see CellReport.seen_lr
    # a diverged run brackets from above as well as a worse loss does
    highest = max(x.max(), observed.diverged_log_lr[gone].max(initial=-np.inf))
    if seen < x.min() + EDGE_SLACK:
        edges.append("lr_low")
    if seen > highest - EDGE_SLACK:
        edges.append("lr_high")
    if batch_swept:
        if log_batch < z.min() + EDGE_SLACK:
            edges.append("batch_low")
        if log_batch > z.max() - EDGE_SLACK:
            edges.append("batch_high")
    if len(y) < MIN_ROWS:
        status = OptimumStatus.TOO_FEW
    elif np.ptp(y) < FLAT_NOISE * noise:
        status = OptimumStatus.FLAT
    else:
        status = OptimumStatus.AT_EDGE if edges else OptimumStatus.INSIDE
    return CellReport(
        params=float(observed.params[cell]),
        tokens=float(observed.tokens[cell]),
        runs=int(observed.runs_of_cell[cell]),
        diverged=int(observed.diverged_of_cell[cell]),
        best_lr=float(np.exp(x[best])),
        best_batch_tokens=float(np.exp(z[best])),
        best_loss=float(np.exp(y[best])),
        lr=float(np.exp(log_lr)),
        batch_tokens=float(np.exp(log_batch)),
        status=status,
        edges=tuple(edges),
        batch_swept=batch_swept,
        near=_settings_near(
            np.concatenate([x, observed.diverged_log_lr[gone]]) - seen,
            np.concatenate([z, observed.diverged_log_batch[gone]]) - (log_batch if batch_swept else z[best]),
        ),
    )


def _settings_near(log_lr: Floats, log_batch: Floats) -> int:
    """How many settings lie near an optimum; logs are relative to it."""
    return int(((np.abs(log_lr) < np.log(NEAR)) & (np.abs(log_batch) < np.log(NEAR))).sum())


def _beyond(tried: Floats, edge: str, optimum: float) -> Floats:
    """Settings past an open edge: two, or as many as it takes to have one past the optimum."""
    low = edge.endswith("low")
    distance = max(0.0, tried[0] - optimum if low else optimum - tried[-1])
    steps = STEP * np.arange(1, np.clip(np.ceil(distance / STEP) + 1, *STEPS_BEYOND) + 1)
    return np.sort(tried[0] - steps) if low else tried[-1] + steps
