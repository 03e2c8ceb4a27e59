"""One look for every figure: colours that the colour-blind can tell apart, axes with units, no chart junk.

Colours are named once, for light paper and for dark; a page shows the dark ones by replacing each light colour by its
partner (`assets/charts.js`), so figures are built once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from lawfit.units import format_quantity

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

FONT: Final = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", Arial, sans-serif'
HEIGHT: Final = 430

# name -> (on light paper, on dark paper). No two names share a light colour: the page replaces by it.
COLOURS: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "paper": ("#fffffe", "#161b22"),
        "ink": ("#1c2733", "#e4e9ef"),
        "muted": ("#5b6876", "#9aa7b5"),
        "grid": ("#e7ebf0", "#2a323c"),
        "axis": ("#b9c2cc", "#4a5563"),
        "ours": ("#0a5c9e", "#6cb6f5"),
        "band": ("rgba(10,92,158,0.13)", "rgba(108,182,245,0.17)"),
        "target": ("#c8460a", "#ff8f57"),
        "zone": ("rgba(10,92,158,0.10)", "rgba(108,182,245,0.13)"),
        "inner_zone": ("rgba(10,92,158,0.20)", "rgba(108,182,245,0.24)"),
        "others": ("#7f8a97", "#8793a1"),
        "lost": ("#8c2f5c", "#e58bb6"),
        "beyond": ("rgba(91,104,118,0.07)", "rgba(154,167,181,0.08)"),
        "batch": ("#6b3fa0", "#b79ae8"),
        "batch_band": ("rgba(107,63,160,0.13)", "rgba(183,154,232,0.17)"),
        "decay": ("#1d7a5a", "#6fcfa3"),
        "decay_band": ("rgba(29,122,90,0.13)", "rgba(111,207,163,0.17)"),
        "critical": ("#8a5a00", "#e0b060"),
        "critical_band": ("rgba(138,90,0,0.13)", "rgba(224,176,96,0.17)"),
        "loss": ("#00717d", "#5cc9d4"),
        "loss_band": ("rgba(0,113,125,0.13)", "rgba(92,201,212,0.17)"),
    }
)
# What is asked for -> its one colour on every figure, of its line and of its band; anything else has that of "ours".
_OF_QUANTITY: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "batch_tokens": ("batch", "batch_band"),
        "weight_decay": ("decay", "decay_band"),
        "critical_batch": ("critical", "critical_band"),
        "expected_loss": ("loss", "loss_band"),
    }
)
# Best runs stand out most, on either paper; monotone in lightness.
GOOD_TO_BAD: Final = (
    ("#103a63", "#fdf3c4"),
    ("#2b7fa3", "#b3d59c"),
    ("#7dbdb1", "#4f9f93"),
    ("#d9d6b0", "#35586f"),
    ("#f1e6cf", "#2d3b4d"),
)
# Sizes of model (or amounts of tokens), small to large; what lies between is mixed of neighbours.
_SIZE_STOPS: Final = (
    ("#8fc3dd", "#5286ba"),
    ("#55a0a8", "#4fa3a8"),
    ("#477f6b", "#74b58d"),
    ("#6b6a35", "#c4c56a"),
    ("#7c4a21", "#f2b872"),
)


def _mixed_stops(stops: Sequence[tuple[str, str]], between: int) -> tuple[tuple[str, str], ...]:
    """Each stop, and `between` mixtures of it and the next, on light paper and on dark."""

    def mixture(first: str, second: str, share: float) -> str:
        parts = [(int(first[i : i + 2], 16), int(second[i : i + 2], 16)) for i in (1, 3, 5)]
        return "#" + "".join(f"{round(a + share * (b - a)):02x}" for a, b in parts)

    mixed = [
        (mixture(one[0], two[0], k / (between + 1)), mixture(one[1], two[1], k / (between + 1)))
        for one, two in pairwise(stops)
        for k in range(between + 1)
    ]
    return (*mixed, stops[-1])


SMALL_TO_LARGE: Final = _mixed_stops(_SIZE_STOPS, between=7)
DASHES: Final = ("dash", "dot", "dashdot", "longdash", "longdashdot")


def colour(name: str) -> str:
    """A colour by what it stands for."""
    return COLOURS[name][0]


def recommended_marker() -> dict[str, Any]:
    """Of the setting that is recommended."""
    line = {"color": colour("paper"), "width": 1.5}
    return {"symbol": "diamond", "size": 13, "color": colour("target"), "line": line}


def quantity_colours(quantity: str) -> tuple[str, str]:
    """Colour of the line and of the band of "lr", "batch_tokens", or a part of an answer ("weight_decay", ...)."""
    line, band = _OF_QUANTITY.get(quantity, ("ours", "band"))
    return colour(line), colour(band)


def dark_partners() -> dict[str, str]:
    """Light colour -> its partner on dark paper, for the page."""
    return dict([*COLOURS.values(), *GOOD_TO_BAD, *SMALL_TO_LARGE])


def scale_colours(count: int) -> list[str]:
    """`count` colours from small to large, spread over `SMALL_TO_LARGE`: no two alike up to 33, neighbours beyond."""
    last = len(SMALL_TO_LARGE) - 1
    if count == 1:
        return [SMALL_TO_LARGE[last // 2][0]]
    return [SMALL_TO_LARGE[round(i * last / (count - 1))][0] for i in range(count)]


def log_axis(
    title: str, low: float, high: float, *, margin: float = 0.04, write: Any = format_quantity
) -> dict[str, Any]:
    """A logarithmic axis over [low, high] with round ticks: 1, 2, 5 within few decades, else whole decades."""
    first, last = math.log10(low), math.log10(high)
    spare = max(margin * (last - first), 0.03)
    ticks = log_ticks(10 ** (first - spare), 10 ** (last + spare))
    return {
        "type": "log",
        "title": {"text": title, "standoff": 8},
        "range": [first - spare, last + spare],
        "tickvals": ticks,
        "ticktext": [write(tick) for tick in ticks],
    }


def log_ticks(low: float, high: float, most: int = 8) -> list[float]:
    """Round numbers inside [low, high], as many as fit: 1-2-5, then decades, then every second decade or rarer."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for digits in ((1, 1.5, 2, 3, 4, 5, 6, 8), (1, 2, 3, 5), (1, 2, 5), (1, 3), (1,)):
        ticks = [d * 10.0**k for k in range(first, last + 1) for d in digits]
        ticks = [t for t in ticks if low <= t <= high]
        if len(ticks) <= most:
            return ticks
    step = math.ceil(len(ticks) / most)
    return ticks[::step]


