"""Of transfer: how the best learning rate moves with size and horizon, and tokens between recipes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from lawfit.units import format_percent, format_quantity
from lawfit.words import INPUTS, Sentence

_NOT_USED: Final = {
    "at_edge": "best at the edge of the learning rates tried, which is a bound and no optimum",
    "flat": "whose learning rates differ by no more than noise",
}


def _moves(data: Mapping[str, Any]) -> str:
    name, by_batch = INPUTS.get(data["axis"], data["axis"]), data["by_batch"]
    power = f"{name}^{data['exponent']:+.2f} ({data['low']:+.2f} to {data['high']:+.2f})"
    at, rest = "", ""
    if by_batch:
        at = f" at {format_quantity(data['batch_tokens'])} tokens a step"
        shown = ", ".join(f"{each['exponent']:+.2f} at {format_quantity(each['batch_tokens'])}" for each in by_batch)
        rest = f"; the power depends on the batch: {shown}"
    if data["verdict"] == "flat":
        return f"flat within noise{at}: {power}{rest}"
    if data["verdict"] == "moves":
        return f"moves as {power}{at}{rest}"
    return f"not settled{at}: {power} holds flat as well as steep; more sizes, or seeds, would tell{rest}"


def _cost(data: Mapping[str, Any]) -> str:
    name, ends = data["axis"], (data["first"], data["last"])
    first, last = (f"{x:g}" if name == "width" else format_quantity(x) for x in ends)
    at = f"width {first}" if name == "width" else f"{first} {INPUTS.get(name, name)}"
    return (
        f"the best one at {at} costs {format_percent(data['cost'])} of the loss at {last}; up to "
        f"{format_percent(data['worst_cost'])} within the interval"
    )


def _compared(data: Mapping[str, Any]) -> str:
    said = f"{data['flat']} against {data['steep']}: exponents differ by {data['difference']:+.2f} "
    said += f"({data['low']:+.2f} to {data['high']:+.2f})"
    return said if data["told_apart"] else f"{said}, which these runs do not tell from no difference"


def _no_ratio(data: Mapping[str, Any]) -> str:
    beside = "; at the sizes that both have, {} losses lie outside those of the other's horizons"
    return (
        "no loss of one recipe lies between two horizons of the other at the same size"
        f"{beside.format(data['beside']) if data['beside'] else ''}; it takes runs of both at one size, and two or "
        "more horizons of one of them"
    )


WORDS: Final[Mapping[str, Sentence]] = {
    "moves": _moves,
    "cost": _cost,
    "compared": _compared,
    "not_used": lambda data: f"not used: {data['sweeps']} of {data['of']} sweeps, {_NOT_USED[data['status']]}",
    "not_converged": "the fit of the valley did not converge for every window: read the intervals with care",
    "same": "every sweep that shows its best learning rate has the same {axis:input}: sweeps at two or more others "
    "would say how it moves",
    "none_inside": "no sweep shows its best learning rate inside what was tried",
    "no_width": "the runs state no width (or several at one size): compared by parameter count",
    "depth_varies": "depth varies too, from {low:g} to {high:g} layers: compared by parameter count",
    "no_ratio": _no_ratio,
    "nothing_finished": "no run finished",
}
