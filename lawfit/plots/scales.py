"""Small multiples: the runs of every scale, the zone where settings cost little, the optimum with its interval.

All panels have the same axes, so that the optimum is seen to move with size and horizon.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from lawfit.plots import style
from lawfit.plots.optima import ScaleOptimum, scale_optima
from lawfit.plots.surface import COLOUR_FULL, CellSurface, run_words, surface_numbers
from lawfit.units import format_lr, format_quantity, format_scale
from lawfit.words.answers import optimum_words

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from lawfit.estimate.observe.observations import Observations
    from lawfit.plots.run_keys import RunKeys

COLUMNS: Final = 5
MOST: Final = 60  # panels; the table beside the figure has every scale
PANEL: Final = 150  # px from one row to the next
SAME_HORIZON: Final = 0.03  # ln units
_FILLED: Final = 0.6  # share of sizes x horizons from which columns are horizons
_TOP: Final = 26  # px for the titles of the first row
_BOTTOM: Final = 84  # for ticks, title and legend
_ZONE: Final = 0.0025  # share of the loss that the line bounds
EDGE_WORDS: Final[Mapping[str, str]] = {
    "lr_low": "lower rates untried",
    "lr_high": "higher rates untried",
    "batch_low": "smaller batches untried",
    "batch_high": "larger batches untried",
}


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One scale, and where it stands."""

    surface: CellSurface
    optimum: ScaleOptimum
    row: int
    column: int


@dataclass(frozen=True, kw_only=True)
class Scales:
    """What the figure of all scales shows."""

    panels: tuple[Panel, ...]
    rows: int
    columns: int
    left_out: int  # scales beyond `MOST`


def scales_numbers(
    payload: Mapping[str, Any], observed: Observations, keys: RunKeys | None = None, *, columns: int = COLUMNS
) -> Scales:
    """Every scale of a fit and its place: a row for each size, horizons from left to right.

    Parameters
    ----------
    payload : of a fit of learning rate and batch
    observed : the recipe's runs
    keys : of those runs (`run_keys`), which the figure then names
    columns : most panels side by side
    """
    cells = payload["cells"]
    shown = sorted(range(len(cells)), key=lambda i: -cells[i]["runs"])[:MOST]
    shown.sort(key=lambda i: (cells[i]["params"], cells[i]["tokens"]))
    optima = scale_optima(payload)
    places = _places([(cells[i]["params"], cells[i]["tokens"]) for i in shown], columns)
    panels = tuple(
        Panel(surface=surface_numbers(payload, observed, i, keys), optimum=optima[i], row=row, column=column)
        for i, (row, column) in zip(shown, places, strict=True)
    )
    return Scales(
        panels=panels,
        rows=1 + max(panel.row for panel in panels),
        columns=1 + max(panel.column for panel in panels),
        left_out=len(cells) - len(shown),
    )


def _places(scales: Sequence[tuple[float, float]], most: int) -> list[tuple[int, int]]:
    """(row, column) of each scale: sizes by horizons where most of them were run, else one after the other."""
    sizes = sorted({params for params, _ in scales})
    horizons: list[float] = []
    for tokens in sorted(tokens for _, tokens in scales):
        if not horizons or math.log(tokens / horizons[-1]) > SAME_HORIZON:
            horizons.append(tokens)

    def horizon(tokens: float) -> int:
        return int(np.argmin([abs(math.log(tokens / each)) for each in horizons]))

    if len(horizons) <= most and len(scales) >= _FILLED * len(sizes) * len(horizons):
        return [(sizes.index(params), horizon(tokens)) for params, tokens in scales]
    of_size = [[i for i, (params, _) in enumerate(scales) if params == size] for size in sizes]
    if max(map(len, of_size)) <= most and len(scales) >= _FILLED * len(sizes) * max(map(len, of_size)):
        ranks = {i: rank for group in of_size for rank, i in enumerate(group)}
        return [(sizes.index(params), ranks[i]) for i, (params, _) in enumerate(scales)]
    return [divmod(i, most) for i in range(len(scales))]


