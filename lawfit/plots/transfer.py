"""Best learning rate against width and against horizon, one series per recipe: is it flat?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from lawfit.documents import Transfer
from lawfit.plots import style
from lawfit.plots.shown import Chart, Table
from lawfit.units import format_lr, format_quantity
from lawfit.words.answers import OPTIMUM_WORDS

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_COLOURS: Final = ("ours", "target", "lost", "others")  # recipes beyond the fourth share the last
_SYMBOLS: Final = ("circle", "square", "diamond", "triangle-up")
LABELS: Final = {"width": "Against width", "params": "Against size", "tokens": "Against horizon"}


@dataclass(frozen=True, kw_only=True)
class Series:
    """One recipe in one figure."""

    label: str
    colour: int  # place of the recipe in the document: the same in every figure
    x: tuple[float, ...]
    lr: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    words: tuple[str, ...]
    bounds: tuple[bool, ...]  # an optimum at the edge of what was tried
    line: tuple[Mapping[str, float], ...]  # x, lr, low, high of the law


def answers_of(found: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Label, verdict, and what it costs to keep one learning rate; the last empty where there is no answer."""
    rows = []
    for axis in ("size", "tokens"):
        label = LABELS[found["size"] if axis == "size" else "tokens"]
        answer = found["axes"].get(axis)
        if answer is None:
            rows.append((label, f"no answer: {found['missing'][axis]}", ""))
        else:
            rows.append((label, answer["words"], answer["cost_words"]))
    return rows


def sweeps_shown(found: Mapping[str, Any], axis: str) -> list[Mapping[str, Any]]:
    """The sweeps of the setting that the axis is drawn at, in ascending order along it."""
    at = found["axes"][axis]["at"]
    name = found["size"] if axis == "size" else "tokens"
    near = [row for row in found["sweeps"] if all(abs(np.log(row[other] / value)) < 0.1 for other, value in at.items())]
    return sorted(near, key=lambda row: float(row[name]))


def sweeps_title(found: Mapping[str, Any], axis: str) -> str:
    """``Best learning rate by width, at 32M tokens and 8,192 tokens a step``."""
    at = found["axes"][axis]["at"]
    batch = f"{at['batch_tokens']:,.0f} tokens a step"
    if axis == "size":
        name = "width" if found["size"] == "width" else "size"
        return f"Best learning rate by {name}, at {format_quantity(at['tokens'])} tokens and {batch}"
    size = f"width {at['width']:g}" if found["size"] == "width" else f"{format_quantity(at['params'])} parameters"
    return f"Best learning rate by horizon, at {size} and {batch}"


def series_numbers(document: Transfer, axis: str, names: Set[str]) -> tuple[Series, ...]:
    """A series for each of the recipes `names` that has an answer along `axis` ("size" or "tokens")."""
    found = []
    for place, one in enumerate(document["recipes"]):
        if axis not in one["axes"] or one["recipe"] not in names:
            continue
        name = one["size"] if axis == "size" else "tokens"
        rows = sweeps_shown(one, axis)
        answer = one["axes"][axis]
        found.append(
            Series(
                label=f"{one['parametrization'] or one['recipe']}: exponent {answer['exponent']:+.2f} "
                f"({answer['low']:+.2f} to {answer['high']:+.2f})",
                colour=place,
                x=tuple(row[name] for row in rows),
                lr=tuple(row["lr"] for row in rows),
                low=tuple(row["low"] for row in rows),
                high=tuple(row["high"] for row in rows),
                words=tuple(
                    f"{one['recipe']}<br>{_size(name, row[name])}, {row['runs']} learning rates"
                    f"<br>{format_lr(row['lr'])} ({format_lr(row['low'])} to {format_lr(row['high'])})"
                    for row in rows
                ),
                bounds=tuple(row["status"] != "inside" for row in rows),
                line=tuple(answer["line"]),
            )
        )
    return tuple(found)


