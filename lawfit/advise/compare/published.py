"""The published laws judged on a recipe's own runs: what following each would have cost, or how far off it is.

Laws of learning rate and batch, and of weight decay, are scored by regret: loss given up on the runs that were made.
Laws of the loss and of the critical batch are scored by how far they are from what was measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lawfit.advise.compare.measured import Compared, compare_critical, compare_loss
from lawfit.advise.compare.weight_decay import compare_weight_decay
from lawfit.advise.counted import Counts
from lawfit.advise.scored import Scale, Unanswered, about, answers
from lawfit.errors import LawfitError, NotEnoughData
from lawfit.estimate.lr_batch.backtest import MIN_SCORED, observed_surfaces_of
from lawfit.estimate.numerics.scoring import ObservedSurface
from lawfit.estimate.observe.observations import Observations
from lawfit.findings import Found, as_json, finding
from lawfit.laws.entry import TARGETS
from lawfit.laws.published import PublishedLaw, published_laws
from lawfit.records import Recipe, Run

Floats = NDArray[np.float64]

LR_BATCH = "lr_batch"
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
    and ``critical_batch`` are alike; one that these runs cannot score says why instead (`reason`). A law that
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
    missing: list[dict[str, Any]] = []
    reason: Found = ""
    try:
        rows, missing = _compare_lr_batch(observed, counts)
    except NotEnoughData as error:
        reason = error.finding
    further: dict[str, Any] = {
        "weight_decay": _or_reason(lambda: compare_weight_decay(runs, recipe, counts), missing),
        "loss": _or_reason(lambda: compare_loss(observed, counts), missing),
        "critical_batch": _or_reason(lambda: compare_critical(critical, counts), missing),
    }
    if reason and not any(found["rows"] for found in further.values()):
        raise NotEnoughData(reason)
    said = {row["law"] for found in ({"rows": [*rows, *missing]}, *further.values()) for row in found["rows"]}
    silent = [law for law in published_laws().values() if law.id not in said]
    document = {
        "laws": rows,
        "reason": reason,
        **further,
        "not_scored": [
            *missing,
            *({"law": law.id, "label": law.label, "reason": _why_not(law, reason, further)} for law in silent),
        ],
        "runs_used": 0 if observed is None else observed.runs_used,
        "params_convention": recipe.params_convention,
    }
    return dict(as_json(document))


def _or_reason(compare: Callable[[], Compared], missing: list[dict[str, Any]]) -> Mapping[str, Any]:
    """Laws of one kind, or why none is scored; those that cannot answer are added to what is `missing`."""
    try:
        compared, unanswered = compare()
    except LawfitError as error:
        return {"rows": [], "reason": error.finding}
    missing += unanswered
    return compared


def _why_not(law: PublishedLaw, reason: Found, further: Mapping[str, Any]) -> Found:
    if law.kind == LR_BATCH:
        return reason or finding("compare.no_lr")
    if law.kind in further:
        why: Found | None = further[law.kind].get("reason")
        return why or finding("compare.silent")
    return finding("compare.beta2") if law.kind == "optimizer" else finding("compare.allocation")


def _compare_lr_batch(
    observed: Observations | None, counts: Counts
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    surfaces = {} if observed is None else observed_surfaces_of(observed)
    if observed is None or not surfaces:
        raise NotEnoughData(finding("compare.few_settings", needed=MIN_SCORED))
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
    missing: list[dict[str, Any]] = []
    for law in published_laws().values():
        if law.kind != LR_BATCH:
            continue
        try:
            rows.append(_row(law, counts, scale, tried))
        except Unanswered as error:
            missing.append({"law": law.id, "label": law.label, "reason": error.finding})
    return sorted(rows, key=lambda row: row["mean_regret"]), missing


def _row(law: PublishedLaw, counts: Counts, scale: Scale, tried: Sequence[ObservedSurface]) -> dict[str, Any]:
    """One law at every scale (the first left out where it is carried from there)."""
    at, note = scale, finding("compare.best_batch")
    batch: Floats | None = None
    if "batch_tokens" in law.formulas:
        batch, note = answers(law, "batch_tokens", counts, scale), finding("compare.own_batch")
    elif law.fixed_batch_tokens is not None:
        carried = law.formulas["lr"].needs_anchor  # it holds at one batch: that of the run it is carried from
        fixed = float(scale.given["batch_tokens"][0]) if carried else law.fixed_batch_tokens
        batch = np.full(len(tried), fixed)
        note = finding("compare.carried_batch") if carried else finding("compare.fixed_batch")
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
        raise Unanswered(finding("compare.one_scale"))
    if lr is None:
        note = finding("compare.own_batch")
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
