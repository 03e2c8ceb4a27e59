"""Weight decay, critical batch size and expected loss against scale: measured, fitted, asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from lawfit.advise.expected_loss import loss_along, loss_line, stored_law
from lawfit.advise.further import ANSWERS, critical_along, interval_along
from lawfit.advise.third_input import asked_for
from lawfit.ask import THIRD_INPUTS, ThirdInputs
from lawfit.plots import style
from lawfit.units import format_quantity
from lawfit.words.answers import scale_words

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from lawfit.records import Fit

Floats = NDArray[np.float64]

_POINTS: Final = 25
SIZES_NAMED: Final = 4  # in a legend
_NORMAL_90: Final = 1.645  # sd of a normal law to the ends of its 90 % interval


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One dot: what the runs of one scale say."""

    x: float
    value: float
    low: float | None  # of a 90 % interval; None where there is none on that side
    high: float | None
    words: str


@dataclass(frozen=True, kw_only=True)
class SizeLine:
    """The law at one size of one's own runs, and the dots that belong to it."""

    label: str
    x: Floats
    value: Floats
    measured: tuple[Measured, ...]


@dataclass(frozen=True, kw_only=True)
class LawChart:
    """What one figure shows."""

    name: str  # in `FURTHER_NAMES`
    title: str
    x_label: str
    y_label: str
    measured: tuple[Measured, ...]
    x: Floats
    value: Floats  # of the law
    low: Floats  # of its `level` interval; NaN where there is none
    high: Floats
    level: float
    target: Measured  # the answer
    write: Callable[[float], str]
    logarithmic: bool = True  # the axis of values
    line: str = "law"  # its name in the legend
    sizes: tuple[SizeLine, ...] = ()  # where the law takes more than the axis: `measured`, by size


def law_numbers(laws: Mapping[str, Fit], document: Mapping[str, Any]) -> tuple[LawChart, ...]:
    """A chart for each further answer of a recommendation whose fit is given."""
    makers = {"timescale": _timescale, "critical_batch": _critical, "loss": _loss}
    return tuple(
        makers[kind](laws[kind], document)
        for kind, name in ANSWERS.items()
        if document.get(name) is not None
        and kind in laws
        and not laws[kind].payload.get("same_input")  # it says nothing along that axis
    )


def _timescale(fit: Fit, document: Mapping[str, Any]) -> LawChart:
    said, target = document["weight_decay"], document["target"]
    dots = [
        Measured(
            x=scale["tokens"] / scale["params"],
            value=scale["timescale"],
            low=scale["timescale"] * math.exp(-_NORMAL_90 * scale["log_sd"]),
            high=scale["timescale"] * math.exp(_NORMAL_90 * scale["log_sd"]),
            words=scale_words(scale["params"], scale["tokens"]),
        )
        for scale in fit.payload["scales"]
        if scale["timescale"] is not None and scale["log_sd"] is not None
    ]
    at = target["tokens"] / target["params"]
    x = _axis([at, *(dot.x for dot in dots)])
    value, low, high = interval_along(fit.payload["law"], x, said["level"])
    return LawChart(
        name="weight_decay",
        title="Best timescale of weight decay against tokens per parameter",
        x_label="Tokens per parameter",
        y_label="Best timescale (share of the run)",
        measured=tuple(dots),
        x=x,
        value=value,
        low=low,
        high=high,
        level=said["level"],
        target=_target(at, said["timescale"], document),
        write=lambda v: f"{v:.3g}",
    )


def _critical(fit: Fit, document: Mapping[str, Any]) -> LawChart:
    said, target = document["critical_batch"], document["target"]
    route, name = fit.payload["routes"][said["route"]], said["law"]["input"]
    dots = [
        Measured(
            x=found[name],
            value=found["value_tokens"],
            low=found["low_tokens"] or None,
            high=found["high_tokens"],
            words=f"{format_quantity(found['params'])} parameters to a loss of {found['loss']:.4g}"
            if found["params"] and found["loss"]
            else f"{format_quantity(found['tokens'])} tokens",
        )
        for found in route["measured"]
        if found[name] is not None and found["log_sd"] is not None
    ]
    x = _axis([target[name], *(dot.x for dot in dots)])
    ratio = target["tokens"] / target["params"]  # where laws in params answer too: along the target's ratio
    tokens, params = (x, x / ratio) if name == "tokens" else (x * ratio, x)
    value, low, high = critical_along(route, tokens, params, said["level"])
    return LawChart(
        name="critical_batch",
        title=f"Critical batch against {'training tokens' if name == 'tokens' else 'parameters'}",
        x_label="Training tokens" if name == "tokens" else "Parameters",
        y_label="Critical batch size (tokens per step)",
        measured=tuple(dots),
        x=x,
        value=value,
        low=low,
        high=high,
        level=said["level"],
        target=_target(target[name], said, document),
        write=format_quantity,
    )


