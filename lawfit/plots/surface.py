"""The loss surface of one cell: its runs, where the fit puts the optimum, and how much room there is around it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from lawfit.estimate.lr_batch.valley import excess, steepened
from lawfit.plots import style
from lawfit.plots.optima import ScaleOptimum, scale_optimum
from lawfit.plots.run_keys import Keys, RunKeys
from lawfit.units import format_lr, format_percent, format_quantity, format_scale
from lawfit.words.answers import optimum_words

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from lawfit.estimate.observe.observations import Observations

Floats = NDArray[np.float64]

ZONE_COSTS: Final = (0.0025, 0.001)  # shares of the loss, widest first
CONTOUR_COSTS: Final = (0.05, 0.02, 0.01, 0.005)  # lines around those zones
COLOUR_FULL: Final = 0.02  # excess from which all runs look equally bad
SAME_SCALE: Final = 0.02  # ln units: a cell of the fit and a cell of the runs this close are one
_ROOM_FOR_ZONE: Final = 2.0
_DIRECTIONS: Final = 180
_KEYS_NAMED: Final = 3
_KEY_LINE: Final = 48  # characters
_FARTHEST: Final = 12.0  # nats from the optimum; a zone that reaches further is not drawn closed


@dataclass(frozen=True, kw_only=True)
class Zone:
    """Border of the settings that cost less than `cost` (a share of the loss) in the fitted valley."""

    cost: float
    lr: Floats
    batch_tokens: Floats


@dataclass(frozen=True, kw_only=True)
class CellSurface:
    """What the figure of one cell shows."""

    params: float
    tokens: float
    lr: Floats  # (n,) runs that finished, seeds merged
    batch_tokens: Floats  # (n,)
    loss: Floats  # (n,) nats per token
    excess: Floats  # (n,) share of the loss above the best run of the cell
    diverged_lr: Floats  # (m,)
    diverged_batch_tokens: Floats  # (m,)
    optimum_lr: float
    optimum_batch_tokens: float
    status: str  # records.OptimumStatus
    edges: tuple[str, ...]
    batch_swept: bool
    zones: tuple[Zone, ...]
    contours: tuple[Zone, ...]
    interval: ScaleOptimum  # of the optimum
    keys: tuple[Keys, ...]  # (n,) of the runs merged into each setting; empty where they are not known
    diverged_keys: tuple[Keys, ...]  # (m,)

    @property
    def name(self) -> str:
        return format_scale(self.params, self.tokens)

    def words_of(self, row: int) -> str:
        """One setting that finished, in words."""
        return (
            f"loss {self.loss[row]:.4f}, {format_percent(self.excess[row])} above the best run<br>learning rate "
            f"{format_lr(self.lr[row])}, batch {format_quantity(self.batch_tokens[row])} tokens"
        )


def run_words(keys: Keys, words: str) -> str:
    """What hovering over a setting says: its runs, then the words."""
    if not keys:
        return words
    more = f" and {len(keys) - _KEYS_NAMED} more seeds" if len(keys) > _KEYS_NAMED else ""
    return f"run {', '.join(map(_whole_key, keys[:_KEYS_NAMED]))}{more}<br>{words}"


def _whole_key(key: str) -> str:
    """Long keys broken into lines, nothing cut off."""
    return "<br>".join(escape(key[i : i + _KEY_LINE]) for i in range(0, len(key), _KEY_LINE))


def surface_numbers(
    payload: Mapping[str, Any], observed: Observations, cell: int, keys: RunKeys | None = None
) -> CellSurface:
    """The runs of one cell of a fit beside its fitted valley.

    Parameters
    ----------
    payload : of a stored fit
    observed : the recipe's runs; a cell that is not among them any more is shown without runs
    cell : index into ``payload["cells"]``
    keys : of the runs (`run_keys`), which figures then name
    """
    found = payload["cells"][cell]
    params, tokens, optimum = found["params"], found["tokens"], found["optimum"]
    off = np.hypot(np.log(observed.params / params), np.log(observed.tokens / tokens))
    at = int(np.argmin(off)) if len(off) and off.min() < SAME_SCALE else -1
    rows = observed.cell == at
    gone = observed.diverged_cell == at
    loss = np.exp(observed.log_loss[rows])
    lr_best, batch_best = optimum["lr"], optimum["batch_tokens"]
    q, _ = steepened(payload["model"]["valley"], tokens)
    return CellSurface(
        params=params,
        tokens=tokens,
        lr=np.exp(observed.log_lr[rows]),
        batch_tokens=np.exp(observed.log_batch[rows]),
        loss=loss,
        excess=loss / loss.min() - 1 if len(loss) else loss,
        diverged_lr=np.exp(observed.diverged_log_lr[gone]),
        diverged_batch_tokens=np.exp(observed.diverged_log_batch[gone]),
        optimum_lr=optimum["lr"],
        optimum_batch_tokens=optimum["batch_tokens"],
        status=optimum["status"],
        edges=tuple(optimum.get("edges", ())),
        batch_swept=bool(optimum.get("batch_swept", True)),
        zones=tuple(zone_around(lr_best, batch_best, q, cost) for cost in ZONE_COSTS),
        contours=tuple(zone_around(lr_best, batch_best, q, cost) for cost in CONTOUR_COSTS),
        interval=scale_optimum(payload["model"], found),
        keys=_keys_at(None if keys is None else keys.settings, rows),
        diverged_keys=_keys_at(None if keys is None else keys.diverged, gone),
    )


def _keys_at(keys: tuple[Keys, ...] | None, rows: NDArray[np.bool_]) -> tuple[Keys, ...]:
    return tuple(keys[row] if keys else () for row in np.flatnonzero(rows))


def zone_around(lr: float, batch_tokens: float, q: Any, cost: float) -> Zone:
    """Closed curve around an optimum on which the valley costs `cost`: bisection along rays, as it is convex."""
    angle = np.linspace(0, 2 * np.pi, _DIRECTIONS + 1)
    across, along = np.cos(angle), np.sin(angle)
    coefficients, level = np.asarray(q, dtype=float), np.log1p(cost)
    near, far = np.zeros_like(angle), np.full_like(angle, _FARTHEST)
    for _ in range(50):
        middle = (near + far) / 2
        inside = excess(middle * across, middle * along, coefficients) < level
        near, far = np.where(inside, middle, near), np.where(inside, far, middle)
    radius = np.where(far < _FARTHEST * (1 - 1e-9), near, np.nan)
    return Zone(cost=cost, lr=lr * np.exp(radius * across), batch_tokens=batch_tokens * np.exp(radius * along))


def best_shown_cell(payload: Mapping[str, Any]) -> int:
    """The cell that a report opens with: the largest scale whose optimum lies inside its sweep, else the largest."""
    cells = payload["cells"]

    def order(index: int) -> tuple[bool, bool, float]:
        optimum = cells[index]["optimum"]
        size = cells[index]["params"] * cells[index]["tokens"]
        return bool(optimum.get("batch_swept", True)), optimum["status"] == "inside", size

    return max(range(len(cells)), key=order)


def surface_figure(surface: CellSurface) -> Figure:
    """Runs of one cell in (learning rate, batch), coloured by what each loses against the best of them."""
    shown_lr = np.concatenate([surface.lr, surface.diverged_lr, [surface.optimum_lr]])
    shown_batch = np.concatenate([surface.batch_tokens, surface.diverged_batch_tokens, [surface.optimum_batch_tokens]])
    first, last = _with_zone(shown_lr, surface.zones[-1].lr)
    low, high = _with_zone(shown_batch, surface.zones[-1].batch_tokens)
    if high / low < 1.5:  # one batch size: some air around it
        low, high = low / 2, high * 2
    contours = _contour_traces(surface, (first, last), (low, high))
    traces = [*contours, *_zone_traces(surface), _runs(surface)]
    if len(surface.diverged_lr):
        traces.append(_diverged(surface))
    traces.append(_optimum(surface))
    layout = {
        "xaxis": style.log_axis("Peak learning rate", first, last, write=style.tick_lr),
        "yaxis": style.log_axis("Batch size (tokens per step)", low, high),
        "margin": {"b": 88},
    }
    return style.figure(traces, layout)


def _with_zone(runs: Floats, zone: Floats) -> tuple[float, float]:
    """Range that shows the runs, and the innermost zone as far as it is not much wider than they."""
    low, high = float(runs.min()), float(runs.max())
    ends = zone[np.isfinite(zone)]
    if not len(ends):
        return low, high
    return max(min(low, ends.min()), low / _ROOM_FOR_ZONE), min(max(high, ends.max()), high * _ROOM_FOR_ZONE)


def _contour_traces(surface: CellSurface, lr: tuple[float, float], batch: tuple[float, float]) -> list[dict[str, Any]]:
    """Lines of equal cost around the zones, each with its cost where it is highest within the first view."""
    traces = []
    for contour in surface.contours:
        there = (contour.lr > lr[0]) & (contour.lr < lr[1])
        there &= (contour.batch_tokens > batch[0]) & (contour.batch_tokens < batch[1])
        if not there.any():
            continue
        top = int(np.argmax(np.where(there, contour.batch_tokens, -np.inf)))
        traces.append(
            {
                "type": "scatter", "mode": "lines+text", "showlegend": False, "hoverinfo": "skip",
                "name": f"costs {100 * contour.cost:g} %",
                "x": contour.lr.tolist(), "y": contour.batch_tokens.tolist(),
                "line": {"color": style.colour("axis"), "width": 1},
                "text": [f"{100 * contour.cost:g} %" if i == top else "" for i in range(len(contour.lr))],
                "textposition": "top center", "textfont": {"size": 10, "color": style.colour("muted")},
            }
        )  # fmt: skip
    return traces


def _zone_traces(surface: CellSurface) -> list[dict[str, Any]]:
    fills = {ZONE_COSTS[0]: "zone", ZONE_COSTS[1]: "inner_zone"}
    return [
        {
            "type": "scatter",
            "mode": "lines",
            "name": f"costs < {100 * zone.cost:g} %",
            "x": zone.lr.tolist(),
            "y": zone.batch_tokens.tolist(),
            "fill": "toself" if np.isfinite(zone.lr).all() else "none",
            "fillcolor": style.colour(fills[zone.cost]),
            "line": {"color": style.colour("ours"), "width": 1},
            "hoverinfo": "skip",
        }
        for zone in surface.zones
        if np.isfinite(zone.lr).any()
    ]


def _runs(surface: CellSurface) -> dict[str, Any]:
    order = np.argsort(-surface.excess)  # the good ones on top
    stops = style.GOOD_TO_BAD
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "run",
        "showlegend": False,
        "x": surface.lr[order].tolist(),
        "y": surface.batch_tokens[order].tolist(),
        "marker": {
            "size": 11,
            "color": (100 * surface.excess[order]).tolist(),
            "cmin": 0,
            "cmax": 100 * COLOUR_FULL,
            "colorscale": [[i / (len(stops) - 1), pair[0]] for i, pair in enumerate(stops)],
            "line": {"color": style.colour("axis"), "width": 0.8},
            "colorbar": {
                "title": {
                    "text": "loss above<br>the best run<br> ",
                    "font": {"size": 12, "color": style.colour("muted")},
                },
                "tickvals": [0, 0.5, 1, 1.5, 2],
                "ticktext": ["0 %", "0.5 %", "1 %", "1.5 %", "≥ 2 %"],
                "tickfont": {"size": 11, "color": style.colour("muted")},
                "thickness": 10,
                "len": 1.0,
                "outlinewidth": 0,
                "x": 1.01,
                "xpad": 4,
            },
        },
        "text": [run_words(surface.keys[row], surface.words_of(row)) for row in order],
        "customdata": [surface.keys[row][0] if surface.keys[row] else None for row in order],
        "hovertemplate": "%{text}<extra></extra>",
    }


def _diverged(surface: CellSurface) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "diverged",
        "x": surface.diverged_lr.tolist(),
        "y": surface.diverged_batch_tokens.tolist(),
        "marker": {"symbol": "x-thin", "size": 8, "line": {"color": style.colour("lost"), "width": 1.6}},
        "text": [
            run_words(keys, f"diverged<br>learning rate {format_lr(lr)}, batch {format_quantity(batch)} tokens")
            for keys, lr, batch in zip(
                surface.diverged_keys, surface.diverged_lr, surface.diverged_batch_tokens, strict=True
            )
        ],
        "customdata": [keys[0] if keys else None for keys in surface.diverged_keys],
        "hovertemplate": "%{text}<extra></extra>",
    }


def _optimum(surface: CellSurface) -> dict[str, Any]:
    inside = surface.status == "inside"
    words = optimum_words(surface.status, surface.interval.near)
    return {
        "type": "scatter",
        "mode": "markers",
        "name": f"fitted optimum ({words})",
        "x": [surface.optimum_lr],
        "y": [surface.optimum_batch_tokens],
        "error_x": _bar(*surface.interval.interval("lr")),
        "error_y": _bar(*surface.interval.interval("batch_tokens")),
        "marker": {
            "symbol": "star" if inside else "star-open",
            "size": 16,
            "color": style.colour("target"),
            "line": {"color": style.colour("paper" if inside else "target"), "width": 1.2},
        },
        "hovertemplate": f"fitted optimum: {words}<br>learning rate {_with_ends(surface.interval, 'lr', format_lr)}<br>"
        f"batch {_with_ends(surface.interval, 'batch_tokens', format_quantity)} tokens<extra></extra>",
    }


def _bar(value: float, low: float, high: float) -> dict[str, Any]:
    ends = {"array": [high - value], "arrayminus": [value - low]}
    return {"type": "data", "symmetric": False, **ends, "color": style.colour("target"), "thickness": 1.6, "width": 5}


def _with_ends(optimum: ScaleOptimum, quantity: str, write: Callable[[float], str]) -> str:
    value, low, high = map(write, optimum.interval(quantity))
    return f"{value} ({low} to {high})"
