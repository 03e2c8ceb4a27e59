"""What the design of a sweep leaves open, however many runs it has."""

from __future__ import annotations

import numpy as np

from lawfit.estimate.numerics.snapping import distinct, indexed
from lawfit.estimate.observe.observations import Observations
from lawfit.findings import Finding, finding


def undetermined(observed: Observations) -> dict[str, Finding]:
    """``lr`` and why, where at no scale and batch two learning rates were tried: a rule ties them to the batch.

    Best batches can be read off such runs, at the learning rates that go with them; best learning rates cannot.
    """
    cell = np.concatenate([observed.cell, observed.diverged_cell])
    log_batch = np.concatenate([observed.log_batch, observed.diverged_log_batch])
    log_lr = np.concatenate([observed.log_lr, observed.diverged_log_lr])
    at = indexed(cell, log_batch)
    rates = np.bincount(distinct(at, indexed(log_lr))[:, 0])
    sides = np.bincount(distinct(cell, indexed(log_batch))[:, 0])
    if rates.max() > 1 or sides.max() == 1:
        return {}
    last = int(np.argmax(observed.params * observed.tokens))
    rows = observed.rows_of(last)
    best = rows.start + int(np.argmin(observed.log_loss[rows]))
    tied = finding(
        "lr_batch.tied",
        batch_exponent=_slope(cell, log_batch, log_lr),
        lr=np.exp(observed.log_lr[best]),
        batch_tokens=np.exp(observed.log_batch[best]),
        params=observed.params[last],
        tokens=observed.tokens[last],
    )
    return {"lr": tied}


def _slope(cell: np.ndarray[tuple[int], np.dtype[np.intp]], x: np.ndarray, y: np.ndarray) -> float:
    """Of y along x within scales."""
    count = np.bincount(cell)
    x, y = (v - (np.bincount(cell, weights=v) / np.maximum(count, 1))[cell] for v in (x, y))
    return float(x @ y / (x @ x))
