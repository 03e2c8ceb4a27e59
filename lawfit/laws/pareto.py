"""Time against compute at one target loss: which (params, batch) pairs are worth training (arXiv 2505.13738).

For each size the loss law gives the tokens that a small batch would need, ``D_min``; a batch of B tokens needs
``D = D_min (1 + B / B_crit(D_min))``. Compute is ``6 N D``; serial time is in proportion to ``N D / B``, as if a step
took time in proportion to the size however large its batch: enough machines, perfectly used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lawfit.laws.loss import FLOPS_PER_PARAM_TOKEN, AdditiveLaw

Floats = NDArray[np.float64]

# Sizes tried around the compute-optimal one: beyond a factor 30 no plan is on the frontier of any law seen so far.
SIZE_RANGE: Final = 30.0


@dataclass(frozen=True, kw_only=True)
class Frontier:
    """Plans that reach the loss and that no other plan beats in both compute and time, fastest last."""

    params: Floats
    tokens: Floats
    batch_tokens: Floats
    flops: Floats
    steps: Floats  # tokens / batch_tokens
    time: Floats  # serial time, 1 for the first and cheapest plan

    def __len__(self) -> int:
        return len(self.params)


def time_compute_frontier(
    law: AdditiveLaw,
    critical_batch_tokens: Callable[[Floats], Floats],
    loss: float,
    *,
    batch_tokens: ArrayLike,
    sizes: int = 200,
) -> Frontier:
    """The frontier of training time against compute at one loss.

    Parameters
    ----------
    law : AdditiveLaw
        Of runs in the small-batch limit; one law, not arrays.
    critical_batch_tokens : function of D_min in tokens to tokens per step
        The extra-data definition with fraction 1: at this batch a run needs twice D_min.
    loss : float, nats per token
    batch_tokens : (m,) positive floats
        Batches to choose from, tokens per step.
    sizes : int
        Sizes tried, log-spaced around the compute-optimal one.

    Raises
    ------
    ValueError
        The loss is at or below the law's asymptote, or a batch is not positive.
    """
    batches = np.atleast_1d(np.asarray(batch_tokens, dtype=float))
    if not np.all((batches > 0) & np.isfinite(batches)):
        raise ValueError("batch_tokens must be positive and finite")
    if not loss > float(law.E):
        raise ValueError(f"no training reaches a loss of {loss:g}: the law's asymptote is {float(law.E):g}")
    best, _ = law.optimum(law.flops_for(loss))
    params = float(best) * np.exp(np.linspace(-1, 1, sizes) * np.log(SIZE_RANGE))
    least = law.tokens_for(loss, params)
    params, least = params[np.isfinite(least)], least[np.isfinite(least)]
    tokens = least[:, None] * (1 + batches / critical_batch_tokens(least)[:, None])
    flops = FLOPS_PER_PARAM_TOKEN * params[:, None] * tokens
    time = params[:, None] * tokens / batches
    size, batch = (index.ravel() for index in np.indices(tokens.shape))
    order = np.lexsort((time.ravel(), flops.ravel()))
    fastest = np.minimum.accumulate(time.ravel()[order])
    kept = order[np.concatenate([[True], fastest[1:] < fastest[:-1]])]
    serial = time.ravel()[kept]
    return Frontier(
        params=params[size[kept]],
        tokens=tokens.ravel()[kept],
        batch_tokens=batches[batch[kept]],
        flops=flops.ravel()[kept],
        steps=tokens.ravel()[kept] / batches[batch[kept]],
        time=serial / serial[0],
    )
