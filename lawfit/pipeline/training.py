"""From a stored fit, a target and devices to how the run is set up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from lawfit.ask import SetUp, Target
from lawfit.documents import Answer, Training
from lawfit.pipeline.predicting import recommend

if TYPE_CHECKING:
    from lawfit.storage import Store


def set_up(
    store: Store,
    recipe: str | None,
    target: Target,
    asked: SetUp,
    *,
    fit_id: str | None = None,
    at: Sequence[str] = (),
    keep: bool = True,
) -> Training:
    """The recommendation as a run is set up; a free batch is one that the devices can share.

    Raises
    ------
    Unanswerable
        No learning rate may be given: what the runs lack.
    NoRecipe, NoFit, UnknownLevel
        As `recommend`.
    ValueError
        The batch is not one that the devices can share; with the nearest that is, and what it costs.
    """
    from lawfit.advise.training import in_common, that_fits, training_of

    def answer_to(question: Target, *, keep: bool) -> Answer:
        return recommend(store, recipe, question, fit_id=fit_id, at=at, keep=keep)

    target = that_fits(target, asked)
    answer = answer_to(target, keep=keep)
    common = in_common(store.runs(answer["recipe"]["key"]))
    return training_of(
        answer,
        asked,
        common,
        lambda batch: answer_to(replace(target, batch_tokens=batch, batch_multiple=None), keep=False),
    )
