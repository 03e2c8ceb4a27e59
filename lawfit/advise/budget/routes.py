"""The best size by other routes, beside the plan's: each form of the loss law alone, and IsoFLOP profiles."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from lawfit.advise.budget.belief import LossBelief, finite
from lawfit.advise.budget.optimum import Best, best_split, optimal_path
from lawfit.advise.budget.runs import WIDEST
from lawfit.estimate.loss.isoflop import IsoFlop, ProfileLaw
from lawfit.findings import Finding, finding

EXPONENTS: Final = 1.0  # from no compute that goes into size to all of it: an interval as wide says nothing


def each_form(belief: LossBelief, flops: float, served: float) -> list[dict[str, Any]]:
    """What each member that the plan averages says alone: its best size, and how that moves with the budget."""
    found = []
    members = zip(belief.alone, belief.fits, belief.weights, belief.errors, strict=True)
    for alone, fit, weight, error in members:
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


def forms_alone(belief: LossBelief, best: Best, served: float) -> dict[str, Any]:
    """The best size by the forms of the law together, without the law of profiles.

    `best` is the best split by all together.
    """
    forms = belief.without_profiles
    if forms is not belief:
        best = best_split(forms, best.valley.flops, served=served)
    low, high = np.exp(forms.bounds(best.opened(best.log_params_each)) or (np.nan, np.nan))
    return {"value": finite(math.exp(best.chosen)), "low": finite(low), "high": finite(high), "level": belief.level}


def profile_part(found: IsoFlop, flops: float, level: float) -> dict[str, Any]:
    """The part of the document; an interval that says nothing is none, and `wide` says so."""
    value, low, high = found.at(flops, level)
    exponent, *slopes = found.exponent(flops, level)
    sizes, slopes = told(low, high), slopes if slopes[1] - slopes[0] <= EXPONENTS else [math.nan] * 2
    minima = [told(*p.interval(level)) for p in found.profiles]
    silent = sum(math.isnan(ends[0]) for ends in (sizes, slopes, *minima))
    return {
        "params": {"value": finite(value), "low": finite(sizes[0]), "high": finite(sizes[1]), "level": level},
        "params_exponent": {
            "value": finite(exponent),
            "low": finite(slopes[0]),
            "high": finite(slopes[1]),
            "level": level,
        },
        "wide": finding(
            "plan.wide_profiles", level=level, profiles=len(found.profiles), factor=WIDEST, exponent=EXPONENTS
        )
        if silent
        else "",
        "budgets": [
            {
                "flops": finite(p.flops),
                "sizes": p.sizes,
                "params": finite(p.params),
                "low": finite(ends[0]),
                "high": finite(ends[1]),
            }
            for p, ends in zip(found.profiles, minima, strict=True)
        ],
        "without_minimum": found.left_out,
    }


def told(low: float, high: float) -> tuple[float, float]:
    """Ends of an interval of sizes; NaN for one so wide that a plan would refuse it."""
    return (low, high) if high <= WIDEST * low else (math.nan, math.nan)


def disagreement(part: Mapping[str, Any], ours: Mapping[str, Any]) -> list[Finding]:
    """A note where the best size by one route lies outside the interval of the other.

    Parameters
    ----------
    part : of profiles
    ours : the best size by the forms alone
    """
    theirs = part["params"]
    if None in (ours["low"], ours["high"], theirs["low"], theirs["high"]):
        return []
    if ours["low"] <= theirs["value"] <= ours["high"] and theirs["low"] <= ours["value"] <= theirs["high"]:
        return []
    sizes = {
        name: {end: each[end] for end in ("value", "low", "high")}
        for name, each in (("by_forms", ours), ("by_profiles", theirs))
    }
    return [finding("plan.routes_disagree", **sizes, profiles=len(part["budgets"]))]
