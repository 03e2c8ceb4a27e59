"""What models of a recipe can be made here, and a plan's runs as the grid file that `lawfit launch` takes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from lawfit.errors import NotEnoughData
from lawfit.findings import finding
from lawfit.records import Json, Recipe, Run

if TYPE_CHECKING:
    from lawfit.proxy.shapes import Shapes

FIRST_SEQ_LEN: Final = 256  # of a first sweep where nobody says it: our own sweep's, as what follows
FIRST_WARMUP: Final = 0.1  # of the steps
_SAME_COUNT: Final = 0.01  # relative


def shapes_of(recipe: Recipe | None, runs: Sequence[Run]) -> Shapes:
    """What models of each size look like.

    Parameters
    ----------
    recipe : None: nothing was run yet, and any shape will do

    Raises
    ------
    NotEnoughData
        lawfit's trainer makes no models as this recipe's are, as far as its runs say: why.
    """
    from lawfit.advise.next_grid import stated_shape
    from lawfit.proxy.pack import OPTIMIZERS, PackError
    from lawfit.proxy.shapes import params_of, shapes_like, usual_shapes

    if recipe is None or not runs:
        return usual_shapes()
    if recipe.optimizer not in ("", *OPTIMIZERS):
        said = {"recipe": recipe.name, "optimizer": recipe.optimizer, "optimizers": OPTIMIZERS}
        raise NotEnoughData(finding("plan_next.other_optimizer", **said))
    found = {run.params: stated_shape(run) for run in runs}
    stated = {params: shape for params, shape in found.items() if shape is not None}
    if not stated:
        raise NotEnoughData(finding("plan_next.no_shapes", recipe=recipe.name))
    for params, shape in sorted(stated.items()):
        try:
            count = params_of(shape)
        except PackError as error:
            why = finding("plan_next.no_such_model", recipe=recipe.name, params=params, why=str(error))
            raise NotEnoughData(why) from None
        if abs(math.log(count / params)) > _SAME_COUNT:
            why = finding("plan_next.counted_otherwise", recipe=recipe.name, params=params, count=count)
            raise NotEnoughData(why)
    return shapes_like(sorted(stated.items()))


def grid_of(recipe: Recipe | None, runs: Sequence[Run], grids: Sequence[Mapping[str, Any]], seq_len: int) -> Json:
    """The grid file of a plan's grids, each with its shape, in their order.

    Parameters
    ----------
    seq_len : tokens per sequence; batches are multiples of it
    """
    from lawfit.advise.next_grid import grid_file

    held = recipe if recipe is not None else Recipe(name="first sweep", schedule="linear to 0")
    grid = grid_file(replace(held, seq_len=seq_len), runs, grids)
    return {"warmup_fraction": FIRST_WARMUP, **grid}
