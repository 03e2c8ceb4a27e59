"""How the best learning rate and batch size move with scale: cells, the law and its interval, target, published laws.

The interval band is made of the same draws that the recommendation is made of (`lawfit.advise`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from lawfit.advise.draws import Worlds, draw_worlds
from lawfit.advise.regret import best_batch, lr_given_batch
from lawfit.documents import Answer, given, setting_of
from lawfit.laws.published import published_laws
from lawfit.plots import style
from lawfit.plots.optima import scale_optimum
from lawfit.units import format_lr, format_percent, format_quantity, format_scale
from lawfit.words.answers import INPUT_WORDS, QUANTITY_WORDS, optimum_words

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from lawfit.records import Fit

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

LAWS_SHOWN: Final = 5  # sources, the cheapest on the user's runs; the others can be switched on in the legend
FIRST_IN_LEGEND: Final = 1
LAST_IN_LEGEND: Final = 2000  # plotly's own entries rank 1000
MOST_FAMILIES: Final = 5
MOST_NAMED: Final = 8  # of the values that dots are coloured by, in the legend
_POINTS: Final = 25
_BEYOND_TARGET: Final = 1.6
_LABEL: Final = 25
_ROOM_FOR_OTHERS: Final = 1.6


@dataclass(frozen=True, kw_only=True)
class CellOptimum:
    """Fitted optimum of one cell."""

    params: float
    tokens: float
    value: float
    low: float  # of a 90 % interval
    high: float
    status: str  # records.OptimumStatus
    near: int | None  # settings tried near it; None in fits of before they were counted


@dataclass(frozen=True, kw_only=True)
class LawLine:
    """The fitted law along one input, at one value of the other, over the cells that have about that value."""

    other: float  # the value of the input that is not on the axis
    x: Floats
    value: Floats


@dataclass(frozen=True, kw_only=True)
class PublishedLine:
    """What a published law says along the axis, the other input being the target's."""

    law: str
    label: str
    x: Floats
    value: Floats
    regret: float | None  # mean share of loss it costs on these runs
    in_range: bool  # at the target
    shown: bool


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """What one scaling figure shows."""

    quantity: str  # "lr" or "batch_tokens"
    along: str  # "tokens" or "params"
    level: float
    cells: tuple[CellOptimum, ...]
    families: tuple[LawLine, ...]
    x: Floats  # (n,) the target's line: the other input is the target's
    value: Floats  # (n,) median of the draws
    low: Floats
    high: Floats
    target: Mapping[str, float]  # params, tokens
    recommended: float
    recommended_low: float
    recommended_high: float
    given: bool  # the batch was given, so there is nothing to recommend
    measured: tuple[float, float]  # range of the axis that the runs cover
    published: tuple[PublishedLine, ...]

    @property
    def other(self) -> str:
        return "params" if self.along == "tokens" else "tokens"


def scaling_numbers(fit: Fit, document: Answer, quantity: str, along: str = "tokens") -> Scaling:
    """The numbers of one scaling figure.

    Parameters
    ----------
    fit : the stored fit that the recommendation was made from
    document : the recommendation (`pipeline.recommend`)
    quantity : {"lr", "batch_tokens"}
    along : {"tokens", "params"}
        What the axis shows; the other input is the target's.
    """
    if quantity not in QUANTITY_WORDS or along not in ("tokens", "params"):
        raise ValueError(f"no scaling figure of '{quantity}' along '{along}'")
    model, target = fit.payload["model"], document["target"]
    said, here = setting_of(document["recommendation"], quantity), target["tokens" if along == "tokens" else "params"]
    measured = (float(model["ranges"][along][0]), float(model["ranges"][along][1]))
    ends = min(measured[0], here), max(measured[1], here * _BEYOND_TARGET)
    x = np.unique(np.append(np.geomspace(*ends, _POINTS), here))
    scales = [_scale(along, value, target) for value in x]
    worlds = [draw_worlds(model, *scale) for scale in scales]
    batches, imposed = _batches(document, worlds, scales)
    logs = [_plausible(quantity, *each) for each in zip(worlds, batches, imposed, strict=True)]
    tail = (1 - said["level"]) / 2
    low, middle, high = np.exp(np.quantile(np.array(logs), [tail, 0.5, 1 - tail], axis=1))
    return Scaling(
        quantity=quantity,
        along=along,
        level=said["level"],
        cells=tuple(
            _cell(model, cell, quantity) for cell in fit.payload["cells"] if cell["optimum"][quantity] is not None
        ),
        families=_families(model, fit.payload["cells"], quantity, along),
        x=x,
        value=middle,
        low=low,
        high=high,
        target={"params": target["params"], "tokens": target["tokens"]},
        recommended=said["value"],
        recommended_low=said["low"],
        recommended_high=said["high"],
        given=quantity == "batch_tokens" and bool(target.get("batch_tokens")),
        measured=measured,
        published=_published(document, scales, np.exp(batches), quantity, x),
    )


