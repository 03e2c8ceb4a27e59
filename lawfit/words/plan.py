"""What a plan says of its budget: what is known of the best split, what is not, and which runs would tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from lawfit.units import format_quantity
from lawfit.words import Sentence, listed, named, say, tell

_LEFT_OUT: Final[Mapping[str, str]] = {
    "non_embedding": "attention and the output head come on top",
    "body_plus_head": "attention comes on top",
    "total": "attention comes on top, and the embedding is counted though it is only looked up",
}


def _flops(data: Mapping[str, Any]) -> str:
    counted = data["params_convention"].replace("_", "-") or "in the runs (the recipe does not say which)"
    served = "; 2 x parameters for each token that is served" if data["served"] else ""
    return f"6 x parameters x tokens, parameters counted as {counted}{served}"


def _budget_open(data: Mapping[str, Any]) -> str:
    words, asked = {"params": ("tokens", "size"), "tokens": ("parameters", "amount of tokens")}[data["asked"]]
    said = f"these runs leave open for how many {words} that {asked} is best"
    if data["span"] is None:
        return said
    low, high = ("no bound" if bound is None else format_quantity(bound) for bound in data["span"])
    return f"{said}: anywhere between {low} and {high}"


def _no_optimal_size(data: Mapping[str, Any]) -> str:
    said = say("no compute-optimal size follows from these runs: {why}", data)
    if data["runs"]:
        said += f". Runs that would say it: {listed([tell(run) for run in data['runs']])}"
    return said + (". With a size (or tokens) beside the budget the rest is planned" if data["budget_alone"] else "")


_SIZE: Final = "{{{0}[value]:q}} parameters ({{{0}[low]:q}} to {{{0}[high]:q}})"

WORDS: Final[Mapping[str, Sentence]] = {
    "no_loss_law": "a plan needs a law of the loss in parameters and tokens, and there is none: {why}",
    "fit_has_none": "this fit has none; fit again",
    "one_amount": "a plan weighs parameters against tokens, and all runs have about {value:q} {input:input}: nothing "
    "shows how the loss moves with them. Run two other amounts of {input:input} at some sizes",
    # why this scale
    "as_given": "as you gave it",
    "all_tokens": "your size, with all the tokens that the budget buys",
    "largest_model": "your tokens, with the largest model that the budget buys",
    "until_the_loss": "your size, trained until it reaches the loss",
    "smallest_model": "your tokens, with the smallest model that gets there",
    "compute_optimal": "compute-optimal",
    "optimal_served": "optimal for training and serving together",
    # what compute counts
    "flops": _flops,
    "left_out": lambda data: _LEFT_OUT.get(data["params_convention"], "what the count leaves out comes on top"),
    "active_flops": "6 x parameters x tokens, parameters counted as active",
    "share_flops": "6 x active share x parameters x tokens, the parameters being all of them",
    "params_unsaid": "the recipe does not say which parameters it counts, so neither do these FLOPs; budget with care",
    # what the runs leave open
    "beyond_runs": named(
        "the training compute, {flops:flops} FLOPs, is {factor:.3g}x {side} run of the loss law ({edge_flops:flops}): "
        "an extrapolation{very_far}",
        side=lambda data: "beyond the dearest" if data["flops"] > data["edge_flops"] else "below the cheapest",
        very_far={True: ", further than any backtest of these runs reaches", False: ""},
    ),
    "ratio_outside": "the optimum has {tokens_per_param:.3g} tokens per parameter, outside the {low:.3g} to {high:.3g} "
    "that were run: no run of yours lies on its other side",
    "wide": "the best size is known within a factor {factor:.2g} either way",
    "would_narrow": "one run of {run} would narrow it most, to about {factor:.2g}",
    "run": "{params:q} parameters on {tokens:q} tokens",
    "no_optimum": "no optimum to compare with: {why}",
    "no_optimal_size": _no_optimal_size,
    "one_line": named(
        "all {scales} scales lie on one line of parameters and tokens ({ratios} tokens per parameter), so no other "
        "split of a compute was ever seen",
        ratios=lambda data: "{low:.3g}" if data["high"] < 1.1 * data["low"] else "{low:.3g} to {high:.3g}",
    ),
    "few_scales": "{scales} scales are too few for an interval of the best size at {flops:flops} FLOPs",
    "unbounded": "these runs do not bound the best size at {flops:flops} FLOPs from {side}: some laws that fit them as "
    "well have no optimum there",
    "size_open": "these runs leave the best size at {flops:flops} FLOPs anywhere between {low:q} and {high:q} "
    "parameters",
    "budget_open": _budget_open,
    "loss_out_of_reach": "no budget reaches a loss of {loss:g}: by the law of these runs the best splits come down to "
    "{lowest:.3g} nats at {flops:flops} FLOPs",
    "size_never_reaches": "a model of {params:q} parameters never reaches a loss of {loss:g} by the law of these runs; "
    "ask for a higher one",
    "tokens_never_reach": "a run on {tokens:q} tokens never reaches a loss of {loss:g} by the law of these runs; ask "
    "for a higher one",
    # the best size by profiles
    "profiles_of_training": "profiles say nothing of tokens that are served",
    "profiles_of_ordinary_runs": "profiles are of ordinary runs",
    "losses_not_kept": "this fit does not keep the losses of its scales; fit again",
    "wide_profiles": "at a level of {level:share} {profiles} profiles leave what has no interval here open by more "
    "than a factor {factor:g} in size, or {exponent:g} in the exponent",
    "routes_disagree": f"two routes disagree about the best size: {_SIZE.format('by_forms')} by the laws of the loss, "
    f"{_SIZE.format('by_profiles')} by the minima of {{profiles}} IsoFLOP profiles, which need no form; runs at the "
    "largest budget on either side of both would tell",
    # the same loss in less time
    "doubling": "tokens for the same loss grow as 1 + batch / critical batch, the batch that needs twice those of a "
    "very small one",
    "no_critical_batch": "time against compute needs a critical batch size: {why}",
    "none": "there is none",
    "no_batch": "time against compute needs a recommended batch size, and this recipe has none",
}
