"""Which recipe a page looks at, where nobody chose one; and the addresses of its runs and scales."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlencode

from lawfit.errors import NoFit, NoRecipe
from lawfit.records import Fit, Recipe, RecipeSummary
from lawfit.storage.store import Store

from .common import templates


@dataclass(frozen=True, kw_only=True)
class LookedAt:
    """All recipes, and the one that is looked at; None where the store is empty."""

    recipes: list[RecipeSummary]
    summary: RecipeSummary | None

    @property
    def recipe(self) -> Recipe:
        """The one.

        Raises
        ------
        NoRecipe
            The store is empty.
        """
        if self.summary is None:
            raise NoRecipe("there are no runs yet; bring in a sweep on the first page")
        return self.summary.recipe

    @property
    def name(self) -> str:
        return "" if self.summary is None else self.summary.recipe.name


def looked_at(store: Store, name: str) -> LookedAt:
    """The recipe of that name or key; of none the one with most runs, fitted ones first.

    Raises
    ------
    NoRecipe
        There is none of that name, or several.
    """
    recipes = store.recipes()
    if name:
        key = store.recipe(name).key
        return LookedAt(recipes=recipes, summary=next(each for each in recipes if each.recipe.key == key))
    best = max(recipes, key=lambda each: (each.fits > 0, each.runs), default=None)
    return LookedAt(recipes=recipes, summary=best)


def fit_of(store: Store, found: LookedAt, kind: str = "lr_batch") -> Fit | None:
    """The newest fit of that kind of the recipe that is looked at; None where there is none."""
    if found.summary is None:
        return None
    try:
        return store.latest_fit(found.recipe.key, kind, usable_only=False)
    except NoFit:
        return None


def run_address(recipe: str, run_key: str) -> str:
    """Path of a run's page, below the root of the service; slashes of a key stay what they are."""
    return f"/runs/{quote(recipe, safe='')}/{quote(run_key, safe='/')}"


def scale_address(recipe: str, params: float, tokens: float) -> str:
    """Path of the page of one scale."""
    return f"/scales/one?{urlencode({'recipe': recipe, 'params': f'{params:.12g}', 'tokens': f'{tokens:.12g}'})}"


def with_query(path: str, *parts: Mapping[str, object]) -> str:
    """A path with what is asked, later parts over earlier ones; what is empty is left out."""
    said: dict[str, object] = {}
    for part in parts:
        said |= part
    pairs = [(name, value) for name, value in said.items() if value not in (None, "", False)]
    return f"{path}?{urlencode(pairs, doseq=True)}" if pairs else path


templates.globals.update(run_address=run_address, scale_address=scale_address)
