"""A law of one number against scale: measured, fitted, asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from lawfit import kinds
from lawfit.documents import Answer
from lawfit.kinds.kind import Dot, LawChart
from lawfit.plots import style

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from lawfit.records import Fit

SIZES_NAMED: Final = 8  # in a legend


def law_numbers(laws: Mapping[str, Fit], document: Answer) -> tuple[LawChart, ...]:
    """A chart for each further answer of a recommendation whose fit is given."""
    asked = [kind for kind in kinds.answering() if document.get(kind.part) is not None and kind.id in laws]
    charts = (kind.chart(laws[kind.id], document) for kind in asked)
    return tuple(chart for chart in charts if chart is not None)


def law_figure(chart: LawChart) -> Figure:
    """Dots, law with its band, and the target, on logarithmic axes."""
    shown = [*chart.value, *chart.low, *chart.high, *(dot.value for dot in chart.measured), chart.target.value]
    shown += [end for dot in (*chart.measured, chart.target) for end in (dot.low, dot.high) if end is not None]
    finite = [value for value in shown if np.isfinite(value)]
    ends = [chart.target.value, *chart.value, *(dot.value for dot in chart.measured)]
    room = 30.0 if chart.logarithmic else 1.5  # an interval that is open in all but name does not squeeze the rest
    bottom, top = max(min(finite), min(ends) / room), min(max(finite), max(ends) * room)
    spare = (top - bottom) / 20
    y_axis: dict[str, Any] = {"title": {"text": chart.y_label}, "range": [bottom - spare, top + spare]}
    if chart.logarithmic:
        y_axis = style.log_axis(chart.y_label, bottom, max(top, bottom * 1.05), write=chart.write)
    along = [float(x) for line in (chart.x, *(size.x for size in chart.sizes)) for x in (line[0], line[-1])]
    layout: dict[str, Any] = {
        "xaxis": style.log_axis(chart.x_label, min(along), max(along)),
        "yaxis": y_axis,
        "height": 400,
        "margin": {"b": 118},
    }
    return style.figure(_traces(chart), layout)


def _traces(chart: LawChart) -> list[dict[str, Any]]:
    level = f"{100 * chart.level:g} %"
    ink, shade = style.quantity_colours(chart.name)
    line = {"type": "scatter", "mode": "lines", "x": chart.x.tolist(), "hoverinfo": "skip"}
    traces: list[dict[str, Any]] = []
    if np.isfinite(chart.low).all() and np.isfinite(chart.high).all():
        low = {**line, "y": chart.low.tolist(), "line": {"width": 0}, "showlegend": False}
        traces += [low, {**low, "y": chart.high.tolist(), "fill": "tonexty", "fillcolor": shade}]
    traces.append(
        {
            **line,
            "y": chart.value.tolist(),
            "name": f"{chart.line}, {level}",
            "line": {"color": ink, "width": 2.4},
        }
    )
    dot = {"symbol": "circle", "size": 8}
    if not chart.sizes:
        traces.append(_dots(chart, "your runs", chart.measured, dot, ink))
    colours = style.scale_colours(len(chart.sizes)) if chart.sizes else []
    named = {round(i * (len(colours) - 1) / (SIZES_NAMED - 1)) for i in range(SIZES_NAMED)}
    for index, (size, colour) in enumerate(zip(chart.sizes, colours, strict=True)):
        thin = {**line, "x": size.x.tolist(), "y": size.value.tolist(), "line": {"color": colour, "width": 1.3}}
        traces.append({**thin, "showlegend": False})
        traces.append({**_dots(chart, size.label, size.measured, dot, colour), "showlegend": index in named})
    name = f"target: {chart.write(chart.target.value)}"
    traces.append(_dots(chart, name, (chart.target,), {"symbol": "diamond", "size": 13}, style.colour("target")))
    return traces


def _dots(chart: LawChart, name: str, dots: tuple[Dot, ...], marker: Mapping[str, Any], colour: str) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [dot.x for dot in dots],
        "y": [dot.value for dot in dots],
        "error_y": {
            "type": "data",
            "symmetric": False,
            "array": [0.0 if dot.high is None else max(dot.high - dot.value, 0.0) for dot in dots],
            "arrayminus": [0.0 if dot.low is None else max(dot.value - dot.low, 0.0) for dot in dots],
            "color": colour,
            "thickness": 1.4,
            "width": 4,
        },
        "marker": {**marker, "color": colour, "line": {"color": style.colour("paper"), "width": 1.2}},
        "text": [f"{dot.words}<br>{chart.write(dot.value)}{_span(chart, dot)}" for dot in dots],
        "hovertemplate": "%{text}<extra></extra>",
    }


def _span(chart: LawChart, dot: Dot) -> str:
    if dot.low is None or dot.high is None:
        return ""
    return f" ({chart.write(dot.low)} to {chart.write(dot.high)})"


def law_rows(chart: LawChart) -> tuple[tuple[str, ...], ...]:
    """Scale, value and interval of each dot, the target first."""
    return tuple(
        (name, dot.words, chart.write(dot.value), _span(chart, dot).strip(" ()") or "-")
        for name, dot in (("target", chart.target), *(("your runs", dot) for dot in chart.measured))
    )
