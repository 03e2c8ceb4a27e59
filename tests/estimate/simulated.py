"""Small simulated sweeps and their analysis, made once for all tests that look at them."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import numpy as np

from lawfit.estimate.lr_batch.analysis import Analysis, FitOptions, analyse
from lawfit.estimate.observe.observations import Observations, data_hash, observe
from lawfit.findings import as_json
from lawfit.records import Fit, Recipe, Run, RunStatus
from lawfit.simulate import Design, SimulatedSweep, Truth, simulate_sweep

NINE = tuple((size, size * ratio) for size in (2e7, 6e7, 1.8e8) for ratio in (10, 30, 90))
COMPUTE_PATH = tuple((size, 20 * size) for size in (1e7, 2e7, 4e7, 8e7, 1.6e8))
RECIPE = Recipe(name="simulated", params_convention="non_embedding")


def sweep(
    scales: tuple[tuple[float, float], ...] = NINE, *, truth: Truth | None = None, seed: int = 1, **design: Any
) -> SimulatedSweep:
    """A sweep of 6 x 5 settings per scale unless `design` says otherwise."""
    settings = {"lr_steps": 6, "batch_steps": 5, "misplacement": 0.2, **design}
    return simulate_sweep(truth or Truth(), Design(scales=scales, **settings), rng=np.random.default_rng(seed))


@cache
def nine_scales() -> Observations:
    return observe(sweep().runs)


@cache
def nine_fit() -> Fit:
    """The analysis of `nine_scales`, as it would be stored."""
    return fit_of(sweep().runs)


def fit_of(runs: tuple[Run, ...] | list[Run], options: FitOptions | None = None) -> Fit:
    """The stored fit of some runs; its payload has been through JSON, in which nan and inf are refused."""
    return as_fit(analyse(observe(runs), options), data_hash(runs))


def as_fit(analysis: Analysis, data: str = "data") -> Fit:
    return Fit(
        id="fit",
        recipe_key=RECIPE.key,
        recipe_name=RECIPE.name,
        kind="lr_batch",
        status=analysis.status,
        data_hash=data,
        code_version="test",
        created_at="2026-11-21T10:00:00+00:00",
        options={},
        exclusions={},
        payload=json.loads(json.dumps(as_json(analysis.payload), allow_nan=False)),
    )


def run(key: str, lr: float, batch_tokens: float, loss: float | None, **changes: Any) -> Run:
    """One run at 1e8 params and 2e9 tokens; without a loss it diverged."""
    values: dict[str, Any] = {
        "run_key": key,
        "params": 1e8,
        "tokens": 2e9,
        "lr": lr,
        "batch_tokens": batch_tokens,
        "loss": loss,
        "status": RunStatus.DIVERGED if loss is None else RunStatus.FINISHED,
    }
    return Run(**{**values, **changes})
