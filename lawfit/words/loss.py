"""What is said of the loss: which form of the law its runs carry, what is lent to it, and what they leave open."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from lawfit.units import format_percent, format_quantity
from lawfit.words import Sentence, named, say

FORMS: Final[Mapping[str, str]] = {
    "compute_only": "compute alone",
    "power": "no asymptote",
    "kaplan": "Kaplan",
    "farseer": "Farseer",
    "data_constrained": "data-constrained",
    "moe_sparsity": "sparsity of experts",
    "experts": "number of experts",
}
_UNSAID: Final = {
    "data_constrained": "how many different tokens they saw",
    "moe_sparsity": "which share of their experts is active",
    "experts": "how many experts they have",
}
_ANOTHER: Final = {"moe_sparsity": "share of active experts", "experts": "number of experts"}
_ALIKE: Final = {"data_constrained": "runs that repeat their tokens"} | {
    form: f"another {what} than most runs" for form, what in _ANOTHER.items()
}


def form_name(form: str) -> str:
    """As people call it."""
    return FORMS.get(form, form)


def _forms(of: Mapping[str, Any]) -> str:
    """Which forms of the law were kept, which not."""
    kept = [form_name(each["form"]) for each in of["kept"]]
    shares = ", ".join(f"{name} {each['weight']:.0%}" for name, each in zip(kept, of["kept"], strict=True))
    first = f"average of {shares}" if len(kept) > 1 else kept[0]
    out = ", ".join(f"{form_name(each['form'])} ({_off(each['error'])})" for each in of["rejected"])
    words = f"form of the law: {first} (fitted on smaller runs, {format_percent(of['error'])} off on larger ones)"
    return f"{words}; rejected: {out}" if out else words


def _off(error: float | None) -> str:
    return "too few runs" if error is None else f"{format_percent(error)} off"


def _open(of: Mapping[str, Any]) -> str:
    params, tokens = (format_quantity((of["run"] or {}).get(name, 0.0), 2) for name in ("params", "tokens"))
    best = f"; one run of {params} parameters on {tokens} tokens would help most" if of["run"] else ""
    return say("they do not determine {parameters}", of) + best


def _further_form(of: Mapping[str, Any]) -> str:
    """A form with a third input, its numbers, and on what they rest."""
    scales = f"{of['scales']} scales, {of['apart']} of them not ordinary"
    said = "".join(
        say("; all have about {value:q} {input:input}, so it has no term in {input:input}", each) for each in of["same"]
    )
    if of["lent"]:
        said += say("; {lent} lent by published laws ({lent_by})", of)
    said += "; its asymptote lent by published laws" if of["asymptote_lent"] else ""
    worth = next((each for each in of["parameters"] if each["name"] == "tokens_scale"), None)
    if worth is None:
        what = "sparse experts" if of["form"] == "moe_sparsity" else "a number of experts"
        numbers = ", ".join(map(_number, of["parameters"]))
        return f"form with {what} through {scales}: {of['formula']}, with {numbers}{said}"
    if worth["open"]:
        return (
            f"data-constrained form through {scales}: how fast repeated tokens lose their worth is open, the loss is "
            f"as its interval says{said}"
        )
    span = "" if worth["low"] is None else say(" ({low:.3g} to {high:.3g})", worth)
    falls = f"what a repeated token is worth falls by e in {worth['value']:.3g} passes{span}"
    return f"data-constrained form: {falls}; {scales}{said}"


def _number(of: Mapping[str, Any]) -> str:
    """``lambda -0.12 (-0.2 to -0.05)``; open: the scales do not determine it."""
    ends = "no interval" if of["low"] is None or of["high"] is None else say("{low:.3g} to {high:.3g}", of)
    return f"{of['name'].rstrip('_')} {of['value']:.3g} ({ends}{', open' if of['open'] else ''})"


WORDS: Final[Mapping[str, Sentence]] = {
    # the law
    "law": "{law}; through the best run of {scales:count scale}",
    "additive": "loss = {E:.3g} + {A:.3g} / parameters^{alpha:.3g} + {B:.3g} / tokens^{beta:.3g}",
    "form_with": "loss = {formula}, with {numbers}",
    "number": "{name} {value:.3g}",
    "open_numbers": "loss at a scale, with its interval; not {parameters}, which the runs do not determine",
    "not_by_additive": "loss at a scale, with its interval; not by the additive law, which tells larger runs worse "
    "than others do",
    "forms": _forms,
    "one_form": "one form of the law, others not compared: {why}",
    "additive_form": "one form of the law (additive), others not compared: {why}",
    "needs_both": "they need runs that vary both parameters and tokens",
    "not_fitted": "not fitted: {forms:join ; }",
    "further_form": _further_form,
    # on what it rests
    "one_amount": "all runs have about {value:q} {input:input}, so nothing shows how the loss moves with "
    "{input:input}: the law is one in {other:input} alone, and holds there",
    "nobody_lends": "no published law lends an asymptote to it, and the runs alone do not carry it",
    "asymptote_lent": "the runs alone do not carry it ({why}); its asymptote is lent by published laws (about "
    "{asymptote:.2g} {unit}, a factor {factor:.2f} either way: {laws})",
    "one_by_one": "{parameters}: not determined one by one; the loss is, as its interval says",
    "not_lent_to": "fitted, but not certified: {why}, and no published law lends an asymptote",
    "open": _open,
    "repeats_left_out": "{runs} runs that repeat their tokens do not enter the additive law",
    "others_left_out": named(
        "{runs} runs with another {form} than {usual:g} do not enter the additive law", form=_ANOTHER
    ),
    # why there is none
    "few_scales": "a law of the loss takes {needed} scales (pairs of parameters and tokens) or more, better 20; these "
    "runs have {scales}",
    "below_asymptote": "the runs alone do not carry a law of the loss ({why}), and published laws lend nothing: their "
    "asymptote is about {asymptote:.2g} nats per token, and every loss here is below it",
    "none_ordinary": "no run is left for a law of the loss: {left_out:join ; }",
    "few_runs": "{runs} runs cannot give the {parameters} parameters of {formula}; {needed} or more are needed, better "
    "20",
    "no_start": "no start of the form '{form}' gives a finite loss for these runs",
    "additive_alone": "compute-optimal scales and inversions need the additive form, this fit is '{form}'",
    "no_inversion": "no allocation or inversion follows from this fit: the runs do not determine {parameters}",
    "third_unsaid": named("the runs do not say {form} (column {columns:join or})", form=_UNSAID),
    "third_alike": named("fewer than {needed} scales have {form}", form=_ALIKE),
    "third_alike_otherwise": named(
        "fewer than {needed} scales have {form} among those that are ordinary otherwise", form=_ALIKE
    ),
    "no_third": named("{form}: {why}", form=FORMS),
    # forms on the larger runs
    "few_budgets": "{scales} scales at {budgets} budgets are too few to hold the larger ones back: it takes {smaller} "
    "smaller ones and {larger} larger, the largest {beyond:.2g} times beyond",
    "few_for_form": "{parameters} parameters want {needed} runs or more, and there are {runs}",
    "no_form_predicts": "no form of a loss law predicts the larger of these runs from the smaller",
    "no_form_fits": "no form of a loss law that predicts the larger of these runs can be fitted to all of them",
    "no_value": "the loss laws that these runs support have no value at their largest scale",
    "no_prediction": "no prediction for the larger runs",
    "worse_form": "{loss_fraction:.2%} of loss off on the larger runs, {times:.1f} times the best form's error",
    "few_profiles": "{budgets} budgets have a lowest loss inside {sizes} sizes or more, and a law through the minima "
    "takes {needed}",
}
