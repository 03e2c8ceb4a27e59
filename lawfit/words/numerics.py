"""Of plain columns of numbers: what a fit may be trusted with, and what its columns leave open."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from lawfit.words import Sentence, listed, say


def standing(data: Mapping[str, Any]) -> str:
    """Of a law whose exponent may be lent."""
    if data["status"] == "sparse":
        return f"exponent in part {'lent' if data['lent_by'] else 'on a vague prior'}, level certified"
    return "certified" if data["status"] == "ok" else "NOT certified"


def examined(data: Mapping[str, Any], the: str = "") -> list[str]:
    """Condition, and who moves the law most."""
    condition, top = data["condition_number"], data["influence"]
    parts = [] if condition is None or math.isinf(condition) else [f"condition number {condition:.3g}"]
    if top:
        parts.append(say(f"without {{group}} {the}{{parameter}} moves {{value:.3g}} to {{value_without:.3g}}", top))
    return parts


def _open(data: Mapping[str, Any]) -> str:
    said = f"the runs do not determine {listed(data['parameters'])}"
    said += f" ({listed(data['at_bound'])} ended on the bound)" if data["at_bound"] else ""
    if runs := data["runs"]:
        first, *further = [", ".join(f"{name} {value:.2g}" for name, value in run["inputs"].items()) for run in runs]
        said += f"; one run at {first} would help most" + (f", then {' and '.join(further)}" if further else "")
        said += f": relative standard error of {runs[-1]['parameter']} {runs[-1]['sd_with_run']:.2g} with them"
    return said


_EXPONENTS: Final = "; ".join(
    f"{n} {{exponents[{n}][0]:+.2f}} to {{exponents[{n}][1]:+.2f}}" for n in ("params", "tokens")
)

WORDS: Final[Mapping[str, Sentence]] = {
    "not_converged": "the search did not converge: {gradient_norm:.2g} standard errors from where it points",
    "few_starts": "only {agreeing} of {starts} starts ended at the lowest objective",
    "open": _open,
    "no_intervals": "{clusters} independent clusters cannot give intervals for {parameters} parameters",
    "resamples_not_converged": "{missing} of {resamples} resamples did not converge",
    "searches_apart": "the global and the warm search disagree in {apart} of {resamples} resamples",
    "starts_apart": "{apart} of {starts} starts ended at a higher objective",
    "structure": "residuals are not noise around this law: structure along {column} of {size:.2%} of {of} "
    "(p = {p_value:.1g}); extrapolation is doubtful",
    "bends": "{group} bends the law: without it {parameter} moves from {value:.4g} to {value_without:.4g} "
    "({standard_errors:.1f} standard errors)",
    "one_run": "the law rests on the one run at {group}: the others leave it open, so nothing checks that run",
    "rough_intervals": "only {clusters} independent clusters: intervals are rough",
    "few_groups": "{groups} independently measured scale(s) cannot give {exponents} exponent(s) with an uncertainty; "
    "{needed} or more are needed",
    "same_input": "{inputs:join  and } is the same at every scale, so its exponent is undetermined; add runs at "
    "another value of it",
    "scales_on_a_line": "the scales lie on one line in {inputs:join  and }, so only one combination of their exponents "
    "is determined; one scale off that line (another tokens / params ratio) would fix them",
    "few_scales": "{scales} scale(s) cannot give {exponents} exponent(s) and a constant; add runs at other scales",
    "fixed_input": "{inputs:join  and } never varies, so its exponent is undetermined; add runs at another value of it",
    "runs_on_a_line": "the runs lie on one line in {inputs:join  and }, so only one combination of their exponents is "
    "determined; one scale off that line (another tokens / params ratio) would fix them",
    "neither": "no exponent is needed in a law of both at {level:.0%}: " + _EXPONENTS,
    "both": "both exponents differ from zero at {level:.0%}, jointly: " + _EXPONENTS,
    "one_of_both": "in a law of both, exponents at {level:.0%}: " + _EXPONENTS,
    "grew_together": "params and tokens grew together (correlation of their logs {correlation:.3f}), so these optima "
    f"cannot tell which of them moves the optimum ({_EXPONENTS}); one scale at another tokens / params ratio would",
    "no_line": "no {line} line through {points} points",
    "no_width": "the runs and the prior leave a coefficient without any width",
    "coefficient_open": "the inputs leave a coefficient open",
    "one_cluster_alone": "one of {clusters} clusters alone determines a coefficient, whose uncertainty is not told",
    "nothing_falls": "no sum of falling powers comes near these losses: they do not fall as the inputs grow; check "
    "that params, tokens and loss are in the right columns",
    "no_finished_cell": "no cell has a finished run, so there is no optimum to fit a law through",
    "no_finished_run": "no run finished, so there is no near-optimal set to fit a law through",
    "nothing_finished": "none of the {runs} runs of this cell finished, so nothing can be scored on it",
    "no_logarithm": "a loss of {loss:g} has no logarithm; the akima estimator needs positive losses",
}
