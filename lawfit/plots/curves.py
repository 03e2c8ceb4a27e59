"""Curves of several runs over each other, thinned where there are more points than a screen shows, and saying so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from lawfit.plots import style
from lawfit.plots.shown import Table
from lawfit.units import format_lr, format_quantity, format_scale

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from lawfit.records import Run

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

Logged = tuple["Run", Ints, Floats]  # a run, its steps and the values there

MOST_POINTS: Final = 24_000  # of all curves together: an SVG of more is slow to pan
FEWEST_EACH: Final = 200
ALONG: Final[Mapping[str, str]] = {"step": "Step", "tokens": "Tokens seen", "share": "Share of the run"}
_NAMED: Final = 10  # runs in the legend; hovering names all
_SHOWN_SHARE: Final = 0.02  # of the points, at the start, that do not set the first view: losses fall from far above


@dataclass(frozen=True, kw_only=True)
class RunCurve:
    """One metric along one run."""

    run: Run
    steps: Ints  # (n,) as logged, or as many as are shown
    values: Floats  # (n,)
    logged: int  # points in the store


@dataclass(frozen=True, kw_only=True)
class Curves:
    """What the figure shows."""

    metric: str
    along: str  # of `ALONG`
    curves: tuple[RunCurve, ...]

    @property
    def shown(self) -> int:
        return sum(len(curve.steps) for curve in self.curves)

    @property
    def logged(self) -> int:
        return sum(curve.logged for curve in self.curves)

    @property
    def words(self) -> str:
        """Whether all points are shown."""
        if self.shown == self.logged:
            return f"All {self.logged:,} points that were logged."
        return (
            f"{self.shown:,} of {self.logged:,} points: of each stretch of a curve its lowest and its highest, "
            "so no spike is lost."
        )


def curve_numbers(logged: Sequence[Logged], metric: str, along: str = "step", *, most: int = MOST_POINTS) -> Curves:
    """The curves of some runs, thinned to `most` points together.

    Parameters
    ----------
    logged : a run, its steps and the values there
    along : of `ALONG`; "tokens" counts the run's batch size for every step
    """
    if along not in ALONG:
        raise ValueError(f"curves are not drawn along '{along}'; along {', '.join(ALONG)}")
    each = max(FEWEST_EACH, most // max(len(logged), 1))
    curves = []
    for run, steps, values in logged:
        kept = thinned(np.asarray(values, dtype=float), each)
        curves.append(RunCurve(run=run, steps=steps[kept], values=values[kept], logged=len(steps)))
    return Curves(metric=metric, along=along, curves=tuple(curves))


def thinned(values: Floats, most: int) -> NDArray[np.intp]:
    """Places of at most `most` values: the ends, and of each of many equal stretches the lowest and the highest."""
    count = len(values)
    if count <= most:
        return np.arange(count)
    stretches = np.array_split(np.arange(1, count - 1), max(1, (most - 2) // 2))
    low = [part[np.argmin(np.where(np.isfinite(values[part]), values[part], np.inf))] for part in stretches]
    high = [part[np.argmax(np.where(np.isfinite(values[part]), values[part], np.inf))] for part in stretches]
    return np.unique(np.array([0, *low, *high, count - 1], dtype=np.intp))


def curves_figure(found: Curves) -> Figure:
    """One line a run; sizes on their ordered colours, or runs where all are of one size."""
    sizes = sorted({curve.run.params for curve in found.curves})
    by_size = len(sizes) > 1
    keys: list[Any] = sizes if by_size else [curve.run.run_key for curve in found.curves]
    ink = dict(zip(keys, style.scale_colours(max(len(keys), 1)), strict=False))
    traces = []
    named: set[Any] = set()
    for curve in found.curves:
        key: Any = curve.run.params if by_size else curve.run.run_key
        first = key not in named and (by_size or len(named) < _NAMED)
        named |= {key} if first else set()
        traces.append(
            {
                "type": "scatter", "mode": "lines", "legendgroup": str(key), "showlegend": first,
                "name": f"{format_quantity(curve.run.params)} parameters" if by_size else _short(curve.run.run_key),
                "x": _places(curve, found.along).tolist(), "y": [v if np.isfinite(v) else None for v in curve.values],
                "line": {"color": ink[key], "width": 1.4},
                "customdata": [curve.run.run_key] * len(curve.steps),
                "hovertemplate": f"run {escape(curve.run.run_key)}<br>{run_settings(curve.run)}<br>"
                "%{x:,}: %{y:.4f}<extra></extra>",
            }
        )  # fmt: skip
    finite = np.concatenate([curve.values[np.isfinite(curve.values)] for curve in found.curves] or [np.array([1.0])])
    late = np.concatenate([_late(curve.values) for curve in found.curves] or [finite])
    low, high = (float(finite.min()), float(late.max())) if len(finite) and len(late) else (0.0, 1.0)
    spare = max((high - low) * 0.05, 1e-6)
    unit = " (nats per token)" if found.metric.endswith("loss") else ""
    layout = {
        "xaxis": {"title": {"text": ALONG[found.along]}, "tickformat": ",~s"},
        "yaxis": {"title": {"text": f"{found.metric.replace('_', ' ').capitalize()}{unit}"},
                  "range": [low - spare, high + spare]},
        "margin": {"b": 118},
        "height": 470,
    }  # fmt: skip
    return style.figure(traces, layout)


def _late(values: Floats) -> Floats:
    """Without the first points, which would leave no room for the rest."""
    later = values[int(np.ceil(_SHOWN_SHARE * len(values))) :]
    return later[np.isfinite(later)]


def _places(curve: RunCurve, along: str) -> Floats:
    steps = np.asarray(curve.steps, dtype=float)
    if along == "tokens":
        return steps * curve.run.batch_tokens
    if along == "share":
        return steps / float(curve.run.steps or max(steps[-1], 1.0))
    return steps


def _short(key: str, most: int = 32) -> str:
    """For a legend: both ends of a key, which hovering and the table give whole."""
    return key if len(key) <= most else f"{key[: most // 2 - 1]}…{key[-most // 2 :]}"


def run_settings(run: Run) -> str:
    """Scale and setting of a run in a line."""
    decay = "" if run.weight_decay is None else f", weight decay {run.weight_decay:g}"
    batch = f"batch {format_quantity(run.batch_tokens)}"
    return f"{format_scale(run.params, run.tokens)}<br>learning rate {format_lr(run.lr)}, {batch}{decay}"


def curves_table(found: Curves) -> Table:
    """Each run: its settings, and where its curve ends."""
    rows = []
    for curve in found.curves:
        finite = curve.values[np.isfinite(curve.values)]
        rows.append(
            (
                curve.run.run_key,
                format_quantity(curve.run.params),
                format_quantity(curve.run.tokens),
                format_lr(curve.run.lr),
                format_quantity(curve.run.batch_tokens),
                f"{curve.logged:,}",
                f"{finite.min():.4f}" if len(finite) else "-",
                f"{curve.values[-1]:.4f}" if len(finite) else "-",
            )
        )
    columns = ("run", "parameters", "tokens", "learning rate", "batch (tokens)", "points", "lowest", "last")
    return Table(columns=columns, rows=tuple(rows), numbers=columns[1:])