def scales_figure(scales: Scales) -> Figure:
    """One panel a scale; a title in warning ink where the optimum lies at an edge of what was tried."""
    lr, batch = _range(scales, "lr"), _range(scales, "batch_tokens")
    height = PANEL * scales.rows
    traces: list[dict[str, Any]] = []
    layout: dict[str, Any] = {
        "height": height + _TOP + _BOTTOM,
        "margin": {"t": _TOP, "b": _BOTTOM, "l": 66},
        "annotations": [],
        "shapes": [],
    }
    used = {(panel.row, panel.column) for panel in scales.panels}
    for number, panel in enumerate(scales.panels, start=1):
        name = "" if number == 1 else str(number)
        x, y = _domains(scales, panel, height)
        lowest = (panel.row + 1, panel.column) not in used
        axes = {
            f"xaxis{name}": {**style.log_axis("", *lr, write=style.tick_lr), "showticklabels": lowest},
            f"yaxis{name}": {**style.log_axis("", *batch), "showticklabels": panel.column == 0},
        }
        for axis, domain, anchor in zip(axes.values(), (x, y), ("y", "x"), strict=True):
            few = axis["tickvals"][:: max(1, math.ceil(len(axis["tickvals"]) / 4))]
            axis |= {"domain": domain, "anchor": f"{anchor}{name}", "title": {"text": ""}, "tickvals": few}
            write = style.tick_lr if anchor == "y" else format_quantity
            axis |= {"ticktext": [write(tick) for tick in few], "tickfont": {"size": 10}}
        layout |= axes
        layout["annotations"].append(_title(panel, x, y))
        traces += [{**trace, "xaxis": f"x{name}", "yaxis": f"y{name}"} for trace in _panel(panel, first=number == 1)]
    layout["annotations"] += _axis_titles(height)
    return style.figure(traces, layout)


def _domains(scales: Scales, panel: Panel, height: int) -> tuple[list[float], list[float]]:
    """Shares of the plot's width and height that a panel takes."""
    width = 1 / scales.columns
    x = [panel.column * width + 0.012 * (panel.column > 0), (panel.column + 1) * width - 0.006]
    top = 1 - panel.row * PANEL / height
    return x, [max(top - (PANEL - 30) / height, 0.0), top]


def _range(scales: Scales, quantity: str) -> tuple[float, float]:
    """Of all runs and optima, so that panels can be compared."""
    values = []
    for panel in scales.panels:
        lost = panel.surface.diverged_lr if quantity == "lr" else panel.surface.diverged_batch_tokens
        values += [*getattr(panel.surface, quantity), *lost, getattr(panel.optimum, quantity)]
    low, high = min(values), max(values)
    return (low, high) if high / low > 1.5 else (low / 2, high * 2)


def _title(panel: Panel, x: list[float], y: list[float]) -> dict[str, Any]:
    name = f"{format_quantity(panel.surface.params)} · {format_quantity(panel.surface.tokens)}"
    at_edge = not panel.optimum.shown
    return {
        "text": f"<b>{name}</b>" + (" ⚠" if at_edge else ""),
        "hovertext": f"{panel.surface.name}: {shown_words(panel.optimum)}",
        "xref": "paper", "yref": "paper", "x": x[0], "y": y[1], "xanchor": "left", "yanchor": "bottom",
        "showarrow": False, "font": {"size": 11, "color": style.colour("target" if at_edge else "ink")},
    }  # fmt: skip


def shown_words(optimum: ScaleOptimum) -> str:
    """Whether a scale shows its optimum, and what was not tried where it does not."""
    words = optimum_words(optimum.status, optimum.near)
    edges = [EDGE_WORDS[edge] for edge in optimum.edges]
    if not optimum.batch_swept:
        edges.append("one batch alone")
    return words + (f": {', '.join(edges)}" if edges else "")


def _axis_titles(height: int) -> list[dict[str, Any]]:
    common = {"xref": "paper", "yref": "paper", "showarrow": False, "font": {"size": 13, "color": style.colour("ink")}}
    return [
        {**common, "text": "Peak learning rate", "x": 0.5, "y": 6 / height, "yanchor": "top"},
        {**common, "text": "Batch size (tokens per step)", "x": 0, "xshift": -42, "y": 0.5, "xanchor": "center",
         "textangle": -90},
    ]  # fmt: skip


