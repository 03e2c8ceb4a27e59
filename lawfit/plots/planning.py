"""Figures of a plan: loss along the budget, losses over sizes and tokens, and compute against time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from lawfit.advise.budget.belief import LossBelief
from lawfit.advise.budget.optimum import FLOPS_PER_SERVED_TOKEN, OptimalPath, optimal_path, tokens_for_each
from lawfit.ask import THIRD_INPUTS, ThirdInputs
from lawfit.documents import Plan
from lawfit.documents.plan import TimePart, TimeRow
from lawfit.kinds.expected_loss import predictions
from lawfit.kinds.third_input import asked_for
from lawfit.laws.loss import FLOPS_PER_PARAM_TOKEN
from lawfit.plots import style
from lawfit.units import format_flops, format_quantity, format_scale

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from lawfit.records import Fit

Floats = NDArray[np.float64]

_POINTS: Final = 81
_PATH_POINTS: Final = 24
_LINES: Final = 7  # of equal loss
_SPARE: Final = 2.0  # the axes go this factor beyond what is shown
_ROOM: Final = 1.6  # factor of the loss above the lowest, beyond which an interval is cut


@dataclass(frozen=True, kw_only=True)
class ValleyChart:
    """Loss against parameters at one budget."""

    params: Floats  # (n,)
    tokens: Floats
    loss: Floats  # by the centre of the fit
    low: Floats  # of its interval; NaN without one
    high: Floats
    level: float
    plan: tuple[float, float]  # parameters, loss
    interval: tuple[float, float] | None  # of the best size
    zones: Mapping[str, tuple[float, float]]  # cost -> parameters


@dataclass(frozen=True, kw_only=True)
class PlaneChart:
    """Losses over parameters and tokens: one's runs, the best splits, the plan."""

    runs: Floats  # (n, 2) params, tokens
    plan: tuple[float, float]
    path: OptimalPath | None  # None: the runs do not say the best splits
    low: Floats  # (c,) of the best size at each budget of the path; NaN without one
    high: Floats
    level: float
    lines: tuple[tuple[float, Floats, Floats], ...]  # loss, params, tokens
    budget: tuple[Floats, Floats]  # params, tokens that it buys
    x: tuple[float, float]
    y: tuple[float, float]


def valley_numbers(fit: Fit, document: Plan) -> ValleyChart:
    """Loss along the plan's budget, over the sizes that its interval and its alternatives span."""
    belief, optimum, plan = belief_of(fit, document), document["optimum"], document["plan"]
    sizes = [row["params"] for row in document["alternatives"]]
    if optimum is not None:
        sizes += [*optimum["cheap_zone"]["0.01"], optimum["central_params"]]
    params = np.unique(np.append(np.geomspace(min(sizes), max(sizes), _POINTS), plan["params"]))
    served = document["asked"].get("inference_tokens", 0.0)
    tokens = (document["budget"]["flops"] / params - FLOPS_PER_SERVED_TOKEN * served) / FLOPS_PER_PARAM_TOKEN
    params, tokens = params[tokens >= 1], tokens[tokens >= 1]
    said = predictions(belief.source, params, tokens)
    low, high = np.array([(each.expected.low, each.expected.high) for each in said], dtype=float).T
    ends = None if optimum is None or "budget" in optimum else (optimum["params"]["low"], optimum["params"]["high"])
    stated = belief.predict(plan["params"], plan["tokens"]).value  # the plan's; other sizes are told beside it
    level = np.log(stated) - belief.centre([plan["params"]], [plan["tokens"]])[0]
    return ValleyChart(
        params=params,
        tokens=tokens,
        loss=np.exp(belief.centre(params, tokens) + level),
        low=low,
        high=high,
        level=document["asked"]["level"],
        plan=(plan["params"], stated),
        interval=None if ends is None or ends[0] is None or ends[1] is None else (ends[0], ends[1]),
        zones={} if optimum is None else {cost: (ends[0], ends[1]) for cost, ends in optimum["cheap_zone"].items()},
    )


def plane_numbers(fit: Fit, document: Plan) -> PlaneChart:
    """The plan among one's runs: lines of equal loss, the compute-optimal path and the budget."""
    belief, plan = belief_of(fit, document), document["plan"]
    here = np.array([[plan["params"], plan["tokens"]]])
    shown = np.concatenate([belief.points, here])
    x, y = ((float(c.min() / _SPARE), float(c.max() * _SPARE)) for c in shown.T)
    params = np.geomspace(*x, _POINTS)
    losses = np.exp(belief.centre(*shown.T))
    levels = _levels(losses)
    reached = tokens_for_each(belief.centre, belief.scales, levels, params)
    lines = tuple((level, params, tokens) for level, tokens in zip(levels, reached, strict=True))
    served = document["asked"].get("inference_tokens", 0.0)
    path, low, high = None, np.zeros(0), np.zeros(0)
    if document["optimum"] is not None:
        flops = FLOPS_PER_PARAM_TOKEN * shown.prod(axis=1)
        budgets = np.geomspace(flops.min(), flops.max() * _SPARE, _PATH_POINTS)
        path = optimal_path(belief, budgets=budgets)
        bounds = [belief.bounds(column) for column in path.log_params[1:].T]
        low, high = np.exp([(np.nan, np.nan) if b is None else b for b in bounds]).T
    bought = (document["budget"]["flops"] / params - FLOPS_PER_SERVED_TOKEN * served) / FLOPS_PER_PARAM_TOKEN
    return PlaneChart(
        runs=belief.points,
        plan=(plan["params"], plan["tokens"]),
        path=path,
        low=low,
        high=high,
        level=document["asked"]["level"],
        lines=lines,
        budget=(params[bought > 0], bought[bought > 0]),
        x=x,
        y=y,
    )


