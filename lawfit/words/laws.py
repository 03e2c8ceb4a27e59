"""Of a recipe's further laws: what each of them takes, and forms of the field on its own runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from lawfit.units import counted, format_quantity
from lawfit.words import INPUTS, Sentence, named, say

_FORMS: Final = {
    "saturating_sgd": "saturating, lr_max / (1 + noise batch / batch)",
    "saturating": "saturating, lr_max / (1 + noise batch / batch)^p with p of 0.5 to 1",
    "surge": "surge, falling again above its noise batch",
    "power": "power of the batch",
}


def _three_term(data: Mapping[str, Any]) -> str:
    low, high = data["low_tokens"], data["high_tokens"]
    between = "" if low is None or high is None else f" ({format_quantity(low)} to {format_quantity(high)})"
    return (
        f"best batch {format_quantity(data['batch_tokens'])} tokens{between} on {format_quantity(data['tokens'])} "
        f"tokens, moving as tokens^{data['exponent']:+.2f}"
    )


def _lr_batch_forms(data: Mapping[str, Any]) -> str:
    best, own = data["best"], data["own"]
    error = {name: say("{error:.0%}", {"error": value}) for name, value in data["error"].items()}
    others = ", ".join(
        f"{name.replace('_', ' ')} {error[name]}" for name in ("power", "surge", "saturating_sgd") if name != best
    )
    low, high = (f"{end:+.2f}" if best == "power" else format_quantity(end) for end in (min(own), max(own)))
    ends = f"{low} to {high}" if len(own) > 1 else low
    said = f"exponent {ends}" if best == "power" else f"noise batch {ends} tokens"
    return (
        f"{_FORMS[best]}: {error[best]} off at a batch left out ({others}), not rejected at "
        f"{data['stands']} of {counted(len(own), 'scale')}; {said}{', where it peaks' if best == 'surge' else ''}"
    )


def _power_scheduler(data: Mapping[str, Any]) -> str:
    spread = "" if data["low"] is None else f" ({data['low']:+.2f} to {data['high']:+.2f})"
    return (
        f"lr / batch moves as tokens^{data['exponent']:+.2f}{spread} at the {data['batches']} best batches of "
        f"{data['scales']} scales; -0.51 in its source, under muP"
    )


_COMPUTE: Final = ", ".join(
    f"{words} {{{name}[const]:.3g}} x C^{{{name}[compute]:+.3f}} ({{{name}[low]:+.3f}} to {{{name}[high]:+.3f}})"
    for name, words in (("lr", "lr"), ("batch_tokens", "batch"))
)


def _measured(data: Mapping[str, Any]) -> str:
    moves = " x ".join(
        f"{INPUTS.get(name, name.replace('_', ' '))}^{exponent:+.2f} ({low:+.2f} to {high:+.2f})"
        for name, (exponent, low, high) in data["exponents"].items()
    )
    groups = "" if data["groups"] == data["points"] else f" of {counted(data['groups'], 'model size')}"
    return f"moves as {moves}, through {counted(data['points'], 'measured scale')}{groups}"


WORDS: Final[Mapping[str, Sentence]] = {
    "measured": _measured,
    "measured_left_out": named(
        "the farthest scale left out was predicted {error:+.0%} off, {where} its interval",
        where=lambda data: "inside" if data["inside"] else "outside",
    ),
    "not_certified": "fitted, but not certified: {why}",
    "critical_takes": "it takes three or more batch sizes at one model size, the best one and larger ones among them: "
    "steps to a target loss, loss curves at a constant learning rate, or finished runs at two horizons per batch",
    "beyond_tried": "it counts from a batch of {reference_batch_tokens:,.0f} tokens, and the largest tried is "
    "{tried_batch_tokens:,.0f}; --critical-definition takes another reference",
    "no_table": "the store holds no table of steps to a target loss for this recipe",
    "steps_while_falling": "under schedule '{schedule}' steps to a target compare only where each run was as long as "
    "its target took or reached it while its learning rate still held: a crossing on the way down comes too early",
    "no_curves": "no loss curves are stored for this recipe",
    "no_steady_points": "no curve has two points while the learning rate is at its peak",
    "no_common_loss": "no loss is reached by the curves of every batch; make their horizons more alike",
    "size_refused": "{params:.4g} params: {why}",
    "lr_at_edge": "{edges} of {batches} batches have their best learning rate at the edge of what was tried",
    "no_run": "there is no run to fit",
    "timescale_takes": "weight decay was varied at {scales:count scale}, and none shows its best value: that takes "
    "three or more positive values around it at one scale, learning rate and batch",
    "three_term": _three_term,
    "three_term_certificate": "certificate: {reasons:join ; }",
    # forms of the field
    "few_batches_inside": "it takes one scale with the best learning rate inside its sweep at {needed} or more "
    "batches; the most here is {most}",
    "lr_batch_forms": _lr_batch_forms,
    "one_horizon": "it takes one size with the best learning rate of its best batches at two or more horizons",
    "power_scheduler": _power_scheduler,
    "few_compute_scales": "it takes {needed} scales that differ in compute; there are {scales}",
    "one_compute": "it takes scales that differ in compute; all {scales} are within a factor of two",
    "compute_laws": _COMPUTE + " with C = 6 x parameters x tokens, at {tokens_per_param[0]:.3g} to "
    "{tokens_per_param[1]:.3g} tokens per parameter; DeepSeek's, whose C holds attention too: 0.312 x C^-0.125, "
    "0.292 x C^+0.327",
    "no_shape": "no run says its depth and width (columns such as {depth} and {width})",
    "few_diverged": "it takes diverged runs above finished ones at two or more values of depth x width; {diverged} "
    "runs diverged, above finished ones at {shapes:count shape}",
    "max_lr": "{const:.3g} x (depth x width)^{power:+.2f}, from {sweeps} sweeps of {shapes} shapes that diverged above "
    "a finished run",
}
