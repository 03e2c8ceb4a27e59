"""How far each scale's own optimum lies off the law, by size or by horizon: a size that bends the law is seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from lawfit.advise.draws import known_of, law_row, moments
from lawfit.advise.members import members_of
from lawfit.estimate.numerics.quantiles import normal_quantile
from lawfit.plots import style
from lawfit.plots.shown import Table
from lawfit.units import format_lr, format_quantity, format_scale
from lawfit.words.answers import INPUT_WORDS, optimum_words

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

Floats = NDArray[np.float64]

LEVEL: Final = 0.9
_AXIS: Final[Mapping[str, int]] = {"lr": 0, "batch_tokens": 1}
_LEAST_ROOM: Final = 1.15  # factor that the axis goes up and down at least
_SIZES_NAMED: Final = 8  # in a legend
_APART: Final = 0.045  # share of the axis over which dots of one place are set side by side


@dataclass(frozen=True, kw_only=True)
class ScaleResidual:
    """One scale against the law."""

    params: float
    tokens: float
    own: float  # optimum, in plain units
    law: float  # what the law says there, deviations of size and scale left out
    factor: float  # own over law
    low: float  # of a `LEVEL` interval of that factor, by what the scale's own runs leave open
    high: float
    status: str  # records.OptimumStatus
    near: int | None


@dataclass(frozen=True, kw_only=True)
class SizeResidual:
    """What the fit takes for the deviation that all scales of a size share."""

    params: float
    factor: float
    low: float
    high: float
    scales: int


@dataclass(frozen=True, kw_only=True)
class Residuals:
    """What the figure of one quantity shows."""

    quantity: str  # "lr" or "batch_tokens"
    scales: tuple[ScaleResidual, ...]
    sizes: tuple[SizeResidual, ...]
    influence: tuple[Mapping[str, Any], ...]  # of the certificate: exponents of this quantity without a size


def residual_numbers(payload: Mapping[str, Any], quantity: str) -> Residuals:
    """Residuals of "lr" or "batch_tokens" over all scales of a fit."""
    if quantity not in _AXIS:
        raise ValueError(f"there are no residuals of '{quantity}'; there are {', '.join(_AXIS)}")
    model, axis, half = payload["model"], _AXIS[quantity], normal_quantile(0.5 + LEVEL / 2)
    weights = np.array([member["weight"] for member in model["members"]])
    weights = weights / weights.sum()
    scales = []
    for cell in payload["cells"]:
        x = law_row(model, cell["params"], cell["tokens"])
        law = float(weights @ moments(members_of(model), x)[0][:, axis])
        known, place = known_of(model, cell["params"], cell["tokens"])
        if known == "scale":
            at = np.array([member["scales"]["at"][place][axis] for member in model["members"]])
            within = np.array([member["scales"]["cov"][place][axis][axis] for member in model["members"]])
            own, sd = float(weights @ at), float(np.sqrt(weights @ (within + (at - weights @ at) ** 2)))
        else:  # sizes of several shapes that close
            own, sd = float(np.log(cell["optimum"][quantity])), float("nan")
        scales.append(
            ScaleResidual(
                params=cell["params"],
                tokens=cell["tokens"],
                own=float(np.exp(own)),
                law=float(np.exp(law)),
                factor=float(np.exp(own - law)),
                low=float(np.exp(own - law - half * sd)),
                high=float(np.exp(own - law + half * sd)),
                status=cell["optimum"]["status"],
                near=cell["optimum"].get("near"),
            )
        )
    influence = (payload.get("certificate") or {}).get("influence") or []
    of = "the best lr" if quantity == "lr" else "the best batch"
    return Residuals(
        quantity=quantity,
        scales=tuple(scales),
        sizes=_of_sizes(model, weights, axis, [cell["params"] for cell in payload["cells"]]),
        influence=tuple(row for row in influence if row["parameter"].endswith(of)),
    )


def _of_sizes(model: Mapping[str, Any], weights: Floats, axis: int, params: list[float]) -> tuple[SizeResidual, ...]:
    half, found = normal_quantile(0.5 + LEVEL / 2), []
    for place, size in enumerate(model["sizes"]):
        shifts = np.array([member["sizes"]["shift"][place][axis] for member in model["members"]])
        within = np.array([member["sizes"]["cov"][place][axis][axis] for member in model["members"]])
        shift, sd = float(weights @ shifts), float(np.sqrt(weights @ (within + (shifts - weights @ shifts) ** 2)))
        found.append(
            SizeResidual(
                params=size,
                factor=float(np.exp(shift)),
                low=float(np.exp(shift - half * sd)),
                high=float(np.exp(shift + half * sd)),
                scales=sum(abs(np.log(each / size)) < 0.01 for each in params),
            )
        )
    return tuple(found)


def residual_figure(found: Residuals, along: str = "params") -> Figure:
    """Own optimum over the law's, along "params" or "tokens"; bars are what the fit takes for each size's deviation."""
    other = "tokens" if along == "params" else "params"
    values = sorted({float(f"{getattr(scale, other):.3g}") for scale in found.scales})
    colours = dict(zip(values, style.scale_colours(len(values)), strict=True))
    named = {round(i * (len(values) - 1) / (min(_SIZES_NAMED, len(values)) - 1 or 1)) for i in range(_SIZES_NAMED)}
    x = [getattr(scale, along) for scale in found.scales]
    traces: list[dict[str, Any]] = [_size_bars(found)] if along == "params" else []
    for index, value in enumerate(values):
        mine = [scale for scale in found.scales if float(f"{getattr(scale, other):.3g}") == value]
        aside = (max(x) / min(x)) ** (_APART * (index - (len(values) - 1) / 2) / max(len(values), 1))
        name = f"{format_quantity(value)} {INPUT_WORDS[other]}"
        traces.append(_dots(found, mine, along, colours[value], name, aside))
        traces[-1]["showlegend"] = index in named
    ends = [end for scale in found.scales for end in (scale.factor, scale.low, scale.high) if np.isfinite(end)]
    room = max(_LEAST_ROOM, *(max(end, 1 / end) for end in ends))
    title = "Own best over the law's (factor)"
    line = {"type": "line", "xref": "paper", "yref": "y", "x0": 0, "x1": 1, "y0": 1, "y1": 1, "layer": "below"}
    line |= {"line": {"color": style.quantity_colours(found.quantity)[0], "width": 1.6}}
    layout = {
        "xaxis": style.log_axis("Parameters" if along == "params" else "Training tokens", min(x), max(x)),
        "yaxis": style.log_axis(title, 1 / room, room, write=lambda tick: f"{tick:g}"),
        "shapes": [line],
        "margin": {"b": 118},
    }
    return style.figure(traces, layout)


def _dots(
    found: Residuals, scales: list[ScaleResidual], along: str, ink: str, name: str, aside: float
) -> dict[str, Any]:
    write = format_lr if found.quantity == "lr" else format_quantity
    inside = [scale.status == "inside" for scale in scales]
    return {
        "type": "scatter", "mode": "markers", "name": name,
        "x": [getattr(scale, along) * aside for scale in scales], "y": [scale.factor for scale in scales],
        "error_y": {
            "type": "data", "symmetric": False, "color": ink, "thickness": 1.2, "width": 0,
            "array": [scale.high - scale.factor if np.isfinite(scale.high) else 0.0 for scale in scales],
            "arrayminus": [scale.factor - scale.low if np.isfinite(scale.low) else 0.0 for scale in scales],
        },
        "marker": {"symbol": ["circle" if each else "circle-open" for each in inside], "size": 9, "color": ink,
                   "line": {"color": [style.colour("paper") if each else ink for each in inside], "width": 1.2}},
        "text": [
            f"{format_scale(scale.params, scale.tokens)} ({optimum_words(scale.status, scale.near)})<br>own "
            f"{write(scale.own)}, law {write(scale.law)}: factor {scale.factor:.2f} ({scale.low:.2f} to "
            f"{scale.high:.2f})"
            for scale in scales
        ],
        "hovertemplate": "%{text}<extra></extra>",
    }  # fmt: skip


def _size_bars(found: Residuals) -> dict[str, Any]:
    return {
        "type": "scatter", "mode": "markers", "name": "all of a size",
        "x": [size.params for size in found.sizes], "y": [size.factor for size in found.sizes],
        "error_y": {
            "type": "data", "symmetric": False, "thickness": 16, "width": 0,
            "color": style.quantity_colours(found.quantity)[1],
            "array": [size.high - size.factor for size in found.sizes],
            "arrayminus": [size.factor - size.low for size in found.sizes],
        },
        "marker": {"symbol": "line-ew", "size": 22, "line": {"color": style.colour("target"), "width": 2.5}},
        "text": [
            f"{format_quantity(size.params)} parameters, {size.scales} scales<br>all of them off by a factor "
            f"{size.factor:.2f} ({size.low:.2f} to {size.high:.2f})"
            for size in found.sizes
        ],
        "hovertemplate": "%{text}<extra></extra>",
    }  # fmt: skip


def residual_table(found: Residuals) -> Table:
    """Every scale with its own optimum, the law's, and the factor between them, the largest first."""
    write = format_lr if found.quantity == "lr" else format_quantity
    rows = [
        (
            format_quantity(scale.params),
            format_quantity(scale.tokens),
            write(scale.own),
            write(scale.law),
            f"{scale.factor:.2f}",
            f"{scale.low:.2f} to {scale.high:.2f}" if np.isfinite(scale.low) else "-",
            optimum_words(scale.status, scale.near),
        )
        for scale in sorted(found.scales, key=lambda scale: -abs(np.log(scale.factor)))
    ]
    columns = ("parameters", "tokens", "own best", "law", "factor", "90 % interval", "own optimum")
    return Table(columns=columns, rows=tuple(rows), numbers=columns[:6])


def influence_table(found: Residuals) -> Table:
    """Exponents without one size (or horizon), as the certificate has them, the one that moves most first."""
    rows = [
        (
            str(row["group"]),
            str(row["parameter"]),
            f"{row['value']:+.3f}",
            f"{row['value_without']:+.3f}",
            f"{abs(row['shift']):.1f}",
        )
        for row in sorted(found.influence, key=lambda row: -abs(row["shift"]))
    ]
    columns = ("left out", "exponent", "with it", "without it", "moves by (standard errors)")
    return Table(columns=columns, rows=tuple(rows), numbers=columns[2:])
