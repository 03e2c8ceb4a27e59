"""Charts of scales: all of them in small, and one whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lawfit.estimate.observe.observations import observe
from lawfit.plots.decay_valley import decay_figure, decay_numbers, decay_table
from lawfit.plots.lr_curves import lr_curves_figure, lr_curves_numbers, lr_curves_table
from lawfit.plots.run_keys import run_keys
from lawfit.plots.scales import COLUMNS, Scales, scales_figure, scales_numbers, shown_words
from lawfit.plots.shown import Chart, Table
from lawfit.plots.surface import surface_figure, surface_numbers
from lawfit.report.charts import surface_table
from lawfit.units import counted, format_lr, format_quantity

if TYPE_CHECKING:
    from lawfit.records import Fit, Run

CAPTION = (
    "Every panel is a scale, a row for each size where horizons repeat: its runs (the stronger the colour, the lower "
    "the loss), the zone that "
    "costs less than 0.25 %, the fitted optimum with its interval. A title in orange marks an optimum that the runs "
    "do not bracket. A click on a dot opens its run."
)


def scales_chart(fit: Fit, runs: Sequence[Run], *, columns: int = COLUMNS) -> Chart:
    """All scales of a fit in small.

    Parameters
    ----------
    runs : of the recipe
    columns : panels side by side
    """
    payload, seen = fit.payload, _seen(fit, runs)
    observed = observe(seen)
    found = scales_numbers(payload, observed, run_keys(observed, seen), columns=columns)
    left_out = f" The {len(found.panels)} scales with most runs, of {len(payload['cells'])}." if found.left_out else ""
    return Chart(
        id="scales",
        title="All scales",
        caption=CAPTION + left_out,
        figure=scales_figure(found),
        table=_scales_table(found),
    )


def _scales_table(found: Scales) -> Table:
    rows = []
    for panel in found.panels:
        optimum = panel.optimum
        rows.append(
            (
                format_quantity(optimum.params),
                format_quantity(optimum.tokens),
                f"{len(panel.surface.lr) + len(panel.surface.diverged_lr)}",
                format_lr(optimum.lr),
                f"{format_lr(optimum.lr_low)} to {format_lr(optimum.lr_high)}",
                format_quantity(optimum.batch_tokens),
                f"{format_quantity(optimum.batch_low)} to {format_quantity(optimum.batch_high)}",
                shown_words(optimum),
            )
        )
    columns = ("parameters", "tokens", "settings", "best lr", "90 % interval", "best batch", "its interval", "optimum")
    return Table(columns=columns, rows=tuple(rows), numbers=columns[:7])


def _seen(fit: Fit, runs: Sequence[Run]) -> list[Run]:
    """At the levels of settings that the fit holds at."""
    return [run for run in runs if run.run_key not in fit.exclusions and run.excluded is None]


def scale_charts(fit: Fit, cell: int, runs: Sequence[Run], timescale: Fit | None = None) -> tuple[Chart, ...]:
    """One scale whole: surface, losses along the learning rate, and along the weight decay where it was swept.

    None where no run of it that finished is in the fit any more.

    Parameters
    ----------
    cell : index into ``fit.payload["cells"]``
    runs : of the scale, or of the recipe; those at other weight decays show its valley
    timescale : the fit of the AdamW timescale
    """
    payload, seen = fit.payload, _seen(fit, runs)
    if not any(run.loss is not None for run in seen):
        return ()
    observed = observe(seen)
    keys = run_keys(observed, seen)
    surface = surface_numbers(payload, observed, cell, keys)
    settings = len(surface.lr) + len(surface.diverged_lr)
    charts = [
        Chart(
            id="surface",
            title="Loss over learning rate and batch",
            caption=f"{counted(settings, 'setting')}, coloured by the loss above the best of them. Lines bound what "
            "costs less than each share of the loss in the joint surface of all scales; star: its optimum here, with "
            "its 90 % interval.",
            figure=surface_figure(surface),
            table=surface_table(surface),
        )
    ]
    if len(surface.lr):
        curves = lr_curves_numbers(payload, surface)
        charts.append(
            Chart(
                id="lr-curves",
                title="Loss along the learning rate",
                caption="A line for each batch size, from blue, small, to brown, large; dotted: the joint surface. "
                "Shaded: the interval of the best learning rate. The axis ends at 6 % above the best run.",
                figure=lr_curves_figure(curves),
                table=lr_curves_table(curves),
            )
        )
    valley = decay_numbers(runs, surface.params, surface.tokens, None if timescale is None else timescale.payload)
    if valley is not None:
        more = f" {counted(valley.left_out, 'further pair')} not drawn." if valley.left_out else ""
        charts.append(
            Chart(
                id="decay",
                title="Loss along the weight decay",
                caption="A line for each learning rate and batch at which it was swept; diamonds: the fitted best "
                f"value, where the sweep brackets one.{more}",
                figure=decay_figure(valley),
                table=decay_table(valley),
            )
        )
    return tuple(charts)
