"""What the stored runs say of published laws, of widths and horizons, and of two recipes. Nothing is stored."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from lawfit.documents import Transfer
from lawfit.errors import NoFit, NotEnoughData
from lawfit.findings import as_json, finding
from lawfit.pipeline.fitting import (
    CRITICAL_BATCH,
)
from lawfit.records import Fit, Json

if TYPE_CHECKING:
    from lawfit.laws.published import PublishedLaw
    from lawfit.storage import Store

_BESIDE_THE_LAW: Final = frozenset({"certificate", "draws", "residuals", "posterior", "points", "groups", "floors"})


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


def law_at(law_id: str, inputs: Mapping[str, float]) -> dict[str, Json]:
    """A published law with what it says at one target: ``values`` by quantity, in plain units, and how far beyond the
    range where it was measured each input lies.

    Parameters
    ----------
    inputs : some of `laws.power.INPUTS`, positive; params counted as the law counts them

    Raises
    ------
    UnknownLaw
        With the ids that exist.
    """
    from lawfit.laws.published import published_law

    law = published_law(law_id)
    given = dict(inputs)
    if {"params", "tokens"} <= given.keys():
        given.setdefault("flops", 6.0 * given["params"] * given["tokens"])
        given.setdefault("tokens_per_param", given["tokens"] / given["params"])
    ranges = {}
    for name, spec in law.inputs.items():
        if name in given:
            at = math.log10(given[name])  # decades are differences of logs: ratios leave the range of floats
            below = 0.0 if spec.low is None else math.log10(spec.low) - at
            above = 0.0 if spec.high is None else at - math.log10(spec.high)
            ranges[name] = {
                "value": given[name], "low": spec.low, "high": spec.high, "convention": spec.convention,
                "decades_outside": None if spec.low is None and spec.high is None else max(below, above, 0.0),
            }  # fmt: skip
    values = {target: _value(law, target, given) for target in law.targets}
    return {**show_law(law_id), "at": dict(inputs), "values": values, "ranges": ranges}


def _value(law: PublishedLaw, target: str, given: Mapping[str, float]) -> dict[str, Json]:
    formula = law.formulas[target]
    lacking = [*(name for name in formula.inputs if name not in given), *getattr(formula.law, "needs", ())]
    if formula.needs_anchor:
        lacking.append("anchor")
    value = math.nan if lacking else float(law.evaluate(target, **{name: given[name] for name in formula.inputs}))
    return {"value": value if math.isfinite(value) else None, "needs": lacking}


def compare_fits(store: Store, one_id: str, other_id: str) -> dict[str, Json]:
    """Two stored fits of one kind side by side: numbers of the law, certificate, and in what their data differ.

    Raises
    ------
    NoFit
        One of them is not stored.
    ValueError
        They are of different kinds.
    """
    one, other = store.fit(one_id), store.fit(other_id)
    if one.kind != other.kind:
        raise ValueError(f"fit {one.id} is of kind {one.kind} and fit {other.id} of kind {other.kind}: nothing to set")
    numbers = [dict(_numbers_of(fit.payload)) for fit in (one, other)]
    rows = [
        {"name": name, "a": numbers[0].get(name), "b": numbers[1].get(name)}
        for name in dict.fromkeys([*numbers[0], *numbers[1]])
    ]
    document = {
        "a": _identity(one),
        "b": _identity(other),
        "numbers": rows,
        "certificate": {"a": _certificate(one.payload), "b": _certificate(other.payload)},
        "further_laws": _side_by_side(_statuses(one), _statuses(other)),
        "data": _data_apart(one, other),
    }
    return dict(as_json(document))


def _identity(fit: Fit) -> dict[str, Json]:
    names = ("id", "recipe_name", "recipe_key", "kind", "status", "created_at", "code_version", "data_hash")
    return {name: getattr(fit, name) for name in names}


def _numbers_of(payload: Mapping[str, Json]) -> Iterator[tuple[str, float]]:
    """Exponents, levels and their intervals, by their places: ``lr.params_low``."""

    def walk(value: Json, name: str) -> Iterator[tuple[str, float]]:
        if isinstance(value, Mapping):
            for key, inner in value.items():
                if key not in _BESIDE_THE_LAW:
                    yield from walk(inner, f"{name}.{key}" if name else key)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield name, value

    for part in ("law", "fit"):
        yield from walk(payload.get(part) or {}, "")


def _certificate(payload: Mapping[str, Json]) -> dict[str, Json]:
    found = payload.get("certificate") or (payload.get("fit") or {}).get("certificate") or {}
    return {name: found[name] for name in ("certified", "condition_number", "reasons", "warnings") if name in found}


def _statuses(fit: Fit) -> dict[str, Json]:
    laws = fit.payload.get("laws") or {}
    return {kind: {name: law.get(name) for name in ("fit_id", "status", "words")} for kind, law in laws.items()}


def _side_by_side(one: Mapping[str, Json], other: Mapping[str, Json]) -> list[dict[str, Json]]:
    names = dict.fromkeys([*one, *other])
    return [
        {"name": name, "a": one.get(name), "b": other.get(name)} for name in names if one.get(name) != other.get(name)
    ]


def _data_apart(one: Fit, other: Fit) -> dict[str, Json]:
    scales = [
        {f"{cell['params']:g} x {cell['tokens']:g}": cell["runs"] for cell in fit.payload.get("cells") or ()}
        for fit in (one, other)
    ]
    return {
        "same": one.data_hash == other.data_hash,
        "runs": {"a": one.payload.get("runs_used"), "b": other.payload.get("runs_used")},
        "scales": _side_by_side(*scales),  # parameters x tokens: runs there
        "exclusions": _side_by_side(one.exclusions, other.exclusions),
        "options": _side_by_side(one.options, other.options),
    }
