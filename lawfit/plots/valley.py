"""The valley at a target: what any learning rate and batch is expected to cost there, with what others would use."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from lawfit.advise.draws import draw_worlds
from lawfit.advise.regret import expected_regrets
from lawfit.documents import Answer, setting_of
from lawfit.plots import style
from lawfit.units import format_lr, format_percent, format_quantity
from lawfit.words.answers import QUANTITY_WORDS

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from lawfit.records import Fit

Floats = NDArray[np.float64]

_RATES: Final = 33
_BATCHES: Final = 21
_ROOM: Final = 1.6  # the axes go this factor beyond the intervals
_LEAST_ROOM: Final = 3.0  # and at least this factor away from the recommendation
_COSTS: Final = (0.001, 0.0015, 0.002, 0.003, 0.005, 0.007, 0.01, 0.015, 0.02, 0.03, 0.045)  # shares of the loss
_MOST_BANDS: Final = 6


@dataclass(frozen=True, kw_only=True)
class LawPoint:
    """What a published law would use at the target."""

    label: str
    lr: float
    batch_tokens: float  # tokens per step
    regret: float | None  # mean share of the loss it costs on these runs


@dataclass(frozen=True, kw_only=True)
class Valley:
    """Expected cost of every setting at the target, as a share of the loss over the best one."""

    lr: Floats  # (rates,)
    batch_tokens: Floats  # (batches,)
    cost: Floats  # (batches, rates)
    recommended: tuple[float, float]  # lr, batch_tokens
    lr_interval: tuple[float, float]
    batch_interval: tuple[float, float]
    level: float  # of both
    laws: tuple[LawPoint, ...]


def valley_numbers(fit: Fit, document: Answer) -> Valley:
    """The valley at the target of a recommendation.

    Parameters
    ----------
    fit : the stored fit that the recommendation was made from
    document : the recommendation (`pipeline.recommend`)
    """
    lr, batch = (setting_of(document["recommendation"], name) for name in ("lr", "batch_tokens"))
    worlds = draw_worlds(fit.payload["model"], document["target"]["params"], document["target"]["tokens"])
    rates, batches = _span(lr, _RATES), _span(batch, _BATCHES)
    return Valley(
        lr=rates,
        batch_tokens=batches,
        cost=expected_regrets(worlds, np.log(rates), np.log(batches)).T,
        recommended=(lr["value"], batch["value"]),
        lr_interval=(lr["low"], lr["high"]),
        batch_interval=(batch["low"], batch["high"]),
        level=lr["level"],
        laws=tuple(
            LawPoint(
                label=law["label"], lr=law["lr"], batch_tokens=law["batch_tokens"], regret=law["regret_on_your_runs"]
            )
            for law in document["published"]
            if law["lr"] is not None and law["batch_tokens"] is not None
        ),
    )


def _span(part: Any, count: int) -> Floats:
    low = min(part["low"] / _ROOM, part["value"] / _LEAST_ROOM)
    high = max(part["high"] * _ROOM, part["value"] * _LEAST_ROOM)
    return np.asarray(np.geomspace(low, high, count))


def valley_figure(valley: Valley) -> Figure:
    """Bands of cost, the recommendation with its intervals, and published laws."""
    rates, batches = ((float(axis[0]), float(axis[-1])) for axis in (valley.lr, valley.batch_tokens))
    layout = {
        # to the very ends of what was worked out
        "xaxis": style.log_axis(QUANTITY_WORDS["lr"], *rates, write=style.tick_lr)
        | {"range": np.log10(rates).tolist()},
        "yaxis": style.log_axis("Batch size (tokens per step)", *batches) | {"range": np.log10(batches).tolist()},
        "margin": {"b": 88},
        "height": 470,
    }
    return style.figure([_bands(valley), *_laws(valley), _recommended(valley)], layout)


def _levels(cost: Floats) -> Floats:
    """Round costs at which bands begin: few, and the first of them above the cheapest setting."""
    inside = [share for share in _COSTS if cost.min() < share < cost.max()] or [float(cost.max())]
    return np.array(inside[:: math.ceil(len(inside) / _MOST_BANDS)])


def _bands(valley: Valley) -> dict[str, Any]:
    levels, stops = _levels(valley.cost), style.GOOD_TO_BAD
    # bands of one width, whatever the costs at their edges
    edges = np.concatenate(
        [[min(valley.cost.min(), levels[0] / 2)], levels, [max(valley.cost.max(), levels[-1] * 1.01)]]
    )
    band = np.interp(np.log(valley.cost), np.log(edges), np.arange(len(edges)))
    hover = [
        [
            f"{format_percent(share)} of the loss expected to be lost<br>learning rate {format_lr(lr)}, "
            f"batch {format_quantity(batch)} tokens"
            for share, lr in zip(row, valley.lr, strict=True)
        ]
        for row, batch in zip(valley.cost, valley.batch_tokens, strict=True)
    ]
    return {
        "type": "contour",
        "name": "expected cost",
        "x": [float(f"{lr:.4g}") for lr in valley.lr],
        "y": [float(f"{batch:.5g}") for batch in valley.batch_tokens],
        "z": band.round(3).tolist(),
        "contours": {"start": 1, "end": len(levels), "size": 1, "coloring": "fill"},
        "colorscale": [[i / (len(stops) - 1), pair[0]] for i, pair in enumerate(stops)],
        "zmin": 0,
        "zmax": len(levels) + 1,
        "line": {"width": 0.7, "color": style.colour("paper"), "smoothing": 0.9},
        "text": hover,
        "hoverinfo": "text",
        "colorbar": {
            "title": {"text": "share of<br>the loss<br> ", "font": {"size": 12, "color": style.colour("muted")}},
            "tickvals": list(range(1, len(levels) + 1)),
            "ticktext": [f"{100 * share:g} %" for share in levels],
            "tickfont": {"size": 11, "color": style.colour("muted")},
            "thickness": 10,
            "outlinewidth": 0,
            "x": 1.01,
            "xpad": 4,
        },
    }


def _laws(valley: Valley) -> list[dict[str, Any]]:
    """Those of the laws that the axes show."""
    shown = [
        law for law in valley.laws if _inside(law.lr, valley.lr) and _inside(law.batch_tokens, valley.batch_tokens)
    ]
    if not shown:
        return []
    return [
        {
            "type": "scatter",
            "mode": "markers",
            "name": "published laws",
            "x": [law.lr for law in shown],
            "y": [law.batch_tokens for law in shown],
            "marker": {
                "symbol": "circle",
                "size": 9,
                "color": style.colour("others"),
                "line": {"color": style.colour("paper"), "width": 1.5},
            },
            "text": [
                f"{law.label}<br>learning rate {format_lr(law.lr)}, batch {format_quantity(law.batch_tokens)} tokens"
                + ("" if law.regret is None else f"<br>costs {format_percent(law.regret)} on your runs")
                for law in shown
            ],
            "hoverinfo": "text",
        }
    ]


def _inside(value: float, axis: Floats) -> bool:
    return float(axis[0]) <= value <= float(axis[-1])


def _recommended(valley: Valley) -> dict[str, Any]:
    lr, batch = valley.recommended

    def bar(value: float, ends: tuple[float, float]) -> dict[str, Any]:
        return {
            "type": "data",
            "symmetric": False,
            "array": [max(ends[1] - value, 0.0)],
            "arrayminus": [max(value - ends[0], 0.0)],
            "color": style.colour("target"),
            "thickness": 1.6,
            "width": 6,
        }

    level = f"{100 * valley.level:g} %"
    return {
        "type": "scatter",
        "mode": "markers",
        "name": f"recommended, with {level} intervals",
        "x": [lr],
        "y": [batch],
        "error_x": bar(lr, valley.lr_interval),
        "error_y": bar(batch, valley.batch_interval),
        "marker": style.recommended_marker(),
        "hovertemplate": f"recommended<br>learning rate {format_lr(lr)}, batch {batch:,.0f} tokens<extra></extra>",
    }