def _cell(model: Mapping[str, Any], cell: Mapping[str, Any], quantity: str) -> CellOptimum:
    found = scale_optimum(model, cell)
    value, low, high = found.interval(quantity)
    scale = {"params": found.params, "tokens": found.tokens}
    return CellOptimum(**scale, value=value, low=low, high=high, status=found.status, near=found.near)


def _plausible(quantity: str, worlds: Worlds, log_batch: float, imposed: bool) -> Floats:
    """Draws of what an interval is about: the optimum, or the best learning rate where the batch is imposed."""
    if quantity == "batch_tokens":
        return worlds.log_batch
    return lr_given_batch(worlds, log_batch) if imposed else worlds.log_lr


def _scale(along: str, value: float, target: Mapping[str, Any]) -> tuple[float, float]:
    return (target["params"], float(value)) if along == "tokens" else (float(value), target["tokens"])


def _batches(document: Answer, worlds: Sequence[Worlds], scales: Sequence[tuple[float, float]]) -> tuple[Floats, Bools]:
    """ln of the batch at every scale, and whether it is imposed (given, or the largest allowed) or the law's own."""
    target = document["target"]
    chosen = math.log(given(document["recommendation"]["batch_tokens"])["value"])
    if target.get("batch_tokens"):
        return np.full(len(worlds), chosen), np.ones(len(worlds), dtype=bool)
    at = scales.index((target["params"], target["tokens"]))
    limits = np.log([min(target.get("max_batch_tokens") or math.inf, tokens) for _, tokens in scales])
    centres = np.array([w.centre_log_batch for w in worlds])
    free = best_batch(worlds[at])
    imposed = centres + (free - centres[at]) > limits
    return np.where(imposed, np.minimum(chosen, limits), np.minimum(centres + chosen - centres[at], limits)), imposed


def _families(
    model: Mapping[str, Any], cells: Sequence[Mapping[str, Any]], quantity: str, along: str
) -> tuple[LawLine, ...]:
    """The law through the cells, for a few values of the other input spread over those measured."""
    other = "params" if along == "tokens" else "tokens"
    values = np.unique([cell[other] for cell in cells])
    if len(values) > MOST_FAMILIES:
        wanted = np.linspace(math.log(values[0]), math.log(values[-1]), MOST_FAMILIES)
        values = np.unique([values[np.argmin(np.abs(np.log(values) - w))] for w in wanted])
    lines = []
    spread = np.log([cell[along] for cell in cells])
    for value in values:
        own = np.log([cell[along] for cell in cells if abs(math.log(cell[other] / value)) < 0.02])
        first, last = (own.min(), own.max()) if np.ptp(own) > 0.5 else (spread.min(), spread.max())
        x = np.exp(np.linspace(first, last, 5))
        at = [(value, t) if along == "tokens" else (t, value) for t in x]
        worlds = [draw_worlds(model, float(n), float(d)) for n, d in at]
        logs = [w.centre_log_lr if quantity == "lr" else w.centre_log_batch for w in worlds]
        lines.append(LawLine(other=float(value), x=x, value=np.exp(np.array(logs))))
    return tuple(lines)


def _published(
    document: Answer, scales: Sequence[tuple[float, float]], batches: Floats, quantity: str, x: Floats
) -> tuple[PublishedLine, ...]:
    params, tokens = np.array(scales).T
    laws, lines = published_laws(), []
    sources: set[str | None] = set()
    for row in document["published"]:
        law = laws.get(row["law"])
        if law is None or (row["lr"] if quantity == "lr" else row["batch_tokens"]) is None:
            continue
        said = law.predict(params, tokens, batches if "batch_tokens" in law.inputs else None)
        value = said.lr if quantity == "lr" else said.batch_tokens
        if value is None:
            continue
        cost = row["regret_on_your_runs"]
        # variants of one source lie on top of each other: its cheapest stands for them
        shown = cost is not None and row.get("cite") not in sources and len(sources) < LAWS_SHOWN
        if shown:
            sources.add(row.get("cite"))
        lines.append(
            PublishedLine(
                law=row["law"],
                label=row["label"],
                x=x,
                value=value,
                regret=cost,
                in_range=bool(row["in_range"]),
                shown=shown,
            )
        )
    return tuple(lines)


