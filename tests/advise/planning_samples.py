"""Loss fits to plan with: of the public laws, of few noisy scales, and of designs that say nothing about a split."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lawfit.estimate.loss.fit import AsymptotePrior, fit_loss
from lawfit.laws.loss import CHINCHILLA, AdditiveLaw
from lawfit.records import Fit, FitStatus, Recipe

Floats = NDArray[np.float64]
RECIPE = Recipe(name="simulated", params_convention="total", data="simulated")


def loss_fit(
    params: Floats, tokens: Floats, loss: Floats, *, lent: AsymptotePrior | None = None, resamples: int = 150
) -> Fit:
    """A fit of the loss as the store keeps it."""
    found = fit_loss(params, tokens, loss, rng=np.random.default_rng(0), asymptote=lent, resamples=resamples)
    points = [{"params": n, "tokens": d, "loss": y} for n, d, y in zip(params, tokens, loss, strict=True)]
    return Fit(
        id="loss-fit",
        recipe_key=RECIPE.key,
        recipe_name=RECIPE.name,
        kind="loss",
        status=FitStatus.OK if found.certificate.certified else FitStatus.SPARSE,
        data_hash="",
        code_version="",
        created_at="2026-11-22T00:00:00+00:00",
        options={},
        exclusions={},
        payload={"fit": found.to_json(), "points": points, "sentences": [], "words": ""},
    )


def runs_of(
    law: AdditiveLaw, noise: float, *, seed: int = 1, sizes: int = 8, ratios: tuple[float, ...] = (2.5, 10, 40, 160)
) -> tuple[Floats, Floats, Floats]:
    """params, tokens and loss of a grid of sizes and tokens per parameter."""
    rng = np.random.default_rng(seed)
    params, ratio = (grid.ravel() for grid in np.meshgrid(np.geomspace(2e7, 2e9, sizes), ratios))
    tokens = params * ratio
    return params, tokens, law.loss(params, tokens) * np.exp(noise * rng.standard_normal(len(params)))


@cache
def chinchilla(noise: float = 0.003) -> Fit:
    """Runs of the rounded Chinchilla law."""
    return loss_fit(*runs_of(CHINCHILLA, noise))


@cache
def on_a_line() -> Fit:
    """Every run at 20 tokens per parameter: the exponents are not identified."""
    params, tokens, loss = runs_of(CHINCHILLA, 0.002, sizes=20, ratios=(20.0,))
    return loss_fit(params, tokens, loss, lent=AsymptotePrior(mean=1.8, log_sd=0.6))


def settings(target: Any) -> dict[str, Any]:
    """Stands in for the document of `lawfit predict`: no recommendation, an expected loss by Chinchilla."""
    value = float(CHINCHILLA.loss(target.params, target.tokens))
    return {
        "id": "prediction",
        "recipe": {"name": RECIPE.name, "optimizer": "", "data": "simulated"},
        "recommendation": {
            "lr": None,
            "batch_tokens": {"value": 2.0**19, "low": 2.0**18, "high": 2.0**20, "sequences": None},
        },
        "weight_decay": None,
        "critical_batch": None,
        "expected_loss": {"value": value, "low": value - 0.01, "high": value + 0.01, "level": 0.9,
                          "run_low": None, "run_high": None},
        "missing": {},
        "evidence": {"fit_id": "lr-fit"},
        "warnings": [],
    }  # fmt: skip
