"""Sizes and scales of a fit: numbers, and what every card, page, report and notebook says of them.

Four sizes at fourteen horizons are four observations of how the optimum moves with parameters. So it is said how far
sizes lie off the law, which of them bends it, how far the answer hangs on what was expected of them, and whether sizes
that were left out lay where they were foretold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from lawfit.estimate.numerics.certificate import BENDS
from lawfit.findings import Finding, finding

ENOUGH: Final = 3  # sizes that show an optimum: fewer say nothing of how far sizes lie off a law through them
_PROMISES: Final = ("level", "scales", "inside", "miss_in_sd", "stated_cost", "realised_cost", "factor")
WORTH_SAYING: Final = 0.1  # standard errors that the law moves by: below, no size or scale counts at all


def sizes_of(
    payload: Mapping[str, Any], choices: Mapping[str, Any] | None = None, known: str = ""
) -> dict[str, Any] | None:
    """What the sizes of a fit say; None for a fit of another law, or of before sizes had deviations of their own.

    Parameters
    ----------
    payload : of a fit of learning rate and batch
    choices : `choices_at` the target, whose rows "spread" say how the answer moves with the prior; None: no target
    known : "scale", "size" or "": what of the target has runs

    Returns
    -------
    dict
        ``sizes``, ``scales``, ``size_sd`` and ``scale_sd`` (sd of ln, by quantity), ``bends`` (the size or scale that
        counts most), ``prior`` (quantity -> answers under other priors), ``promises`` and ``words``.
    """
    spread = payload.get("spread")
    if not spread:
        return None
    most = next(iter((payload.get("certificate") or {}).get("influence") or []), None)
    prior = {
        quantity: row["answers"]
        for quantity in ("lr", "batch_tokens")
        for row in (choices or {}).get(quantity) or []
        if row["name"] == "spread" and row["answers"]
    }
    kept = (payload.get("backtest") or {}).get("promises")
    words = [finding("advice.spread", **spread, shown=_sizes_shown(payload["cells"]) >= ENOUGH)]
    words += [_most(most)] if most and abs(most["shift"]) >= WORTH_SAYING else []
    words += [finding("advice.spread_priors", **prior)] if prior else []
    words += [finding("advice.has_runs", known=known)] if known else []
    words.append(
        finding("advice.promises", **{name: kept[name] for name in _PROMISES})
        if kept
        else finding("advice.not_checked")
    )
    short = kept and {name: value for name, value in kept.items() if name != "each"}  # scale by scale: in the fit
    return {**spread, "bends": most, "prior": prior or None, "promises": short, "words": words}


def _sizes_shown(cells: Sequence[Mapping[str, Any]]) -> int:
    """How many sizes have a scale with settings enough to show an optimum."""
    return len({cell["params"] for cell in cells if cell["optimum"]["status"] != "too_few"})


def _most(most: Mapping[str, Any]) -> Finding:
    """The size or scale without which the law would change most, and by how much."""
    group, shift = most["group"], abs(most["shift"])
    moved = {name: most[name] for name in ("group", "parameter", "value", "value_without")}
    moved |= {"standard_errors": shift, "kind": "size" if group.endswith("at all horizons") else "scale"}
    if shift <= BENDS:
        return finding("advice.nothing_bends", **moved)
    if most["parameter"].endswith("level"):
        return finding("advice.level_rests", **moved)
    return finding("advice.bends", **moved)
