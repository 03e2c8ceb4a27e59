"""Of weight decay: what its sweeps show, the law of the best timescale, and how far it can be trusted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from lawfit.units import counted, format_quantity
from lawfit.words import Sentence, tell
from lawfit.words.numerics import examined, standing

_OPEN: Final = {
    "flat": "the weight decays tried differ by no more than noise",
    "too_few": "too few weight decays were tried",
    "inside": "the best weight decay lies between those tried, but fewer than three positive ones do not say where",
}


def _open(data: Mapping[str, Any]) -> str:
    reason = f"the best weight decay is {data['bound']}" if data["bound"] else _OPEN[data["status"]]
    where = [
        f"{format_quantity(params)} params on {format_quantity(tokens)} tokens" for params, tokens in data["scales"]
    ]
    return f"{reason} ({', '.join(where)})"


def _brackets(data: Mapping[str, Any]) -> str:
    said = (
        f"{counted(data['sweeps'], 'sweep')} with worse neighbours on both sides say only that the best timescale lies "
    )
    said += f"above {data['least']:.2g} to {data['most']:.2g} of the run"
    said += f" (in {data['closed']} also below a bound)" if data["closed"] else ""
    return said if data["agree"] is None else f"{said}, with which Power Lines' law agrees in {data['agree']}"


def _scales(data: Mapping[str, Any]) -> str:
    shown = [
        f"{each['timescale']:.2g} ({each['low']:.2g} to {each['high']:.2g}) at {format_quantity(each['params'])} "
        f"params, {each['tokens'] / each['params']:.3g} tokens each"
        for each in data["scales"]
    ]
    return f"scales: {'; '.join(shown)}" + (f"; {data['more']} more" if data["more"] else "")


def _slopes(data: Mapping[str, Any]) -> str:
    slopes = (("learning rate", data["lr"]), ("batch", data["batch_tokens"]))
    said = [f"{name}^{slope[0]:+.2f} (sd {slope[1]:.2f})" for name, slope in slopes if slope is not None]
    return f"at one scale: the best timescale moves as {' and '.join(said)}; 0 where it alone counts"


def _certificate(data: Mapping[str, Any]) -> str:
    starts = f"{data['agreeing']} of {data['starts']} starts end in one minimum"
    return "certificate: " + "; ".join([standing(data), *map(tell, data["reasons"]), starts, *examined(data, "the ")])


WORDS: Final[Mapping[str, Sentence]] = {
    "independent": "{independent} of {runs} runs have weight decay independent of the learning rate; here it is "
    "divided by the peak learning rate, which is the same shrinking in the coupled convention of torch.optim.AdamW",
    "unknown_kind": "{runs} runs are left out: their weight decay is of a kind not known here ({kinds})",
    "none_stated": "none of {runs} runs states its weight decay, so nothing can be said about it",
    "silent": "{runs} run(s) are excluded or do not state their weight decay",
    "never_varies": "weight decay never varies at one scale, batch and learning rate; run three or more values of it "
    "at one of your settings, for example a third, one and three times the one in use",
    "no_scale": "no scale shows its best weight decay",
    "open": _open,
    "brackets": _brackets,
    "implausible": "timescales of {low:.2g} to {high:.2g} are far from all that was published (0.02 to 0.5); is the "
    "batch in tokens?",
    "lent_exponent": "its exponent {lent}, since {why}",
    "exponent_open": "these scales leave it open by {sd:.2f} (sd)",
    "sweep_needed": "a sweep of weight decay at {params:q} parameters on {tokens:q} tokens would determine it best",
    "starts_apart": "starts of the joint fit ended in different minima, or did not arrive at one",
    "headline": "timescale {timescale:.2g} at {tokens_per_param:.3g} tokens per parameter, moves as their "
    "ratio^{exponent:+.2f} ({low:+.2f} to {high:+.2f}); {scales:count scale} of its own",
    "scales": _scales,
    "slopes": _slopes,
    "certificate": _certificate,
}
