"""The loss of one scale along the learning rate, a line for each batch size, beside what the joint surface says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from lawfit.estimate.lr_batch.valley import excess, steepened
from lawfit.plots import style
from lawfit.plots.run_keys import Keys
from lawfit.plots.shown import Table
from lawfit.plots.surface import CellSurface, run_words
from lawfit.units import format_lr, format_percent, format_quantity

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

Floats = NDArray[np.float64]

_POINTS: Final = 41
_SAME_BATCH: Final = 0.02  # ln units
_HIGHEST: Final = 1.06  # times the lowest loss: lines that go further up are cut by the first view, not by the data


@dataclass(frozen=True, kw_only=True)
class BatchCurve:
    """The runs of one batch size, by learning rate; and the surface along them."""

    batch_tokens: float
    lr: Floats  # (n,) ascending
    loss: Floats  # (n,) nats per token
    keys: tuple[Keys, ...]  # (n,)
    line_lr: Floats  # (p,)
    line_loss: Floats  # (p,) by the fitted valley, its floor that of these runs


@dataclass(frozen=True, kw_only=True)
class LrCurves:
    """What the figure of one scale shows."""

    surface: CellSurface
    curves: tuple[BatchCurve, ...]  # ascending batch


def lr_curves_numbers(payload: Mapping[str, Any], surface: CellSurface) -> LrCurves:
    """The runs of `surface`, parted by batch size."""
    order = np.lexsort([surface.lr, surface.batch_tokens])
    log_batch = np.log(surface.batch_tokens[order])
    starts = np.flatnonzero(np.diff(log_batch, prepend=-np.inf) > _SAME_BATCH)
    valley, _ = steepened(payload["model"]["valley"], surface.tokens)

    def cost(lr: Floats, batch: Floats) -> Floats:
        return excess(np.log(lr / surface.optimum_lr), np.log(batch / surface.optimum_batch_tokens), valley)

    cheap = surface.excess < np.median(surface.excess) if len(surface.excess) > 3 else surface.excess >= 0
    off = np.log(surface.loss) - cost(surface.lr, surface.batch_tokens)
    floor = float(np.median(off[cheap])) if cheap.any() else float("nan")
    curves = []
    for rows in np.split(order, starts[1:]) if len(order) else []:
        batch = float(np.exp(np.log(surface.batch_tokens[rows]).mean()))
        line = np.geomspace(surface.lr[rows[0]] / 1.3, surface.lr[rows[-1]] * 1.3, _POINTS)
        curves.append(
            BatchCurve(
                batch_tokens=batch,
                lr=surface.lr[rows],
                loss=surface.loss[rows],
                keys=tuple(surface.keys[row] for row in rows),
                line_lr=line,
                line_loss=np.exp(floor + cost(line, np.full_like(line, batch))),
            )
        )
    return LrCurves(surface=surface, curves=tuple(curves))


def lr_curves_figure(found: LrCurves) -> Figure:
    """Loss against learning rate, a colour for each batch, dotted lines the fitted surface."""
    colours = style.scale_colours(len(found.curves)) if found.curves else []
    traces: list[dict[str, Any]] = []
    for curve, ink in zip(found.curves, colours, strict=True):
        traces.append(
            {
                "type": "scatter", "mode": "lines", "showlegend": False, "hoverinfo": "skip",
                "name": f"surface at {format_quantity(curve.batch_tokens)}",
                "x": curve.line_lr.tolist(), "y": curve.line_loss.tolist(),
                "line": {"color": ink, "width": 1.1, "dash": "dot"},
            }
        )  # fmt: skip
    for curve, ink in zip(found.curves, colours, strict=True):
        traces.append(
            {
                "type": "scatter", "mode": "lines+markers", "name": f"{format_quantity(curve.batch_tokens)} tokens",
                "x": curve.lr.tolist(), "y": curve.loss.tolist(), "line": {"color": ink, "width": 1.6},
                "marker": {"color": ink, "size": 8, "line": {"color": style.colour("paper"), "width": 1}},
                "text": [_words(curve, row) for row in range(len(curve.lr))],
                "customdata": [keys[0] if keys else None for keys in curve.keys],
                "hovertemplate": "%{text}<extra></extra>",
            }
        )  # fmt: skip
    _, low, high = found.surface.interval.interval("lr")
    rates = [rate for curve in found.curves for rate in curve.lr] or [low, high]
    losses = found.surface.loss
    lowest = float(losses.min()) if len(losses) else 1.0
    top = min(float(losses.max()) if len(losses) else 2.0, lowest * _HIGHEST)
    spare = max((top - lowest) * 0.08, lowest * 1e-4)
    layout = {
        "xaxis": style.log_axis("Peak learning rate", min(rates), max(rates), write=style.tick_lr),
        "yaxis": {"title": {"text": "Final loss (nats per token)"}, "range": [lowest - spare, top + spare]},
        "shapes": [
            {"type": "rect", "xref": "x", "yref": "paper", "x0": low, "x1": high, "y0": 0, "y1": 1, "layer": "below",
             "fillcolor": style.colour("zone"), "line": {"width": 0}},
        ],
        "margin": {"b": 88},
    }  # fmt: skip
    return style.figure(traces, layout)


def _words(curve: BatchCurve, row: int) -> str:
    words = f"loss {curve.loss[row]:.4f}<br>learning rate {format_lr(curve.lr[row])}, batch "
    return run_words(curve.keys[row], words + f"{format_quantity(curve.batch_tokens)} tokens")


def lr_curves_table(found: LrCurves) -> Table:
    """The best learning rate that was tried at each batch size."""
    lowest = float(found.surface.loss.min()) if len(found.surface.loss) else float("nan")
    rows = []
    for curve in found.curves:
        best = int(curve.loss.argmin())
        rows.append(
            (
                format_quantity(curve.batch_tokens),
                str(len(curve.lr)),
                f"{format_lr(curve.lr[0])} to {format_lr(curve.lr[-1])}",
                format_lr(curve.lr[best]),
                f"{curve.loss[best]:.4f}",
                format_percent(float(curve.loss[best] / lowest - 1)),
            )
        )
    columns = ("batch (tokens per step)", "rates tried", "from, to", "best tried", "loss there", "above the best run")
    return Table(columns=columns, rows=tuple(rows), numbers=columns)
