"""A recipe with every law, and an answer of each, made once per test session."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from lawfit import pipeline
from lawfit.ask import Target
from lawfit.estimate.lr_batch.analysis import FitOptions
from lawfit.records import Fit, Run, Sweep, TargetSweep
from lawfit.simulate import Design, FurtherTruth, Truth, simulate_sweep, simulate_targets, simulate_weight_decay
from lawfit.storage import Store

TARGET = Target(params=4e8, tokens=2e10, seq_len=2048)


@cache
def whole() -> tuple[Fit, tuple[Run, ...], dict[str, Any], dict[str, Fit]]:
    """Fit, runs, answer, further fits."""
    rng, truth, further = np.random.default_rng(5), Truth(noise=0.0005), FurtherTruth()
    scales = [(size, size * ratio) for size in (2e7, 6e7, 1.8e8) for ratio in (10, 90)]
    sweep = simulate_sweep(truth, Design(scales=scales, lr_steps=5, batch_steps=5, misplacement=0.1), rng=rng)
    decays = simulate_weight_decay(sweep, further, (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0), rng=rng)
    runs = tuple(replace(run, weight_decay=0.1) for run in sweep.runs) + decays
    targets = simulate_targets(truth, further, [(n, 20 * n) for n in (2e7, 5e7, 1e8, 2e8, 4e8)], rng=rng)
    with Store.open(":memory:") as store:
        store.put_sweeps([Sweep(recipe=sweep.recipe, runs=runs)])
        store.put_targets([TargetSweep(recipe=sweep.recipe, rows=targets)], named=True)
        fit = pipeline.refit(store, options=FitOptions(backtest=False))
        answer = pipeline.recommend(store, None, TARGET)
        return fit, tuple(store.runs(fit.recipe_key)), answer, pipeline.laws_of(store, fit)
