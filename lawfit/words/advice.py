"""What an answer says beside its numbers: where they come from, what moves them, and what they cannot know."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

from lawfit.units import counted, format_lr, format_percent, format_quantity
from lawfit.words import QUANTITIES, Sentence, Spoken, listed, named, say
from lawfit.words.loss import FORMS

_LENDERS: Final[Mapping[str, str]] = {"laws": "published laws", "vague": "a vague prior"}
_QUANTITIES: Final[Mapping[str, str]] = {**QUANTITIES, "lr_at_batch": "learning rate at this batch"}
_WRITE: Final[Mapping[str, tuple[str, Callable[[float], str]]]] = {
    "lr": ("learning rate", format_lr),
    "batch_tokens": ("batch", format_quantity),
}
_CHOICES: Final[Mapping[str, str]] = {
    "window": "which runs count",
    "shape": "the shape of the valley",
    "prior": "the laws tried",
    "form": "the form of the law at this batch",
    "spread": "how far sizes may lie off the law",
}
_LEVELS: Final[Mapping[str, str]] = {
    "cubic": "a cubic",
    "exponentials": "three exponentials",
    "published": "near published exponents",
    "own": "exponents of your runs",
    "tokens_only": "a batch law in tokens alone",
    "bent": "laws that may bend",
    "surface": "the joint surface",
    "saturating": "the saturating law",
    "surge": "the surge law",
}
_FAR: Final[Mapping[str, str]] = {"0.5": "half as far", "1": "as far", "2": "twice as far"}
_CASES: Final[Mapping[str, str]] = {
    "free": "free",
    "lent": "lent by published laws",
    "lower": "10 % lower",
    "higher": "10 % higher",
}


THIRDS: Final[Mapping[str, str]] = {
    "unique_tokens": "{value:q} unique tokens",
    "epochs": "{value:.4g} epoch{s}",
    "active_share": "an active share of {value:.4g}",
    "experts": "{value:.4g} expert{s}",
}


def third_words(name: str, value: float) -> str:
    """A further input of the loss: ``40B unique tokens``."""
    return say(THIRDS[name], {"value": value, "s": "" if value == 1 else "s"})


def _choice_moves(data: Mapping[str, Any]) -> str:
    """``learning rate: which runs count, 3.4e-4 (within 0.75 % ...) to 4.1e-4 (within 3 % ...)``."""
    quantity, write = _WRITE[data["quantity"]]
    ends = []
    for answer in data["answers"]:
        level = answer["choice"]
        of_runs = data["choice"] == "window"
        words = say("within {of:share} of the lowest loss", {"of": level}) if of_runs else _LEVELS.get(level, level)
        ends.append(f"{write(answer['value'])} ({words})")
    return f"{quantity}: {_CHOICES[data['choice']]}, {' to '.join(ends)}"


def _spread(data: Mapping[str, Any]) -> str:
    """How many sizes and scales there are, and how far they lie off the law."""
    count = f"{counted(data['sizes'], 'size')}, {counted(data['scales'], 'scale')}"
    size, scale = ([f"{math.exp(data[sd][quantity]):.2f}" for quantity in _WRITE] for sd in ("size_sd", "scale_sd"))
    off = f"off the law by a factor of {size[0]} in learning rate and {size[1]} in batch (one standard deviation)"
    beside = f"a scale off its size by {scale[0]} and {scale[1]}"
    if data["shown"]:
        return f"{count}: a size lies {off}, {beside}"
    return f"{count}: too few show an optimum to tell how far sizes lie off the law; taken to be {off}, {beside}"


def _spread_priors(data: Mapping[str, Any]) -> str:
    """How the answer, and the width of its interval, move with how far sizes are expected to lie off the law."""
    each = next(iter(data.values()))
    far = listed([_FAR.get(answer["choice"], f"{answer['choice']} times as far") for answer in each], "or")
    values = "; ".join(
        f"{name} {listed([write(answer['value']) for answer in data[quantity]], 'or')}"
        for quantity, (name, write) in _WRITE.items()
        if quantity in data
    )
    widths = [answer["relative_width"] for answers in data.values() for answer in answers]
    return (
        f"were sizes expected {far} off the law as usual: {values}; intervals {min(widths):.2f} to "
        f"{max(widths):.2f} times as wide (centre of the leading analysis)"
    )


def _promises(data: Mapping[str, Any]) -> str:
    """What was stated of sizes left out, against what the runs there show."""
    said = say(
        "each size left out in turn: {level:share} intervals held the optimum at {inside[lr]} (learning rate) and "
        "{inside[batch_tokens]} (batch) of {scales:count scale}, off by {miss_in_sd[lr]:.2g} and "
        "{miss_in_sd[batch_tokens]:.2g} stated standard deviations",
        data,
    )
    if data["stated_cost"] is not None:
        said += say("; stated cost {stated_cost:pct}, found {realised_cost:pct}", data)
    if max(data["factor"].values()) == 1.0:
        return f"{said}; intervals stay as they are"
    return said + say("; intervals are widened for it, by {factor[lr]:.2f} and {factor[batch_tokens]:.2f}", data)


def _moved_by_third(data: Mapping[str, Any]) -> str:
    usual = "fresh tokens" if data["form"] == "data_constrained" else f"{data['usual']:.3g}"
    moved = f"{format_percent(abs(data['effect']))} {'above' if data['effect'] > 0 else 'below'}"
    words = "with {third}: {moved} the loss of ordinary runs ({usual}), by the {form} form, fitted to {scales} scales"
    return say(words, {**data, "moved": moved, "usual": usual, "form": FORMS[data["form"]]})


def _ordinary(data: Mapping[str, Any]) -> str:
    """What is taken for granted of a further input, and how another one is asked for."""
    form, usable = data["form"], data["usable"]
    if form == "data_constrained":
        return "for fresh tokens, each seen once" + ("; unique_tokens or epochs ask for others" if usable else "")
    what, name = {
        "moe_sparsity": ("active share of experts", "active_share"),
        "experts": ("number of experts", "experts"),
    }[form]
    dense = " (dense)" if data["usual"] == 1 else ""
    return f"for the {what} of most runs, {data['usual']:.3g}{dense}" + (f"; {name} asks for another" if usable else "")


def _losses(rows: list[Mapping[str, Any]], name: str, words: Mapping[str, str]) -> str:
    return ", ".join(f"{words.get(row[name], row[name])} {row['loss']:.4g}" for row in rows)


def _average(data: Mapping[str, Any]) -> str:
    forms, out = data["forms"], data["left_out"]
    shares = _losses(forms, "form", FORMS)
    said = f"average of {len(forms)} forms of the law ({shares})" if len(forms) > 1 else f"one form ({shares})"
    if not out:
        return said
    return f"{said}; {out} left out: worse from your smaller runs to the larger, or more numbers than runs"


def _asymptotes(data: Mapping[str, Any]) -> str:
    alone = ", which is left out" if data["left_out"] else ""
    return f"by the asymptote of the additive form{alone}: {_losses(data['cases'], 'case', _CASES)}"


_BY_THIRD: Final[Mapping[str, str]] = {
    "data_constrained": "by the data-constrained form: {loss[0]:.4g} with fresh tokens, {loss[1]:.4g} with each seen 4 "
    "times",
    "moe_sparsity": "by the form with sparse experts: {loss[0]:.4g} with {third[0]:.3g} active, {loss[1]:.4g} with "
    "{third[1]:.3g}",
    "experts": "by the form with a number of experts: {loss[0]:.4g} with {third[0]:.3g}, {loss[1]:.4g} with "
    "{third[1]:.3g}",
}
_ORDINARY_SETTINGS: Final = (
    "learning rate, batch and weight decay are those of ordinary runs; only the loss is for {third}"
)
_COVERED: Final[Mapping[str, str]] = {
    "data_constrained": "times that a token is seen",
    "moe_sparsity": "active shares",
    "experts": "experts",
}
_WITHOUT_IT: Final = (
    "without it the {parameter} moves from {value:.3g} to {value_without:.3g} ({standard_errors:.1f} standard errors)"
)

_OTHER_VERSION: Final = (
    "fit {fit_id} was made by another version of lawfit ({code_version}) and cannot be read by this one"
)
_NEARER_DECAY: Final = (
    "learning rate and batch hold at weight decay {held}, while {weight_decay:.2g} is advised here, to which the runs "
    "at {nearest} are nearer"
)

WORDS: Final[Mapping[str, Sentence]] = {
    "nearer_size": "a size nearer to the target shows how far sizes lie off the law",
    "nearer_horizon": "a horizon nearer to the target shows whether the law bends",
    "open_exponent": "it would tell an exponent that is open",
    "nothing_asked": "every scale shows its optimum between the settings tried: no further run is asked for",
    "shape_unsaid": named(
        "a grid holds the shape of each model, and no run of {sizes} parameters states its own (layers, width, heads, "
        "hidden): write those into a grid by hand, or bring the runs in with these columns",
        sizes=lambda data: listed([format_quantity(size) for size in data["sizes"]]),
    ),
    # an answer and its runs
    "other_version": Spoken(
        terminal=_OTHER_VERSION + "; run lawfit fit --recipe {recipe}",
        http=_OTHER_VERSION + "; fit recipe '{recipe}' again",
    ),
    "not_certified": "this fit is not certified ({why}), and is answered from because it was asked for by id",
    "no_settings": "no learning rate and no batch size: {why}",
    "decay_goes_with": "it goes with a learning rate and a batch size, and none is advised",
    "rates_as_set": "the loss is that of the best runs there are: that their learning rates were the best, nothing "
    "shows",
    "beyond_runs": "the target lies {parts:join and}: an extrapolation",
    "beyond": "{factor:.3g}x {side} the runs in {input:input} ({low:q} to {high:q})",
    "very_far": "that is more than two powers of ten: no backtest of these runs reaches so far",
    "batch_outside": "this batch lies {factor:.3g}x outside the batches that were tried",
    "few_steps": "the recommended batch leaves only {steps:.0f} steps; no run of these sweeps is like that",
    "params_unsaid": "the recipe does not say which parameters its counts include; count the target the same way, and "
    "read the published laws with care",
    "no_multiple": "the given batch is not a multiple of {unit_tokens:g} tokens; it is taken as given",
    "batch_capped": "the best batch would be {best_tokens:q} tokens, above the allowed {most_tokens:q}; the learning "
    "rate is the best one at the allowed batch",
    "no_cheap_multiple": "no multiple of {unit_tokens:g} tokens lies where the batch costs less than {share:.1%} of "
    "the loss ({low_tokens:q} to {high_tokens:q}); {batch_tokens:q} costs about {cost:.2%}",
    "forms_not_compared": "this fit was made before other forms were compared",
    "nothing_of_yours": named(
        "these runs say next to nothing about {batch_given}: the answer is that of {lenders}",
        batch_given={False: "learning rate and batch size", True: "the learning rate at this batch"},
        lenders=lambda data: listed([_LENDERS[name] for name in data["lenders"]]),
    ),
    "share_of_runs": named(
        "{quantity}: {share:percent} of what is known here comes from these runs, the rest from {lender}",
        quantity=_QUANTITIES,
        lender=_LENDERS,
    ),
    "rests_on_others": named(
        "the {quantity:quantity} rests mostly on {lender} ({share:percent}); these runs say little of it",
        lender=_LENDERS,
    ),
    "nearer_decay": Spoken(
        terminal=_NEARER_DECAY + ": lawfit fit --at weight_decay={nearest} answers from those",
        http=_NEARER_DECAY + ": a fit at weight_decay={nearest} answers from those",
    ),
    "of_sister": "measured in recipe {recipe}, which differs in its schedule alone",
    "of_recipe": "{recipe}: {why}",
    "no_rate_moves": "none of {recipes} recipes shows how its best learning rate moves; three or more widths would",
    # what a setting costs
    "before_costs": "fit {fit_id} was made before what runs tried was kept, without which the cost of a setting cannot "
    "be told; fit recipe '{recipe}' again",
    "untried": named(
        "the {input} is {times:q} times the best one, and finished runs tried {low:.2g} to "
        "{high:.2g} times the best of their scale: beyond, no run shows what it costs, only that it is no less",
        input={"lr": "learning rate", "batch_tokens": "batch", "weight_decay": "weight decay"},
    ),
    "diverges": "the learning rate is {times:q} times the best one at its batch: from {above:.2g} times on, half of "
    "these runs or more diverged",
    # choices of the analysis, and sizes
    "nothing_moves": "{quantity:input}: no choice of the analysis moves it by more than {share:share}",
    "spread_moves": f"{{quantity:input}}: {_CHOICES['spread']} (see the sizes)",
    "choice_moves": _choice_moves,
    "spread": _spread,
    "spread_priors": _spread_priors,
    "nothing_bends": "no size or scale bends the law; {group} counts most: " + _WITHOUT_IT,
    "level_rests": "the level rests on the {kind} {group}: " + _WITHOUT_IT,
    "bends": "the {kind} {group} bends the law: " + _WITHOUT_IT,
    "has_runs": named(
        "the target is {known} runs: they tell its deviation, as far as they go",
        known={"size": "of a size that has", "scale": "a scale of the"},
    ),
    "promises": _promises,
    "not_checked": "no size could be left out and foretold, so what is promised here is not checked",
    # the loss, and what it may take beside parameters and tokens
    "average": _average,
    "asymptotes": _asymptotes,
    "moves_loss": named(
        "the choice that moves it most: {choice}, {share:pct} from lowest to highest",
        choice={"form": "the form of the law", "asymptote": "the asymptote"},
    ),
    "by_third": lambda data: say(_BY_THIRD[data["form"]], data),
    "third": lambda data: third_words(data["input"], data["value"]),
    "as_ordinary": "with {third}, as ordinary runs",
    "by_form_alone": named("with {third}, by the {form} form alone, fitted to {scales} scales", form=FORMS),
    "moved_by_third": _moved_by_third,
    "seen": "each token is seen {times:.3g} times",
    "seen_once": "that is as many as the run has tokens, or more: each is seen once",
    "form_lent": "{names} of that form rest on published laws, as the runs leave it open",
    "third_beyond": named(
        "the runs cover {low:.3g} to {high:.3g} {form}, and {at:.3g} lies beyond them: the interval is wider for it",
        form=_COVERED,
    ),
    "ordinary": _ordinary,
    "ordinary_settings": _ORDINARY_SETTINGS,
    "settings_of_repeats": f"{_ORDINARY_SETTINGS}: text that is read again wants a higher rate (1.7 times and more at "
    "8 passes in our own runs)",
    "open_form": named(
        "the runs alone do not carry every number of the {form} form ({why}); the loss is as its interval says",
        form=FORMS,
    ),
    "numbers_lent": "{names} lent to it",
    "third_without_law": "{third}: it takes a law of the loss, and there is none: {why}",
    "none": "this fit has none",
    "third_unknown": "the law of the loss of recipe '{recipe}' does not know {third}: {why}. Without "
    "{input} the loss of ordinary runs is answered",
    "form_not_certified": named("its {form} form is fitted, but not certified ({why})", form=FORMS),
    "no_such_form": "this fit has no form with it; fit again",
    "one_amount": "all runs have about {value:q} {input:input}, so nothing shows the loss at {wanted:q}; run two other "
    "amounts of {input:input} at some sizes, or ask at {value:q}",
}
