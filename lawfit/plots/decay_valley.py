"""The loss of one scale along the weight decay, where runs differ in nothing else, and the best value of each sweep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from lawfit.estimate.observe.observations import usable
from lawfit.plots import style
from lawfit.plots.shown import Table
from lawfit.plots.surface import SAME_SCALE, run_words
from lawfit.units import format_lr, format_quantity

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from lawfit.records import Run

Floats = NDArray[np.float64]

FEWEST: Final = 3  # weight decays that show a valley
MOST: Final = 8  # sets that are drawn, those of the lowest losses
_SAME: Final = 0.02  # ln units between learning rates, or batches, that are one
_NONE_BELOW: Final = 3.0  # a weight decay of zero is drawn this factor below the least positive one


@dataclass(frozen=True, kw_only=True)
class DecayCurve:
    """Runs of one scale, learning rate and batch, by weight decay."""

    lr: float
    batch_tokens: float
    weight_decay: Floats  # (n,) ascending
    loss: Floats  # (n,) nats per token, seeds averaged
    keys: tuple[tuple[str, ...], ...]  # (n,)
    best: float | None  # fitted, where the sweep shows one
    low: float | None
    high: float | None


@dataclass(frozen=True, kw_only=True)
class DecayValley:
    """What the figure of one scale shows."""

    params: float
    tokens: float
    curves: tuple[DecayCurve, ...]  # lowest loss first
    left_out: int  # further sets with as many weight decays


def decay_numbers(
    runs: Sequence[Run], params: float, tokens: float, timescale: Mapping[str, Any] | None = None
) -> DecayValley | None:
    """The sweeps of weight decay at a scale; None where no learning rate and batch has three values of it.

    Parameters
    ----------
    timescale : payload of the fit of the AdamW timescale, whose optima are shown
    """
    kept, _ = usable(runs)
    here = [
        run
        for run in kept
        if run.loss is not None
        and run.weight_decay is not None
        and abs(np.log(run.params / params)) < SAME_SCALE
        and abs(np.log(run.tokens / tokens)) < SAME_SCALE
    ]
    sets: dict[tuple[int, int], list[Run]] = {}
    for run in here:
        place = round(float(np.log(run.lr)) / _SAME), round(float(np.log(run.batch_tokens)) / _SAME)
        sets.setdefault(place, []).append(run)
    curves = [_curve(group, params, tokens, timescale) for group in sets.values()]
    curves = [curve for curve in curves if len(curve.weight_decay) >= FEWEST]
    if not curves:
        return None
    curves.sort(key=lambda curve: float(curve.loss.min()))
    return DecayValley(params=params, tokens=tokens, curves=tuple(curves[:MOST]), left_out=max(0, len(curves) - MOST))


def _curve(group: Sequence[Run], params: float, tokens: float, timescale: Mapping[str, Any] | None) -> DecayCurve:
    levels = sorted({run.weight_decay for run in group if run.weight_decay is not None})
    of_level = [[run for run in group if run.weight_decay == level] for level in levels]
    lr, batch = group[0].lr, group[0].batch_tokens
    found = None
    for row in (timescale or {}).get("optima", ()):
        place = np.log([row["params"] / params, row["tokens"] / tokens, row["lr"] / lr, row["batch_tokens"] / batch])
        if row["status"] == "inside" and np.abs(place).max() < SAME_SCALE:
            found = row
    return DecayCurve(
        lr=lr,
        batch_tokens=batch,
        weight_decay=np.array(levels),
        loss=np.array([np.mean([run.loss for run in each if run.loss is not None]) for each in of_level]),
        keys=tuple(tuple(run.run_key for run in each) for each in of_level),
        best=None if found is None else found["weight_decay"],
        low=None if found is None else found["low"],
        high=None if found is None else found["high"],
    )


def decay_figure(valley: DecayValley) -> Figure:
    """Loss against weight decay, a line for each learning rate and batch; diamonds where a best value is fitted."""
    positive = [level for curve in valley.curves for level in curve.weight_decay if level > 0]
    least = min(positive) / _NONE_BELOW
    traces: list[dict[str, Any]] = []
    colours = style.scale_colours(len(valley.curves))
    for curve, ink in zip(sorted(valley.curves, key=lambda c: (c.batch_tokens, c.lr)), colours, strict=True):
        name = f"lr {format_lr(curve.lr)}, batch {format_quantity(curve.batch_tokens)}"
        shown = np.where(curve.weight_decay > 0, curve.weight_decay, least)
        traces.append(
            {
                "type": "scatter", "mode": "lines+markers", "name": name, "x": shown.tolist(), "y": curve.loss.tolist(),
                "line": {"color": ink, "width": 1.5},
                "marker": {"color": ink, "size": 7, "line": {"color": style.colour("paper"), "width": 1}},
                "text": [
                    run_words(keys, f"loss {loss:.4f}<br>weight decay {level:g}<br>{name}")
                    for keys, loss, level in zip(curve.keys, curve.loss, curve.weight_decay, strict=True)
                ],
                "customdata": [keys[0] for keys in curve.keys],
                "hovertemplate": "%{text}<extra></extra>",
            }
        )  # fmt: skip
        if curve.best is not None:
            traces.append(_best(curve, ink, name))
    low, high = (least, max(positive)) if (valley_has_none := _has_none(valley)) else (min(positive), max(positive))
    axis = style.log_axis("Weight decay", low, high, write=lambda tick: f"{tick:g}")
    if valley_has_none:
        ticks = [tick for tick in axis["tickvals"] if tick > 1.5 * least]
        axis |= {"tickvals": [least, *ticks], "ticktext": ["0", *(f"{tick:g}" for tick in ticks)]}
    layout = {
        "xaxis": axis,
        "yaxis": {"title": {"text": "Final loss (nats per token)"}},
        "margin": {"b": 118},
        "legend": {"entrywidth": 190, "entrywidthmode": "pixels"},
    }
    return style.figure(traces, layout)


def _has_none(valley: DecayValley) -> bool:
    return any(level == 0 for curve in valley.curves for level in curve.weight_decay)


def _best(curve: DecayCurve, ink: str, name: str) -> dict[str, Any]:
    assert curve.best is not None
    there = np.flatnonzero(curve.weight_decay > 0)
    loss = float(np.interp(np.log(curve.best), np.log(curve.weight_decay[there]), curve.loss[there]))
    low, high = curve.low or curve.best, curve.high or curve.best
    return {
        "type": "scatter", "mode": "markers", "showlegend": False, "x": [curve.best], "y": [loss],
        "name": f"best weight decay, {name}",
        "error_x": {"type": "data", "symmetric": False, "array": [max(high - curve.best, 0.0)],
                    "arrayminus": [max(curve.best - low, 0.0)], "color": ink, "thickness": 1.4, "width": 4},
        "marker": {"symbol": "diamond", "size": 11, "color": style.colour("target"),
                   "line": {"color": style.colour("paper"), "width": 1.2}},
        "hovertemplate": f"best weight decay {curve.best:.3g} ({low:.3g} to {high:.3g})<br>{name}<extra></extra>",
    }  # fmt: skip


def decay_table(valley: DecayValley) -> Table:
    """The best weight decay that was tried at each learning rate and batch, and the fitted one."""
    rows = []
    for curve in valley.curves:
        best = int(curve.loss.argmin())
        fitted = "-" if curve.best is None else f"{curve.best:.3g}"
        rows.append(
            (
                format_lr(curve.lr),
                format_quantity(curve.batch_tokens),
                ", ".join(f"{level:g}" for level in curve.weight_decay),
                f"{curve.weight_decay[best]:g}",
                f"{curve.loss[best]:.4f}",
                fitted,
            )
        )
    columns = ("learning rate", "batch (tokens)", "weight decays tried", "best tried", "loss there", "fitted best")
    return Table(columns=columns, rows=tuple(rows), numbers=(*columns[:2], *columns[3:]))
