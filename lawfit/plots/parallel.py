"""Parallel coordinates: every run a line through its settings to its loss.

Lines of plotly's own parallel coordinates need WebGL and code made at run time, which a strict page forbids; these are
plain lines, one trace for each band of losses.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from lawfit.plots import style
from lawfit.plots.shown import Table
from lawfit.units import format_quantity

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from lawfit.records import Run

Floats = NDArray[np.float64]

MOST: Final = 1000  # lines
BANDS: Final = 5  # of losses within a scale, as many as there are colours
_TICKS: Final = 6
_NOT_SAID: Final = -0.08  # height of what a run does not say


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One setting, or the outcome."""

    name: str  # of the column
    label: str
    low: float
    high: float
    logarithmic: bool
    write: Callable[[float], str]

    def height(self, value: float | None) -> float:
        """0 at the lowest, 1 at the highest; below the axis where the run does not say it."""
        if value is None or not math.isfinite(value) or (self.logarithmic and value <= 0):
            return _NOT_SAID
        if self.high <= self.low:
            return 0.5
        if self.logarithmic:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


@dataclass(frozen=True, kw_only=True)
class Line:
    """One run."""

    key: str
    heights: tuple[float, ...]  # at each axis
    words: tuple[str, ...]  # the value at each axis
    band: int | None  # 0: among the best losses of its scale; None: diverged


@dataclass(frozen=True, kw_only=True)
class Parallel:
    """What the figure shows."""

    axes: tuple[Axis, ...]
    lines: tuple[Line, ...]
    total: int  # runs that were asked for

    @property
    def words(self) -> str:
        """Whether all runs are shown."""
        if len(self.lines) == self.total:
            return f"All {self.total:,} runs."
        return f"{len(self.lines):,} of {self.total:,} runs, evenly chosen in the order of the table."


_COLUMNS: Final[tuple[tuple[str, str, bool, Callable[[float], str]], ...]] = (
    ("params", "parameters", True, format_quantity),
    ("tokens", "tokens", True, format_quantity),
    ("batch_tokens", "batch (tokens)", True, format_quantity),
    ("lr", "learning rate", True, style.tick_lr),
    ("weight_decay", "weight decay", True, lambda value: f"{value:g}"),
    ("loss", "loss (nats per token)", False, lambda value: f"{value:.4g}"),
)


def parallel_numbers(runs: Sequence[Run], *, total: int | None = None, most: int = MOST) -> Parallel | None:
    """Runs as lines; None where there is none.

    Parameters
    ----------
    runs : as the table has them
    total : of how many they are the first; left out: they are all
    """
    if not runs:
        return None
    count = len(runs) if total is None else total
    places = sorted({round(i * (len(runs) - 1) / max(most - 1, 1)) for i in range(most)}) if len(runs) > most else None
    shown = list(runs) if places is None else [runs[i] for i in places]
    axes = []
    for name, label, logarithmic, write in _COLUMNS:
        values = [v for run in shown if (v := getattr(run, name)) is not None and (v > 0 or not logarithmic)]
        if values:
            ends = {"low": min(values), "high": max(values)}
            axes.append(Axis(name=name, label=label, logarithmic=logarithmic, write=write, **ends))
    bands = _bands(shown)
    lines = tuple(
        Line(
            key=run.run_key,
            heights=tuple(axis.height(getattr(run, axis.name)) for axis in axes),
            words=tuple("none" if (v := getattr(run, axis.name)) is None else axis.write(v) for axis in axes),
            band=band,
        )
        for run, band in zip(shown, bands, strict=True)
    )
    return Parallel(axes=tuple(axes), lines=lines, total=count)


