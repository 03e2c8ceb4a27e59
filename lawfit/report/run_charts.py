"""Charts of runs: their curves over each other, and their settings in parallel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lawfit.plots.curves import ALONG, Logged, curve_numbers, curves_figure, curves_table
from lawfit.plots.parallel import parallel_figure, parallel_numbers, parallel_table
from lawfit.plots.shown import Chart

if TYPE_CHECKING:
    from lawfit.records import Run


def curves_chart(logged: Sequence[Logged], metric: str, along: str = "step") -> Chart:
    """One metric along some runs, as `plots.curves.curve_numbers` takes them."""
    found = curve_numbers(logged, metric, along)
    sizes = len({curve.run.params for curve in found.curves})
    colours = " From blue, small models, to brown, large ones." if sizes > 1 else ""
    several = "" if len(found.curves) == 1 else f"{len(found.curves)} runs; a click on a line opens its run. "
    return Chart(
        id="curves",
        title=f"{metric.replace('_', ' ').capitalize()} along the {ALONG[along].lower()}",
        caption=f"{several}{found.words}{colours} The first view leaves out the fall at the start.",
        figure=curves_figure(found),
        table=curves_table(found),
    )


def parallel_chart(runs: Sequence[Run], total: int) -> Chart | None:
    """Settings and losses of runs; None where there is none."""
    found = parallel_numbers(runs, total=total)
    if found is None:
        return None
    return Chart(
        id="parallel",
        title="Settings beside losses",
        caption=f"A line for each run, coloured by its rank among the losses of its scale. {found.words} A click opens "
        "a run; the filter above chooses which are drawn.",
        figure=parallel_figure(found),
        table=parallel_table(found),
    )
