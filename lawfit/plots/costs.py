"""What being wrong costs at the target: loss given up against the learning rate, and against the batch size."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from lawfit.advise.draws import Worlds, draw_worlds
from lawfit.advise.regret import at_batch, best_setting, expected_regret
from lawfit.documents import Answer, given, setting_of
from lawfit.estimate.lr_batch.valley import best_lr_shift, excess
from lawfit.plots import style
from lawfit.units import format_lr, format_percent, format_quantity
from lawfit.words.answers import QUANTITY_WORDS

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from lawfit.records import Fit

Floats = NDArray[np.float64]

_POINTS: Final = 61
_BATCH_POINTS: Final = 31  # each needs its own best learning rate
_SPARE: Final = 1.5  # the axis goes this factor beyond the interval and the zones
_LEAST_SHOWN: Final = 0.006  # share of the loss the axis reaches at least


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What one cost figure shows; costs are shares of the loss."""

    quantity: str  # "lr" or "batch_tokens"
    x: Floats  # (n,)
    expected: Floats  # (n,) mean over everything that the runs leave open
    fitted: Floats  # (n,) if the fitted optimum and valley are exactly right
    recommended: float
    recommended_cost: float  # expected
    low: float
    high: float
    level: float
    zones: Mapping[str, tuple[float, float]]  # cost -> range


def cost_numbers(fit: Fit, document: Answer, quantity: str) -> Costs:
    """Loss given up around the recommendation.

    The learning rate varies at the recommended batch; the batch varies with the learning rate that is best for it.
    """
    if quantity not in QUANTITY_WORDS:
        raise ValueError(f"no cost figure of '{quantity}'")
    said, target = setting_of(document["recommendation"], quantity), document["target"]
    worlds = draw_worlds(fit.payload["model"], target["params"], target["tokens"])
    lr, batch = given(document["recommendation"]["lr"]), given(document["recommendation"]["batch_tokens"])
    log_lr, log_batch = math.log(lr["value"]), math.log(batch["value"])
    if lr.get("at_batch"):
        worlds = at_batch(worlds, log_batch)
    zones = {cost: (zone[0], zone[1]) for cost, zone in said["cheap_zone"].items() if zone is not None}
    ends = [said["value"], said["low"], said["high"], *(end for zone in zones.values() for end in zone)]
    count = _POINTS if quantity == "lr" else _BATCH_POINTS
    x = np.unique(np.append(np.geomspace(min(ends) / _SPARE, max(ends) * _SPARE, count), said["value"]))
    expected, fitted = _along_lr(worlds, x, log_batch) if quantity == "lr" else _along_batch(worlds, x)
    return Costs(
        quantity=quantity,
        x=x,
        expected=expected,
        fitted=fitted,
        recommended=said["value"],
        recommended_cost=expected_regret(worlds, log_lr, log_batch),
        low=said["low"],
        high=said["high"],
        level=said["level"],
        zones=zones,
    )


def _along_lr(worlds: Worlds, x: Floats, log_batch: float) -> tuple[Floats, Floats]:
    expected = np.array([expected_regret(worlds, math.log(lr), log_batch) for lr in x])
    q, v = worlds.centre_valley, np.array(log_batch - worlds.centre_log_batch)
    least = excess(best_lr_shift(v, q), v, q)
    return expected, np.expm1(excess(np.log(x) - worlds.centre_log_lr, v, q) - least)


def _along_batch(worlds: Worlds, x: Floats) -> tuple[Floats, Floats]:
    expected = np.array([expected_regret(worlds, *best_setting(worlds, math.log(batch))) for batch in x])
    q, v = worlds.centre_valley, np.log(x) - worlds.centre_log_batch
    return expected, np.expm1(excess(best_lr_shift(v, q), v, q))


def cost_figure(costs: Costs) -> Figure:
    """Two curves over the cheap zones, with the recommendation on the expected one."""
    write = format_lr if costs.quantity == "lr" else format_quantity
    top = 100 * max(_LEAST_SHOWN, 2.5 * costs.recommended_cost)
    unit = "" if costs.quantity == "lr" else " (tokens per step)"
    ticks = style.tick_lr if costs.quantity == "lr" else format_quantity
    shapes = []
    for cost, (low, high) in sorted(costs.zones.items(), key=lambda item: -float(item[0])):
        fill = style.colour("inner_zone" if float(cost) <= 0.001 else "zone")
        shapes.append(
            {
                "type": "rect", "xref": "x", "yref": "y", "x0": low, "x1": high, "y0": 0, "y1": 100 * float(cost),
                "fillcolor": fill, "line": {"width": 0}, "layer": "below",
            }
        )  # fmt: skip
    layout = {
        "xaxis": style.log_axis(
            QUANTITY_WORDS[costs.quantity] + unit, float(costs.x[0]), float(costs.x[-1]), margin=0.0, write=ticks
        ),
        "yaxis": {"title": {"text": "Loss given up (%)"}, "range": [0, top], "rangemode": "tozero"},
        "shapes": shapes,
        "height": 400,
        "margin": {"b": 118},
    }
    return style.figure(_traces(costs, write), layout)


def _traces(costs: Costs, write: Any) -> list[dict[str, Any]]:
    def line(name: str, values: Floats, look: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "type": "scatter",
            "mode": "lines",
            "name": name,
            "x": costs.x.tolist(),
            "y": (100 * values).tolist(),
            "line": look,
            "text": [
                f"{name}<br>{write(at)}: {format_percent(v)} of the loss" for at, v in zip(costs.x, values, strict=True)
            ],
            "hoverinfo": "text",
        }

    recommended = {
        "type": "scatter",
        "mode": "markers",
        "name": f"recommended: {write(costs.recommended)}",
        "x": [costs.recommended],
        "y": [100 * costs.recommended_cost],
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": [max(costs.high - costs.recommended, 0.0)],
            "arrayminus": [max(costs.recommended - costs.low, 0.0)],
            "color": style.colour("target"),
            "thickness": 2,
            "width": 7,
        },
        "marker": style.recommended_marker(),
        "hovertemplate": f"recommended: {write(costs.recommended)}<br>expected cost "
        f"{format_percent(costs.recommended_cost)} of the loss<extra></extra>",
    }
    ink, _ = style.quantity_colours(costs.quantity)
    return [
        line("if the fitted optimum is right", costs.fitted, {"color": ink, "width": 1.6, "dash": "dot"}),
        line("expected, all doubt included", costs.expected, {"color": ink, "width": 2.6}),
        recommended,
    ]