def _bands(runs: Sequence[Run]) -> list[int | None]:
    """Fifths of the losses of each scale: losses of different scales are no choice of settings."""
    scales: dict[tuple[float, float], list[int]] = {}
    for i, run in enumerate(runs):
        if run.loss is not None:
            scales.setdefault((float(f"{run.params:.3g}"), float(f"{run.tokens:.3g}")), []).append(i)
    found: list[int | None] = [None] * len(runs)
    for mine in scales.values():
        losses = np.array([runs[i].loss for i in mine])
        ranks = losses.argsort(kind="stable").argsort(kind="stable")
        for i, rank in zip(mine, ranks, strict=True):
            found[i] = int(rank * BANDS // len(mine))
    return found


def parallel_figure(found: Parallel) -> Figure:
    """The best fifth of each scale on top; diverged runs end below the loss."""
    x = list(range(len(found.axes)))
    traces = []
    for band in (None, *reversed(range(BANDS))):
        mine = [line for line in found.lines if line.band == band]
        if not mine:
            continue
        ink = style.colour("lost") if band is None else style.GOOD_TO_BAD[band][0]
        traces.append(
            {
                "type": "scatter", "mode": "lines", "name": _band_name(band),
                "x": [at for _ in mine for at in (*x, None)],
                "y": [height for line in mine for height in (*line.heights, None)],
                "text": [text for line in mine for text in (*line.words, "")],
                "customdata": [key for line in mine for key in (*[line.key] * len(x), None)],
                "line": {"color": ink, "width": 1.1 if band else 1.5},
                "opacity": 0.6 if band == 0 else 0.4,
                "hovertemplate": "run %{customdata}<br>%{x} %{text}<extra></extra>",
            }
        )  # fmt: skip
    shapes = [
        {"type": "line", "xref": "x", "yref": "y", "x0": at, "x1": at, "y0": 0, "y1": 1,
         "line": {"color": style.colour("axis"), "width": 1.4}}
        for at in x
    ]  # fmt: skip
    layout = {
        "xaxis": {"tickvals": x, "ticktext": [axis.label for axis in found.axes], "side": "top", "showgrid": False,
                  "showline": False, "ticks": "", "range": [-0.25, x[-1] + 0.45], "fixedrange": True},
        "yaxis": {"visible": False, "range": [-0.12, 1.06], "fixedrange": True},
        "shapes": shapes,
        "annotations": _tick_labels(found),
        "height": 470,
        "margin": {"t": 44, "b": 60, "l": 12, "r": 12},
    }  # fmt: skip
    return style.figure(traces, layout)


def _band_name(band: int | None) -> str:
    if band is None:
        return "diverged"
    return {0: "best fifth of its scale", BANDS - 1: "worst fifth"}.get(band, f"{band + 1}.")


def _tick_labels(found: Parallel) -> list[dict[str, Any]]:
    """Values beside each axis."""
    labels = []
    for at, axis in enumerate(found.axes):
        if axis.high <= axis.low:
            ticks = [axis.low]
        elif axis.logarithmic:
            ticks = style.log_ticks(axis.low, axis.high, _TICKS) or [axis.low, axis.high]
        else:
            ticks = np.linspace(axis.low, axis.high, _TICKS).tolist()
        labels += [_label(at, axis.height(tick), axis.write(tick)) for tick in ticks]
        if any(line.heights[at] == _NOT_SAID for line in found.lines):
            labels.append(_label(at, _NOT_SAID, "diverged" if axis.name == "loss" else "none"))
    return labels


def _label(x: float, y: float, text: str) -> dict[str, Any]:
    return {
        "x": x, "y": y, "text": text, "xanchor": "left", "xshift": 5, "showarrow": False,
        "font": {"size": 11, "color": style.colour("muted")}, "bgcolor": style.colour("paper"), "opacity": 0.9,
    }  # fmt: skip


def parallel_table(found: Parallel) -> Table:
    """The range of each axis."""
    rows = [(axis.label, axis.write(axis.low), axis.write(axis.high)) for axis in found.axes]
    return Table(columns=("axis", "least", "most"), rows=tuple(rows), numbers=("least", "most"))
