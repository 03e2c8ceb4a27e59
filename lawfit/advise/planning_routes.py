"""The best size by other routes, beside the plan's: each form of the loss law alone, and IsoFLOP profiles."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from lawfit.advise.loss_belief import LossBelief, finite
from lawfit.advise.planning_optimum import best_split, optimal_path
from lawfit.estimate.isoflop import IsoFlop, ProfileLaw
from lawfit.units import format_quantity


def each_form(belief: LossBelief, flops: float, served: float) -> list[dict[str, Any]]:
    """What each member that the plan averages says alone: its best size, and how that moves with the budget."""
    found = []
    for i, (fit, weight, error) in enumerate(zip(belief.fits, belief.weights, belief.errors, strict=True)):
        alone = belief.alone(i)
        around = optimal_path(alone, served=served, budgets=np.array([flops / math.e, flops * math.e]))
        begins = fit.found.profiles[0].flops if isinstance(fit, ProfileLaw) else fit.scales["flops"][0]
        found.append(
            {
                "form": fit.form,
                "share": finite(weight),
                "fitted_from_flops": finite(begins),
                "error_factor": finite(math.exp(error)),
                "params": finite(math.exp(best_split(alone, flops, served=served).log_params)),
                "params_exponent": finite(float(around.log_params[0, 1] - around.log_params[0, 0]) / 2),
            }
        )
    return found


def forms_alone(belief: LossBelief, flops: float, served: float) -> dict[str, Any]:
    """The best size by the forms of the law together, without the law of profiles."""
    forms = belief.without_profiles()
    best = best_split(forms, flops, served=served)
    low, high = np.exp(forms.bounds(best.opened(best.log_params_each)) or (np.nan, np.nan))
    return {"value": finite(math.exp(best.chosen)), "low": finite(low), "high": finite(high), "level": belief.level}


def profile_part(found: IsoFlop, flops: float, level: float) -> dict[str, Any]:
    """The part of the document."""
    value, low, high = found.at(flops, level)
    exponent = found.exponent(flops, level)
    return {
        "params": {"value": finite(value), "low": finite(low), "high": finite(high), "level": level},
        "params_exponent": {
            "value": finite(exponent[0]),
            "low": finite(exponent[1]),
            "high": finite(exponent[2]),
            "level": level,
        },
        "budgets": [
            {
                "flops": finite(p.flops),
                "sizes": p.sizes,
                "params": finite(p.params),
                "low": finite(ends[0]),
                "high": finite(ends[1]),
            }
            for p in found.profiles
            for ends in (p.interval(level),)
        ],
        "without_minimum": found.left_out,
    }


def disagreement(part: Mapping[str, Any], ours: Mapping[str, Any]) -> str:
    """A sentence where the best size by one route lies outside the interval of the other; empty otherwise.

    Parameters
    ----------
    part : of profiles
    ours : the best size by the forms alone
    """
    theirs = part["params"]
    if None in (ours["low"], ours["high"], theirs["low"], theirs["high"]):
        return ""
    if ours["low"] <= theirs["value"] <= ours["high"] and theirs["low"] <= ours["value"] <= theirs["high"]:
        return ""
    told = [
        f"{format_quantity(each['value'])} parameters ({format_quantity(each['low'])} to "
        f"{format_quantity(each['high'])})"
        for each in (ours, theirs)
    ]
    return (
        f"two routes disagree about the best size: {told[0]} by the laws of the loss, {told[1]} by the minima of "
        f"{len(part['budgets'])} IsoFLOP profiles, which need no form; runs at the largest budget on either side of "
        f"both would tell"
    )
