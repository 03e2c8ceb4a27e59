"""The published laws judged on a recipe's own runs."""

from __future__ import annotations

from typing import Any

import numpy as np

from lawfit.errors import NotEnoughData
from lawfit.estimate.backtest import MIN_SCORED, observed_surfaces_of
from lawfit.estimate.observations import Observations
from lawfit.laws.published import published_laws
from lawfit.records import Recipe


def compare_published(observed: Observations, recipe: Recipe) -> dict[str, Any]:
    """Regret of every published law at every scale of the runs, cheapest mean first.

    A law that gives only a learning rate is scored at the batch it was made for, or else at the best batch of each
    cell; which one is said in `at_batch`. A law that cannot answer is listed in `not_scored` with what it needs.

    Raises
    ------
    NotEnoughData
        No scale has settings enough to tell a good one from a bad one.
    """
    surfaces = observed_surfaces_of(observed)
    if not surfaces:
        raise NotEnoughData(f"no scale has {MIN_SCORED} or more settings, so nothing can be said to cost more or less")
    rows, missing = [], []
    for law in published_laws().values():
        regrets, outside, note = [], 0, "its own"
        reason = ""
        for cell, surface in surfaces.items():
            params, tokens = float(observed.params[cell]), float(observed.tokens[cell])
            said = law.predict(params, tokens)
            if said.lr is None:
                reason = f"needs {', '.join(said.needs)}" if said.needs else "gives no learning rate"
                break
            if not np.isfinite(said.lr):
                reason = f"has no positive answer at {params:.3g} params"
                break
            if said.batch_tokens is not None:
                batch = float(said.batch_tokens)
            elif law.fixed_batch_tokens is not None:
                batch, note = law.fixed_batch_tokens, "the one it was made for"
            else:
                batch, note = surface.best_batch_tokens, "the best one tried"
            score = surface.regret(float(said.lr), batch)
            regrets.append(float(score.regret))
            outside += bool(score.outside)
        if reason:
            missing.append({"law": law.id, "label": law.label, "reason": reason})
            continue
        rows.append(
            {
                "law": law.id,
                "label": law.label,
                "mean_regret": float(np.mean(regrets)),
                "worst_regret": float(np.max(regrets)),
                "cells_scored": len(regrets),
                "cells_outside": outside,
                "at_batch": note,
                "params_convention": law.params_convention,
                "same_params_convention": bool(recipe.params_convention)
                and law.params_convention == recipe.params_convention,
                "cite": law.cite,
                "checked": law.checked,
            }
        )
    return {
        "laws": sorted(rows, key=lambda row: row["mean_regret"]),
        "not_scored": missing,
        "runs_used": observed.runs_used,
    }
