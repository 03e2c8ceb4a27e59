"""Time against compute at one target loss: which (params, batch) pairs are worth training (arXiv 2505.13738).

For each size the loss law gives the tokens that a small batch would need, ``D_min``; a batch of B tokens needs
``D = D_min (1 + B / B_crit)``, with B_crit by the definition "twice the tokens". Compute is ``6 N D``; serial time is
in proportion to ``N D / B``, as if a step took time in proportion to the size however large its batch: enough machines,
perfectly used.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lawfit.laws.loss import FLOPS_PER_PARAM_TOKEN

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Frontier:
    """Plans that reach the loss and that no other plan beats in both compute and time, fastest last."""

    params: Floats
    tokens: Floats
    batch_tokens: Floats
    flops: Floats
    steps: Floats  # tokens / batch_tokens
    serial: Floats  # params * steps, which serial time is in proportion to

    def __len__(self) -> int:
        return len(self.params)

    @property
    def time(self) -> Floats:
        """Serial time, 1 for the first and cheapest plan."""
        return np.asarray(self.serial / self.serial[0])


def time_compute_frontier(
    params: ArrayLike, least_tokens: ArrayLike, critical_batch_tokens: ArrayLike, *, batch_tokens: ArrayLike
) -> Frontier:
    """The frontier of training time against compute at one loss.

    Parameters
    ----------
    params : (n,) positive floats
        Sizes to choose from.
    least_tokens : (n,) floats
        Tokens at which each size reaches the loss with very small batches; inf where it never does.
    critical_batch_tokens : (n,) positive floats, tokens per step
        Of each size at its least tokens: the batch at which a run needs twice as many.
    batch_tokens : (m,) positive floats, tokens per step
        Batches to choose from.

    Raises
    ------
    ValueError
        No size reaches the loss, or a batch or critical batch is not positive.
    """
    batches = np.atleast_1d(np.asarray(batch_tokens, dtype=float))
    sizes, least, critical = (
        np.atleast_1d(np.asarray(column, dtype=float)) for column in (params, least_tokens, critical_batch_tokens)
    )
    if not np.all((batches > 0) & np.isfinite(batches)):
        raise ValueError("batch_tokens must be positive and finite")
    reached = np.isfinite(least) & (least > 0)
    if not reached.any():
        raise ValueError("none of these sizes ever reaches the loss")
    sizes, least, critical = sizes[reached], least[reached], critical[reached]
    if not np.all(critical > 0):
        raise ValueError("critical_batch_tokens must be positive")
    tokens = least[:, None] * (1 + batches / critical[:, None])
    flops = FLOPS_PER_PARAM_TOKEN * sizes[:, None] * tokens
    serial = sizes[:, None] * tokens / batches
    size, batch = (index.ravel() for index in np.indices(tokens.shape))
    order = np.lexsort((serial.ravel(), flops.ravel()))
    fastest = np.minimum.accumulate(serial.ravel()[order])
    kept = order[np.concatenate([[True], fastest[1:] < fastest[:-1]])]
    return Frontier(
        params=sizes[size[kept]],
        tokens=tokens.ravel()[kept],
        batch_tokens=batches[batch[kept]],
        flops=flops.ravel()[kept],
        steps=tokens.ravel()[kept] / batches[batch[kept]],
        serial=serial.ravel()[kept],
    )