def _loss(fit: Fit, document: Mapping[str, Any]) -> LawChart:
    said, target = document["expected_loss"], document["target"]
    asked = ThirdInputs(**{name: target[name] for name in THIRD_INPUTS if name in target})
    third = asked_for(fit.payload, asked, target["tokens"])
    law, ordinary = stored_law(fit, said["level"], third), stored_law(fit, said["level"])
    sizes = []
    for params in sorted({point["params"] for point in fit.payload["points"]}):
        dots = tuple(
            Measured(
                x=point["tokens"], value=point["loss"], low=None, high=None, words=scale_words(params, point["tokens"])
            )
            for point in fit.payload["points"]
            if point["params"] == params
        )
        along = _axis([dot.x / 1.25 for dot in dots] + [dot.x * 1.25 for dot in dots])
        line = loss_line(ordinary, params, along)
        sizes.append(SizeLine(label=f"{format_quantity(params)} parameters", x=along, value=line, measured=dots))
    x = _axis([target["tokens"], *(dot.x for size in sizes for dot in size.measured)])
    value, low, high = loss_along(law, target["params"], x)
    return LawChart(
        name="expected_loss",
        title="Expected loss against training tokens",
        x_label="Training tokens",
        y_label="Loss (nats per token)",
        measured=tuple(dot for size in sizes for dot in size.measured),
        x=x,
        value=value,
        low=low,
        high=high,
        level=said["level"],
        target=_target(target["tokens"], said, document),
        write=lambda v: f"{v:.4g}",
        logarithmic=False,  # it moves by less than a factor
        line=f"law at {format_quantity(target['params'])}",
        sizes=tuple(sizes),
    )


def _target(x: float, said: Mapping[str, Any], document: Mapping[str, Any]) -> Measured:
    target = document["target"]
    words = scale_words(target["params"], target["tokens"])
    return Measured(x=x, value=said["value"], low=said["low"], high=said["high"], words=words)


def _axis(values: list[float]) -> Floats:
    return np.geomspace(min(values), max(values), _POINTS)


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
    line = {"type": "scatter", "mode": "lines", "x": chart.x.tolist(), "hoverinfo": "skip"}
    traces: list[dict[str, Any]] = []
    if np.isfinite(chart.low).all() and np.isfinite(chart.high).all():
        low = {**line, "y": chart.low.tolist(), "line": {"width": 0}, "showlegend": False}
        traces += [low, {**low, "y": chart.high.tolist(), "fill": "tonexty", "fillcolor": style.colour("band")}]
    traces.append(
        {
            **line,
            "y": chart.value.tolist(),
            "name": f"{chart.line}, {level}",
            "line": {"color": style.colour("ours"), "width": 2.4},
        }
    )
    dot = {"symbol": "circle", "size": 8}
    if not chart.sizes:
        traces.append(_dots(chart, "your runs", chart.measured, dot, style.colour("ours")))
    colours = style.scale_colours(len(chart.sizes)) if chart.sizes else []
    named = {round(i * (len(colours) - 1) / (SIZES_NAMED - 1)) for i in range(SIZES_NAMED)}
    for index, (size, colour) in enumerate(zip(chart.sizes, colours, strict=True)):
        thin = {**line, "x": size.x.tolist(), "y": size.value.tolist(), "line": {"color": colour, "width": 1.3}}
        traces.append({**thin, "showlegend": False})
        traces.append({**_dots(chart, size.label, size.measured, dot, colour), "showlegend": index in named})
    name = f"target: {chart.write(chart.target.value)}"
    traces.append(_dots(chart, name, (chart.target,), {"symbol": "diamond", "size": 13}, style.colour("target")))
    return traces


def _dots(
    chart: LawChart, name: str, dots: tuple[Measured, ...], marker: Mapping[str, Any], colour: str
) -> dict[str, Any]:
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


def _span(chart: LawChart, dot: Measured) -> str:
    if dot.low is None or dot.high is None:
        return ""
    return f" ({chart.write(dot.low)} to {chart.write(dot.high)})"


def law_rows(chart: LawChart) -> tuple[tuple[str, ...], ...]:
    """Scale, value and interval of each dot, the target first."""
    return tuple(
        (name, dot.words, chart.write(dot.value), _span(chart, dot).strip(" ()") or "-")
        for name, dot in (("target", chart.target), *(("your runs", dot) for dot in chart.measured))
    )
