"""From a stored fit, a target and a budget to the runs to make next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lawfit.ask import Target
from lawfit.documents.next_runs import NextRuns
from lawfit.errors import NoFit, Unanswerable
from lawfit.pipeline.answering import latest_certified
from lawfit.records import Fit

if TYPE_CHECKING:
    from lawfit.planner.means import Means
    from lawfit.storage import Store


def read_means(budget: str, flops_per_second: float | None = None, dollars_per_gpu_hour: float | None = None) -> Means:
    """A budget as people write it; see `lawfit.planner.means.read_means`."""
    from lawfit.planner.means import read_means as read

    return read(budget, flops_per_second, dollars_per_gpu_hour)


def run_rows(document: NextRuns) -> list[dict[str, float]]:
    """The runs of a plan, one row each; see `lawfit.planner.next_runs.rows_of`."""
    from lawfit.planner.next_runs import rows_of

    return rows_of(document)


def plan_next(
    store: Store,
    recipe: str | None,
    target: Target,
    means: Means,
    *,
    fit_id: str | None = None,
    max_params: float | None = None,
) -> NextRuns:
    """Which runs would help a target most for a budget; without a usable fit, the first sweep by published laws.

    Raises
    ------
    NoRecipe, NoFit
        A recipe, or a fit, was named and is not there.
    NotEnoughData
        No run is worth making: why.
    """
    from lawfit.planner.next_runs import next_runs

    fit = store.fit(fit_id) if fit_id is not None else _usable(store, recipe)
    seq_len = None if fit is None else store.recipe(fit.recipe_name).seq_len
    return next_runs(fit, target, means, max_params=max_params, seq_len=target.seq_len or seq_len)


def _usable(store: Store, recipe: str | None) -> Fit | None:
    if recipe is None and not store.recipes():
        return None
    try:
        return latest_certified(store, store.recipe(recipe))
    except (NoFit, Unanswerable):
        return None
