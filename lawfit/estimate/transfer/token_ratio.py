"""Tokens that one recipe needs over those of another, to one loss at one size: ``D_AdamW(L, B) / D_Muon(L, B)``.

A measure of two optimizers that needs no critical batch (arXiv 2505.02222): above 1 the other one needs less data, and
when it grows with the batch the other one also stands larger batches. Read between the runs that were made: each best
run of one recipe is set against the loss of the other along its horizons at that size (a power of tokens between two
neighbours), in both directions. Nothing is extrapolated: a loss that the other recipe did not reach, or was below at
its shortest horizon, is counted and gives no ratio.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lawfit.errors import NotEnoughData
from lawfit.estimate.numerics.sweeps import same_value
from lawfit.estimate.observe.observations import observe
from lawfit.findings import finding
from lawfit.records import Run, RunStatus

Floats = NDArray[np.float64]

LEVEL: Final = 0.9
_SAME_SIZE: Final = 0.02  # of ln params: counts of one shape differ by what optimizers add
_FEWEST_SIZES: Final = 3  # clusters of an interval


def token_ratios(runs: Sequence[Run], others: Sequence[Run]) -> dict[str, Any]:
    """The ratio at the best settings of both, and at single batches where both ran them.

    Parameters
    ----------
    runs, others : runs of the two recipes, whose losses must be of the same validation text and tokenizer

    Raises
    ------
    NotEnoughData
        No size at which one recipe has two horizons and the other a loss between theirs.
    """
    rows, beside = _compare(runs, others)
    if not rows:
        raise NotEnoughData(finding("transfer.no_ratio", beside=beside))
    return {
        **_summary(rows),
        "scales": sorted(rows, key=lambda row: (row["params"], row["tokens"])),
        "beside": beside,
        "by_batch": _by_batch(runs, others),
        "level": LEVEL,
    }


def _by_batch(runs: Sequence[Run], others: Sequence[Run]) -> list[dict[str, Any]]:
    """The same where both recipes' runs are held to one batch, which the source asks for."""
    both = [*runs, *others]
    if not both:
        return []
    index = same_value(np.array([run.batch_tokens for run in both]))
    found = []
    for k in range(index.max() + 1):
        mine = [run for run, i in zip(runs, index[: len(runs)], strict=True) if i == k]
        theirs = [run for run, i in zip(others, index[len(runs) :], strict=True) if i == k]
        rows, _ = _compare(mine, theirs)
        if rows:
            found.append(
                {"batch_tokens": float(np.median([run.batch_tokens for run in (*mine, *theirs)])), **_summary(rows)}
            )
    return sorted(found, key=lambda row: row["batch_tokens"])


def _compare(runs: Sequence[Run], others: Sequence[Run]) -> tuple[list[dict[str, Any]], int]:
    """Rows of every loss that can be set against the other recipe, and how many losses cannot."""
    try:
        mine, theirs = _lowest(runs), _lowest(others)
    except NotEnoughData:
        return [], 0
    rows: list[dict[str, Any]] = []
    beside = 0
    for points, along, ours in ((theirs, mine, False), (mine, theirs, True)):
        for params, tokens, log_loss in points:
            at = np.abs(np.log(along[:, 0] / params)) < _SAME_SIZE
            if int(at.sum()) < 2:
                continue
            needed = _tokens_to(along[at, 1], along[at, 2], log_loss)
            if needed is None:
                beside += 1
                continue
            ratio = tokens / needed if ours else needed / tokens
            row = {"params": params, "tokens": tokens, "loss": float(np.exp(log_loss)), "ratio": float(ratio)}
            rows.append({**row, "run_of": "recipe" if ours else "other"})
    return rows, beside


def _lowest(runs: Sequence[Run]) -> Floats:
    """(scales, 3): params, tokens and lowest log loss of each scale."""
    if not any(run.status is RunStatus.FINISHED for run in runs):
        raise NotEnoughData(finding("transfer.nothing_finished"))
    observed = observe(runs)
    found = np.column_stack([observed.params, observed.tokens, observed.lowest_log_loss()])
    return found[np.isfinite(found[:, 2])]


def _tokens_to(tokens: Floats, log_loss: Floats, wanted: float) -> float | None:
    """Where the lower envelope of log loss along log tokens crosses a loss; None outside what was run."""
    order = np.argsort(tokens)
    x, y = np.log(tokens[order]), np.minimum.accumulate(log_loss[order])  # a longer run may just have gone worse
    if not y[-1] <= wanted <= y[0] or y[-1] == y[0]:
        return None
    return float(np.exp(np.interp(-wanted, -y, x)))


def _summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Mean over sizes of the mean log ratio of each, and its interval with sizes as clusters."""
    from scipy.special import stdtrit

    sizes = same_value(np.array([row["params"] for row in rows]))
    logs = np.log([row["ratio"] for row in rows])
    means = np.array([logs[sizes == k].mean() for k in range(sizes.max() + 1)])
    low = high = None
    if len(means) >= _FEWEST_SIZES:
        half = float(stdtrit(len(means) - 1, 0.5 + LEVEL / 2)) * float(means.std(ddof=1) / np.sqrt(len(means)))
        low, high = float(np.exp(means.mean() - half)), float(np.exp(means.mean() + half))
    return {"ratio": float(np.exp(means.mean())), "low": low, "high": high, "sizes": len(means), "losses": len(rows)}
