"""Routes to the best size of a budget side by side: each form of the loss law, and the minima of IsoFLOP profiles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from lawfit.advise.budget.belief import profiles
from lawfit.advise.budget.optimum import optimal_path
from lawfit.advise.budget.routes import told
from lawfit.documents import Plan, given
from lawfit.estimate.loss.isoflop import ISOFLOP, IsoFlop
from lawfit.plots import style
from lawfit.plots.planning import belief_of
from lawfit.plots.shown import Table
from lawfit.units import format_flops, format_quantity
from lawfit.words.loss import form_name

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from lawfit.records import Fit

Floats = NDArray[np.float64]

_POINTS: Final = 25
_SPARE: Final = 2.0  # the axis goes this factor beyond what is shown


@dataclass(frozen=True, kw_only=True)
class RoutesChart:
    """Best size against compute."""

    flops: Floats  # (c,)
    members: tuple[tuple[str, float, Floats], ...]  # name, share, best sizes (c,)
    profiles: Floats  # (budgets, 4) flops, params and ends of its interval; none without profiles
    line: Floats  # (3, c) by the law through the minima, and ends of its interval; (3, 0) without profiles
    plan: tuple[float, float]  # flops, params
    interval: tuple[float, float] | None


def member_name(row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """A form as people call it, with its window where it takes part with two."""
    if row["form"] == ISOFLOP:
        return "IsoFLOP profiles"
    first = min(other["fitted_from_flops"] for other in rows if other["form"] != ISOFLOP)
    larger = row["fitted_from_flops"] > first * (1 + 1e-6)
    return form_name(row["form"]) + (", larger runs" if larger else "")


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def shares_words(document: Plan) -> str:
    """What the shares of the routes go by."""
    if any(row["error_factor"] is not None for row in given(document["optimum"])["forms"]):
        near = "how near each, fitted to the smaller runs, foretold the best sizes (not the losses) of the larger ones"
        return f"{near}; profiles count as one route, all forms as another"
    return "how well each, fitted to the smaller runs, foretold the losses of the larger ones"


def members_table(document: Plan) -> Table:
    """Each member of the average with its share, how it fared inside the runs, and what it says alone."""
    optimum = given(document["optimum"])
    level = f"{100 * optimum['params']['level']:g} % interval"
    columns = ("route", "share", "off inside the runs", "parameters", level, "exponent")
    rows = [
        (
            member_name(row, optimum["forms"]),
            _percent(row["share"]),
            "-" if row["error_factor"] is None else f"{row['error_factor']:.2f}x",
            format_quantity(row["params"]),
            "",
            f"{row['params_exponent']:.2f}",
        )
        for row in optimum["forms"]
        if row["form"] != ISOFLOP
    ]
    if len(rows) > 1:
        alone = optimum["params_by_forms"]
        share = sum(row["share"] for row in optimum["forms"] if row["form"] != ISOFLOP)
        rows.append(("forms together", _percent(share), "", format_quantity(given(alone["value"])), _ends(alone), ""))
    if part := document.get("isoflop"):
        own = next((row for row in optimum["forms"] if row["form"] == ISOFLOP), None)
        factor = None if own is None else own["error_factor"]
        exponent = part["params_exponent"]
        rows.append(
            (
                "IsoFLOP profiles",
                "beside" if own is None else _percent(own["share"]),
                "-" if factor is None else f"{factor:.2f}x",
                format_quantity(part["params"]["value"]),
                _ends(part["params"]),
                _exponent(exponent),
            )
        )
    whole, exponent = optimum["params"], _exponent(optimum["params_exponent"])
    rows.append(("plan", "", "", format_quantity(whole["value"]), _ends(whole), exponent))
    return Table(columns=columns, rows=tuple(rows), numbers=columns[1:4], strong=len(rows) - 1)


def profiles_table(document: Plan) -> Table:
    """The minimum of each profile."""
    part = given(document.get("isoflop"))
    columns = ("budget, FLOPs", "sizes", "best size", f"{100 * part['params']['level']:g} % interval")
    return Table(
        columns=columns,
        rows=tuple(
            (
                format_flops(row["flops"]),
                str(row["sizes"]),
                format_quantity(row["params"]),
                _ends(row),
            )
            for row in part["budgets"]
        ),
        numbers=columns[:3],
    )


def _exponent(part: Mapping[str, Any]) -> str:
    ends = "" if part["low"] is None or part["high"] is None else f" ({part['low']:.2f} to {part['high']:.2f})"
    return f"{part['value']:.2f}{ends}"


def _ends(part: Mapping[str, Any]) -> str:
    if part["low"] is None or part["high"] is None:
        return "-"
    return f"{format_quantity(part['low'])} to {format_quantity(part['high'])}"


def routes_numbers(fit: Fit, document: Plan) -> RoutesChart:
    """Best sizes by every member from the cheapest run to beyond the budget, with the minima of profiles."""
    optimum = given(document["optimum"])
    belief = belief_of(fit, document)
    served = document["asked"].get("inference_tokens", 0.0)
    low, high = belief.scales["flops"]
    flops = np.geomspace(min(low, optimum["flops"]), _SPARE * max(high, optimum["flops"]), _POINTS)
    members = tuple(
        (
            member_name(row, optimum["forms"]),
            row["share"],
            np.exp(optimal_path(belief.alone[i], served=served, budgets=flops).log_params[0]),
        )
        for i, row in enumerate(optimum["forms"])
        if row["form"] != ISOFLOP
    )
    found = profiles(fit)
    shown, line = np.empty((0, 4)), np.empty((3, 0))
    if (part := document.get("isoflop")) and isinstance(found, IsoFlop):
        rows = part["budgets"]
        shown = np.array([[row[name] for name in ("flops", "params", "low", "high")] for row in rows], dtype=float)
        said = (found.at(float(c), belief.level) for c in flops)
        line = np.array([(value, *told(low, high)) for value, low, high in said]).T
    ends = optimum["params"]
    low_end, high_end = ends["low"], ends["high"]
    return RoutesChart(
        flops=flops,
        members=members,
        profiles=shown,
        line=line,
        plan=(optimum["flops"], ends["value"]),
        interval=None if low_end is None or high_end is None else (low_end, high_end),
    )


def routes_figure(chart: RoutesChart) -> Figure:
    """Lines of every form, points of profiles with their line and band, and the answer with its interval."""
    traces = [*_lines(chart), *_profiles(chart)]
    at, size = np.array([chart.plan[0]]), np.array([chart.plan[1]])
    answer: dict[str, Any] = {
        "type": "scatter",
        "mode": "markers",
        "name": "the plan's best size",
        "x": at.tolist(),
        "y": size.tolist(),
        "marker": {"symbol": "diamond", "size": 12, "color": style.colour("target")},
        "hovertemplate": "%{y:.3s} parameters at %{x:.2e} FLOPs<extra></extra>",
    }
    every = np.concatenate([size, *(sizes for *_, sizes in chart.members), chart.line.ravel()])
    if chart.interval is not None:
        low, high = (np.array([end]) for end in chart.interval)
        answer["error_y"] = _bars(size, low, high, style.colour("target"))
        every = np.concatenate([every, low, high])
    traces.append(answer)
    # one form that runs away does not flatten the others
    bottom, top = max(np.nanmin(every), size[0] / 1e4), min(np.nanmax(every), size[0] * 1e3)
    return style.figure(
        traces,
        {
            "xaxis": style.log_axis(
                "Compute, FLOPs", float(chart.flops[0]), float(chart.flops[-1]), write=format_flops
            ),
            "yaxis": style.log_axis("Best size, parameters", float(bottom), float(top)),
            "height": 460,
            "margin": {"b": 150},
        },
    )


def _lines(chart: RoutesChart) -> list[dict[str, Any]]:
    """Through the minima of the profiles, with its band, and of every form."""
    base = {"type": "scatter", "mode": "lines", "hoverinfo": "skip"}
    x = chart.flops.tolist()
    traces: list[dict[str, Any]] = []
    if chart.line.size:
        middle, low, high = chart.line
        known = np.isfinite(low)
        edge = {**base, "x": chart.flops[known].tolist(), "line": {"width": 0}, "showlegend": False}
        traces += [
            {**edge, "y": low[known].tolist()},
            {**edge, "y": high[known].tolist(), "fill": "tonexty", "fillcolor": style.colour("band")},
            {
                **base, "x": x, "y": middle.tolist(), "name": "through the minima",
                "line": {"color": style.colour("ours"), "width": 2.2},
            },
        ]  # fmt: skip
    for i, (name, share, sizes) in enumerate(chart.members):
        traces.append(
            {
                **base,
                "x": x,
                "y": sizes.tolist(),
                "name": f"{name} ({_percent(share)})",
                "line": {
                    "color": style.colour("others"),
                    "width": 0.8 + 3 * share,
                    "dash": style.DASHES[i % len(style.DASHES)],
                },
            }
        )
    return traces


def _profiles(chart: RoutesChart) -> list[dict[str, Any]]:
    if not len(chart.profiles):
        return []
    flops, params, low, high = chart.profiles.T
    return [
        {
            "type": "scatter",
            "mode": "markers",
            "name": "minimum of a profile",
            "x": flops.tolist(),
            "y": params.tolist(),
            "marker": {"size": 8, "color": style.colour("ours")},
            "error_y": _bars(params, low, high, style.colour("ours")),
            "hovertemplate": "%{y:.3s} parameters at %{x:.2e} FLOPs<extra></extra>",
        }
    ]


def _bars(value: Floats, low: Floats, high: Floats, colour: str) -> dict[str, Any]:
    return {
        "type": "data",
        "symmetric": False,
        "array": np.nan_to_num(high - value).clip(0).tolist(),
        "arrayminus": np.nan_to_num(value - low).clip(0).tolist(),
        "color": colour,
        "thickness": 1.6,
        "width": 4,
    }
