"""What a person says is right about stored runs, from words to values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lawfit.errors import LawfitError
from lawfit.records import Json
from lawfit.units import parse_quantity

if TYPE_CHECKING:
    from lawfit.storage import Store
    from lawfit.storage.corrections import Change


class NotUnderstood(LawfitError, ValueError):
    """A correction whose words name no value or no field."""


@dataclass(frozen=True, kw_only=True)
class Corrected:
    """What one `correct` did."""

    change: int  # number under which it is undone
    recipe: str
    matched: int
    changed: int  # of the matched runs, those that were not so already


def correct(
    store: Store,
    patterns: Sequence[str],
    *,
    values: Mapping[str, str],
    factors: Mapping[str, str],
    reason: str,
    recipe: str | None = None,
) -> Corrected:
    """Change fields of the runs that the patterns name; what was there is kept, with the reason.

    Parameters
    ----------
    values : field -> what it is ("0.003", "7B"; "none" where nothing is known; "diverged" as a loss)
    factors : field -> what the stored number is multiplied by

    Raises
    ------
    NotUnderstood
        A value or factor that is no number where one is needed, or a field that no run has.
    """
    chosen = store.recipe(recipe)
    keys = store.match_runs(chosen.key, patterns)
    changes: dict[str, Change] = {_field(store, chosen.key, name): _to(name, text) for name, text in values.items()}
    for name, text in factors.items():
        if (field := _field(store, chosen.key, name)) in changes:
            raise NotUnderstood(f"{name} is given a value and a factor; give one of them")
        changes[field] = _times(name, _number(name, text))
    change, changed = store.correct(chosen.key, keys, changes, reason)
    return Corrected(change=change, recipe=chosen.name, matched=len(keys), changed=changed)


def _field(store: Store, recipe_key: str, name: str) -> str:
    """The field of a name: one of a run's own, or what its runs hold under `extra`."""
    from lawfit.storage.corrections import EXTRA, FIELDS

    if name in FIELDS or name.startswith(EXTRA):
        return name
    with store.snapshot() as snapshot:
        known = snapshot.extra_names([row_id for row_id, found in snapshot.recipes() if found.key == recipe_key])
    if name in known:
        return EXTRA + name
    others = f"; beside them the runs have {', '.join(known[:12])}" if known else ""
    raise NotUnderstood(
        f"runs have no field '{name}'; it is one of {', '.join(FIELDS[:-1])}{others} (extra.{name} makes it anew)"
    )


def _to(name: str, text: str) -> Change:
    from lawfit.storage.corrections import FIELDS

    if text.lower() == "none" or (name == "loss" and text.lower() == "diverged"):
        value: Json = None
    elif name in FIELDS:
        value = _number(name, text)
    else:
        from lawfit.exchange.layout import extra_of_text

        value = extra_of_text(text)
    return lambda _: value


def _times(name: str, factor: float) -> Change:
    def change(stored: Json) -> Json:
        if stored is None:
            return None
        if not isinstance(stored, int | float) or isinstance(stored, bool):
            raise NotUnderstood(f"{name} of a run is '{stored}', which cannot be multiplied")
        product = stored * factor
        return int(product) if isinstance(stored, int) and product == int(product) else product

    return change


def _number(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        try:
            value = parse_quantity(text)
        except ValueError as error:
            raise NotUnderstood(f"{name}: {error}") from None
    return int(value) if name in ("steps", "seed") and value == int(value) else value
