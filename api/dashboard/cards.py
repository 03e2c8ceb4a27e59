"""What the first page shows of the store: a card for each recipe, and the answers that were kept last."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from lawfit import pipeline
from lawfit.errors import NoFit, NoRecipe
from lawfit.records import RecipeSummary
from lawfit.storage.listing import FitListed, PredictionListed, latest_predictions, page_of_fits, values_among_runs
from lawfit.storage.store import Store
from lawfit.units import counted, format_lr, format_percent, format_quantity, format_scale
from lawfit.words.answers import BACKTEST_METHODS, FIT_STATUS_WORDS, is_simulated, recipe_words

from .forms import typed_number
from .looked_at import with_query

MAIN_KIND = "lr_batch"  # of the fit that answers about learning rate and batch
ANSWERS_SHOWN = 6
WHEN = 16  # characters of a time: to the minute


@dataclass(frozen=True, kw_only=True)
class Card:
    """One recipe."""

    name: str
    key: str
    about: str  # what it holds fixed
    rows: tuple[tuple[str, str], ...]
    ways: tuple[tuple[str, str], ...]  # to its pages: words and addresses
    has_fit: bool
    changed: bool  # runs have changed since the fit
    compared: bool  # whether that was looked at
    simulated: bool


@dataclass(frozen=True, kw_only=True)
class Number:
    """A number of an answer, and its interval; empty where it has none."""

    value: str
    interval: str = ""


@dataclass(frozen=True, kw_only=True)
class KeptAnswer:
    """An answer that was kept, in a line."""

    id: str
    then: str  # query: the same from the fit that answered then
    now: str  # query: the same from the newest fit; empty where that is the one that answered
    scale: str
    recipe: str
    lr: Number
    batch: Number
    when: str


def cards(store: Store, most_compared: float = math.inf) -> list[Card]:
    """A card for each recipe, in the order of the store.

    Parameters
    ----------
    most_compared : whether runs have changed since a fit is looked at among so many runs in all, and left open where
        there are more, as it takes long
    """
    summaries = store.recipes()
    compared = sum(summary.runs for summary in summaries if summary.fits) <= most_compared
    return [_card(store, summary, compared=compared) for summary in summaries]


def kept_answers(store: Store) -> list[KeptAnswer]:
    """The latest answers that were kept."""
    newest: dict[str, str] = {}  # recipe -> its newest fit
    kept = []
    for found in latest_predictions(store, limit=ANSWERS_SHOWN):
        if found.recipe_name not in newest:
            newest[found.recipe_name] = _answering_fit(store, found.recipe_name)
        kept.append(_kept(found, newest[found.recipe_name]))
    return kept


def _answering_fit(store: Store, recipe: str) -> str:
    """The fit that answers now; empty where there is none, as after the recipe was renamed."""
    with suppress(NoRecipe, NoFit):
        return store.latest_fit(store.recipe(recipe).key, MAIN_KIND).id
    return ""


def _card(store: Store, summary: RecipeSummary, *, compared: bool) -> Card:
    recipe = summary.recipe
    rows = [("Runs", _runs_words(summary))]
    for label, name, unit in (("Sizes", "params", "parameters"), ("Horizons", "tokens", "tokens")):
        if values := values_among_runs(store, recipe.key, name):
            rows.append((label, _spread(values, unit)))
    newest = _newest_fit(store, recipe.key)
    changed = pipeline.runs_changed_since(store, newest.id) if newest is not None and compared else 0
    if newest is None:
        rows.append(("Fit", "none yet"))
    else:
        rows.append(("Last fit", f"{newest.made_at[:WHEN].replace('T', ' ')} UTC"))
        rows.append(("Trust", _trust(store, newest)))
        unchanged = "no run has changed" if compared else "..."
        rows.append(
            ("Since then", f"{counted(changed, 'run')} changed: fit again to count that" if changed else unchanged)
        )
    fields: dict[str, Any] = vars(recipe)
    return Card(
        name=recipe.name,
        key=recipe.key,
        about=recipe_words(fields),
        rows=tuple(rows),
        ways=tuple(_ways(summary)),
        has_fit=newest is not None,
        changed=changed > 0,
        compared=compared,
        simulated=is_simulated(fields),
    )


def _ways(summary: RecipeSummary) -> Iterator[tuple[str, str]]:
    """To the pages of a recipe: its runs, those that are apart among them, and what its fit shows."""
    here = {"recipe": summary.recipe.name}
    yield "Runs", with_query("/runs", here)
    for state, number in (("diverged", summary.diverged), ("excluded", summary.excluded)):
        if number:
            yield f"{number:,} {state}", with_query("/runs", here, {"state": state})
    if summary.fits:
        yield "Scales", with_query("/scales", here)
        yield "Laws", with_query("/laws", here)


def _runs_words(summary: RecipeSummary) -> str:
    apart = {"diverged": summary.diverged, "excluded": summary.excluded}
    more = [f"{number:,} {what}" for what, number in apart.items() if number]
    return f"{summary.runs:,}" + (f" ({', '.join(more)})" if more else "")


def _spread(values: list[float], unit: str) -> str:
    """``6, from 202k to 6.04M parameters``; values that are written alike count once."""
    written = list(dict.fromkeys(format_quantity(value) for value in values))
    return f"{written[0]} {unit}" if len(written) == 1 else f"{len(written)}, from {written[0]} to {written[-1]} {unit}"


def _newest_fit(store: Store, recipe_key: str) -> FitListed | None:
    """Of learning rate and batch, or else of any kind."""
    for kind in (MAIN_KIND, None):
        if found := page_of_fits(store, recipe_key, kind, before=None, limit=1):
            return found[0]
    return None


def _trust(store: Store, newest: FitListed) -> str:
    """How far the fit may be used, and what it cost where it could be checked."""
    words = FIT_STATUS_WORDS.get(str(newest.status), str(newest.status))
    splits = (store.fit(newest.id).payload.get("backtest") or {}).get("splits") or []
    rows = {row["method"]: row for row in (splits[0]["rows"] if splits else ())}
    ours = rows.get(BACKTEST_METHODS[0])
    if ours is None or ours["mean_regret"] is None:
        return words
    cost = format_percent(ours["mean_regret"])
    return f"{words}; at {counted(ours['cells'], 'scale')} left out it cost {cost} of the loss"


def _kept(found: PredictionListed, newest: str) -> KeptAnswer:
    target, said = found.target, found.recommendation
    given = {name: typed_number(value) for name, value in target.items() if isinstance(value, int | float)}
    again = {**given, "recipe": found.recipe_name}
    scale = format_scale(target["params"], target["tokens"])
    if batch := target.get("batch_tokens"):
        scale += f", batch {format_quantity(batch)} given"
    return KeptAnswer(
        id=found.id,
        then=urlencode({**again, "fit": found.fit_id}),
        now="" if newest in ("", found.fit_id) else urlencode(again),
        scale=scale,
        recipe=found.recipe_name,
        lr=_number(said["lr"], format_lr, ""),
        batch=_number(said["batch_tokens"], format_quantity, " tokens"),
        when=f"{found.created_at[:WHEN].replace('T', ' ')} UTC",
    )


def _number(part: Mapping[str, Any] | None, write: Callable[[float], str], unit: str) -> Number:
    if part is None:
        return Number(value="-")
    known = part.get("low") is not None and part.get("status") != "given"
    interval = "" if not known else f"{write(part['low'])} to {write(part['high'])}"
    return Number(value=f"{write(part['value'])}{unit}", interval=interval)
