"""How many of a recipe's runs are no longer those that a fit saw."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

from lawfit.findings import code_of
from lawfit.pipeline.fitting import LR_BATCH, evidence_of
from lawfit.records import Fit

if TYPE_CHECKING:
    from lawfit.storage import Store

HASHED_RUNS: Final = 5000
_KEPT: Final = 100  # fits
# What was found, and at which version of the store: a service is asked often between two changes.
_found: WeakKeyDictionary[Store, dict[str, tuple[tuple[int | str, ...], int]]] = WeakKeyDictionary()


def runs_changed_since(store: Store, fit_id: str, *, growing: bool = True) -> int:
    """At least so many runs were ingested, corrected, excluded or restored since a fit; 0: they are those that it saw.

    Steps to targets count as well, and curves where they are read. Beyond `HASHED_RUNS` runs only their number is
    compared, and which of them a person corrected or excluded, so that a quick answer stays quick; a row that its file
    changed is then missed. So it is, until runs come or are corrected, by a store that was asked before.

    Parameters
    ----------
    growing : curves that only grew since this was asked last are looked at, too
    """
    from lawfit.storage.version import answers_version, curves_version

    version = (*answers_version(store), *(curves_version(store) if growing else ()))
    known = _found.setdefault(store, {})
    before, count = known.get(fit_id, (None, 0))
    if before != version:
        count = _count(store, store.fit(fit_id))
        if len(known) >= _KEPT:
            known.clear()
        known[fit_id] = (version, count)
    return count


def _count(store: Store, fit: Fit) -> int:
    from lawfit.estimate.evidence import evidence_hash
    from lawfit.estimate.observe.observations import data_hash

    if fit.kind != LR_BATCH:
        return int(evidence_hash(evidence_of(store, store.recipe(fit.recipe_key))) != fit.data_hash)
    summary = next(found for found in store.recipes() if found.recipe.key == fit.recipe_key)
    seen = sum(int(fit.payload.get(name, 0)) for name in ("runs_used", "runs_rejected")) or summary.runs
    out = {key for key, why in fit.exclusions.items() if code_of(why) == "observe.excluded"}
    marked = len(out ^ store.excluded(fit.recipe_key))
    # Not their sum: a run that came and was excluded is one.
    counted = max(abs(summary.runs - seen), store.corrected_since(fit.recipe_key, fit.created_at), marked)
    if summary.runs > HASHED_RUNS:
        return counted
    if "evidence_hash" not in fit.payload:  # stored by a version that did not keep it
        same = data_hash(store.runs(fit.recipe_key)) == fit.data_hash
    else:
        same = evidence_hash(evidence_of(store, summary.recipe)) == str(fit.payload["evidence_hash"])
    return 0 if same else max(counted, 1)
