"""The same loss in less time: what larger batches, and smaller models trained longer, cost in compute.

The loss law holds at each scale's best batch. A larger batch B needs more tokens for the same loss, in proportion to
``1 + B / B_crit`` (arXiv 1812.06162), so tokens relative to the recommended batch are known from the critical batch
alone. A smaller batch than the recommended one saves neither tokens nor time, and is not listed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lawfit.advise.budget.belief import LossBelief, finite
from lawfit.advise.budget.optimum import tokens_for
from lawfit.ask import PlanQuestion
from lawfit.estimate.critical.laws import AveragedLaw
from lawfit.findings import finding
from lawfit.laws.critical_batch import Definition
from lawfit.laws.loss import FLOPS_PER_PARAM_TOKEN
from lawfit.laws.pareto import time_compute_frontier
from lawfit.records import Fit

Floats = NDArray[np.float64]

MULTIPLES: Final = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)  # of the critical batch
NEAR: Final = 1.15  # batches that close to the recommended one are not listed beside it
FEWEST_STEPS: Final = 100.0  # a plan with fewer is none
SIZES: Final = (1 / 20, 4.0)  # around the planned one, for the frontier
FRONTIER_ROWS: Final = 9


def time_answer(
    belief: LossBelief,
    fit: Fit,
    said: Mapping[str, Any],
    question: PlanQuestion,
    *,
    params: float,
    tokens: float,
    log_loss: float,
    batch_tokens: float,
) -> dict[str, Any]:
    """Batches, and pairs of size and batch, that reach the planned loss, with their compute and time.

    Parameters
    ----------
    fit : of the critical batch
    said : its answer at the planned scale, with interval
    log_loss : the planned run's, by the centre of the loss fit
    batch_tokens : recommended there, tokens per step
    """
    doubling = doubling_law(fit)
    least = _least_tokens(tokens, batch_tokens, lambda d: float(doubling(np.array([d]), np.array([params]))[0]))
    critical = float(doubling(np.array([least]), np.array([params]))[0])
    spread = [None if end is None else end / said["value"] for end in (said["low"], said["high"])]
    speed = tokens_per_second(question, params)

    def row(batch: float) -> dict[str, Any]:
        needed = least * (1 + batch / critical)
        return {
            "batch_tokens": finite(batch),
            "of_critical": finite(batch / critical),
            "tokens": finite(needed),
            "steps": finite(needed / batch),
            "flops": finite(FLOPS_PER_PARAM_TOKEN * params * needed),
            "compute_ratio": finite(needed / tokens),
            "compute_ratio_low": _ratio(batch, batch_tokens, critical, spread[1]),
            "compute_ratio_high": _ratio(batch, batch_tokens, critical, spread[0]),
            "time_ratio": finite(needed / batch / (tokens / batch_tokens)),
            "seconds": finite(_seconds(needed, batch, speed, question.step_seconds)),
        }

    most = min(question.max_batch_tokens or np.inf, least / FEWEST_STEPS)
    batches = [m * critical for m in MULTIPLES if NEAR * batch_tokens < m * critical <= most]
    return {
        "definition": {
            "words": finding("plan.doubling"),
            "critical_batch_tokens": finite(critical),
            "low": finite(None if spread[0] is None else critical * spread[0]),
            "high": finite(None if spread[1] is None else critical * spread[1]),
        },
        "least_tokens": finite(least),
        "least_steps": finite(least / critical),
        "tokens_per_second": finite(speed),
        "step_seconds": question.step_seconds,
        "batches": [row(batch_tokens), *(row(batch) for batch in batches)],
        "fastest": _fastest(row, batch_tokens, min(most, 32 * critical), speed, question.step_seconds),
        "frontier": _frontier(
            belief,
            doubling,
            log_loss,
            params,
            tokens,
            batch_tokens,
            share=1 + batch_tokens / critical,
            most=min(most, MULTIPLES[-1] * critical),
        ),
    }


def doubling_law(fit: Fit) -> Callable[[Floats, Floats], Floats]:
    """(tokens of very small batches, params) -> critical batch of twice the tokens, in tokens per step."""
    route = fit.payload["routes"][fit.payload["route"]]
    definition = Definition.from_json(route["definition"])
    law = AveragedLaw.from_json(route)

    def doubling(tokens: Floats, params: Floats) -> Floats:
        given = {"tokens": tokens, "params": params}
        return definition.to_doubling(law.value(**{name: given[name] for name in law.inputs}))

    return doubling


def tokens_per_second(question: PlanQuestion, params: float) -> float | None:
    """Of all GPUs together at that size, from whichever way it was given."""
    if question.tokens_per_second is not None or question.gpus is None or question.flops_per_second is None:
        return question.tokens_per_second
    return question.gpus * question.flops_per_second / (FLOPS_PER_PARAM_TOKEN * params)


def _least_tokens(tokens: float, batch: float, doubling: Callable[[float], float]) -> float:
    """D_min of a run of `tokens` at a batch: ``tokens = D_min (1 + batch / B_crit(D_min))``, by bisection in logs."""
    low, high = np.log(tokens) - 30.0, np.log(tokens)
    for _ in range(80):
        middle = 0.5 * (low + high)
        d = float(np.exp(middle))
        low, high = (middle, high) if d * (1 + batch / doubling(d)) < tokens else (low, middle)
    return float(np.exp(0.5 * (low + high)))


def _ratio(batch: float, recommended: float, critical: float, factor: float | None) -> float | None:
    if not factor:
        return None
    at = critical * factor
    return finite((1 + batch / at) / (1 + recommended / at))


def _seconds(tokens: float, batch: float, speed: float | None, step_seconds: float | None) -> float | None:
    """A step takes as long as its tokens at full speed, and never less than the quickest step."""
    if speed is None and step_seconds is None:
        return None
    return tokens / batch * max(step_seconds or 0.0, batch / speed if speed else 0.0)


def _fastest(
    row: Callable[[float], dict[str, Any]], least: float, most: float, speed: float | None, step_seconds: float | None
) -> dict[str, Any] | None:
    """The batch of least time where both the quickest step and the speed of the machines are known.

    Below ``step_seconds * tokens_per_second`` steps do not get quicker, above it nothing is gained: it is the fastest.
    """
    if speed is None or step_seconds is None:
        return None
    return row(min(max(step_seconds * speed, least), max(most, least)))


def _frontier(
    belief: LossBelief,
    doubling: Callable[[Floats, Floats], Floats],
    log_loss: float,
    params: float,
    tokens: float,
    batch_tokens: float,
    *,
    share: float,
    most: float,
) -> list[dict[str, Any]]:
    """Pairs of size and batch that no other pair beats in both compute and serial time, cheapest first.

    Tokens of the other sizes are those of the loss law, less the share that the planned batch needs beyond a very small
    one: their best batches, in units of their critical batches, are taken for the planned run's.
    """
    sizes = params * np.geomspace(*SIZES, 90)
    least = tokens_for(belief.centre, belief.scales, float(np.exp(log_loss)), sizes) / share
    known = np.isfinite(least)
    sizes, least = sizes[known], least[known]
    if most <= batch_tokens or not len(sizes):
        return []
    found = time_compute_frontier(
        sizes,
        least,
        doubling(least, sizes),
        batch_tokens=np.geomspace(batch_tokens, most, 90),
    )
    serial, flops = params * tokens / batch_tokens, FLOPS_PER_PARAM_TOKEN * params * tokens
    logs = np.log(found.serial)
    marks = np.linspace(logs[0], logs[-1], FRONTIER_ROWS)
    kept = sorted({int(np.abs(logs - mark).argmin()) for mark in marks})
    return [
        {
            "params": finite(found.params[i]),
            "tokens": finite(found.tokens[i]),
            "batch_tokens": finite(found.batch_tokens[i]),
            "steps": finite(found.steps[i]),
            "flops": finite(found.flops[i]),
            "compute_ratio": finite(found.flops[i] / flops),
            "time_ratio": finite(found.serial[i] / serial),
        }
        for i in kept
    ]
