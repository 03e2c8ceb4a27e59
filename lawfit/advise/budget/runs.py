"""Whether runs say where a budget is best spent at all, and the runs that would say it better."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lawfit.advise.budget.belief import LossBelief, finite
from lawfit.advise.budget.optimum import Best
from lawfit.estimate.numerics.quantiles import normal_quantile
from lawfit.findings import Finding, finding

Floats = NDArray[np.float64]

ON_ONE_LINE: Final = 0.15  # sd of ln(tokens / params) at a given compute, below which runs lie on one path
WIDEST: Final = 100.0  # ratio of the ends of an interval: a decade either side costs some 5 % of loss
RUNS: Final = 3
HELPS: Final = 0.95  # a run that leaves more of the sd than this is not worth naming
GRID: Final = 22
_CURVED: Final = 8  # points, from which on the path that they lie on may bend


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Why no optimum is given, or None; and runs that would help."""

    refusal: Finding | None
    runs: tuple[dict[str, Any], ...]  # params, tokens, flops, and by which factor either way the optimum is then known


def judge(belief: LossBelief, best: Best) -> Verdict:
    """Whether the interval of the best size is one."""
    if line := on_one_line(belief.points):
        return Verdict(refusal=line, runs=_across(belief))
    runs, flops = helpful_runs(belief, best), best.valley.flops
    bounds = belief.bounds(best.opened(best.log_params_each))
    if bounds is None:
        return Verdict(refusal=finding("plan.few_scales", scales=len(belief.points), flops=flops), runs=runs)
    low, high = bounds
    ends = best.valley.log_params[[0, -1]]
    if low <= ends[0] or high >= ends[1]:
        side = "below" if low <= ends[0] else "above"
        return Verdict(refusal=finding("plan.unbounded", flops=flops, side=side), runs=runs)
    if high - low > math.log(WIDEST):
        sizes = {"low": math.exp(low), "high": math.exp(high)}
        return Verdict(refusal=finding("plan.size_open", flops=flops, **sizes), runs=runs)
    return Verdict(refusal=None, runs=runs)


def on_one_line(points: Floats) -> Finding | None:
    """Says where every compute was spent in one way only; None otherwise.

    Losses along one path of (params, tokens) say nothing about the loss beside it, whatever law is fitted to them.
    """
    if len(points) < 3:
        return None
    log_params, log_tokens = np.log(points).T
    ratio, compute = log_tokens - log_params, log_tokens + log_params
    computes = len(np.unique(np.round(compute, 2)))
    degree = min(2 if len(points) >= _CURVED else 1, computes - 1)
    left = ratio - np.polyval(np.polyfit(compute - compute.mean(), ratio, degree), compute - compute.mean())
    if float(np.sqrt((left**2).sum() / max(len(left) - degree - 1, 1))) >= ON_ONE_LINE:
        return None
    low, high = np.exp([ratio.min(), ratio.max()])
    return finding("plan.one_line", scales=len(points), low=low, high=high)


def _across(belief: LossBelief) -> tuple[dict[str, Any], ...]:
    """Two runs beside the line, of the compute of the dearest run on it: an IsoFLOP profile of three points."""
    params, tokens = belief.points[int(np.argmax(belief.points.prod(axis=1)))]
    return tuple(
        {
            "params": finite(params * f),
            "tokens": finite(tokens / f),
            "flops": finite(6 * params * tokens),
            "known": None,
        }
        for f in (0.25, 4.0)
    )


def helpful_runs(belief: LossBelief, best: Best) -> tuple[dict[str, Any], ...]:
    """Runs no dearer than the dearest that would narrow the best size most, each given those before it.

    By the worlds alone: a run tells as much about the best size as its loss goes with it across worlds (linear
    regression), less the noise of a run.
    """
    if belief.worlds < 10:
        return ()
    ends = [(math.log(low) - math.log(10), math.log(high) + math.log(10)) for low, high in
            (belief.scales["params"], belief.scales["tokens"])]  # fmt: skip
    n, d = (grid.ravel() for grid in np.meshgrid(*(np.linspace(*end, GRID) for end in ends), indexing="ij"))
    ratios = np.log(belief.points[:, 1] / belief.points[:, 0])
    usual = (n + d <= math.log(belief.scales["flops"][1] / 6) + 1e-9) & (d - n >= ratios.min() - math.log(10))
    usual &= d - n <= ratios.max() + math.log(10)
    n, d = n[usual], d[usual]
    size = best.log_params_each - best.log_params_each.mean()
    losses = belief.each(np.exp(n), np.exp(d))
    losses = losses - losses.mean(axis=0)
    noise = max(belief.noise, 1e-4) ** 2
    found: list[dict[str, Any]] = []
    for _ in range(RUNS):
        variance = (losses**2).mean(axis=0) + noise
        gain = (size @ losses / len(size)) ** 2 / variance
        i = int(gain.argmax())
        before = float((size**2).mean())
        if before <= 0 or before - gain[i] > HELPS**2 * before:
            break
        column = losses[:, i].copy()
        # both conditional on that run: what its loss explains is taken out, as in a Kalman update
        pull = 1 - math.sqrt(noise / variance[i]) if variance[i] > 0 else 0.0
        along = column / max(float((column**2).mean()), 1e-300)
        size = size - pull * column * float(size @ along) / len(size)
        losses = losses - pull * np.outer(column, along @ losses / len(size))
        sd = math.sqrt(max(before - float(gain[i]), 0.0))
        found.append(
            {
                "params": finite(math.exp(n[i])),
                "tokens": finite(math.exp(d[i])),
                "flops": finite(6 * math.exp(n[i] + d[i])),
                "known": finite(math.exp(normal_quantile(0.5 + belief.level / 2) * sd)),
            }
        )
    return tuple(found)


def run_at(run: Mapping[str, Any]) -> Finding:
    """``21M parameters on 3.1B tokens``."""
    return finding("plan.run", params=run["params"], tokens=run["tokens"])
