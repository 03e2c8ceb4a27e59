"""From a stored fit and a target to a recommendation, kept where it is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from lawfit.ask import SettingQuestion, Target
from lawfit.documents import Answer, SettingCost, part_of
from lawfit.errors import NoFit, StoreError
from lawfit.findings import as_json, finding
from lawfit.pipeline.answering import (
    ALONE,
    answer,
    cost,
    latest_answering,
    latest_at,
    laws_beside,
    newer_doubtful,
    require_at,
)
from lawfit.pipeline.changes import note_changes
from lawfit.pipeline.fitting import LR_BATCH
from lawfit.records import Fit, Recipe, StoredPrediction

if TYPE_CHECKING:
    from lawfit.storage import Store


def recommend(
    store: Store,
    recipe: str | None,
    target: Target,
    *,
    fit_id: str | None = None,
    at: Sequence[str] = (),
    keep: bool = True,
) -> Answer:
    """The recommendation for one target, from the newest fit of the recipe or from the one named.

    The answer is kept under its id, to be shown again, where `keep` says so and the database can be written. Where no
    learning rate may be given, the law of the loss (and the critical batch) still answers, and the document says what
    is missing.

    Parameters
    ----------
    at : levels of settings that vary inside the recipe, each as ``NAME=VALUE``: the newest fit that holds there answers

    Raises
    ------
    Unanswerable
        The fit may not be used: what the runs lack, and which runs would mend it. One named by its id answers.
    NoRecipe, NoFit
        With what to type.
    UnknownLevel
        No run of the recipe has a level that was asked for; with the levels there are.
    """
    fit, chosen = _asked_fit(store, recipe, fit_id, at)
    document = _answer_of(store, fit, chosen, target, by_id=fit_id is not None)
    if fit_id is None and not at and fit.kind == LR_BATCH:
        document["warnings"] = as_json([*newer_doubtful(store, chosen, fit), *document["warnings"]])
    note_changes(store, fit.id, document)
    if keep:
        with suppress(StoreError):  # a read-only database still answers; only the record of the answer is missing
            store.put_prediction(document["id"], fit.id, document["target"], document)
    return document


def cost_of_setting(
    store: Store, recipe: str | None, asked: SettingQuestion, *, fit_id: str | None = None, at: Sequence[str] = ()
) -> SettingCost:
    """What a setting costs at a target, from the fit that a recommendation there would come from.

    Parameters
    ----------
    at : as in `recommend`

    Raises
    ------
    Unanswerable
        The runs carry no learning rate: what they lack, and which runs would mend it. A fit named by its id answers.
    NoRecipe, NoFit, UnknownLevel, ValueError
        As `recommend`.
    """
    fit, chosen = _asked_fit(store, recipe, fit_id, at)
    document = cost(fit, chosen, asked, laws_of(store, fit), asked_by_id=fit_id is not None)
    if fit_id is None and not at:
        document["warnings"] = as_json([*newer_doubtful(store, chosen, fit), *document["warnings"]])
    note_changes(store, fit.id, document)
    return document


def _asked_fit(store: Store, recipe: str | None, fit_id: str | None, at: Sequence[str]) -> tuple[Fit, Recipe]:
    """The fit that answers, and its recipe."""
    if fit_id is None:
        chosen = store.recipe(recipe)
        return latest_at(store, chosen, at) if at else latest_answering(store, chosen), chosen
    fit = store.fit(fit_id)
    if recipe is not None and store.recipe(recipe).key != fit.recipe_key:
        raise NoFit(finding("pipeline.other_recipe", fit_id=fit_id, recipe=fit.recipe_name, asked=recipe))
    require_at(store, fit, at)
    return fit, store.recipe(fit.recipe_name)


def comes_out_the_same(store: Store, prediction: StoredPrediction) -> bool:
    """Whether an answer that was given comes out the same from its fit today, asked for by its id or without."""
    level = next(part["level"] for part in _parts_with_level(prediction.answer))
    asked = {name: value for name, value in prediction.target.items() if name in Target.__dataclass_fields__}
    target = Target(**{**asked, "level": level})
    fit = store.fit(prediction.fit_id)
    chosen = store.recipe(fit.recipe_name)
    for by_id in (True, False):
        with suppress(NoFit):
            if _answer_of(store, fit, chosen, target, by_id=by_id)["id"] == prediction.answer["id"]:
                return True
    return False


def _parts_with_level(answer: Answer) -> Iterator[Mapping[str, Any]]:
    parts = (part_of(answer, name) for name in ("expected_loss", "critical_batch"))
    for part in (answer["recommendation"]["lr"], *parts):
        if part is not None and "level" in part:
            yield part


def _answer_of(store: Store, fit: Fit, recipe: Recipe, target: Target, *, by_id: bool) -> Answer:
    laws = laws_beside(store, fit) if fit.kind in ALONE and not by_id else laws_of(store, fit)
    return answer(fit, recipe, target, laws, asked_by_id=by_id)


def laws_of(store: Store, fit: Fit) -> dict[str, Fit]:
    """The further fits that a fit names: kind -> fit."""
    if fit.kind != LR_BATCH:
        return {fit.kind: fit}
    named = fit.payload.get("laws", {})
    found = store.fits_of([law["fit_id"] for law in named.values()]) if named else []
    return dict(zip(named, found, strict=True))
