"""Which of the stored fits of a recipe answers, and why another one does not."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from lawfit.errors import NoFit
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
