"""Published laws of weight decay and of the AdamW timescale, by the loss they give up on sweeps of weight decay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lawfit.advise.counted import Counts
from lawfit.advise.scored import Scale, Unanswered, about, answers
from lawfit.errors import NotEnoughData
from lawfit.estimate.observe.held import hold_settings
from lawfit.estimate.observe.observations import usable
from lawfit.estimate.weight_decay.sweep import COUPLED, DecayRuns, DecaySlice, in_one_convention
from lawfit.estimate.weight_decay.timescale import usable_slices
from lawfit.factors import WEIGHT_DECAY
from lawfit.findings import finding
from lawfit.laws.published import PublishedLaw, published_laws
from lawfit.laws.timescale import weight_decay_of
from lawfit.records import Recipe, Run

Floats = NDArray[np.float64]

USUAL = 0.1  # weight decay that most recipes start from


def compare_weight_decay(
    runs: Sequence[Run], recipe: Recipe, counts: Counts
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Loss that each law gives up where weight decay was varied, cheapest first; and what always 0.1, and none, would.

    A slice is one scale, batch and learning rate with three or more weight decays. A law of exponents alone is carried
    from the best weight decay of the smallest scale's best slice, and scored on the others.

    Raises
    ------
    NotEnoughData
        No slice has three positive weight decays that finished.
    """
    kept = hold_settings(usable(runs)[0], free=(WEIGHT_DECAY,)).runs
    converted, _ = in_one_convention(kept, recipe.extra.get("weight_decay_kind", "") or COUPLED)
    slices = sorted(usable_slices(DecayRuns.of_runs(converted)), key=_order)
    if not slices:
        raise NotEnoughData(finding("compare.decay_not_varied"))
    columns = {
        name: np.array([getattr(part, name) for part in slices], dtype=float)
        for name in ("params", "tokens", "batch_tokens", "lr")
    }
    best = np.array([float(part.weight_decay[part.log_loss.argmin()]) for part in slices])
    per_decay = columns["batch_tokens"] / (columns["lr"] * columns["tokens"])
    scale = Scale(
        params=columns["params"],
        tokens=columns["tokens"],
        given={name: columns[name] for name in ("batch_tokens", "lr")},
        anchors={"weight_decay": best, "timescale": per_decay / best} if best[0] > 0 else {},
    )
    rows, missing = [], []
    for law in published_laws().values():
        if law.kind != "weight_decay":
            continue
        try:
            decay, carried = _decay(law, counts, scale)
            if carried and len(slices) < 2:
                raise Unanswered(finding("compare.one_sweep"))
        except Unanswered as error:
            missing.append({"law": law.id, "label": law.label, "reason": error.finding})
            continue
        rows.append({**about(law, counts, scale), **_score(slices, decay, 1 if carried else 0), "carried": carried})
    baselines = [
        {"label": finding("compare.always", weight_decay=decay), **_score(slices, np.full(len(slices), decay), 0)}
        for decay in (USUAL, 0.0)
    ]
    found = {"rows": sorted(rows, key=lambda r: r["mean_regret"]), "baselines": baselines, "slices": len(slices)}
    return found, missing


def _order(part: DecaySlice) -> tuple[float, float]:
    return part.params * part.tokens, float(part.log_loss.min())


def _decay(law: PublishedLaw, counts: Counts, scale: Scale) -> tuple[Floats, bool]:
    """(slices,) the law's coupled weight decay, and whether it is carried from the first."""
    target = "weight_decay" if "weight_decay" in law.formulas else "timescale"
    said = answers(law, target, counts, scale)
    if target == "timescale":
        said = weight_decay_of(said, scale.given["batch_tokens"], scale.given["lr"], scale.tokens)
    return said, law.formulas[target].needs_anchor


def _score(slices: Sequence[DecaySlice], decay: Floats, first: int) -> dict[str, Any]:
    costs = [part.cost(float(value)) for part, value in list(zip(slices, decay, strict=True))[first:]]
    regret = np.expm1([cost for cost, _ in costs])
    return {
        "mean_regret": float(regret.mean()),
        "worst_regret": float(regret.max()),
        "slices": len(costs),
        "outside": sum(beyond for _, beyond in costs),
    }
