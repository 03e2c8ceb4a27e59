"""Figures of a study: what was known of the target after each round, beside what was promised; where the runs lie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from lawfit.documents import Study
from lawfit.plots import style
from lawfit.units import counted, format_flops, format_percent, format_quantity

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

PARTS: Final = ("lr_factor", "batch_factor", "expected_regret")
_TITLES: Final = {
    "lr_factor": "Learning rate within x",
    "batch_factor": "Batch within x",
    "expected_regret": "Loss given up (%)",
}
_COLOURS: Final = {"lr_factor": "ours", "batch_factor": "batch", "expected_regret": "target"}
_RING: Final = (12.0, 36.0)  # px, of the fewest runs and the most
_SPARE: Final = 1.7  # the axes go this factor beyond what is shown
_DOMAINS: Final = ((0.72, 1.0), (0.36, 0.64), (0.0, 0.28))


@dataclass(frozen=True, kw_only=True)
class Step:
    """What was expected of the target when some of the budget was spent; regrets in %."""

    spent: float  # in the unit of the budget
    round: int  # 0: before the first
    values: Mapping[str, float]  # of `PARTS`


@dataclass(frozen=True, kw_only=True)
class History:
    """What each round taught, by what was spent at its end."""

    known: tuple[Step, ...]
    promised: tuple[tuple[Step, Step], ...]  # from what was known to what was promised
    unit: str


@dataclass(frozen=True, kw_only=True)
class RoundsMap:
    """Where the runs of each round lie, and the target."""

    rings: tuple[tuple[int, float, float, int], ...]  # round, params, tokens, runs
    target: tuple[float, float]


def history_numbers(document: Study) -> History:
    """Rounds without an answer leave a gap in what is known, and count in what is spent."""
    known: list[Step] = []
    promised: list[tuple[Step, Step]] = []
    spent = 0.0
    for one in document["rounds"]:
        began, spent = spent, spent + one["made"]["cost"]
        if one["before"] is not None and one["promised"] is not None:
            before = Step(spent=began, round=one["number"] - 1, values=_values(one["before"]))
            known += [before] if not known else []
            promised.append((before, Step(spent=spent, round=one["number"], values=_values(one["promised"]))))
        if one["got"] is not None:
            known.append(Step(spent=spent, round=one["number"], values=_values(one["got"])))
    return History(known=tuple(known), promised=tuple(promised), unit=document["budget"]["unit"])


def _values(there: Mapping[str, Any]) -> dict[str, float]:
    return {name: (100.0 if name == "expected_regret" else 1.0) * there[name] for name in PARTS}


def map_numbers(document: Study) -> RoundsMap:
    """Grids of one round at one scale are one ring."""
    rings: dict[tuple[int, float, float], int] = {}
    for one in document["rounds"]:
        for scale in one["scales"]:
            place = (one["number"], scale["params"], scale["tokens"])
            rings[place] = rings.get(place, 0) + scale["runs"]
    found = tuple((*place, runs) for place, runs in rings.items())
    return RoundsMap(rings=found, target=(document["target"]["params"], document["target"]["tokens"]))


def history_figure(chart: History) -> Figure:
    """One panel for each part: a line through what was known, and dotted ones to what was promised."""
    traces: list[dict[str, Any]] = []
    layout: dict[str, Any] = {"height": 620, "margin": {"l": 74}}
    for index, part in enumerate(PARTS):
        number = "" if index == 0 else str(index + 1)
        shade, axes = style.colour(_COLOURS[part]), {"xaxis": f"x{number}", "yaxis": f"y{number}"}
        for before, after in chart.promised:
            ends = (before, after)
            traces.append(
                {
                    **axes, "type": "scatter", "mode": "lines+markers", "name": "promised", "showlegend": False,
                    "x": [each.spent for each in ends], "y": [each.values[part] for each in ends],
                    "line": {"color": style.colour("others"), "dash": "dot", "width": 1.6},
                    "marker": {"size": [0, 9], "symbol": "circle-open", "color": style.colour("others")},
                    "text": ["", f"promised by round {after.round}: {_written(part, after.values[part])}"],
                    "hovertemplate": "%{text}<extra></extra>",
                }
            )  # fmt: skip
        traces.append(
            {
                **axes, "type": "scatter", "mode": "lines+markers", "name": "got", "showlegend": False,
                "x": [each.spent for each in chart.known], "y": [each.values[part] for each in chart.known],
                "line": {"color": shade, "width": 2.2}, "marker": {"size": 9, "color": shade},
                "text": [f"{_when(each.round)}: {_written(part, each.values[part])}" for each in chart.known],
                "hovertemplate": "%{text}<extra></extra>",
            }
        )  # fmt: skip
        layout[f"xaxis{number}"] = {"anchor": f"y{number}", "rangemode": "tozero", "title": {"text": ""}}
        layout[f"yaxis{number}"] = {
            "domain": list(_DOMAINS[index]), "anchor": f"x{number}", "title": {"text": _TITLES[part], "standoff": 8},
            **({"rangemode": "tozero"} if part == "expected_regret" else {}),
        }  # fmt: skip
    layout |= {name: {**layout[name], "exponentformat": "power"} for name in layout if name.startswith("xaxis")}
    layout["xaxis3"]["title"] = {"text": f"Spent ({_unit(chart.unit)})", "standoff": 8}
    return style.figure(traces, layout)


def map_figure(chart: RoundsMap) -> Figure:
    """A ring for each scale of a round, wider for more runs; the target is a diamond."""
    most = max(runs for *_, runs in chart.rings)
    shades = style.scale_colours(max(number for number, *_ in chart.rings))
    traces: list[dict[str, Any]] = []
    for number in sorted({each[0] for each in chart.rings}):
        own = [each for each in chart.rings if each[0] == number]
        traces.append(
            {
                "type": "scatter", "mode": "markers", "name": f"round {number}",
                "x": [params for _, params, _, _ in own], "y": [tokens for _, _, tokens, _ in own],
                "marker": {
                    "symbol": "circle-open", "size": [_RING[0] + (_RING[1] - _RING[0]) * r / most for *_, r in own],
                    "color": shades[number - 1], "line": {"width": 2.4},
                },
                "text": [
                    f"round {number}: {counted(r, 'run')} at {format_quantity(p)} on {format_quantity(t)}"
                    for _, p, t, r in own
                ],
                "hovertemplate": "%{text}<extra></extra>",
            }
        )  # fmt: skip
    traces.append(
        {
            "type": "scatter", "mode": "markers", "name": "target", "x": [chart.target[0]], "y": [chart.target[1]],
            "marker": {"symbol": "diamond", "size": 13, "color": style.colour("target")},
            "hovertemplate": "the target<extra></extra>",
        }
    )  # fmt: skip
    sizes = [chart.target[0], *(each[1] for each in chart.rings)]
    horizons = [chart.target[1], *(each[2] for each in chart.rings)]
    layout = {
        "xaxis": style.log_axis("Parameters", min(sizes) / _SPARE, max(sizes) * _SPARE),
        "yaxis": style.log_axis("Training tokens", min(horizons) / _SPARE, max(horizons) * _SPARE),
    }
    return style.figure(traces, layout)


def written(part: str, values: Mapping[str, float]) -> str:
    """A part of `Step.values` as people write it."""
    return _written(part, values[part])


def _written(part: str, value: float) -> str:
    return format_percent(value / 100) if part == "expected_regret" else f"x{value:.2f}"


def _when(number: int) -> str:
    return f"after round {number}" if number else "before the first round"


def _unit(unit: str) -> str:
    return {"flops": "FLOPs", "gpu-hours": "GPU-hours"}.get(unit, unit)


def spent_number(spent: float, unit: str) -> str:
    """What was spent, beside its number."""
    return format_flops(spent) if unit == "flops" else f"{spent:.4g}"
