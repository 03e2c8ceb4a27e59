"""One call per figure, for notebooks: a fit and what goes with it in, a plotly figure out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Final

from lawfit.documents import Answer, Plan
from lawfit.plots.backtest import backtest_figure, backtest_numbers
from lawfit.plots.costs import cost_figure, cost_numbers
from lawfit.plots.curves import Logged, curve_numbers, curves_figure
from lawfit.plots.decay_valley import decay_figure, decay_numbers
from lawfit.plots.lr_curves import lr_curves_figure, lr_curves_numbers
from lawfit.plots.parallel import parallel_figure, parallel_numbers
from lawfit.plots.promises import promise_figure, promise_numbers
from lawfit.plots.residuals import residual_figure, residual_numbers
from lawfit.plots.run_keys import run_keys
from lawfit.plots.scales import COLUMNS, scales_figure, scales_numbers
from lawfit.plots.scaling import scaling_figure, scaling_numbers
from lawfit.plots.style import figure, log_axis, scale_colours, tick_lr
from lawfit.plots.surface import best_shown_cell, surface_figure, surface_numbers
from lawfit.units import format_quantity, format_scale, training_flops
from lawfit.words import tell

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from lawfit.estimate.observe.observations import Observations
    from lawfit.records import Fit, Run


def plot_surface(fit: Fit, runs: Observations | Sequence[Run], cell: int | None = None) -> Figure:
    """The runs of one scale, its fitted optimum and the zones in which a setting costs little.

    Parameters
    ----------
    fit : the fit
    runs : the runs (or observations) that it was made from
    cell : index into ``fit.payload["cells"]``; left out: the largest scale that shows its optimum
    """
    from lawfit.estimate.observe.observations import Observations, observe

    if isinstance(runs, Observations):
        return surface_figure(surface_numbers(fit.payload, runs, _chosen(fit, cell)))
    seen = _seen(fit, runs)
    observed = observe(seen)
    return surface_figure(surface_numbers(fit.payload, observed, _chosen(fit, cell), run_keys(observed, seen)))


def _seen(fit: Fit, runs: Sequence[Run]) -> list[Run]:
    """At the levels of settings that the fit holds at."""
    return [run for run in runs if run.run_key not in fit.exclusions]


def _chosen(fit: Fit, cell: int | None) -> int:
    """Index of a scale; of none, the largest that shows its optimum."""
    count = len(fit.payload["cells"])
    chosen = best_shown_cell(fit.payload) if cell is None else cell
    if not 0 <= chosen < count:
        raise ValueError(f"no scale {cell}; this fit has {count}, numbered from 0")
    return chosen


def plot_scales(fit: Fit, runs: Sequence[Run], columns: int = COLUMNS) -> Figure:
    """Every scale of a fit in small, `columns` side by side: runs, what costs little, the optimum with its interval."""
    from lawfit.estimate.observe.observations import observe

    seen = _seen(fit, runs)
    observed = observe(seen)
    return scales_figure(scales_numbers(fit.payload, observed, run_keys(observed, seen), columns=columns))


def plot_lr_curves(fit: Fit, runs: Sequence[Run], cell: int | None = None) -> Figure:
    """The losses of one scale along the learning rate, a line for each batch; `cell` as of `plot_surface`."""
    from lawfit.estimate.observe.observations import observe

    seen = _seen(fit, runs)
    observed = observe(seen)
    surface = surface_numbers(fit.payload, observed, _chosen(fit, cell), run_keys(observed, seen))
    return lr_curves_figure(lr_curves_numbers(fit.payload, surface))


def plot_weight_decay(runs: Sequence[Run], params: float, tokens: float, timescale: Fit | None = None) -> Figure:
    """The losses of one scale along the weight decay, with the best values of a fit of the timescale.

    Raises
    ------
    ValueError
        No learning rate and batch of that scale has three weight decays.
    """
    valley = decay_numbers(runs, params, tokens, None if timescale is None else timescale.payload)
    if valley is None:
        raise ValueError(f"no sweep of weight decay at {format_scale(params, tokens)}: it takes three values of it")
    return decay_figure(valley)


def plot_residuals(fit: Fit, quantity: str = "lr", along: str = "params") -> Figure:
    """How far each scale's own best "lr" or "batch_tokens" lies off the law, along "params" or "tokens"."""
    return residual_figure(residual_numbers(fit.payload, quantity), along)


def plot_promises(fit: Fit) -> Figure:
    """What a fit said its advice would cost at sizes left out, against what it did.

    Raises
    ------
    ValueError
        It has too few sizes, or no backtest.
    """
    found = promise_numbers(fit.payload)
    if found is None:
        raise ValueError("this fit left no size out: it takes two sizes with scored scales, and a backtest")
    return promise_figure(found)


def plot_curves(logged: Sequence[Logged], metric: str = "train_loss", along: str = "step") -> Figure:
    """Curves over each other: of each run its steps and the values there; along "step", "tokens" or "share"."""
    return curves_figure(curve_numbers(logged, metric, along))


