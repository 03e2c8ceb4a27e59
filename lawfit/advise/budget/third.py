"""What a plan says of a further input: how often limited tokens are seen, and which share of experts is best active."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from lawfit.advise.budget.belief import LossBelief, finite
from lawfit.advise.budget.choice import Choice
from lawfit.advise.budget.optimum import CHEAP, best_split
from lawfit.ask import PlanQuestion
from lawfit.findings import finding
from lawfit.kinds.third_input import Asked, usable_form
from lawfit.records import Fit, Recipe

SHARES: Final = 15  # of active experts that are tried, from the smallest to the largest that runs cover
ACTIVE: Final = "active"  # a convention by which the share of active experts costs no compute


def asked_part(belief: LossBelief, choice: Choice, asked: Asked) -> dict[str, Any]:
    """The further input at the plan; of unique tokens, how often each is best seen, and how flat the loss is there."""
    part: dict[str, Any] = {"input": asked.name, "asked": asked.value}
    if asked.name != "unique_tokens":
        return part
    part["epochs"] = {"value": finite(max(choice.tokens / asked.value, 1.0)), "low": None, "high": None}
    part["epochs"]["level"] = belief.level
    if choice.refused:
        return part
    # where the budget is part of the answer, each world has its own
    best = choice.best
    each = np.exp(best.opened(best.log_tokens_each, falls=True)) if choice.own_budget is None else choice.own_budget[2]
    bounds = belief.positive_bounds(each / asked.value)
    if bounds is not None and choice.question.params is None and choice.question.tokens is None:
        part["epochs"] |= {"low": finite(max(bounds[0], 1.0)), "high": finite(max(bounds[1], 1.0))}
    part["cheap_zone"] = {
        f"{share:g}": [finite(max(choice.left(choice.total, size) / asked.value, 1.0)) for size in reversed(zone)]
        for share, zone in choice.best.zones.items()
    }
    return part


def best_share(fit: Fit, recipe: Recipe, question: PlanQuestion, flops: float) -> dict[str, Any] | None:
    """The share of active experts of the lowest loss at a budget, each share with its best size; None without a law.

    Compute is 6 x active parameters x tokens: a share costs as much less, unless the parameters that are counted are
    the active ones. Shares beyond those of the runs are not tried.
    """
    stored = usable_form(fit.payload, "moe_sparsity")
    if stored is None or stored["same_input"] or question.given() or question.inference_tokens:
        return None
    low, high = stored["covered"]
    shares = np.geomspace(low, high, SHARES)
    counted_active = recipe.params_convention == ACTIVE
    centre, each, sizes = [], [], []
    belief = LossBelief.of(fit, question.level, Asked(name="active_share", value=float(low)))
    for share in shares:
        belief = belief.at(float(share))
        best = best_split(belief, flops if counted_active else flops / float(share))
        centre.append(best.log_loss)
        each.append(best.log_loss_each)
        sizes.append(math.exp(best.log_params))
    losses = np.array(centre)
    at = int(losses.argmin())
    worlds = shares[np.array(each).argmin(axis=0)] if len(each[0]) else np.empty(0)
    bounds = belief.positive_bounds(worlds)
    cheap = shares[losses <= losses[at] + math.log1p(CHEAP[0])]
    # between two shares of the grid nothing is known: an interval ends at the neighbours
    step = float(shares[1] / shares[0])
    ends = (None, None) if bounds is None else (max(bounds[0] / step, low), min(bounds[1] * step, high))
    return {
        "value": finite(float(shares[at])),
        "low": finite(ends[0]),
        "high": finite(ends[1]),
        "level": question.level,
        "loss": finite(math.exp(losses[at])),
        "params": finite(sizes[at]),
        "cheap_zone": {f"{CHEAP[0]:g}": [finite(float(cheap.min())), finite(float(cheap.max()))]},
        "covered": [low, high],
        "at_edge": at in (0, SHARES - 1),
        "shares": [
            {"share": finite(float(share)), "loss": finite(math.exp(loss)), "params": finite(size)}
            for share, loss, size in zip(shares, losses, sizes, strict=True)
        ],
        "convention": finding("plan.active_flops") if counted_active else finding("plan.share_flops"),
    }