def tick_lr(value: float) -> str:
    """A learning rate at an axis: ``6e-4``."""
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa.removesuffix('.0')}e{int(exponent)}"


def figure(traces: Sequence[Mapping[str, Any]], layout: Mapping[str, Any]) -> Figure:
    """A plotly figure in the house style; `layout` adds to it."""
    import plotly.graph_objects as go

    axis = {
        "gridcolor": colour("grid"),
        "linecolor": colour("axis"),
        "tickcolor": colour("axis"),
        "ticks": "outside",
        "ticklen": 4,
        "showline": True,
        "zeroline": False,
        "automargin": True,
        "tickfont": {"color": colour("muted"), "size": 12},
        "title": {"font": {"color": colour("ink"), "size": 13}},
    }
    base: dict[str, Any] = {
        "template": "none",
        "autosize": True,
        "height": HEIGHT,
        "margin": {"l": 62, "r": 16, "t": 12, "b": 56},
        "paper_bgcolor": colour("paper"),
        "plot_bgcolor": colour("paper"),
        "font": {"family": FONT, "size": 13, "color": colour("ink")},
        "hoverlabel": {
            "bgcolor": colour("paper"),
            "bordercolor": colour("axis"),
            "font": {"family": FONT, "size": 12, "color": colour("ink")},
            "align": "left",
        },
        "hovermode": "closest",
        "legend": {
            "orientation": "h",
            "yref": "container",
            "y": 0,
            "yanchor": "bottom",
            "xref": "container",
            "x": 0.01,
            "xanchor": "left",
            "traceorder": "normal",
            "font": {"color": colour("muted"), "size": 12},
            "bgcolor": "rgba(0,0,0,0)",
            "itemsizing": "trace",
        },
        **dict.fromkeys(("xaxis", "yaxis", *(name for name in layout if name[1:5] == "axis")), axis),
    }
    return go.Figure(data=[dict(trace) for trace in traces], layout=_merged(base, layout))


def _merged(base: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in more.items():
        inner = result.get(key)
        both = isinstance(value, Mapping) and isinstance(inner, Mapping)
        result[key] = _merged(inner, value) if both else value  # type: ignore[arg-type]
    return result
