"""What the store holds, as documents."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lawfit.records import RecipeSummary, Run

if TYPE_CHECKING:
    from lawfit.storage import Store


def list_recipes(store: Store) -> dict[str, Any]:
    """All recipes, each with its number of runs and fits."""
    listed = []
    for summary in store.recipes():
        counts = {name: getattr(summary, name) for name in ("runs", "diverged", "excluded", "fits")}
        listed.append({**dataclasses.asdict(summary.recipe), "key": summary.recipe.key, **counts})
    return {"recipes": listed}


@dataclass(frozen=True, kw_only=True)
class RunsFound:
    """The first runs of some recipes."""

    recipes: Sequence[RecipeSummary]
    runs: Sequence[tuple[str, Run]]  # with the name of the recipe
    total: int  # of all that there are

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": "lawfit.runs/1",
            "recipes": [{**dataclasses.asdict(each), "key": each.recipe.key} for each in self.recipes],
            "total": self.total,
            "runs": [{"recipe": name, **dataclasses.asdict(run)} for name, run in self.runs],
        }


def list_runs(
    store: Store, recipe: str | None = None, *, most: int | None = None, status: str | None = None
) -> RunsFound:
    """Runs of a recipe, or of all: the first `most` of them, and how many there are.

    Raises
    ------
    NoRecipe
        There is none of that name, or no run at all.
    """
    recipes = store.recipes()
    if recipe is not None or not recipes:
        chosen = store.recipe(recipe).key
        recipes = [each for each in recipes if each.recipe.key == chosen]
    found: list[tuple[str, Run]] = []
    total = 0
    for summary in recipes:
        left = None if most is None else most - len(found)
        count, first = store.first_runs(summary.recipe.key, left, only=status)
        total += count
        found += [(summary.recipe.name, run) for run in first]
    return RunsFound(recipes=recipes, runs=found, total=total)
