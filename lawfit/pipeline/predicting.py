"""From a stored fit and a target to a recommendation, kept where it is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from lawfit.ask import SettingQuestion, Target
from lawfit.documents import Answer, SettingCost, part_of
from lawfit.errors import NoFit, StoreError
from lawfit.findings import as_json, finding
from lawfit.pipeline.answering import answer, cost
from lawfit.pipeline.asked import AskedFit, asked_fit, laws_beside_or_named
from lawfit.records import StoredPrediction

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
    asked = asked_fit(store, recipe, fit_id, at)
    document = answer(asked.fit, asked.recipe, target, asked.laws, asked_by_id=asked.by_id)
    _note(asked, document)
    if keep:
        with suppress(StoreError):  # a read-only database still answers; only the record of the answer is missing
            store.put_prediction(document["id"], asked.fit.id, document["target"], document)
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
    found = asked_fit(store, recipe, fit_id, at)
    document = cost(found.fit, found.recipe, asked, found.laws, asked_by_id=found.by_id)
    _note(found, document)
    return document


def _note(asked: AskedFit, document: Any) -> None:
    """Say in an answer, or a cost, what came after its fit: other runs, and a newer fit that was refused."""
    changed = asked.runs_changed
    document["evidence"]["runs_changed"] = changed
    later = [finding("pipeline.runs_changed", runs=changed)] if changed else []
    document["warnings"] = [*as_json([*later, *asked.newer]), *document["warnings"]]


def comes_out_the_same(store: Store, prediction: StoredPrediction) -> bool:
    """Whether an answer that was given comes out the same from its fit today, asked for by its id or without."""
    level = next(part["level"] for part in _parts_with_level(prediction.answer))
    asked = {name: value for name, value in prediction.target.items() if name in Target.__dataclass_fields__}
    target = Target(**{**asked, "level": level})
    fit = store.fit(prediction.fit_id)
    chosen = store.recipe(fit.recipe_name)
    for by_id in (True, False):
        with suppress(NoFit):
            laws = laws_beside_or_named(store, fit, by_id=by_id)
            if answer(fit, chosen, target, laws, asked_by_id=by_id)["id"] == prediction.answer["id"]:
                return True
    return False


def _parts_with_level(answer: Answer) -> Iterator[Mapping[str, Any]]:
    parts = (part_of(answer, name) for name in ("expected_loss", "critical_batch"))
    for part in (answer["recommendation"]["lr"], *parts):
        if part is not None and "level" in part:
            yield part