def scaling_figure(scaling: Scaling) -> Figure:
    """Cells, law, target and published laws on log-log axes."""
    own = [*(cell.value for cell in scaling.cells), *scaling.low, *scaling.high]
    own += [scaling.recommended_low, scaling.recommended_high, *(v for line in scaling.families for v in line.value)]
    others = [v for line in scaling.published if line.shown for v in line.value if np.isfinite(v)]
    # a law that is far off does not squeeze the rest
    values = np.clip([*own, *others], min(own) / _ROOM_FOR_OTHERS, max(own) * _ROOM_FOR_OTHERS)
    write = style.tick_lr if scaling.quantity == "lr" else format_quantity
    unit = "" if scaling.quantity == "lr" else " (tokens per step)"
    along = "Training tokens" if scaling.along == "tokens" else "Parameters"
    layout: dict[str, Any] = {
        "xaxis": style.log_axis(along, float(scaling.x[0]), float(scaling.x[-1])),
        "yaxis": style.log_axis(
            QUANTITY_WORDS[scaling.quantity] + unit, float(values.min()), float(values.max()), write=write
        ),
        "height": 520,
        "margin": {"b": 168},
        "legend": {"entrywidth": 168, "entrywidthmode": "pixels"},
        **_data_end(scaling),
    }
    return style.figure([*_published_traces(scaling), *_law_traces(scaling), *_cell_traces(scaling)], layout)


def _data_end(scaling: Scaling) -> dict[str, Any]:
    """Shade what lies beyond the runs on this axis, and say so."""
    end = scaling.measured[1]
    if scaling.x[-1] <= end * 1.02:
        return {}
    edge = {"type": "line", "xref": "x", "yref": "paper", "x0": end, "x1": end, "y0": 0, "y1": 1, "layer": "below"}
    edge["line"] = {"color": style.colour("muted"), "width": 1, "dash": "dot"}
    beyond = {"type": "rect", "xref": "x", "yref": "paper", "x0": end, "y0": 0, "y1": 1, "layer": "below"}
    beyond |= {"x1": float(scaling.x[-1]) * 3, "line": {"width": 0}, "fillcolor": style.colour("beyond")}
    note = {"xref": "x", "yref": "paper", "x": math.log10(end), "y": 0, "xanchor": "left", "yanchor": "bottom"}
    note |= {"text": " beyond your runs", "showarrow": False, "font": {"size": 11, "color": style.colour("muted")}}
    return {"shapes": [beyond, edge], "annotations": [note]}


def _written(scaling: Scaling, value: float) -> str:
    return format_lr(value) if scaling.quantity == "lr" else f"{format_quantity(value)} tokens"


def _law_traces(scaling: Scaling) -> list[dict[str, Any]]:
    x, name = scaling.x.tolist(), f"{INPUT_WORDS[scaling.other]}"
    other = format_quantity(scaling.target[scaling.other])
    line = {"type": "scatter", "mode": "lines", "hoverinfo": "skip", "x": x}
    ink, shade = style.quantity_colours(scaling.quantity)
    level = f"{100 * scaling.level:g} %"
    main = {
        **line,
        "y": scaling.value.tolist(),
        "name": f"your law at {other}, {level}",
        "line": {"color": ink, "width": 2.4},
        "hoverinfo": "text",
        "text": [
            f"your law at {other} {name}, {format_quantity(at)} {INPUT_WORDS[scaling.along]}<br>"
            f"{_written(scaling, value)} ({level}: {_written(scaling, low)} to {_written(scaling, high)})"
            for at, value, low, high in zip(scaling.x, scaling.value, scaling.low, scaling.high, strict=True)
        ],
    }
    low = {**line, "y": scaling.low.tolist(), "line": {"width": 0}, "showlegend": False}
    band = {**low, "y": scaling.high.tolist(), "fill": "tonexty", "fillcolor": shade}
    value, bounds = scaling.recommended, (scaling.recommended_low, scaling.recommended_high)
    what = "given batch" if scaling.given else "recommended"
    target = {
        "type": "scatter",
        "mode": "markers",
        "legendrank": FIRST_IN_LEGEND,
        "name": f"{what}: {format_lr(value) if scaling.quantity == 'lr' else format_quantity(value)}",
        "x": [scaling.target[scaling.along]],
        "y": [value],
        "error_y": {
            "visible": not scaling.given,
            "type": "data",
            "symmetric": False,
            "array": [max(bounds[1] - value, 0.0)],
            "arrayminus": [max(value - bounds[0], 0.0)],
            "color": style.colour("target"),
            "thickness": 2,
            "width": 7,
        },
        "marker": style.recommended_marker(),
        "hovertemplate": f"{what} at {format_scale(**scaling.target)}<br>{_written(scaling, value)}; the best lies in "
        f"{_written(scaling, bounds[0])} to {_written(scaling, bounds[1])} ({level})<extra></extra>",
    }
    return [low, band, main, target]


