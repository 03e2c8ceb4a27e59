"""The published laws judged on a recipe's own runs: what following each would have cost, or how far off it is.

Laws of learning rate and batch, and of weight decay, are scored by regret: loss given up on the runs that were made.
Laws of the loss and of the critical batch are scored by how far they are from what was measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lawfit.advise.compare_measured import Compared, compare_critical, compare_loss
from lawfit.advise.compare_weight_decay import compare_weight_decay
from lawfit.advise.counted import Counts
from lawfit.advise.scored import Scale, Unanswered, about, answers
from lawfit.errors import LawfitError, NotEnoughData
from lawfit.estimate.lr_batch.backtest import MIN_SCORED, observed_surfaces_of
from lawfit.estimate.numerics.scoring import ObservedSurface
from lawfit.estimate.observe.observations import Observations
from lawfit.laws.entry import TARGETS
from lawfit.laws.published import PublishedLaw, published_laws
from lawfit.records import Recipe, Run

Floats = NDArray[np.float64]

LR_BATCH = "lr_batch"
_OWN, _MADE_FOR, _BEST, _KEPT = "its own", "the one it was made for", "the best one tried", "that of the run carried"
_LR_TRIED = 40  # learning rates at which a batch is priced: the best of them is the batch's own cost


def compare_published(
    observed: Observations | None,
    recipe: Recipe,
    *,
    runs: Sequence[Run] = (),
    critical: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Every published law on one recipe, by what it is about; cheapest or nearest first.

    ``laws`` has those of learning rate and batch, at every scale of the runs. A law that gives only one of the two
    (`gives`) is scored with the other at its best; at which batch is said in `at_batch`. A law of exponents alone is
    carried from the best run of the smallest scale (`carried`) and scored at the others. ``weight_decay``, ``loss``
    and ``critical_batch`` are alike; one that these runs cannot score holds a sentence instead (`reason`). A law that
    cannot answer is listed in `not_scored` with what it needs.

    Parameters
    ----------
    observed : None where no run finished
    runs : the runs themselves, for weight decay and for counts of parameters
    critical : payload of the recipe's stored fit of the critical batch

    Raises
    ------
    NotEnoughData
        Nothing of any kind can be scored.
    """
    counts = Counts(recipe, runs)
    rows: list[dict[str, Any]] = []
    missing: list[dict[str, str]] = []
    reason = ""
    try:
        rows, missing = _compare_lr_batch(observed, counts)
    except NotEnoughData as error:
        reason = str(error)
    further: dict[str, Any] = {}
    kinds: dict[str, Callable[[], Compared]] = {
        "weight_decay": lambda: compare_weight_decay(runs, recipe, counts),
        "loss": lambda: compare_loss(observed, counts),
        "critical_batch": lambda: compare_critical(critical, counts),
    }
    for kind, compare in kinds.items():
        try:
            further[kind], unanswered = compare()
            missing += unanswered
        except LawfitError as error:
            further[kind] = {"rows": [], "reason": str(error)}
    if reason and not any(found["rows"] for found in further.values()):
        raise NotEnoughData(reason)
    scored = {row["law"] for found in ({"rows": rows}, *further.values()) for row in found["rows"]}
    said = {row["law"] for row in missing}
    missing += [
        {"law": law.id, "label": law.label, "reason": _why_not(law, reason, further)}
        for law in published_laws().values()
        if law.id not in scored | said
    ]
    return {
        "laws": rows,
        "reason": reason,
        **further,
        "not_scored": missing,
        "runs_used": 0 if observed is None else observed.runs_used,
        "params_convention": recipe.params_convention,
    }


def _why_not(law: PublishedLaw, reason: str, further: Mapping[str, Any]) -> str:
    if law.kind == LR_BATCH:
        return reason or "gives no learning rate"
    if law.kind in further:
        return str(further[law.kind].get("reason") or "does not answer here")
    if law.kind == "optimizer":
        return "Adam's beta2 is not fitted on runs; lawfit convert batch carries it"
    return "what a budget is best spent on takes a fitted loss law: lawfit plan"


def _compare_lr_batch(
    observed: Observations | None, counts: Counts
) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    surfaces = {} if observed is None else observed_surfaces_of(observed)
    if observed is None or not surfaces:
        raise NotEnoughData(f"no scale has {MIN_SCORED} or more settings, so nothing can be said to cost more or less")
    cells = np.array(list(surfaces))
    order = np.argsort(observed.params[cells] * observed.tokens[cells], kind="stable")
    tried = [surfaces[int(c)] for c in cells[order]]
    scale = Scale(
        params=observed.params[cells][order],
        tokens=observed.tokens[cells][order],
        given={
            "batch_tokens": np.array([s.best_batch_tokens for s in tried]),
            "loss": np.array([s.lowest_loss for s in tried]),
        },
        anchors={
            "lr": np.array([s.best_lr for s in tried]),
            "batch_tokens": np.array([s.best_batch_tokens for s in tried]),
        },
    )
    rows: list[dict[str, Any]] = []
    missing: list[dict[str, str]] = []
    for law in published_laws().values():
        if law.kind != LR_BATCH:
            continue
        try:
            rows.append(_row(law, counts, scale, tried))
        except Unanswered as error:
            missing.append({"law": law.id, "label": law.label, "reason": str(error)})
    return sorted(rows, key=lambda row: row["mean_regret"]), missing


def _row(law: PublishedLaw, counts: Counts, scale: Scale, tried: Sequence[ObservedSurface]) -> dict[str, Any]:
    """One law at every scale (the first left out where it is carried from there)."""
    at, note = scale, _BEST
    batch: Floats | None = None
    if "batch_tokens" in law.formulas:
        batch, note = answers(law, "batch_tokens", counts, scale), _OWN
    elif law.fixed_batch_tokens is not None:
        carried = law.formulas["lr"].needs_anchor  # it holds at one batch: that of the run it is carried from
        fixed = float(scale.given["batch_tokens"][0]) if carried else law.fixed_batch_tokens
        batch, note = np.full(len(tried), fixed), _KEPT if carried else _MADE_FOR
    if batch is not None:
        at = scale.at(batch_tokens=batch)
    lr = answers(law, "lr", counts, at) if "lr" in law.formulas else None
    carried = any(f.needs_anchor for t, f in law.formulas.items() if t in ("lr", "batch_tokens"))
    regrets, outside = [], 0
    for place, surface in list(enumerate(tried))[1 if carried else 0 :]:
        here = surface.best_batch_tokens if batch is None else float(batch[place])
        settings = surface.lr_tried(_LR_TRIED) if lr is None else np.array([lr[place]])
        score = surface.regret(settings, here)
        best = int(np.argmin(score.regret))
        regrets.append(float(score.regret[best]))
        outside += bool(score.outside[best])
    if not regrets:
        raise Unanswered("carried from one scale to another, and the runs have only one")
    if lr is None:
        note = _OWN
    return {
        **about(law, counts, scale),
        "gives": [target for target in TARGETS if target in law.formulas],
        "mean_regret": float(np.mean(regrets)),
        "worst_regret": float(np.max(regrets)),
        "cells_scored": len(regrets),
        "cells_outside": outside,
        "at_batch": note,
        "carried": carried,
    }
