"""A plan of further runs, played before it is run: made losses, and what they would have told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from lawfit.documents.next_runs import NextRuns, Rehearsal
from lawfit.pipeline.fitting import fit_runs
from lawfit.records import Fit, Recipe, Run

if TYPE_CHECKING:
    from lawfit.storage import Store

WORLDS: Final = 100
REFITTED: Final = 20  # worlds, where every one is fitted anew: seconds each


def rehearse(
    store: Store,
    document: NextRuns,
    *,
    worlds: int | None = None,
    refit: bool = False,
    seed: int = 0,
    progress: Callable[[str, float], None] | None = None,
) -> Rehearsal:
    """Play a plan in worlds drawn from what was known when it was made, and say what became of it in them.

    Parameters
    ----------
    document : of `plan_next`
    worlds : how many; left out: 100, or 20 with `refit`
    refit : fit all runs anew in each world, which takes seconds; otherwise each scale's optimum is worked out from its
        made losses, and the laws are updated

    Raises
    ------
    NoFit
        The fit that the plan was made from is there no more.
    FitError
        In no world could the runs be fitted.
    """
    from lawfit.planner.rehearsal import rehearsal_of

    fit = None if document["fit_id"] is None else store.fit(document["fit_id"])
    more = _fitting(store, document, fit) if refit else {}
    count = worlds or (REFITTED if refit else WORLDS)
    return rehearsal_of(document, fit, count, seed=seed, progress=progress or (lambda _doing, _share: None), **more)


def _fitting(store: Store, document: NextRuns, fit: Fit | None) -> dict[str, Any]:
    """The recipe of a plan, its runs beside those planned, and what fits them with others as its fit was made."""
    from lawfit.estimate.lr_batch.analysis import FitOptions

    recipe = Recipe(name="first sweep") if document["recipe"] is None else store.recipe(document["recipe"])
    without = () if fit is None else tuple(fit.options.get("without_laws", ()))
    options = FitOptions(
        backtest=False, without_laws=without, at=() if fit is None else tuple(fit.options.get("at", ()))
    )
    runs = [] if fit is None else _beside(document, store.runs(recipe.key, excluded=False), fit)

    def fit_again(all_runs: Sequence[Run]) -> Fit:
        return fit_runs(recipe, all_runs, options=options)[0]

    return {"recipe": recipe, "runs": runs, "fit_again": fit_again}


def _beside(document: NextRuns, runs: Sequence[Run], fit: Fit) -> list[Run]:
    """Of the runs that are there: those that the fit did not leave out, and that the plan does not name."""
    from lawfit.planner.planned import not_there, row_of, rows_of

    planned = [*document["under_way"], *rows_of(document["grids"])]
    return [run for run in runs if run.run_key not in fit.exclusions and not_there([row_of(run)], planned)]
