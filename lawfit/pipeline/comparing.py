"""What the stored runs say of published laws, of widths and horizons, and of two recipes. Nothing is stored."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from lawfit.documents import Transfer
from lawfit.errors import NoFit, NotEnoughData
from lawfit.findings import as_json, finding
from lawfit.pipeline.fitting import (
    CRITICAL_BATCH,
)
from lawfit.records import Json

if TYPE_CHECKING:
    from lawfit.storage import Store


def compare_laws(store: Store, recipe: str | None = None) -> dict[str, Json]:
    """What following each published law would have cost on a recipe's runs, or how far off it is; best first.

    Laws of the critical batch are held against the newest stored fit of it, the others against the runs.

    Raises
    ------
    NoRecipe, NotEnoughData
        Nothing to compare on.
    """
    from lawfit.advise.compare.published import compare_published
    from lawfit.estimate.observe.observations import observe

    chosen = store.recipe(recipe)
    runs = store.runs(chosen.key)
    critical, observed, problem = None, None, None
    with suppress(NoFit):
        critical = store.latest_fit(chosen.key, CRITICAL_BATCH).payload
    try:
        observed = observe(runs, decay_kind=chosen.extra.get("weight_decay_kind", ""))
    except NotEnoughData as error:
        problem = error
    try:
        return {"recipe": chosen.name, **compare_published(observed, chosen, runs=runs, critical=critical)}
    except NotEnoughData as error:
        raise (problem or error) from None


def transfer(store: Store, recipes: Sequence[str] = (), *, level: float = 0.9) -> Transfer:
    """How the best learning rate moves with width and horizon: of the recipes named, or of all. Nothing is stored.

    Raises
    ------
    NoRecipe
        There is none of a name.
    NotEnoughData
        No recipe has sweeps that show it.
    """
    from lawfit.advise.transfer import transfer_view

    chosen = [store.recipe(name) for name in recipes] or [found.recipe for found in store.recipes()]
    if not chosen:
        store.recipe(None)  # says that there is nothing, and what to type
    return transfer_view(((recipe, store.runs(recipe.key)) for recipe in chosen), level=level)


def token_ratio(store: Store, recipe: str, other: str) -> dict[str, Json]:
    """Tokens that one recipe needs over those of another, to the same loss at the same size. Nothing is stored.

    Raises
    ------
    NoRecipe
        There is none of a name.
    NotEnoughData
        They have no losses that can be set against each other.
    """
    from lawfit.estimate.transfer.token_ratio import token_ratios

    one, two = store.recipe(recipe), store.recipe(other)
    differ = [name for name in ("data", "tokenizer", "loss_kind", "params_convention", "seq_len") if
              getattr(one, name) != getattr(two, name)]  # fmt: skip
    notes = [finding("pipeline.recipes_differ", fields=differ)] if differ else []
    found = token_ratios(store.runs(one.key), store.runs(two.key))
    return dict(as_json({"recipe": one.name, "other": two.name, **found, "notes": notes}))


def list_laws() -> list[dict[str, Json]]:
    """Every published law of the catalogue, as `show_law` gives one."""
    from lawfit.laws.published import published_laws

    return [show_law(law_id) for law_id in published_laws()]


def show_law(law_id: str) -> dict[str, Json]:
    """One published law: formulas, what its inputs count and where they were measured, caveats, source.

    Raises
    ------
    UnknownLaw
        With the ids that exist.
    """
    from lawfit.laws.lenders import lent_by
    from lawfit.laws.published import published_law

    law = published_law(law_id)
    return {**law.to_json(), "lends": as_json(lent_by(law))}
