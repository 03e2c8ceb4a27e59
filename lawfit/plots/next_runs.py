"""Figures of what to run next: what is known of the target now and with these runs, and where the runs lie."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from lawfit.documents import NextRuns
from lawfit.plots import style
from lawfit.units import counted, format_lr, format_percent, format_quantity, format_scale

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

NOW: Final = "now"
AFTER: Final = "with these"
_RING: Final = (13.0, 40.0)  # px, of the fewest runs and the most
_TICKS: Final = 5  # they stand side by side on a phone
_SPARE: Final = 1.7  # the axes go this factor beyond what is shown


@dataclass(frozen=True, kw_only=True)
class Interval:
    """Of one quantity at the target."""

    name: str  # "lr" or "batch_tokens"
    value: float
    now: tuple[float, float]
    after: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Narrowing:
    """What is known now and what would be; regrets are shares of the loss."""

    intervals: tuple[Interval, ...]
    regret_now: float
    regret_after: float
    floor: float  # of both, what no run at other scales takes away
    level: float


@dataclass(frozen=True, kw_only=True)
class Ring:
    """A scale with planned runs."""

    params: float
    tokens: float
    runs: int
    places: tuple[int, ...]  # of its grids in the order of the plan, from 1
    why: str


@dataclass(frozen=True, kw_only=True)
class ScaleMap:
    """Scales that have runs, those that get some, and the target."""

    known: tuple[tuple[float, float, int], ...]  # params, tokens, runs
    rings: tuple[Ring, ...]
    target: tuple[float, float]


def narrowing_numbers(document: NextRuns) -> Narrowing:
    target, now, after = document["target"], document["now"], document["after"]

    def ends(value: float, factor: float) -> tuple[float, float]:
        return value / factor, value * factor

    intervals = (
        Interval(
            name="lr",
            value=target["lr"],
            now=ends(target["lr"], now["lr_factor"]),
            after=ends(target["lr"], after["lr_factor"]),
        ),
        Interval(
            name="batch_tokens",
            value=target["batch_tokens"],
            now=ends(target["batch_tokens"], now["batch_factor"]),
            after=ends(target["batch_tokens"], after["batch_factor"]),
        ),
    )
    return Narrowing(
        intervals=intervals,
        regret_now=now["expected_regret"],
        regret_after=after["expected_regret"],
        floor=now["floor"],
        level=target["level"],
    )


def map_numbers(document: NextRuns) -> ScaleMap:
    """Grids at one scale are one ring; `document` is told."""
    scales: dict[tuple[float, float], list[tuple[int, Mapping[str, Any]]]] = {}
    for place, grid in enumerate(document["grids"], 1):
        scales.setdefault((grid["params"], grid["tokens"]), []).append((place, grid))
    rings = tuple(
        Ring(
            params=params,
            tokens=tokens,
            runs=sum(grid["runs"] for _, grid in grids),
            places=tuple(place for place, _ in grids),
            why=grids[0][1]["why"],
        )
        for (params, tokens), grids in scales.items()
    )
    return ScaleMap(
        known=tuple((each["params"], each["tokens"], each["runs"]) for each in document["known"]),
        rings=rings,
        target=(document["target"]["params"], document["target"]["tokens"]),
    )


def narrowing_figure(chart: Narrowing) -> Figure:
    """Intervals of learning rate and batch, and the expected regret: now above, with these runs below."""
    traces: list[dict[str, Any]] = []
    layout: dict[str, Any] = {"height": 430, "showlegend": False, "margin": {"l": 84, "b": 52}}
    rows = ((0.76, 1.0), (0.40, 0.64), (0.04, 0.28))
    writers: dict[str, tuple[Callable[[float], str], Callable[[float], str]]] = {
        "lr": (format_lr, style.tick_lr),
        "batch_tokens": (format_quantity, format_quantity),
    }
    titles = {"lr": "Best learning rate at the target", "batch_tokens": "Best batch at the target (tokens)"}
    for index, interval in enumerate(chart.intervals):
        write, tick = writers[interval.name]
        line, _ = style.quantity_colours(interval.name)
        for words, ends, shade in ((NOW, interval.now, style.colour("others")), (AFTER, interval.after, line)):
            said = f"{words}: {write(ends[0])} to {write(ends[1])} ({100 * chart.level:g} %)"
            traces.append(_bar(index, ends, words, shade, said))
        traces.append(_middle(index, interval.value, write(interval.value)))
        low, high = (min(interval.now[0], interval.after[0]), max(interval.now[1], interval.after[1]))
        x = style.log_axis(titles[interval.name], low, high, write=tick)
        few = style.log_ticks(low, high, most=_TICKS)
        layout |= _axes(index, rows[index], {**x, "tickvals": few, "ticktext": [tick(each) for each in few]})
    index = len(chart.intervals)
    for words, value, shade in (
        (NOW, chart.regret_now, style.colour("others")),
        (AFTER, chart.regret_after, style.colour("target")),
    ):
        traces.append(_bar(index, (0.0, 100 * value), words, shade, f"{words}: {format_percent(value)} of the loss"))
    regret = {"title": {"text": "Expected regret: loss given up (%)", "standoff": 8}, "rangemode": "tozero"}
    layout |= _axes(index, rows[index], regret)
    if chart.floor > 0:
        at = f"x{index + 1}"
        dotted = {"color": style.colour("ink"), "width": 1.2, "dash": "dot"}
        floor = {"type": "line", "xref": at, "yref": f"y{index + 1} domain", "y0": 0, "y1": 1, "line": dotted}
        layout["shapes"] = [{**floor, "x0": 100 * chart.floor, "x1": 100 * chart.floor}]
    return style.figure(traces, layout)


def _axes(index: int, domain: tuple[float, float], x: Mapping[str, Any]) -> dict[str, Any]:
    number = "" if index == 0 else str(index + 1)
    y = {
        "domain": list(domain), "type": "category", "categoryorder": "array", "categoryarray": [AFTER, NOW],
        "range": [-0.6, 1.6], "showgrid": False, "anchor": f"x{number}",
    }  # fmt: skip
    return {f"xaxis{number}": {**x, "anchor": f"y{number}"}, f"yaxis{number}": y}


def _bar(index: int, ends: tuple[float, float], row: str, shade: str, words: str) -> dict[str, Any]:
    return {
        "type": "scatter", "mode": "lines", "x": list(ends), "y": [row, row], "text": [words, words],
        "hovertemplate": "%{text}<extra></extra>", "line": {"color": shade, "width": 16}, **_on(index),
    }  # fmt: skip


def _middle(index: int, value: float, words: str) -> dict[str, Any]:
    marker = {"symbol": "line-ns", "size": 16, "line": {"color": style.colour("paper"), "width": 2.5}}
    return {
        "type": "scatter", "mode": "markers", "x": [value, value], "y": [NOW, AFTER], "text": [words, words],
        "marker": marker, "hovertemplate": "best as far as is known: %{text}<extra></extra>", **_on(index),
    }  # fmt: skip


def _on(index: int) -> dict[str, str]:
    return {} if index == 0 else {"xaxis": f"x{index + 1}", "yaxis": f"y{index + 1}"}


def map_figure(chart: ScaleMap) -> Figure:
    """Size against horizon: dots have runs, rings get some, the more the wider, numbered in the order of the plan."""
    traces: list[dict[str, Any]] = []
    if chart.known:
        params, tokens, runs = zip(*chart.known, strict=True)
        dots = {"size": 8, "color": style.colour("ours"), "line": {"color": style.colour("paper"), "width": 1.2}}
        words = [
            f"{format_scale(n, d)}<br>{counted(count, 'run')} already"
            for n, d, count in zip(params, tokens, runs, strict=True)
        ]
        traces.append(_marks("has runs", params, tokens, words, dots))
    traces.append(_rings(chart.rings))
    place = [f"target: {format_scale(*chart.target)}"]
    diamond = {"symbol": "diamond", "size": 13, "color": style.colour("ink")}
    traces.append(_marks("target", [chart.target[0]], [chart.target[1]], place, diamond))
    x, y = [ring.params for ring in chart.rings], [ring.tokens for ring in chart.rings]
    every = [*((n, d) for n, d, _ in chart.known), *zip(x, y, strict=True), chart.target]
    (low_x, high_x), (low_y, high_y) = ((min(axis) / _SPARE, max(axis) * _SPARE) for axis in zip(*every, strict=True))
    layout = {
        "xaxis": style.log_axis("Parameters", low_x, high_x, margin=0.0),
        "yaxis": style.log_axis("Training tokens", low_y, high_y, margin=0.0),
        "height": 430,
        "margin": {"b": 108},
    }
    return style.figure(traces, layout)


def _rings(rings: Sequence[Ring]) -> dict[str, Any]:
    most = max(ring.runs for ring in rings)
    marker = {
        "symbol": "circle-open", "size": [max(_RING[0], _RING[1] * math.sqrt(ring.runs / most)) for ring in rings],
        "color": style.colour("target"), "line": {"color": style.colour("target"), "width": 2.2},
    }  # fmt: skip
    words = [
        f"{format_scale(ring.params, ring.tokens)}<br>{counted(ring.runs, 'run')}, "
        f"grid {', '.join(map(str, ring.places))}<br>{ring.why}"
        for ring in rings
    ]
    x, y = [ring.params for ring in rings], [ring.tokens for ring in rings]
    return {
        **_marks("planned, wider for more runs", x, y, words, marker),
        "mode": "markers+text",
        "text": [str(ring.places[0]) for ring in rings],
        "textposition": "middle center",
        "textfont": {"color": style.colour("ink"), "size": 11},
    }


def _marks(name: str, x: Any, y: Any, words: list[str], marker: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "scatter", "mode": "markers", "name": name, "x": list(x), "y": list(y), "hovertext": words,
        "hovertemplate": "%{hovertext}<extra></extra>", "marker": dict(marker),
    }  # fmt: skip
