"""Which runs would help an answer most, in the order in which to make them. A few simple rules, each with its reason.

Where an exponent is open, the scale that would tell it; for a target beyond the runs, a scale nearer to it; where
sweeps end at their best runs, beyond those ends, at the scale nearest to the target first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from lawfit.advise.draws import centres
from lawfit.advise.members import members_of
from lawfit.ask import Target
from lawfit.findings import finding

MOST: Final = 2  # scales that are named
NEARER: Final = 2.0  # times the largest size, or horizon: a step that a sweep can afford
STEPS: Final = (0.5, 1.0, 2.0)  # around the optimum that is foretold there
BEYOND: Final = 1.1  # times the runs' range: nearer to it a target is inside


def runs_that_would_help(payload: Mapping[str, Any], target: Target) -> list[dict[str, Any]]:
    """Scales with learning rates and batches to cross (tokens per step) and why, as ``next_grid`` of a fit has them.

    Parameters
    ----------
    payload : of a fit of learning rate and batch
    """
    needed = (payload.get("certificate") or {}).get("needed_runs") or []
    scales = [(run["inputs"]["params"], run["inputs"]["tokens"], "advice.open_exponent") for run in needed]
    found = [_sweep(payload["model"], *scale) for scale in (scales or _nearer(payload, target))]

    def away(grid: Mapping[str, Any]) -> float:
        return float(np.hypot(np.log(grid["params"] / target.params), np.log(grid["tokens"] / target.tokens)))

    return [*found, *map(dict, sorted(payload.get("next_grid") or [], key=away))][:MOST]


def _nearer(payload: Mapping[str, Any], target: Target) -> list[tuple[float, float, str]]:
    """A scale of a larger size, or of a longer horizon, for a target beyond the runs."""
    cells = payload["cells"]
    params, tokens = max(cell["params"] for cell in cells), max(cell["tokens"] for cell in cells)
    if target.params > BEYOND * params:
        ratio = float(np.median([cell["tokens"] / cell["params"] for cell in cells]))
        size = min(NEARER * params, target.params)
        return [(size, min(ratio * size, tokens), "advice.nearer_size")]
    if target.tokens > BEYOND * tokens:
        return [(params, min(NEARER * tokens, target.tokens), "advice.nearer_horizon")]
    return []


def _sweep(model: Mapping[str, Any], params: float, tokens: float, code: str) -> dict[str, Any]:
    weights = members_of(model).stored_weights
    lr, batch = np.exp(weights @ centres(model, params, tokens) / weights.sum())
    why = {
        "advice.open_exponent": finding("advice.open_exponent"),
        "advice.nearer_size": finding("advice.nearer_size"),
        "advice.nearer_horizon": finding("advice.nearer_horizon"),
    }[code]
    return {
        "params": float(f"{params:.3g}"),
        "tokens": float(f"{tokens:.3g}"),
        "lr": [float(f"{lr * step:.2g}") for step in STEPS],
        "batch_tokens": [float(f"{batch * step:.2g}") for step in STEPS],
        "why": why,
    }
