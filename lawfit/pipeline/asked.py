"""Which stored fit answers a question, with all else that its answers need of the database.

A service is asked often between two changes: what was found is kept until something changes, so that an answer costs
one look at the database.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

from lawfit.errors import NoFit
from lawfit.findings import Found, finding
from lawfit.pipeline.answering import ALONE, latest_answering, latest_at, laws_beside, newer_doubtful, require_at
from lawfit.pipeline.changes import runs_changed_since
from lawfit.pipeline.fitting import LR_BATCH
from lawfit.records import Fit, Recipe

if TYPE_CHECKING:
    from lawfit.storage import Store

KEPT: Final = 16  # of a store; each holds its fits in memory

_Question = tuple[str | None, str | None, tuple[str, ...]]
_lock: Final = Lock()
_found: WeakKeyDictionary[Store, tuple[tuple[int | str, ...], OrderedDict[_Question, AskedFit]]] = WeakKeyDictionary()


@dataclass(frozen=True, kw_only=True)
class AskedFit:
    """A fit that answers."""

    fit: Fit
    recipe: Recipe
    laws: Mapping[str, Fit]  # kind -> the further fits that answer beside it
    by_id: bool  # this very fit was asked for, so it answers though it may not be certified
    newer: Sequence[Found]  # a newer fit that was refused; empty where none was, and of a fit asked for by id or level
    runs_changed: int  # `runs_changed_since`, of curves that only grew as it was when something else changed last


def asked_fit(store: Store, recipe: str | None, fit_id: str | None = None, at: Sequence[str] = ()) -> AskedFit:
    """The newest fit of a recipe that answers, the newest that holds at levels, or the one named.

    Raises
    ------
    Unanswerable, NoRecipe, NoFit, UnknownLevel
        As `pipeline.recommend`.
    """
    from lawfit.storage.version import answers_version

    version, question = answers_version(store), (recipe, fit_id, tuple(at))
    with _lock:
        before, kept = _found.get(store, (None, OrderedDict()))
        if before != version:
            kept = OrderedDict()
            _found[store] = version, kept
        found = kept.get(question)
    if found is None:
        found = _look(store, recipe, fit_id, at)
    with _lock:
        kept[question] = found
        kept.move_to_end(question)
        while len(kept) > KEPT:
            kept.popitem(last=False)
    return found


def _look(store: Store, recipe: str | None, fit_id: str | None, at: Sequence[str]) -> AskedFit:
    if fit_id is None:
        chosen = store.recipe(recipe)
        fit = latest_at(store, chosen, at) if at else latest_answering(store, chosen)
    else:
        fit = store.fit(fit_id)
        if recipe is not None and store.recipe(recipe).key != fit.recipe_key:
            raise NoFit(finding("pipeline.other_recipe", fit_id=fit_id, recipe=fit.recipe_name, asked=recipe))
        require_at(store, fit, at)
        chosen = store.recipe(fit.recipe_name)
    unasked = fit_id is None and not at
    return AskedFit(
        fit=fit,
        recipe=chosen,
        laws=laws_beside_or_named(store, fit, by_id=fit_id is not None),
        by_id=fit_id is not None,
        newer=newer_doubtful(store, chosen, fit) if unasked and fit.kind == LR_BATCH else (),
        runs_changed=runs_changed_since(store, fit.id, growing=False),
    )


def laws_beside_or_named(store: Store, fit: Fit, *, by_id: bool) -> dict[str, Fit]:
    """The further fits that answer with a fit: those that it names; of one of a law alone, found without being asked
    for by its id, the other law of the same data."""
    return laws_beside(store, fit) if fit.kind in ALONE and not by_id else laws_of(store, fit)


def laws_of(store: Store, fit: Fit) -> dict[str, Fit]:
    """The further fits that a fit names: kind -> fit."""
    if fit.kind != LR_BATCH:
        return {fit.kind: fit}
    named = fit.payload.get("laws", {})
    found = store.fits_of([law["fit_id"] for law in named.values()]) if named else []
    return dict(zip(named, found, strict=True))
