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
    low, high = np.exp(forms.bounds(best.log_params_each) or (np.nan, np.nan))
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
    """A sentence where the intervals of both routes have no size in common; empty otherwise.

    Parameters
    ----------
    part : of profiles
    ours : the best size by the forms alone
    """
    theirs = part["params"]
    if None in (ours["low"], ours["high"], theirs["low"], theirs["high"]):
        return ""
    if ours["low"] <= theirs["high"] and theirs["low"] <= ours["high"]:
        return ""
    return (
        f"two routes disagree about the best size: {format_quantity(ours['low'])} to {format_quantity(ours['high'])} "
        f"parameters by the laws of the loss, {format_quantity(theirs['low'])} to {format_quantity(theirs['high'])} by "
        f"the minima of {len(part['budgets'])} IsoFLOP profiles, which need no form; runs at the largest budget on "
        f"either side of both would tell"
    )
