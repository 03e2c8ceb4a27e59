"""Runs of one recipe or several -> the transfer view, as one JSON document."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lawfit.documents import Transfer
from lawfit.errors import NotEnoughData
from lawfit.estimate.transfer.lr import SCHEMA, compare_parametrizations, fit_transfer
from lawfit.findings import Found, as_json, finding, joined
from lawfit.records import Recipe, Run


def transfer_view(sweeps: Iterable[tuple[Recipe, Sequence[Run]]], *, level: float = 0.9) -> Transfer:
    """How the best learning rate of each recipe moves with width and horizon, and how parametrizations compare.

    Returns
    -------
    Transfer
        The document of ``lawfit transfer --json``: `recipes` that have an answer along one axis at least, `comparisons`
        of those that differ in their parametrization alone, and `without`, why every other recipe has no answer.

    Raises
    ------
    NotEnoughData
        No recipe has an answer.
    """
    if not 0.5 <= level < 1:
        raise ValueError(f"level must lie in [0.5, 1), got {level}")
    found = []
    without: dict[str, Found] = {}
    for recipe, runs in sweeps:
        try:
            one = fit_transfer(recipe, runs, level=level)
        except NotEnoughData as error:
            without[recipe.name] = error.finding
            continue
        if one.axes:
            found.append(one)
        else:
            without[recipe.name] = one.missing["size"]
    if not found:
        each = [finding("advice.of_recipe", recipe=name, why=why) for name, why in without.items()]
        raise NotEnoughData(joined(each) if len(without) < 3 else finding("advice.no_rate_moves", recipes=len(without)))
    document = {
        "schema": SCHEMA,
        "level": level,
        "recipes": [one.to_json() for one in found],
        "comparisons": compare_parametrizations(found),
        "without": without,
    }
    made: Transfer = as_json(document)
    return made
