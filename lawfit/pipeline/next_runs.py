"""The runs that a stored fit asks for next, as a grid file."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from lawfit.errors import NotEnoughData
from lawfit.findings import finding
from lawfit.pipeline.fitting import LR_BATCH
from lawfit.records import Json

if TYPE_CHECKING:
    from lawfit.storage import Store

_SAME_SCALE: Final = 0.02  # ln units


def next_grid(store: Store, recipe: str | None = None, *, scale: tuple[float, float] | None = None) -> dict[str, Json]:
    """What `lawfit launch` takes, to bracket the optima that the newest fit of a recipe does not show.

    Parameters
    ----------
    scale : parameters and tokens of the only one to add runs to; left out: all that need some

    Raises
    ------
    NoRecipe, NoFit
        There is none.
    NotEnoughData
        Every optimum is bracketed, or no size states the shape that a grid needs.
    """
    from lawfit.advise.next_grid import next_grid as grid_of

    chosen = store.recipe(recipe)
    wanted = store.latest_fit(chosen.key, LR_BATCH).payload.get("next_grid") or []
    if scale is not None:
        wanted = [
            row
            for row in wanted
            if max(abs(math.log(row["params"] / scale[0])), abs(math.log(row["tokens"] / scale[1]))) < _SAME_SCALE
        ]
    if not wanted:
        raise NotEnoughData(finding("advice.nothing_asked"))
    grid = grid_of(chosen, store.runs(chosen.key), wanted)
    if not grid["blocks"]:
        raise NotEnoughData(finding("advice.shape_unsaid", sizes=sorted({row["params"] for row in wanted})))
    return grid
