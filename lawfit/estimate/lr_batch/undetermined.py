"""What the design of a sweep leaves open, however many runs it has."""

from __future__ import annotations

import numpy as np

from lawfit.estimate.numerics.snapping import distinct, indexed
from lawfit.estimate.observe.observations import Observations
from lawfit.units import format_lr, format_quantity


def undetermined(observed: Observations) -> dict[str, str]:
    """``lr`` and a sentence, where at no scale and batch two learning rates were tried: a rule ties them to the batch.

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
    slope = _slope(cell, log_batch, log_lr)
    rule = "all batches of a scale have one learning rate" if abs(slope) < 0.01 else (
        f"the learning rate goes with the batch, about as batch^{slope:.2g}"
    )  # fmt: skip
    last = int(np.argmax(observed.params * observed.tokens))
    rows = observed.rows_of(last)
    best = rows.start + int(np.argmin(observed.log_loss[rows]))
    rate, batch = format_lr(float(np.exp(observed.log_lr[best]))), float(np.exp(observed.log_batch[best]))
    scale = f"{format_quantity(observed.params[last])} parameters on {format_quantity(observed.tokens[last])} tokens"
    words = (
        "the best learning rate is not determined by these runs: at every scale and batch a single one was tried "
        f"({rule}); what is said of it comes from published laws and from that rule. Along the rule the loss is lowest "
        f"at {batch:,.0f} tokens per step (learning rate {rate}) with {scale}. A sweep of learning rates at one batch "
        "would tell the best one"
    )
    return {"lr": words}


def _slope(cell: np.ndarray[tuple[int], np.dtype[np.intp]], x: np.ndarray, y: np.ndarray) -> float:
    """Of y along x within scales."""
    count = np.bincount(cell)
    x, y = (v - (np.bincount(cell, weights=v) / np.maximum(count, 1))[cell] for v in (x, y))
    return float(x @ y / (x @ x))