def belief_of(fit: Fit, document: Plan) -> LossBelief:
    asked = ThirdInputs(**{name: document["asked"][name] for name in THIRD_INPUTS if name in document["asked"]})
    third = asked_for(fit.payload, asked, document["asked"].get("tokens"))
    return LossBelief.of(fit, document["asked"]["level"], third)


def _levels(losses: Floats) -> Floats:
    """Round losses across what is shown."""
    low, high = float(losses.min()), float(losses.max())
    step = (high - low) / _LINES
    unit = 10.0 ** math.floor(math.log10(max(step, 1e-3)))
    step = next(unit * k for k in (1, 2, 5, 10) if unit * k >= step)
    return np.array([k * step for k in range(math.ceil(low / step), math.floor(high / step) + 1)])


def valley_figure(chart: ValleyChart) -> Figure:
    """The loss along the budget with its band, what costs little, and the plan with the interval of the best size."""
    least, most = float(chart.loss.min()), float(chart.loss.max())
    ends = [v for v in (*chart.low, *chart.high) if np.isfinite(v)]
    bottom = max(min([*ends, least]), least - (_ROOM - 1) * 0.25 * least)
    top = min(max([*ends, most]), most + 0.25 * (_ROOM - 1) * least)
    spare = (top - bottom) / 25
    shapes = [
        {
            "type": "rect", "xref": "x", "yref": "paper", "x0": zone[0], "x1": zone[1], "y0": 0, "y1": 1,
            "fillcolor": style.colour("inner_zone" if float(cost) <= 0.001 else "zone"), "line": {"width": 0},
            "layer": "below",
        }
        for cost, zone in sorted(chart.zones.items(), key=lambda item: -float(item[0]))
    ]  # fmt: skip
    line = {"type": "scatter", "mode": "lines", "x": chart.params.tolist(), "hoverinfo": "skip"}
    traces: list[dict[str, Any]] = []
    if np.isfinite(chart.low).all():
        low = {**line, "y": chart.low.tolist(), "line": {"width": 0}, "showlegend": False}
        traces += [low, {**low, "y": chart.high.tolist(), "fill": "tonexty", "fillcolor": style.colour("band")}]
    words = [
        f"{format_scale(n, d)}<br>{y:.4g} nats per token"
        for n, d, y in zip(chart.params, chart.tokens, chart.loss, strict=True)
    ]
    traces.append(
        {
            **line,
            "y": chart.loss.tolist(),
            "name": f"expected loss, {100 * chart.level:g} %",
            "line": {"color": style.colour("ours"), "width": 2.4},
            "text": words,
            "hoverinfo": "text",
        }
    )
    params, loss = chart.plan
    bar = {} if chart.interval is None else {"error_x": _bar(params, *chart.interval)}
    traces.append({**_diamond(params, loss, f"plan: {format_quantity(params)} parameters"), **bar})
    return style.figure(
        traces,
        {
            "xaxis": style.log_axis(
                "Parameters, the rest of the budget in tokens", float(chart.params[0]), float(chart.params[-1])
            ),
            "yaxis": {"title": {"text": "Loss (nats per token)"}, "range": [bottom - spare, top + spare]},
            "shapes": shapes,
            "height": 400,
            "margin": {"b": 118},
        },
    )


def _bar(value: float, low: float, high: float) -> dict[str, Any]:
    """An interval beside the plan."""
    return {
        "type": "data",
        "symmetric": False,
        "array": [max(high - value, 0.0)],
        "arrayminus": [max(value - low, 0.0)],
        "color": style.colour("target"),
        "thickness": 1.6,
        "width": 5,
    }


def _loss_lines(chart: PlaneChart) -> list[dict[str, Any]]:
    """Lines of equal loss, each with its loss near an end."""
    traces: list[dict[str, Any]] = []
    for loss, params, tokens in chart.lines:
        inside = np.isfinite(tokens) & (tokens >= chart.y[0]) & (tokens <= chart.y[1])
        if inside.sum() < 2:
            continue
        where = np.flatnonzero(inside)
        labels = [""] * len(where)
        labels[-1 if len(where) < 12 else -max(2, len(where) // 12)] = f"{loss:.4g}"
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+text",
                "x": params[where].tolist(),
                "y": tokens[where].tolist(),
                "text": labels,
                "textposition": "top center",
                "textfont": {"color": style.colour("muted"), "size": 11},
                "line": {"color": style.colour("axis"), "width": 1.1},
                "hoverinfo": "skip",
                "showlegend": False,
            }
        )
    return traces


