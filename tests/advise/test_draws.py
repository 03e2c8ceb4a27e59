"""Plausible worlds: always the same, as wide as they say, wider further out."""

from __future__ import annotations

import numpy as np
import pytest

from lawfit.advise.draws import WORLDS, draw_worlds
from lawfit.estimate.surface import law_design
from tests.estimate.simulated import nine_fit

MODEL = "model"


def test_the_same_model_and_scale_give_the_same_worlds() -> None:
    one, other = (draw_worlds(nine_fit().payload[MODEL], 1e9, 3e10) for _ in range(2))
    for name, value in vars(one).items():
        np.testing.assert_array_equal(value, getattr(other, name), err_msg=name)


def test_centre_is_the_weighted_law() -> None:
    model = nine_fit().payload[MODEL]
    worlds = draw_worlds(model, 1e9, 3e10)
    x = law_design(np.array([1e9]), np.array([3e10]), tuple(model["centre"]))[0]
    weights = np.array([m["weight"] for m in model["members"]])
    laws = np.array([m["law"] for m in model["members"]])
    assert worlds.centre_log_lr == pytest.approx(float(weights @ laws[:, :4] @ x), rel=1e-12)
    assert worlds.centre_log_batch == pytest.approx(float(weights @ laws[:, 4:] @ x), rel=1e-12)
    # the draws scatter around it: the mean of 2,000 within five standard errors
    assert np.mean(worlds.log_lr) == pytest.approx(
        worlds.centre_log_lr, abs=5 * np.std(worlds.log_lr) / np.sqrt(WORLDS)
    )


def test_spread_grows_with_the_distance() -> None:
    model = nine_fit().payload[MODEL]
    spreads = [
        np.ptp(np.quantile(draw_worlds(model, 6e7 * s, 1.8e9 * s).log_lr, [0.05, 0.95])) for s in (1, 10, 100, 1e4)
    ]
    assert spreads == sorted(spreads)
    assert spreads[-1] > 5 * spreads[0]


def test_a_new_scale_scatters_more_than_the_law_is_uncertain() -> None:
    worlds = draw_worlds(nine_fit().payload[MODEL], 6e7, 1.8e9)
    assert np.std(worlds.log_lr) > worlds.posterior_sd[0]
    assert np.std(worlds.log_batch) > worlds.posterior_sd[1]


def test_runs_of_ones_own_narrow_what_laws_say() -> None:
    worlds = draw_worlds(nine_fit().payload[MODEL], 6e7, 1.8e9)
    for posterior, prior in zip(worlds.posterior_sd, worlds.prior_sd, strict=True):
        assert posterior < 0.3 * prior
