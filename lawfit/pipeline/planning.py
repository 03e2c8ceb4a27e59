"""From a stored fit and a budget to how it is best spent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lawfit.ask import PlanQuestion
from lawfit.documents import Plan
from lawfit.errors import NoFit
from lawfit.findings import finding
from lawfit.pipeline.asked import asked_fit
from lawfit.pipeline.changes import runs_changed_since
from lawfit.pipeline.fitting import (
    LOSS,
    LR_BATCH,
)
from lawfit.pipeline.predicting import recommend
from lawfit.records import FitStatus

if TYPE_CHECKING:
    from lawfit.storage import Store


def plan(
    store: Store,
    recipe: str | None,
    question: PlanQuestion,
    *,
    fit_id: str | None = None,
    at: Sequence[str] = (),
    keep: bool = True,
) -> Plan:
    """How to spend a budget, from the newest fit of the recipe or from the one named: size, tokens, settings, time.

    The law of the loss stands on its own feet: where no learning rate may be used, size and tokens are planned all the
    same, and the settings are refused with the reason.

    Parameters
    ----------
    at : levels of settings that vary inside the recipe, as in `recommend`: the newest fit that holds there answers

    Raises
    ------
    NoRecipe, NoFit
        With what to type.
    UnknownLevel
        No run of the recipe has a level that was asked for; with the levels there are.
    NotEnoughData
        The runs carry no law of the loss, or one that leaves the optimum open; with the runs that would help.
    ValueError
        The question contradicts itself.
    """
    from lawfit.advise.budget.plan import plan as advise

    asked = asked_fit(store, recipe, fit_id, at)
    fit = asked.fit
    if fit_id is not None and fit.kind not in (LR_BATCH, LOSS):
        raise NoFit(finding("pipeline.one_law", fit_id=fit_id, kind=fit.kind))
    # settings of the very fit that is planned with; one that may not be used answers as it does unasked
    usable = fit.kind == LR_BATCH and fit.status is not FitStatus.UNCERTIFIED
    settings_of = fit.id if usable else fit_id
    document = advise(
        question,
        asked.recipe,
        asked.laws,
        fit.payload.get("missing", {}),
        lambda target: recommend(store, recipe, target, fit_id=settings_of, at=at, keep=keep),
    )
    changed = runs_changed_since(store, document["evidence"]["prediction_fit_id"])  # its settings warn of it
    document["evidence"]["runs_changed"] = changed
    return document
