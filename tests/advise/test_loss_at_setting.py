"""The loss at a setting: by the law at the best one, by a known truth elsewhere; whether its interval holds runs."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import numpy as np
import pytest

from lawfit.advise.draws import draw_worlds
from lawfit.advise.loss_at_setting import loss_at_settings
from lawfit.advise.regret import best_setting
from lawfit.estimate.loss.ensemble import LossEnsemble
from lawfit.estimate.loss.fit import LossFit
from lawfit.estimate.loss.law import loss_law
from lawfit.findings import finite
from lawfit.simulate import Design, Truth, simulate_sweep
from tests.estimate.simulated import NINE, fit_of

TRUTH = Truth(scatter_lr=0.03, scatter_batch=0.05)
LARGER = (4e8, 1.2e10)  # twice the largest size of `NINE`
LEVEL = 0.9


@cache
def fitted() -> tuple[dict[str, Any], LossEnsemble | LossFit]:
    """Model and loss law of a sweep with a known truth, each through JSON as a store would have them."""
    design = Design(scales=NINE, lr_steps=8, batch_steps=6, misplacement=0.2)
    runs = simulate_sweep(TRUTH, design, rng=np.random.default_rng(1)).runs
    payload = json.loads(json.dumps(finite(loss_law(runs, np.random.default_rng(0)).payload), allow_nan=False))
    law: LossEnsemble | LossFit = (
        LossEnsemble.from_json(payload["forms"]) if payload["forms"] else LossFit.from_json(payload["fit"])
    )
    return fit_of(runs).payload["model"], law


def test_at_the_best_setting_it_is_what_the_law_says() -> None:
    model, law = fitted()
    lr, batch = np.exp(best_setting(draw_worlds(model, *LARGER)))
    said = loss_at_settings(model, law, *LARGER, lr=lr, batch_tokens=batch)
    best = law.predict(*LARGER)
    assert said.excess[0] < 0.002  # what the recommended setting is expected to cost
    assert said.value[0] == pytest.approx(best.expected.value * np.exp(said.excess[0]), rel=1e-9)
    assert said.low is not None
    assert said.high is not None
    # one run of a setting is no surer than the best run of the scale
    assert said.low[0] < said.value[0] < said.high[0]
    assert said.high[0] - said.low[0] > 0.9 * ((best.run.high or 0) - (best.run.low or 0))


@pytest.mark.parametrize("shift", [-1.5, -0.7, 0.7], ids=lambda nats: f"{nats:+} nats of lr")
def test_off_the_optimum_it_comes_near_the_truth(shift: float) -> None:
    model, law = fitted()
    lr, batch = TRUTH.optimum(*LARGER)
    said = loss_at_settings(model, law, *LARGER, lr=lr * np.exp(shift), batch_tokens=batch)
    cost = TRUTH.excess(np.array([shift]), np.array([0.0]), LARGER[1])
    true = TRUTH.lowest_loss(*LARGER) * np.exp(cost)
    assert said.value == pytest.approx(true, rel=0.01)  # the law extrapolates over a factor 4 of compute
    assert said.low is not None
    assert said.high is not None
    assert said.low[0] <= true[0] <= said.high[0]


def test_costs_more_and_is_less_sure_the_further_off() -> None:
    model, law = fitted()
    lr, batch = TRUTH.optimum(*LARGER)
    said = loss_at_settings(model, law, *LARGER, lr=lr * np.exp([0.0, 0.5, 1.0, 1.5]), batch_tokens=batch)
    assert (np.diff(said.value) > 0).all()
    assert said.low is not None
    assert said.high is not None
    assert (np.diff(np.log(said.high / said.low)) > 0).all()


def test_intervals_hold_runs_of_a_larger_scale() -> None:
    """Not a coverage claim (runs of one scale share their law): that the interval is neither a point nor a gate."""
    model, law = fitted()
    runs = [
        run
        for run in simulate_sweep(TRUTH, Design(scales=[LARGER]), rng=np.random.default_rng(5)).runs
        if run.loss is not None
    ]
    said = loss_at_settings(
        model, law, *LARGER, lr=[run.lr for run in runs], batch_tokens=[run.batch_tokens for run in runs]
    )
    losses = np.array([run.loss for run in runs])
    assert said.low is not None
    assert said.high is not None
    assert ((said.low <= losses) & (losses <= said.high)).mean() >= LEVEL
    errors = np.log(said.value) - np.log(losses)
    assert 1 - (errors**2).sum() / ((np.log(losses) - np.log(losses).mean()) ** 2).sum() > 0.8
    assert np.median(np.log(said.high / said.low)) < 0.1


def test_a_loss_law_without_resamples_has_a_value_and_no_interval() -> None:
    model, law = fitted()
    fit = law.fits[0] if isinstance(law, LossEnsemble) else law
    bare = LossFit.from_json(fit.to_json() | {"draws": []})
    said = loss_at_settings(model, bare, *LARGER, lr=1e-3, batch_tokens=1e6)
    assert said.low is None
    assert said.high is None
    assert np.isfinite(said.value).all()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        pytest.param({"lr": 0.0}, "lr must be positive", id="no learning rate"),
        pytest.param({"batch_tokens": -1.0}, "batch_tokens must be positive", id="negative batch"),
        pytest.param({"lr": [1e-3, np.nan]}, "lr must be positive and finite", id="one of them unknown"),
        pytest.param({"tokens": 0.0}, "tokens must be positive", id="no tokens"),
    ],
)
def test_refuses_what_is_no_setting(wrong: dict[str, Any], words: str) -> None:
    model, law = fitted()
    asked = {"params": 4e8, "tokens": 1.2e10, "lr": 1e-3, "batch_tokens": 1e6} | wrong
    with pytest.raises(ValueError, match=words):
        loss_at_settings(model, law, **asked)
