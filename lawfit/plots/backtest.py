"""How each method did on scales it had not seen: mean and worst regret, in one figure per way of leaving scales out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from lawfit.plots import style
from lawfit.units import counted, format_percent

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

OURS: Final = "lawfit"
_LABEL: Final = 30
_LEAST_ON_LOG: Final = 1e-5  # shares of the loss below which all methods are as good


@dataclass(frozen=True, kw_only=True)
class MethodScore:
    """Regret of one method on the scales left out, as shares of the loss."""

    method: str
    mean_regret: float
    worst_regret: float
    cells: int
    ours: bool


@dataclass(frozen=True, kw_only=True)
class Backtest:
    """Scores of one split, best first; methods without a finite score are counted, not shown."""

    name: str
    scores: tuple[MethodScore, ...]
    not_scored: tuple[str, ...]


def backtest_numbers(payload: Mapping[str, Any]) -> tuple[Backtest, ...]:
    """Every split of a stored fit's backtest; empty where there were too few scales for one."""
    return tuple(_read(split) for split in payload["backtest"]["splits"])


def _read(split: Mapping[str, Any]) -> Backtest:
    scores, missing = [], []
    for row in split["rows"]:
        if row["mean_regret"] is None or row["worst_regret"] is None:
            missing.append(str(row["method"]))
            continue
        scores.append(
            MethodScore(
                method=str(row["method"]),
                mean_regret=float(row["mean_regret"]),
                worst_regret=float(row["worst_regret"]),
                cells=int(row["cells"]),
                ours=row["method"] == OURS,
            )
        )
    return Backtest(
        name=split["name"],
        scores=tuple(sorted(scores, key=lambda score: score.mean_regret)),
        not_scored=tuple(missing),
    )


def backtest_figure(backtest: Backtest) -> Figure:
    """Mean as a dot, worst scale as the end of its line; best method on top."""
    scores = backtest.scores[::-1]
    labels = [_short(score.method) for score in scores]
    rows = list(range(len(scores)))
    colours = [style.colour("ours" if score.ours else "others") for score in scores]
    text = [
        f"{score.method}<br>mean {format_percent(score.mean_regret)}, worst {format_percent(score.worst_regret)}, "
        f"over {counted(score.cells, 'scale')}"
        for score in scores
    ]
    lines: list[dict[str, Any]] = [
        {
            "type": "scatter",
            "mode": "lines",
            "x": [100 * score.mean_regret, 100 * score.worst_regret],
            "y": [row, row],
            "line": {"color": colours[row], "width": 2},
            "showlegend": False,
            "hoverinfo": "skip",
        }
        for row, score in enumerate(scores)
    ]
    marker = {"color": colours, "size": 11, "line": {"color": style.colour("paper"), "width": 1}}
    common = {"type": "scatter", "mode": "markers", "y": rows, "text": text, "hovertemplate": "%{text}<extra></extra>"}
    worst = {
        **common,
        "name": "worst scale",
        "x": [100 * score.worst_regret for score in scores],
        "marker": {"color": colours, "size": 9, "symbol": "line-ns", "line": {"color": colours, "width": 2}},
    }
    mean = {**common, "name": "mean", "x": [100 * score.mean_regret for score in scores], "marker": marker}
    layout = {
        "xaxis": _axis(scores),
        "yaxis": {
            "tickvals": rows,
            "ticktext": [
                f"<b>{label}</b>" if score.ours else label for label, score in zip(labels, scores, strict=True)
            ],
            "range": [-0.7, len(scores) - 0.3],
            "showgrid": False,
            "ticks": "",
            "showline": False,
        },
        "height": 110 + 30 * max(len(scores), 2),
        "margin": {"b": 88, "l": 8},
    }
    return style.figure([*lines, worst, mean], layout)


def _axis(scores: Sequence[MethodScore]) -> dict[str, Any]:
    """Logarithmic, as methods differ by factors; straight from zero where one of them cost nothing at all."""
    title = "Loss given up (%)"
    low, high = min(score.mean_regret for score in scores), max(score.worst_regret for score in scores)
    if low < _LEAST_ON_LOG:
        return {"title": {"text": title}, "rangemode": "tozero"}
    return style.log_axis(title, 100 * low, 100 * high, write=lambda tick: f"{tick:g}")


def _short(method: str) -> str:
    if method == OURS:
        return "your fit (lawfit)"
    return method if len(method) <= _LABEL else method[: _LABEL - 1].rstrip(" ,(") + "…"