def plane_figure(chart: PlaneChart) -> Figure:
    """Lines of equal loss over parameters and tokens, with runs, best splits, budget and plan."""
    traces = [*_loss_lines(chart), *_path_traces(chart)]
    traces.append(
        {
            "type": "scatter",
            "mode": "lines",
            "name": "your budget",
            "x": chart.budget[0].tolist(),
            "y": chart.budget[1].tolist(),
            "line": {"color": style.colour("target"), "width": 1.3, "dash": "dash"},
            "hoverinfo": "skip",
        }
    )
    traces.append(
        {
            "type": "scatter",
            "mode": "markers",
            "name": "your runs",
            "x": chart.runs[:, 0].tolist(),
            "y": chart.runs[:, 1].tolist(),
            "marker": {
                "symbol": "circle",
                "size": 8,
                "color": style.colour("ours"),
                "line": {"color": style.colour("paper"), "width": 1.2},
            },
            "text": [format_scale(n, d) for n, d in chart.runs],
            "hovertemplate": "%{text}<extra></extra>",
        }
    )
    traces.append(_diamond(*chart.plan, "plan", words=format_scale(*chart.plan)))
    layout = {
        "xaxis": style.log_axis("Parameters", *chart.x, margin=0.0),
        "yaxis": style.log_axis("Training tokens", *chart.y, margin=0.0),
        "height": 400,
        "margin": {"b": 118},
    }
    return style.figure(traces, layout)


def _path_traces(chart: PlaneChart) -> list[dict[str, Any]]:
    if chart.path is None:
        return []
    params, tokens = np.exp(chart.path.log_params[0]), np.exp(chart.path.log_tokens[0])
    base = {"type": "scatter", "mode": "lines", "hoverinfo": "skip"}
    traces: list[dict[str, Any]] = []
    if len(chart.low) and np.isfinite(chart.low).all():
        product = params * tokens
        around_x = np.concatenate([chart.low, chart.high[::-1]])
        around_y = np.concatenate([product / chart.low, (product / chart.high)[::-1]])
        traces.append(
            {
                **base,
                "x": around_x.tolist(),
                "y": around_y.tolist(),
                "line": {"width": 0},
                "fill": "toself",
                "fillcolor": style.colour("band"),
                "showlegend": False,
            }
        )
    traces.append(
        {
            **base,
            "name": f"best split of each compute, {100 * chart.level:g} %",
            "x": params.tolist(),
            "y": tokens.tolist(),
            "line": {"color": style.colour("ours"), "width": 2.2},
        }
    )
    return traces


def time_figure(time: TimePart) -> Figure:
    """Compute against serial time, both relative to the plan: larger batches alone, and with sizes to match."""
    traces = []
    sizes = {id(row): f", {format_quantity(row['params'])} parameters" for row in time["frontier"]}
    lines: list[tuple[str, Sequence[TimeRow], dict[str, Any]]] = [
        ("larger batches at the planned size", time["batches"], {"color": style.colour("others"), "width": 1.8}),
        ("size and batch together", time["frontier"], {"color": style.colour("ours"), "width": 2.4}),
    ]
    for name, rows, look in lines:
        if not rows:
            continue
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": name,
                "x": [row["time_ratio"] for row in rows],
                "y": [row["compute_ratio"] for row in rows],
                "line": look,
                "marker": {"size": 7, "color": look["color"]},
                "text": [
                    f"batch {format_quantity(row['batch_tokens'])}, {format_quantity(row['tokens'])} tokens"
                    + sizes.get(id(row), "")
                    + f"<br>{row['steps']:,.0f} steps, {format_flops(row['flops'])} FLOPs"
                    for row in rows
                ],
                "hovertemplate": "%{text}<extra></extra>",
            }
        )
    every = [row for _, rows, _ in lines for row in rows]
    traces.append(_diamond(1.0, 1.0, "plan"))
    layout = {
        "xaxis": style.log_axis(
            "Serial time (the plan's is 1)", min(r["time_ratio"] for r in every), 1.1, write=lambda v: f"{v:.3g}"
        ),
        "yaxis": style.log_axis(
            "Compute (the plan's is 1)", 0.95, max(r["compute_ratio"] for r in every), write=lambda v: f"{v:.3g}"
        ),
        "height": 400,
        "margin": {"b": 118},
    }
    return style.figure(traces, layout)


def _diamond(x: float, y: float, name: str, *, words: str | None = None) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [x],
        "y": [y],
        "marker": {
            "symbol": "diamond",
            "size": 13,
            "color": style.colour("target"),
            "line": {"color": style.colour("paper"), "width": 1.2},
        },
        "text": [words or name],
        "hovertemplate": "%{text}<extra></extra>",
    }