def _panel(panel: Panel, *, first: bool) -> list[dict[str, Any]]:
    """The runs of one scale over its zone, then its optimum; the first panel stands in the legend."""
    surface, optimum = panel.surface, panel.optimum
    traces: list[dict[str, Any]] = [
        {
            "type": "scatter", "mode": "lines", "name": f"costs < {100 * zone.cost:g} %", "showlegend": first,
            "legendgroup": "zone", "x": zone.lr.tolist(), "y": zone.batch_tokens.tolist(),
            "fill": "toself" if np.isfinite(zone.lr).all() else "none", "fillcolor": style.colour("zone"),
            "line": {"color": style.colour("ours"), "width": 1}, "hoverinfo": "skip",
        }
        for zone in surface.zones
        if zone.cost == _ZONE and np.isfinite(zone.lr).any()
    ]  # fmt: skip
    traces.append(_runs(surface, first=first))
    if len(surface.diverged_lr):
        traces.append(
            {
                "type": "scatter", "mode": "markers", "name": "diverged", "showlegend": False,
                "x": surface.diverged_lr.tolist(), "y": surface.diverged_batch_tokens.tolist(),
                "marker": {"symbol": "x-thin", "size": 5, "line": {"color": style.colour("lost"), "width": 1.2}},
                "text": [run_words(keys, "diverged") for keys in surface.diverged_keys],
                "customdata": [keys[0] if keys else None for keys in surface.diverged_keys],
                "hovertemplate": "%{text}<extra></extra>",
            }
        )  # fmt: skip
    traces.append(_optimum(surface, optimum, first=first))
    return traces


def _runs(surface: CellSurface, *, first: bool) -> dict[str, Any]:
    order = np.argsort(-surface.excess)  # the good ones on top
    stops = style.GOOD_TO_BAD
    return {
        "type": "scatter", "mode": "markers", "name": "run (the stronger, the lower its loss)", "showlegend": first,
        "legendgroup": "runs",
        "x": surface.lr[order].tolist(), "y": surface.batch_tokens[order].tolist(),
        "marker": {
            "size": 5.5, "color": (100 * surface.excess[order]).tolist(), "cmin": 0, "cmax": 100 * COLOUR_FULL,
            "colorscale": [[i / (len(stops) - 1), pair[0]] for i, pair in enumerate(stops)], "showscale": False,
            "line": {"color": style.colour("axis"), "width": 0.5},
        },
        "text": [run_words(surface.keys[i], surface.words_of(i)) for i in order],
        "customdata": [surface.keys[i][0] if surface.keys[i] else None for i in order],
        "hovertemplate": "%{text}<extra></extra>",
    }  # fmt: skip


def _optimum(surface: CellSurface, optimum: ScaleOptimum, *, first: bool) -> dict[str, Any]:
    ink = style.colour("target")

    def bar(value: float, low: float, high: float) -> dict[str, Any]:
        ends = {"array": [high - value], "arrayminus": [value - low]}
        return {"type": "data", "symmetric": False, **ends, "color": ink, "thickness": 1.3, "width": 0}

    where = (
        f"learning rate {format_lr(optimum.lr)} ({format_lr(optimum.lr_low)} to {format_lr(optimum.lr_high)})<br>"
        f"batch {format_quantity(optimum.batch_tokens)} ({format_quantity(optimum.batch_low)} to "
        f"{format_quantity(optimum.batch_high)}) tokens"
    )
    return {
        "type": "scatter", "mode": "markers", "name": "fitted optimum, 90 % interval", "showlegend": first,
        "legendgroup": "optimum", "x": [optimum.lr], "y": [optimum.batch_tokens],
        "error_x": bar(optimum.lr, optimum.lr_low, optimum.lr_high),
        "error_y": bar(optimum.batch_tokens, optimum.batch_low, optimum.batch_high),
        "marker": {"symbol": "star" if optimum.status == "inside" else "star-open", "size": 10, "color": ink,
                   "line": {"color": style.colour("paper" if optimum.status == "inside" else "target"), "width": 1}},
        "hovertemplate": f"{format_scale(surface.params, surface.tokens)}<br>fitted optimum: {shown_words(optimum)}"
        f"<br>{where}<extra></extra>",
    }  # fmt: skip
