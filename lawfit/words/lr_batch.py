"""What is said of the best learning rate and batch size: what the runs lack, what is borrowed, how sure the law is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from lawfit.words import Sentence, Spoken, named

FAR: Final = 3.0  # standard deviations of what is lent
BENDS: Final = {
    "saturating": "a law that saturates with the batch",
    "surge": "a law that rises to a noise batch and falls beyond it",
}
_BETTER: Final = {
    "lr_low": "smaller learning rate",
    "lr_high": "larger learning rate",
    "batch_low": "smaller batch",
    "batch_high": "larger batch",
}
_ENDS: Final = {
    "low": "the smallest learning rate tried at {low:,} of {scales:count scale}",
    "high": "the largest learning rate tried at {high:,} of {scales:count scale}",
}
_LENT: Final = (
    ": published laws lend {published_lr:lr} there, {sds:.0f} of their standard deviations away, and one batch leaves "
    "open what they say of it"
)


def _average(of: Mapping[str, Any]) -> str:
    """The average of surface and law along the batch beside the surface alone."""
    left_out = f"at {of['sweeps']} sweeps, each with its scale or its size left out"
    costs = f"cost {100 * of['average']:.3f} % of the loss, the surface alone {100 * of['surface']:.3f} %"
    if of["better"]:
        return f"{left_out}, the average of both {costs}"
    return f"{BENDS[of['law']]} is not clearly better beside it: {left_out}, the average {costs}"


def _help(of: Mapping[str, Any]) -> str:
    """Of exponents that are open: the sweeps that would determine them best."""
    if not of["runs"]:
        return ""
    now, them = "open" if of["sd_now"] is None else "{sd_now:.2g}", "it" if len(of["runs"]) == 1 else "them"
    of_which = "(standard error of the {parameter}: " + now + " now, {sd_with_runs:.2g} with " + them + ")"
    return "; a sweep at {runs:join  and one at } would help most " + of_which


_LONELY: Final = (
    "at {params:q} parameters on {tokens:q} tokens one run (learning rate {lr:lr}, batch {batch_tokens:q}) has a loss "
    "{below:pct} below every other: check it, and "
)
_REFUSED: Final = (
    "the fit of recipe '{recipe}' is not certified, so it is not used: {doubts:join ; }. What to do: {mend}. Fit "
    "{fit_id} still says what it can where it is asked for by its id "
)

WORDS: Final[Mapping[str, Sentence]] = {
    # what the runs lack (`LackCode`)
    "one_run": named(
        "one setting alone finished (learning rate {lr:lr}, batch {batch_tokens:q}){beside}, so there is nothing to "
        "compare it with",
        beside=lambda of: " beside {diverged:count setting} that diverged" if of["diverged"] else "",
    ),
    "one_rate": "all runs have one learning rate ({lr:lr}), so nothing shows where the best one lies",
    "rate_by_rule": named(
        "the learning rate was set by a rule (one rate per {per_size}, {lr_low:lr} to {lr_high:lr}), so nothing shows "
        "where the best one lies",
        per_size={1: "size", 0: "scale"},
    ),
    "two_rates": named(
        "{where} two learning rates, which show a direction and no best one",
        where=lambda of: "the one scale has" if of["scales"] == 1 else "none of the {scales:,} scales has more than",
    ),
    "flat": "the losses do not tell learning rates apart: at one batch they differ by {spread:pct} of the loss at "
    "most, no more than equal runs do",
    "hill": "the losses are highest in the middle of the learning rates and lowest at an end (at {hills:,} of "
    "{scales:count scale}), as a score is, of which higher is better: if the loss column holds an accuracy, give 1 "
    "minus it instead",
    "at_edge": named(
        "the losses fall all the way to {ends}, so the best one is not bracketed",
        ends=lambda of: " and to ".join(words for end, words in _ENDS.items() if of[end]),
    ),
    "few_settings": "there are fewer than {enough} settings at {few:,} of {scales:count scale}, too few to place a "
    "minimum",
    "contradicts_runs": named(
        "at {params:q} parameters on {tokens:q} tokens and batch {batch_tokens:q} the runs are best at learning "
        "rate {lr:lr}, and the law that came out says {fitted_lr:lr}, which costs {cost:pct} of the loss on these "
        "runs{lent}",
        lent=lambda of: _LENT if of["sds"] >= FAR else "",
    ),
    "lonely_run": Spoken(
        terminal=_LONELY + "leave it out with lawfit runs exclude if it is wrong",
        http=_LONELY + "leave it out if it is wrong",
    ),
    "rate_tied_to_batch": "the learning rate was set from the batch at every scale, so what one does cannot be told "
    "from what the other does: the best learning rate at a batch is not determined",
    "one_batch": named(
        "{one}, so the best batch is not determined: what is said of it is borrowed",
        one=lambda of: "each scale has runs at one batch" if of["batches"] > 1 else "all runs have one batch",
    ),
    # a fit that is not used, and what would mend it
    "refused": Spoken(
        terminal=_REFUSED + "(lawfit predict --fit {fit_id}; fit= in a URL; fit_id= in Python)",
        http=_REFUSED + "(fit={fit_id})",
    ),
    "mending": "runs that would mend it: {runs}; add them and fit again",
    "odd_runs": Spoken(
        terminal="look for runs that are not like the others (lawfit runs list), leave them out (lawfit runs exclude) "
        "and fit again; lawfit fit --json has the whole certificate",
        http="look for runs that are not like the others, leave them out and fit again; the fit has its certificate",
    ),
    "not_settled": "it did not converge",
    "noted": "{lack}; it would take runs {runs}",
    "to_add": "{runs:join  and }",
    "runs": "at {params:q} parameters on {tokens:q} tokens, learning rate{lr:plural} {lr:lr and} with a batch of "
    "{batch_tokens:q and} tokens",
    "sweep": "a sweep at {params:q} parameters on {tokens:q} tokens",
    # how the search for a law went
    "certificate": named(
        "{agreeing} of {starts} starts agree, {gradient_norm:.1g} standard errors from the mode, condition number "
        "{number}, {sizes:count size}, {scales:count scale}",
        number=lambda of: "infinite" if of["condition_number"] is None else "{condition_number:.2g}",
    ),
    "few_starts_agree": "only {agreeing} of {starts} starts ended at the lowest minimum",
    "better_minimum": "another start found a better minimum, by {above:.2g} squared standard errors",
    "worse_minima": "{others} of {starts} starts ended at a worse minimum, or at none",
    "open_exponents": named(
        "these runs alone do not determine the {parameters:join and}: what is missing {beside}{help}", help=_help
    ),
    "scale": "{params:q} parameters, {tokens:q} tokens",
    "steepness_changes": "one valley does not fit all scales: the {column} changes, by {loss_fraction:.2%} of loss "
    "over the runs (p = {p_value:.1g}); the price of a mistake is then less sure than the optimum",
    "few_sizes": "only {sizes:count size} ({scales:count scale}): intervals allow for it and are rough",
    "no_surface": "no joint surface could be fitted ({choices:join ; })",
    "choice_failed": named("{shape}, window {window:.2%}, {prior}: {why}", prior={"tokens_only": "tokens only"}),
    "not_converged": "did not converge",
    "no_valley": "found no valley: the losses do not curve upwards around the optimum",
    "no_price": "the valley around the optimum could not be fitted; are the losses of these runs comparable?",
    "empty_window": "no run lies inside the window of the fit",
    "no_sweep": "no size, horizon and batch has {needed} or more learning rates that finished, so none shows a best "
    "one; sweep the learning rate at three or more widths or horizons",
    # what is borrowed
    "exponent": "{input}^{value:+.2f} (sd {sd:.2f})",
    "exponents_lent": "best {quantity:quantity} as {exponents}, from {laws}",
    "exponents_vague": "best {quantity:quantity}: no published law lends its exponents, so they rest on these runs and "
    "on a vague prior ({exponents})",
    "level_lent": "level of the {quantity:quantity} before any run, from {laws}",
    "level_own": "level of the {quantity:quantity}: no published law lends one, so it rests on these runs",
    "rest_lent": "is borrowed from published laws",
    "rest_vague": "rests on a vague prior",
    "rest_divided": "is borrowed from published laws for the {lent:quantity} and rests on a vague prior for the "
    "{vague:quantity}",
    # what a fit warns of
    "tied": named(
        "the best learning rate is not determined by these runs: at every scale and batch a single one was tried "
        "({rule}); what is said of it comes from published laws and from that rule. Along the rule the loss is lowest "
        "at {batch_tokens:,.0f} tokens per step (learning rate {lr:lr}) with {params:q} parameters on {tokens:q} "
        "tokens. A sweep of learning rates at one batch would tell the best one",
        rule=lambda of: (
            "all batches of a scale have one learning rate"
            if abs(of["batch_exponent"]) < 0.01
            else "the learning rate goes with the batch, about as batch^{batch_exponent:.2g}"
        ),
    ),
    "scales_at_edge": "at {count} of {scales} scales the best setting lies at the edge of what was tried, so it is a "
    "bound rather than an optimum; the runs to add are listed",
    "scales_flat": "at {count} of {scales} scales the runs do not tell their settings apart, so they show no optimum",
    "scales_too_few": "at {count} of {scales} scales there are too few settings to show an optimum",
    "none_inside": "no scale shows its optimum inside the sweep: read the recommendation as a direction",
    "one_ratio": "all scales have about {ratio:.3g} tokens per parameter, so parameters and tokens cannot be told "
    "apart: which of the two it is {beside}. One sweep at {params:.3g} parameters and {tokens:.3g} tokens would settle "
    "it",
    "thin_evidence": "thin evidence ({scales:count scale}): how the optimum moves with scale {beside}; these runs set "
    "its level",
    "run_far_below": "at {params:.3g} params and {tokens:.3g} tokens one run (lr {lr:.3g}, batch {batch_tokens:.3g}) "
    "has a loss {below:.1%} below every other: check it, and exclude it if it is wrong",
    "bends": "the best {quantity:quantity} bends away from a straight power law; extrapolate with care",
    "beaten": "{method} did better than this fit on scales left out ({at:join ; })",
    "beaten_at": named(
        "{the}{split}: {regret:pct} against {own_regret:pct} at {scales:count scale}",
        the=lambda of: "" if of["split"].startswith("each") else "the ",
    ),
    "choices_alike": "too few scales to score one analysis against another; all choices count alike",
    "open_edge": named("a {edge} may be better still", edge=_BETTER),
    # the learning rate along the batch
    "few_curves": named(
        "another form takes {needed} scales that show the best learning rate at {batches} or more batches, and there "
        "{curves}",
        curves=lambda of: {0: "are none", 1: "is 1"}.get(of["curves"], "are {curves}"),
    ),
    "no_law_along": "a law along the batch cannot be fitted beside it: {why}",
    "no_bend": "the best learning rates of the sweeps do not show where they saturate, or fall again, with it",
    "few_left_out": "too few scales can be left out to compare it with a law along the batch ({groups}; {needed} or "
    "more are needed)",
    "average": _average,
    "few_optima": named(
        "optima at {count} {of}; the law over scales needs {needed} or more", of={"scales": "cells of size and horizon"}
    ),
    "few_batches": "optima at {batches} batches do not tell the forms apart; {needed} or more are needed, best over a "
    "factor of 30",
    "one_horizon": "the power scheduler's law is one of the horizon: optima at two or more are needed",
    "one_shape": "one value of depth * width does not show how the largest learning rate falls with it",
    "steps_do_not_fall": "steps do not fall with the batch: no batch below which the target is out of reach can be "
    "seen",
    "no_curve": "{batches} batches cannot show a curve of two numbers; {needed} or more are needed",
}