def _cell_traces(scaling: Scaling) -> list[dict[str, Any]]:
    others = sorted({_of(cell, scaling.other) for cell in scaling.cells})
    colours = dict(zip(others, style.scale_colours(len(others)), strict=True))
    traces: list[dict[str, Any]] = []
    for line in scaling.families:
        nearest = min(others, key=lambda value: abs(math.log(value / line.other)))
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "x": line.x.tolist(),
                "y": line.value.tolist(),
                "line": {"color": colours[nearest], "width": 1.4},
                "showlegend": False,
                "hoverinfo": "skip",
            }
        )
    named = set(others)
    if len(others) > MOST_NAMED:
        named = {min(others, key=lambda value: abs(math.log(value / line.other))) for line in scaling.families}
    for other in others:
        # filled symbols first: the legend shows the first one
        cells = [cell for cell in scaling.cells if _of(cell, scaling.other) == other]
        cells.sort(key=lambda cell: cell.status != "inside")
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": f"{format_quantity(other)} {INPUT_WORDS[scaling.other]}",
                "showlegend": other in named,
                "x": [_of(cell, scaling.along) for cell in cells],
                "y": [cell.value for cell in cells],
                "error_y": {
                    "type": "data",
                    "symmetric": False,
                    "array": [cell.high - cell.value for cell in cells],
                    "arrayminus": [cell.value - cell.low for cell in cells],
                    "color": colours[other],
                    "thickness": 1,
                    "width": 0,
                },
                "marker": {
                    "symbol": ["circle" if cell.status == "inside" else "circle-open" for cell in cells],
                    "size": 9,
                    "color": colours[other],
                    "line": {"color": [_outline(cell, colours[other]) for cell in cells], "width": 1.2},
                },
                "text": [
                    f"{format_scale(cell.params, cell.tokens)}<br>best {_written(scaling, cell.value)} "
                    f"({_written(scaling, cell.low)} to {_written(scaling, cell.high)}), "
                    f"{optimum_words(cell.status, cell.near)}"
                    for cell in cells
                ],
                "hovertemplate": "%{text}<extra></extra>",
            }
        )
    return traces


def _outline(cell: CellOptimum, filled: str) -> str:
    return style.colour("paper") if cell.status == "inside" else filled


def _of(cell: CellOptimum, name: str) -> float:
    return cell.params if name == "params" else cell.tokens


def short_label(label: str) -> str:
    """A law's label, cut for a legend; hover and table have it whole."""
    return label if len(label) <= _LABEL else label[: _LABEL - 1].rstrip(" ,(") + "…"


def _published_traces(scaling: Scaling) -> list[dict[str, Any]]:
    """The cheapest laws as lines of their own; all others as one entry of the legend, to be switched on."""
    traces: list[dict[str, Any]] = []
    x: list[float | None] = []
    y: list[float | None] = []
    words: list[str] = []
    for line in scaling.published:
        cost = "not scored on your runs" if line.regret is None else f"costs {format_percent(line.regret)} on your runs"
        standing = "inside" if line.in_range else "outside"
        hover = [
            f"{line.label}<br>{_written(scaling, value)}; {cost}; target {standing} its range" for value in line.value
        ]
        values = [value if math.isfinite(value) else None for value in line.value.tolist()]
        if not line.shown:
            x += [*line.x.tolist(), None]
            y += [*values, None]
            words += [*hover, ""]
            continue
        dash = style.DASHES[len(traces) % len(style.DASHES)]
        traces.append(_thin_line(short_label(line.label), line.x.tolist(), values, hover, dash))
    if x:
        traces.append({**_thin_line("other published laws", x, y, words, "solid"), "visible": "legendonly"})
    return traces


def _thin_line(
    name: str, x: Sequence[float | None], y: Sequence[float | None], hover: Sequence[str], dash: str
) -> dict[str, Any]:
    look = {"color": style.colour("others"), "width": 1.3, "dash": dash}
    trace = {"type": "scatter", "mode": "lines", "name": name, "x": list(x), "y": list(y), "line": look}
    return {**trace, "text": list(hover), "hoverinfo": "text", "legendrank": LAST_IN_LEGEND}
