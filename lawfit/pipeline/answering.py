"""Which of the stored fits of a recipe answers, and why another one does not."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from lawfit.errors import NoFit
from lawfit.factors import asked_levels
from lawfit.pipeline.fitting import CRITICAL_BATCH, LR_BATCH
from lawfit.records import (
    Fit,
    FitStatus,
    Recipe,
)

if TYPE_CHECKING:
    from lawfit.storage import Store


def latest_answering(store: Store, recipe: Recipe) -> Fit:
    """The newest certified fit of learning rate and batch; of a recipe that never had one, its critical batch size."""
    try:
        return latest_certified(store, recipe)
    except NoFit:
        if _newest(store, recipe) is None:
            with suppress(NoFit):
                return store.latest_fit(recipe.key, CRITICAL_BATCH)
        raise


def latest_certified(store: Store, recipe: Recipe) -> Fit:
    """The newest fit of learning rate and batch that may be used; where there is none, why."""
    try:
        return store.latest_fit(recipe.key, LR_BATCH)
    except NoFit:
        doubtful = _newest(store, recipe)
        if doubtful is None:
            raise
        raise NoFit(
            f"the fit of recipe '{recipe.name}' is not certified, so it is not used: {_doubts(doubtful)}; add runs and "
            f"fit again, or look at what it says with lawfit predict --fit {doubtful.id}"
        ) from None


def latest_at(store: Store, recipe: Recipe, at: Sequence[str]) -> Fit:
    """The newest certified fit of learning rate and batch that holds at the levels asked for (``NAME=VALUE``).

    Raises
    ------
    NoFit
        There is none yet; with what to type.
    UnknownLevel
        No run of the recipe has such a level.
    """
    wanted = _levels_asked(store, recipe.key, at)
    for fit in store.fits(recipe.key):
        if fit.kind == LR_BATCH and fit.status is not FitStatus.UNCERTIFIED and not _elsewhere(fit, wanted):
            return fit
    asked = " ".join(f"--at {shlex.quote(f'{name}={level}')}" for name, level in wanted.items())
    raise NoFit(
        f"no usable fit of recipe '{recipe.name}' holds at {_named(wanted)}; "
        f"run lawfit fit --recipe {recipe.name} {asked}"
    )


def require_at(store: Store, fit: Fit, at: Sequence[str]) -> None:
    """That a fit asked for by its id holds at the levels asked for beside it.

    Raises
    ------
    NoFit, UnknownLevel
        It does not, or no run does.
    """
    if at and (elsewhere := _elsewhere(fit, _levels_asked(store, fit.recipe_key, at))):
        raise NoFit(f"fit {fit.id} does not hold at {_named(elsewhere)}; leave --fit or --at out")


def _levels_asked(store: Store, recipe_key: str, at: Sequence[str]) -> dict[str, str]:
    """Column -> level, of those asked for that vary in the recipe: every fit holds at the others."""
    from lawfit.estimate.held import level_asked
    from lawfit.estimate.observations import usable

    runs, _ = usable(store.runs(recipe_key))
    found = [level_asked(runs, name, value) for name, value in asked_levels(at)]
    return {column.name: level for column, level in found if len(column.levels) > 1}


def _elsewhere(fit: Fit, wanted: Mapping[str, str]) -> dict[str, str]:
    """The levels asked for that a fit does not hold at."""
    held = {setting["name"]: setting["level"] for setting in fit.payload.get("settings", [])}
    return {name: level for name, level in wanted.items() if held.get(name) != level}


def _named(levels: Mapping[str, str]) -> str:
    return " and ".join(f"{name} {level}" for name, level in levels.items())


def newer_doubtful(store: Store, recipe: Recipe, fit: Fit) -> list[str]:
    """A sentence where a newer fit than the one that answers was refused."""
    newest = _newest(store, recipe)
    if newest is None or newest.id == fit.id or newest.status is not FitStatus.UNCERTIFIED:
        return []
    return [
        f"this answer is of an older fit: the newest, {newest.id}, is not certified ({_doubts(newest)}) and is not used"
    ]


def _newest(store: Store, recipe: Recipe) -> Fit | None:
    """The newest fit of learning rate and batch, certified or not."""
    with suppress(NoFit):
        return store.latest_fit(recipe.key, LR_BATCH, usable_only=False)
    return None


def _doubts(fit: Fit) -> str:
    return "; ".join((fit.payload.get("certificate") or {}).get("reasons", [])) or "it did not converge"
