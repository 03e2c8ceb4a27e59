"""A real analysis of a small simulated sweep, made once per test session."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from lawfit import pipeline
from lawfit.ask import Target
from lawfit.estimate.observe.observations import Observations, observe
from lawfit.records import Fit, Run, Sweep
from lawfit.simulate import Design, SimulatedSweep, Truth, simulate_sweep
from lawfit.storage import Store

TARGET = Target(params=1e9, tokens=2e10, seq_len=1024)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A fit with everything that figures are drawn from."""

    fit: Fit
    runs: tuple[Run, ...]
    observed: Observations
    document: dict[str, Any]
    given: dict[str, Any]  # the same target with the batch given
    capped: dict[str, Any]  # the same with less than the best batch allowed


@cache
def sweep() -> SimulatedSweep:
    """Six scales, eight learning rates and five batches each, diverged runs among them."""
    scales = [(n, n * ratio) for n in (2e7, 6e7, 1.8e8) for ratio in (10, 40)]
    design = Design(scales=scales, lr_steps=8, batch_steps=5)
    return simulate_sweep(Truth(diverges_above=0.7), design, rng=np.random.default_rng(3))


@cache
def sample() -> Sample:
    """The sweep, fitted, with recommendations for `TARGET`."""
    with Store.open(":memory:") as store:
        store.put_sweeps([Sweep(recipe=sweep().recipe, runs=sweep().runs)])
        fit = pipeline.refit(store)
        runs = tuple(store.runs(fit.recipe_key))
        document = pipeline.recommend(store, None, TARGET)
        batch_given = Target(params=TARGET.params, tokens=TARGET.tokens, batch_tokens=2**19)
        given = pipeline.recommend(store, None, batch_given)
        batch_capped = Target(params=TARGET.params, tokens=TARGET.tokens, max_batch_tokens=2**18)
        capped = pipeline.recommend(store, None, batch_capped)
    return Sample(fit=fit, runs=runs, observed=observe(runs), document=document, given=given, capped=capped)
