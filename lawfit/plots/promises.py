"""What a fit said it would cost at scales it had not seen, against what it did cost on the runs made there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from lawfit.plots import style
from lawfit.plots.shown import Table
from lawfit.units import format_percent, format_quantity, format_scale

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_LEAST: Final = 1e-4  # share of the loss: below it, runs do not tell costs apart
_SIZES_NAMED: Final = 8  # in a legend


@dataclass(frozen=True, kw_only=True)
class ScaleLeftOut:
    """One scale whose size was left out; costs are shares of the loss."""

    params: float
    tokens: float
    stated: float  # expected, by the fit without the size
    realised: float  # of what that fit advised, above the scale's own optimum
    inside: Mapping[str, bool]  # quantity -> whether its interval held the scale's own optimum
    miss_in_sd: Mapping[str, float]  # quantity -> how far off, in what was stated


@dataclass(frozen=True, kw_only=True)
class Promises:
    """What the figure shows, and the means over all scales."""

    scales: tuple[ScaleLeftOut, ...]
    stated: float
    realised: float
    level: float
    held: Mapping[str, int]  # quantity -> intervals that held the optimum


def promise_numbers(payload: Mapping[str, Any]) -> Promises | None:
    """Scales left out of a fit, size by size; None where it has too few sizes or was made before they were kept."""
    kept = (payload.get("backtest") or {}).get("promises") or {}
    scales = tuple(
        ScaleLeftOut(
            params=row["params"],
            tokens=row["tokens"],
            stated=row["stated_cost"],
            realised=row["realised_cost"],
            inside=row["inside"],
            miss_in_sd=row["miss_in_sd"],
        )
        for row in kept.get("each") or ()
        if row["realised_cost"] is not None
    )
    if not scales:
        return None
    return Promises(
        scales=scales,
        stated=kept["stated_cost"],
        realised=kept["realised_cost"],
        level=kept["level"],
        held=kept["inside"],
    )


def promise_figure(found: Promises) -> Figure:
    """Realised against stated cost, a dot a scale; on the line the fit was right about itself."""
    sizes = sorted({scale.params for scale in found.scales})
    colours = style.scale_colours(len(sizes))
    named = {round(i * (len(sizes) - 1) / (min(_SIZES_NAMED, len(sizes)) - 1 or 1)) for i in range(_SIZES_NAMED)}
    costs = [max(cost, _LEAST) for scale in found.scales for cost in (scale.stated, scale.realised)]
    low, high = 100 * min(costs), 100 * max(costs)
    traces: list[dict[str, Any]] = [
        {
            "type": "scatter", "mode": "lines", "name": "as stated", "x": [low / 2, high * 2], "y": [low / 2, high * 2],
            "line": {"color": style.colour("axis"), "width": 1.4, "dash": "dash"}, "hoverinfo": "skip",
        }
    ]  # fmt: skip
    for index, (size, ink) in enumerate(zip(sizes, colours, strict=True)):
        mine = [scale for scale in found.scales if scale.params == size]
        traces.append(
            {
                "type": "scatter", "mode": "markers", "name": f"{format_quantity(size)} parameters",
                "showlegend": index in named,
                "x": [100 * max(scale.stated, _LEAST) for scale in mine],
                "y": [100 * max(scale.realised, _LEAST) for scale in mine],
                "marker": {"color": ink, "size": 10, "line": {"color": style.colour("paper"), "width": 1},
                           "symbol": ["circle" if all(scale.inside.values()) else "diamond-open" for scale in mine]},
                "text": [_words(scale) for scale in mine], "hovertemplate": "%{text}<extra></extra>",
            }
        )  # fmt: skip
    mean = f"mean: stated {format_percent(found.stated)}, realised {format_percent(found.realised)}"
    traces.append(
        {
            "type": "scatter", "mode": "markers", "name": "mean of all scales",
            "x": [100 * max(found.stated, _LEAST)], "y": [100 * max(found.realised, _LEAST)],
            "marker": {"symbol": "cross", "size": 13, "color": style.colour("target"),
                       "line": {"color": style.colour("paper"), "width": 1.2}},
            "hovertemplate": f"{mean}<extra></extra>",
        }
    )  # fmt: skip
    write = _percent_tick
    layout = {
        "xaxis": style.log_axis("Stated cost (% of the loss)", low, high, write=write),
        "yaxis": style.log_axis("Realised cost (% of the loss)", low, high, write=write),
        "margin": {"b": 118},
    }
    return style.figure(traces, layout)


def _percent_tick(tick: float) -> str:
    return f"{tick:g}"


def _words(scale: ScaleLeftOut) -> str:
    missed = [name for name, inside in scale.inside.items() if not inside]
    outside = f"<br>interval missed the best {' and '.join(map(_quantity, missed))}" if missed else ""
    costs = f"stated {format_percent(scale.stated)}, realised {format_percent(scale.realised)}"
    return f"{format_scale(scale.params, scale.tokens)}<br>{costs}{outside}"


def _quantity(name: str) -> str:
    return {"lr": "learning rate", "batch_tokens": "batch"}[name]


def promise_table(found: Promises) -> Table:
    """Every scale left out, the dearest first."""
    rows = [
        (
            format_quantity(scale.params),
            format_quantity(scale.tokens),
            format_percent(scale.stated),
            format_percent(scale.realised),
            *(
                f"{'held' if scale.inside[name] else 'missed'} ({scale.miss_in_sd[name]:+.1f} sd)"
                for name in ("lr", "batch_tokens")
            ),
        )
        for scale in sorted(found.scales, key=lambda scale: -scale.realised)
    ]
    columns = ("parameters", "tokens", "stated cost", "realised cost", "interval of the rate", "interval of the batch")
    return Table(columns=columns, rows=tuple(rows), numbers=columns[:4])