def plot_settings(runs: Sequence[Run]) -> Figure:
    """Settings and losses of runs as lines through parallel axes.

    Raises
    ------
    ValueError
        There are no runs.
    """
    found = parallel_numbers(runs)
    if found is None:
        raise ValueError("there are no runs to draw")
    return parallel_figure(found)


def plot_scaling(fit: Fit, prediction: Answer, quantity: str = "lr", along: str = "tokens") -> Figure:
    """How the best learning rate ("lr") or batch ("batch_tokens") moves along "tokens" or "params", up to the target.

    `prediction` is the document of a recommendation made from `fit`.
    """
    return scaling_figure(scaling_numbers(fit, prediction, quantity, along))


def plot_costs(fit: Fit, prediction: Answer, quantity: str = "lr") -> Figure:
    """What another learning rate ("lr") or batch ("batch_tokens") than the recommended one would cost at the target."""
    return cost_figure(cost_numbers(fit, prediction, quantity))


def plot_backtest(fit: Fit, split: int = 0) -> Figure:
    """How the fit and other methods did on scales that they had not seen.

    Raises
    ------
    ValueError
        There is no such split: with fewer than three scales nothing can be left out.
    """
    splits = backtest_numbers(fit.payload)
    if not 0 <= split < len(splits):
        names = "; ".join(f"{i}: {found.name}" for i, found in enumerate(splits))
        raise ValueError(f"no backtest {split}; this fit has {names or 'none, as it has too few scales'}")
    return backtest_figure(splits[split])


def plot_plan(fit: Fit, document: Plan, kind: str = "valley") -> Figure:
    """A figure of a plan: the loss along its budget ("valley"), the plan among the runs ("plane"), "routes" or "time".

    "routes" has the best size of each compute by every form of the law and by IsoFLOP profiles.

    Parameters
    ----------
    fit : of the loss, that the plan was made from

    Raises
    ------
    ValueError
        Another kind, "time" without a critical batch, or "routes" where the runs do not say the best size.
    """
    from lawfit.plots.plan_routes import routes_figure, routes_numbers
    from lawfit.plots.planning import plane_figure, plane_numbers, time_figure, valley_figure, valley_numbers

    if kind == "valley":
        return valley_figure(valley_numbers(fit, document))
    if kind == "plane":
        return plane_figure(plane_numbers(fit, document))
    if kind == "routes":
        if document["optimum"] is None:
            raise ValueError(tell(document["missing"]["optimum"]))
        return routes_figure(routes_numbers(fit, document))
    if kind != "time":
        raise ValueError(f"there is no figure '{kind}' of a plan; there are valley, plane, routes, time")
    if document["time"] is None:
        raise ValueError(tell(document["missing"]["time"]))
    return time_figure(document["time"])


def plot_runs(runs: Sequence[Run]) -> Figure | None:
    """The loss of every finished run against its learning rate, coloured by its compute; None where none finished."""
    done = [run for run in runs if run.loss is not None and run.excluded is None]
    if not done:
        return None
    compute = [training_flops(run.params, run.tokens) for run in done]
    low, high = math.log10(min(compute)), math.log10(max(compute))
    trace = {
        "type": "scatter",
        "mode": "markers",
        "x": [run.lr for run in done],
        "y": [run.loss for run in done],
        "text": [_run_words(run) for run in done],
        "hovertemplate": "%{text}<extra></extra>",
        "marker": {
            "size": 6,
            "color": [math.log10(flops) for flops in compute],
            "colorscale": [[k / 4, scale_colours(5)[k]] for k in range(5)],
            "colorbar": {
                "title": {"text": "FLOPs"},
                "tickvals": [low, high],
                "ticktext": [f"{10**low:.2g}", f"{10**high:.2g}"],
            },
        },
    }
    rates = [run.lr for run in done]
    axis = log_axis("Peak learning rate", min(rates), max(rates), write=tick_lr)
    return figure([trace], {"xaxis": axis, "yaxis": {"title": {"text": "Loss, nats per token"}}})


def _run_words(run: Run) -> str:
    scale = f"{format_quantity(run.params)} parameters on {format_quantity(run.tokens)} tokens"
    return f"{run.run_key}<br>{scale}<br>batch {format_quantity(run.batch_tokens)}, lr {run.lr:.3g}: {run.loss:.4g}"


def cell_html(text: str, drawn: Figure | None) -> str:
    """What a notebook shows of a result: its words, and its figure under them.

    The first figure of a session brings plotly's library (5 MB) along; later ones find it in the page.
    """
    words = f'<pre style="white-space: pre-wrap; margin: 0">{escape(text)}</pre>'
    if drawn is None:
        return words
    first = not _SESSION["has library"]
    _SESSION["has library"] = True
    return words + str(drawn.to_html(full_html=False, include_plotlyjs=first))


_SESSION: Final = {"has library": False}
