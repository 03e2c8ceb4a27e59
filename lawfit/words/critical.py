"""Of critical batches: what was measured and left out, the law through it, its certificate, the noise scale."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from lawfit.units import counted, format_quantity
from lawfit.words import Sentence, say, tell
from lawfit.words.numerics import examined, standing

_INPUTS: Final = {"params": "parameters", "params and tokens": "both"}
_ROUTES: Final = {
    "steps_to_target": "from steps to a target loss",
    "loss_curves": "read off loss curves",
    "data_laws": "from finished runs at equal loss",
}
_UNUSABLE: Final = {
    "inside": "the interval is open on one side",
    "above_tried": "the critical batch may lie anywhere above the batches tried",
    "below_tried": "the critical batch may lie anywhere below the batches tried",
    "too_few": "the batches tried say nothing about it",
}


def _input(name: str) -> str:
    return _INPUTS.get(name, name)


def _refused(data: Mapping[str, Any]) -> str:
    parts = [] if data["params"] is None else [f"{data['params']:.4g} params"]
    parts += [] if data["loss"] is None else [f"loss {data['loss']:.4g}"]
    where = ", ".join(parts) or f"{data['tokens']:.3g} tokens"
    return f"{where}: {_UNUSABLE[data['status']]}, so it does not enter the law"


def _exponent_open(data: Mapping[str, Any]) -> str:
    said = "{sizes} model sizes leave it a relative standard error of {relative_error:.2g}"
    if data["at"]:
        said += "; batches run to {at[tokens]:.2g} tokens at one more size would determine it best"
    return say(said, data)


def _shares(data: Mapping[str, Any]) -> str:
    return ", ".join(f"{_input(name)} {share:.0%}" for name, share in data["shares"].items())


def _by_left_out(data: Mapping[str, Any]) -> str:
    return (
        f"what the critical batch follows: {_shares(data)} (by how each law finds a size left out); "
        f"{tell(data['separation'])}"
    )


def _moves(data: Mapping[str, Any]) -> str:
    return f"{_input(data['input'])}^{data['exponent']:+.2f} ({data['low']:+.2f} to {data['high']:+.2f}"


def _headline(data: Mapping[str, Any]) -> str:
    sizes = counted(data["sizes"], "model size")
    return f"moves as {_moves(data)}); {data['measured']} measured at {sizes}, {_ROUTES[data['route']]}"


def _by(data: Mapping[str, Any]) -> str:
    return "by Zhang's definition" if data["zhang"] else "by the definition that was asked for"


def _restated(data: Mapping[str, Any]) -> str:
    lent = "" if data["lent_by"] is None else f", in part from {', '.join(data['lent_by']) or 'a vague prior'}"
    return (
        f"{_by(data)}: {format_quantity(data['least_tokens'])} to {format_quantity(data['most_tokens'])} tokens, "
        f"moving as {_moves(data)}{lent}); {tell(data['definition'])}"
    )


def _follows(data: Mapping[str, Any]) -> str:
    if len(data["shares"]) == 1:
        return f"follows: {_shares(data).split()[0]}: other laws do not find the sizes left out"
    apart = data["correlation"] is None
    told = "the sizes do not settle it" if apart else f"the two grew together (correlation {data['correlation']:.2f})"
    return f"follows: {_shares(data)}: {told}, so these laws are averaged and the interval spans them"


def _left_out(data: Mapping[str, Any]) -> str:
    params, tokens = data["params"], data["tokens"]
    where = f"{format_quantity(params)} parameters" if params else f"{format_quantity(tokens)} tokens"
    others = ", ".join(f"by {_input(name)} alone {error:+.0%}" for name, error in data["alone"].items())
    return (
        f"left out: the largest size, {where}: {format_quantity(data['predicted_tokens'])} predicted, "
        f"{format_quantity(data['measured_tokens'])} measured ({data['error']:+.0%}, "
        f"{'inside' if data['inside'] else 'OUTSIDE'} its interval)" + (f"; {others}" if others else "")
    )


def _in_loss(data: Mapping[str, Any]) -> str:
    said = f"in the loss: moves as loss^{data['exponent']:+.1f} ({data['low']:+.1f} to {data['high']:+.1f})"
    if (apart := data["score_apart"]) is None or math.isnan(apart):
        return said
    told = "as well as" if abs(apart) < 1 else "worse than" if apart < 0 else "better than"
    return f"{said}; finds a size left out {told} {_input(data['best'])} do"


def _certificate(data: Mapping[str, Any]) -> str:
    parts = [standing(data) + (f": {'; '.join(map(tell, data['reasons']))}" if data["reasons"] else "")]
    if curves := data["curves"]:
        sound = f"{curves['certified']} of {curves['count']} curves certified"
        parts.append(f"{sound}, {curves['agreeing']:.0%} of starts agree")
        if bent := curves["bent"]:
            parts.append(f"{bent} bend{'s' if bent == 1 else ''} otherwise than a hyperbola (allowed for)")
    return "certificate: " + "; ".join([*parts, *examined(data)])


def _least_tokens(data: Mapping[str, Any]) -> str:
    low, high = format_quantity(data["least_batch_tokens"]), format_quantity(data["most_batch_tokens"])
    said = f"to a loss at a batch of {f'{low} to {high}' if data['losses'] > 1 else low}, moving as loss^"
    said += f"{data['exponent']:+.1f} ({data['low']:+.1f} to {data['high']:+.1f}"
    lent = "" if data["lent_by"] is None else f", in part from {', '.join(data['lent_by']) or 'a vague prior'}"
    return f"{said}{lent})"


def _shapes(data: Mapping[str, Any]) -> str:
    return (
        f"steps at a batch left out: {', '.join(f'{name} {error:.0%}' for name, error in data['errors'].items())} off"
    )


def _oracle(data: Mapping[str, Any]) -> str:
    aside = "" if data["followed"] else "not what these steps follow; its own numbers: "
    return f"stochastic oracle: {aside}" + "; ".join(
        f"{format_quantity(each['params'])} parameters to {each['loss']:.4g} nats: b* "
        f"{format_quantity(each['best_batch'])} ({_end(each['best_batch_low'])} to {_end(each['best_batch_high'])}), "
        f"S_min {each['steps_min']:,.0f} steps, SFO {format_quantity(each['cost'])} tokens at b*"
        for each in data["numbers"]
    )


def _end(batch: float | None) -> str:
    return format_quantity(batch) if batch is not None and 0 < batch < math.inf else "open"


def _noise(data: Mapping[str, Any]) -> str:
    sizes = data["sizes"]
    shown = ", ".join(
        f"{format_quantity(size['value_tokens'])} tokens at {format_quantity(size['params'])} parameters"
        for size in (sizes if len(sizes) < 2 else (sizes[0], sizes[-1]))
    )
    said = f"{shown} (gradient noise scale): the critical batch is"
    if data["steady"]:
        return f"{said} {data['value']:.2g} times it ({data['low']:.2g} to {data['high']:.2g})"
    first, last = data["factors"][0], data["factors"][-1]
    return (
        f"{said} {first:.2g} times it at the smallest size and {last:.2g} at the largest "
        f"(parameters^{data['growth'][0]:+.2f}), so it is no stand-in"
    )


WORDS: Final[Mapping[str, Sentence]] = {
    # one curve through steps at several batches
    "few_batches": "{batches} batch size(s) reached the target; {needed} or more are needed to see where steps stop "
    "falling",
    "few_larger": "the batch of {batch_tokens:.6g} tokens needs the fewest tokens of those that reached the target, "
    "and only {larger} larger one(s) did; run larger batches",
    "below_best": "{batches} batch(es) below the best one need up to {waste:.3g} x its tokens",
    "curve_refused": "{params:.4g} params to a loss of {loss:.4g}: {why}",
    # steps read off loss curves
    "not_reached": "{params:.4g} params: no run at {batch_tokens:.6g} tokens per step reached {loss:.4g}",
    "one_lr": "one learning rate only",
    "lr_at_edge": "the best learning rate tried lies at the edge of the sweep for some target",
    "lr_in_doubt": lambda data: (
        f"{data['params']:.4g} params: {tell(data['doubt'])} at {counted(data['batches'], 'batch size')} "
        f"({data['low_tokens']:.6g} to {data['high_tokens']:.6g} tokens), so their steps may not be the fewest"
    ),
    "none_reaches": "none of {curves} curves reaches a target; the lowest is {lowest_loss:.4g}",
    # data laws per batch
    "loss_inside_few": "a loss of {loss:.4g} lies inside the runs of {batches} batch size(s); {needed} are needed",
    "few_horizons": "{batches} batch size(s) have runs at two horizons or more; a data law per batch needs {needed} "
    "such batches",
    "no_loss": "the loss at the best learning rate comes out at {low:.3g}, which is no loss: the runs do not lie in a "
    "valley (are all of them losses of one kind?)",
    "few_falling": "the loss falls with tokens at {batches} batch size(s) only; {needed} are needed",
    "no_shared_loss": "no loss is reached by {needed} batch sizes (by {batches} at most); run the batches over "
    "horizons that grow with the batch, so that their losses overlap",
    # laws through critical batches
    "none_measured": "no critical batch was measured: it takes steps to a target loss (or loss curves, or finished "
    "runs at two horizons) at three or more batch sizes of one model size",
    "refused": _refused,
    "none_closed": "no critical batch is closed on both sides, so no law can be fitted; {refused:join ; }",
    "lent_exponent": "the exponent {lent}, since {why}",
    "exponent_open": _exponent_open,
    "unlike_published": "its exponent in tokens, {exponent:+.2f}, is unlike the {published:+.2f} of published laws",
    "by_left_out": _by_left_out,
    "curved": "the critical batch does not follow one power of {input}: its logs curve; do not go far",
    "missed_largest": "fitted without its largest size, the law missed it by {error:+.0%}, outside its 90 % interval",
    "level_open": "the measured critical batches do not determine its level (standard error of its log {log_sd:.2g})",
    # what it says
    "headline": _headline,
    "restated": _restated,
    "not_restated": lambda data: f"{_by(data)}: not stated: {tell(data['why'])}",
    "follows": _follows,
    "left_out": _left_out,
    "in_loss": _in_loss,
    "certificate": _certificate,
    # the batch of least tokens
    "least_tokens_line": "fewest tokens: {found}",
    "least_tokens": _least_tokens,
    "smallest_cheapest": "no batch inside what was tried: the smallest ones are the cheapest",
    "shapes": _shapes,
    "oracle": _oracle,
    # the gradient noise scale
    "noise_line": "noise scale: {found}",
    "noise": _noise,
    "unsteady_noise": "{column} of {runs:count run} is not used: their learning rate falls within what it is a mean of",
    "few_steps": "{steps} steps do not give {blocks} blocks; measure longer",
    "not_positive": "the averages leave a squared gradient of {gradient_square:.3g} and a noise of {noise_trace:.3g}; "
    "both must be positive: too few steps for so much noise",
    # the three-term surface
    "nothing_finished": "no run finished, so there is no loss to fit",
    "few_batches_of_scale": "no scale has three batch sizes; a trade-off between batch and steps needs them",
    "few_rows": "{batches} batches cannot give {parameters} parameters; {needed} are a start",
}