def transfer_figure(series: Sequence[Series], x_label: str) -> Figure:
    """Optima with their intervals and the fitted powers, on logarithmic axes."""
    xs = [x for one in series for x in (*one.x, *(point["x"] for point in one.line))]
    ys = [y for one in series for y in (*one.low, *one.high, *(point["lr"] for point in one.line))]
    traces: list[dict[str, Any]] = []
    for at, one in enumerate(series):
        colour = style.colour(_COLOURS[min(one.colour, len(_COLOURS) - 1)])
        symbol = _SYMBOLS[min(one.colour, len(_SYMBOLS) - 1)]
        shift = 1 + 0.012 * (at - (len(series) - 1) / 2)  # intervals at one width stand side by side
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "x": [point["x"] for point in one.line],
                "y": [point["lr"] for point in one.line],
                "line": {
                    "color": colour,
                    "width": 2,
                    **({"dash": style.DASHES[(one.colour - 1) % len(style.DASHES)]} if one.colour else {}),
                },
                "hoverinfo": "skip",
                "showlegend": False,
            }
        )
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": one.label,
                "x": [x * shift for x in one.x],
                "y": list(one.lr),
                "error_y": {
                    "type": "data",
                    "symmetric": False,
                    "array": [high - lr for high, lr in zip(one.high, one.lr, strict=True)],
                    "arrayminus": [lr - low for low, lr in zip(one.low, one.lr, strict=True)],
                    "color": colour,
                    "thickness": 1.4,
                    "width": 4,
                },
                "marker": {
                    "symbol": [symbol + ("-open" if bound else "") for bound in one.bounds],
                    "size": 9,
                    "color": colour,
                    "line": {"color": colour, "width": 1.2},
                },
                "text": list(one.words),
                "hovertemplate": "%{text}<extra></extra>",
            }
        )
    plain = x_label == "width"
    x_axis = style.log_axis(x_label, min(xs), max(xs), write=(lambda x: f"{x:g}") if plain else format_quantity)
    if plain and len(ticks := sorted({x for one in series for x in one.x})) <= 8:
        x_axis |= {"tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]}
    y_axis = style.log_axis("best peak learning rate", min(ys), max(ys), write=style.tick_lr)
    layout = {"xaxis": x_axis, "yaxis": y_axis, "height": 400, "margin": {"b": 84 + 20 * len(series)}}
    return style.figure(traces, layout)


def transfer_charts(document: Transfer) -> tuple[Chart, ...]:
    """Against width (or parameters), and against horizon: those that some recipe has an answer for."""
    charts = []
    for axis in ("size", "tokens"):
        having = [one for one in document["recipes"] if axis in one["axes"]]
        if not having:
            continue
        if axis == "tokens":
            x_label = "training tokens"
        else:
            x_label = "width" if all(one["size"] == "width" for one in having) else "parameters"
            if x_label == "parameters" and any(one["size"] == "width" for one in having):
                having = [one for one in having if one["size"] == "params"]
        series = series_numbers(document, axis, {one["recipe"] for one in having})
        settings = {one["recipe"]: sweeps_title(one, axis).split(", at ")[1] for one in having}
        alike = len(set(settings.values())) == 1
        held = next(iter(settings.values())) if alike else "; ".join(f"{words} ({n})" for n, words in settings.items())
        rows = tuple(
            (
                one["recipe"],
                _size(one["size"] if axis == "size" else "tokens", row[one["size"] if axis == "size" else "tokens"]),
                str(row["runs"]),
                format_lr(row["lr"]),
                f"{format_lr(row['low'])} to {format_lr(row['high'])}",
                format_lr(row["best_tried_lr"]),
                f"{row['lowest_loss']:.4f}",
                OPTIMUM_WORDS.get(row["status"], row["status"]),
            )
            for one in having
            for row in sweeps_shown(one, axis)
        )
        level = f"{100 * document['level']:g} % interval"
        columns = ("recipe", "at", "learning rates", "best", level, "best tried", "its loss", "status")
        charts.append(
            Chart(
                id=f"transfer-{axis}",
                title=f"Best learning rate against {x_label}",
                caption=f"Dots: the best learning rate of each sweep with its interval (open: a bound, not used). "
                f"Lines: the fitted power. Shown at {held}.",
                figure=transfer_figure(series, x_label),
                table=Table(columns=columns, rows=rows, numbers=columns[2:7]),
            )
        )
    return tuple(charts)


def _size(name: str, value: float) -> str:
    if name == "width":
        return f"width {value:g}"
    return f"{format_quantity(value)} {'parameters' if name == 'params' else 'tokens'}"
