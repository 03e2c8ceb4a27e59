"""The one place that answers or refuses, for command line, notebook, REST and page; and which stored fit is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from lawfit.ask import SettingQuestion, Target
from lawfit.documents import Answer, SettingCost
from lawfit.errors import NoFit, Unanswerable
from lawfit.factors import asked_levels
from lawfit.findings import Found, finding, joined
from lawfit.pipeline.fitting import CRITICAL_BATCH, LOSS, LR_BATCH
from lawfit.records import Fit, FitStatus, Recipe

if TYPE_CHECKING:
    from lawfit.storage import Store

ALONE: Final = (LOSS, CRITICAL_BATCH)  # kinds of fit that answer where a recipe has no learning rates
NO_SETTINGS: Final = {
    CRITICAL_BATCH: finding("pipeline.no_losses"),
    LOSS: finding("pipeline.no_rates"),
}


def answer(fit: Fit, recipe: Recipe, target: Target, laws: Mapping[str, Fit], *, asked_by_id: bool = False) -> Answer:
    """The recommendation of a fit, stored or in memory.

    Parameters
    ----------
    laws : kind -> the further fits that `fit` names
    asked_by_id : this very fit was asked for, so it answers though it may not be certified, and says that

    Raises
    ------
    Unanswerable
        The fit may not be used: what its runs lack, and which runs would mend it.
    NoFit
        It is a fit of one further law, or of another version of lawfit.
    ValueError
        The batch constraints contradict each other or the target.
    """
    from lawfit.advise.prediction import recommend, recommend_without_settings

    if fit.kind in ALONE:
        lacking = fit.payload.get("no_settings") or NO_SETTINGS[fit.kind]
        missing = fit.payload.get("missing", {})
        return recommend_without_settings({fit.kind: fit, **laws}, recipe, target, lacking, missing=missing)
    if fit.kind != LR_BATCH:
        raise NoFit(finding("pipeline.one_law", fit_id=fit.id, kind=fit.kind))
    if fit.status is FitStatus.UNCERTIFIED and not asked_by_id:
        require_answering(fit)
        refused = _refusal(fit)
        usable = {kind: laws[kind] for kind in ALONE if kind in laws and laws[kind].status is not FitStatus.UNCERTIFIED}
        return recommend_without_settings(
            usable, recipe, target, refused.finding, missing=fit.payload.get("missing", {}), findings=refused.lacking
        )
    return recommend(fit, recipe, target, laws)


def cost(
    fit: Fit, recipe: Recipe, asked: SettingQuestion, laws: Mapping[str, Fit], *, asked_by_id: bool = False
) -> SettingCost:
    """What a setting costs by a fit, stored or in memory; refused where a recommendation of learning rates is.

    Raises
    ------
    Unanswerable
        The runs carry no learning rate: what they lack, and which runs would mend it.
    NoFit, ValueError
        As `answer`.
    """
    from lawfit.advise.setting_cost import cost_of

    if fit.kind in ALONE:
        raise Unanswerable(fit.payload.get("no_settings") or NO_SETTINGS[fit.kind])
    if fit.kind != LR_BATCH:
        raise NoFit(finding("pipeline.one_law", fit_id=fit.id, kind=fit.kind))
    if fit.status is FitStatus.UNCERTIFIED and not asked_by_id:
        raise _refusal(fit)
    return cost_of(fit, recipe, asked, laws)


def require_answering(fit: Fit) -> None:
    """Refuse a fit of learning rate and batch that may not be used and whose law of the loss may not either.

    Raises
    ------
    Unanswerable
        With what its runs lack, and which runs would mend it.
    """
    if fit.kind == LR_BATCH and fit.status is FitStatus.UNCERTIFIED and not loss_answers(fit):
        raise _refusal(fit)


def loss_answers(fit: Fit) -> bool:
    """Whether a fit of learning rate and batch that may not be used has a law of the loss that may.

    Where the losses look like a score, of which higher is better, neither may.
    """
    from lawfit.advise.refusal import is_a_score

    law = fit.payload.get("laws", {}).get(LOSS)
    return law is not None and law["status"] != FitStatus.UNCERTIFIED.value and not is_a_score(fit.payload)


def _refusal(fit: Fit) -> Unanswerable:
    """Why a fit may not be used."""
    from lawfit.advise.refusal import refusal

    return refusal(fit)


def latest_answering(store: Store, recipe: Recipe) -> Fit:
    """The newest usable fit of learning rate and batch; without one, what still answers.

    That is the newest fit that may not be used, where its law of the loss may; of a recipe that never had one, its
    loss, or its critical batch.

    Raises
    ------
    Unanswerable, NoFit
        As `latest_certified`.
    """
    try:
        return latest_certified(store, recipe)
    except NoFit:
        newest = _newest(store, recipe)
        if newest is not None and loss_answers(newest):
            return newest
        if newest is None:
            for kind in ALONE:
                with suppress(NoFit):
                    return store.latest_fit(recipe.key, kind)
        raise


def laws_beside(store: Store, fit: Fit) -> dict[str, Fit]:
    """A fit of the loss or the critical batch with the other one of the same data, where it may be used."""
    found = {fit.kind: fit}
    for kind in ALONE:
        with suppress(NoFit):
            other = store.latest_fit(fit.recipe_key, kind)
            if other.data_hash == fit.data_hash:
                found.setdefault(kind, other)
    return found


def latest_certified(store: Store, recipe: Recipe) -> Fit:
    """The newest fit of learning rate and batch that may be used.

    Raises
    ------
    Unanswerable
        There are fits, and none that may be used: why the newest is not.
    NoFit
        There is none.
    """
    newest = _newest(store, recipe)
    if newest is not None and newest.status is not FitStatus.UNCERTIFIED:
        return newest
    try:
        usable = store.latest_fit(recipe.key, LR_BATCH)
    except NoFit:
        if newest is None:
            raise
        raise _refusal(newest) from None
    return usable if newest is None else _unless_spoken_against(usable, newest)


def _unless_spoken_against(usable: Fit, newest: Fit) -> Fit:
    """A certified fit, unless the newest is of the same runs by other code: what was found since speaks against both.

    Raises
    ------
    Unanswerable
    """
    same = (usable.data_hash, usable.options) == (newest.data_hash, newest.options)
    if same and newest.id != usable.id:
        raise _refusal(newest)
    return usable


def latest_at(store: Store, recipe: Recipe, at: Sequence[str]) -> Fit:
    """The newest certified fit of learning rate and batch that holds at the levels asked for (``NAME=VALUE``).

    Without one, the newest whose law of the loss answers.

    Raises
    ------
    Unanswerable
        There are fits, and none that may be used: why the newest is not.
    NoFit
        There is none yet; with what to type.
    UnknownLevel
        No run of the recipe has such a level.
    """
    wanted = _levels_asked(store, recipe.key, at)
    there = [fit for fit in store.fits(recipe.key) if fit.kind == LR_BATCH and not _elsewhere(fit, wanted)]
    if usable := next((fit for fit in there if fit.status is not FitStatus.UNCERTIFIED), None):
        return _unless_spoken_against(usable, there[0])
    if there and loss_answers(there[0]):
        return there[0]
    if there:
        raise _refusal(there[0])
    raise NoFit(finding("pipeline.no_fit_at", recipe=recipe.name, levels=wanted))


def require_at(store: Store, fit: Fit, at: Sequence[str]) -> None:
    """That a fit asked for by its id holds at the levels asked for beside it.

    Raises
    ------
    NoFit, UnknownLevel
        It does not, or no run does.
    """
    if at and (elsewhere := _elsewhere(fit, _levels_asked(store, fit.recipe_key, at))):
        raise NoFit(finding("pipeline.not_at", fit_id=fit.id, levels=elsewhere))


def _levels_asked(store: Store, recipe_key: str, at: Sequence[str]) -> dict[str, str]:
    """Column -> level, of those asked for that vary in the recipe: every fit holds at the others."""
    from lawfit.estimate.observe.held import level_asked
    from lawfit.estimate.observe.observations import usable

    runs, _ = usable(store.runs(recipe_key))
    found = [level_asked(runs, name, value) for name, value in asked_levels(at)]
    return {column.name: level for column, level in found if len(column.levels) > 1}


def _elsewhere(fit: Fit, wanted: Mapping[str, str]) -> dict[str, str]:
    """The levels asked for that a fit does not hold at."""
    held = {setting["name"]: setting["level"] for setting in fit.payload.get("settings", [])}
    return {name: level for name, level in wanted.items() if held.get(name) != level}


def newer_doubtful(store: Store, recipe: Recipe, fit: Fit) -> list[Found]:
    """A note where a newer fit than the one that answers was refused."""
    newest = _newest(store, recipe)
    if newest is None or newest.id == fit.id or newest.status is not FitStatus.UNCERTIFIED:
        return []
    return [finding("pipeline.older_fit", newest=newest.id, why=joined(doubts(newest)))]


def doubts(fit: Fit) -> Sequence[Found]:
    """What speaks against using a fit; empty for one that may be used."""
    from lawfit.advise.refusal import doubts as of_payload

    return of_payload(fit.payload) if fit.status is FitStatus.UNCERTIFIED else []


def to_mend(fit: Fit) -> Found:
    """Runs that would make a fit usable; empty where it is, or none is known to help."""
    from lawfit.advise.refusal import mending

    return mending(fit.payload) if fit.status is FitStatus.UNCERTIFIED else ""


def remarks(fit: Fit) -> Sequence[Found]:
    """What its runs lack, beside what the fit itself warns of."""
    from lawfit.advise.refusal import noted

    return noted(fit.payload)


def size_words(fit: Fit) -> list[Found]:
    """Of its sizes and scales what an answer from it says, too; empty for a fit of another law."""
    from lawfit.advise.sizes import sizes_of

    found = sizes_of(fit.payload)
    return [] if found is None else list(found["words"])


def _newest(store: Store, recipe: Recipe) -> Fit | None:
    """The newest fit of learning rate and batch, certified or not."""
    with suppress(NoFit):
        return store.latest_fit(recipe.key, LR_BATCH, usable_only=False)
    return None
