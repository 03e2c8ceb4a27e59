"""Expected regret, the setting that minimises it, and cheap zones, against direct sums and searches."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from lawfit.advise.draws import Worlds, draw_worlds
from lawfit.advise.regret import (
    CAP,
    at_batch,
    best_setting,
    cheap_batch_zone,
    cheap_lr_zone,
    expected_regret,
    lr_given_batch,
    split_regret,
)
from lawfit.estimate.shapes import STRAIGHT_BEYOND
from lawfit.estimate.valley import best_lr_shift, excess
from tests.estimate.simulated import nine_fit

SCALES = [pytest.param(6e7, 1.8e9, id="inside"), pytest.param(1e9, 3e10, id="a decade out")]


def worlds_at(params: float, tokens: float) -> Worlds:
    return draw_worlds(nine_fit().payload["model"], params, tokens)


@pytest.mark.parametrize(("params", "tokens"), SCALES)
def test_expected_regret_is_the_mean_over_worlds(params: float, tokens: float) -> None:
    worlds = worlds_at(params, tokens)
    log_lr, log_batch = worlds.centre_log_lr + 0.2, worlds.centre_log_batch - 0.3
    total = 0.0
    for a, b, q in zip(worlds.log_lr, worlds.log_batch, worlds.valley, strict=True):
        u, v = log_lr - a, log_batch - b
        e = q[1::3] * u + q[2::3] * v
        near = np.minimum(e, STRAIGHT_BEYOND)  # the sum of exponentials, each straight from there on
        terms = np.expm1(near) - near + np.expm1(near) * (e - near)
        total += float(np.expm1(min(np.sum(np.exp(q[0::3]) * terms), CAP)))
    assert expected_regret(worlds, log_lr, log_batch) == pytest.approx(total / len(worlds.log_lr), rel=1e-9)


@pytest.mark.parametrize(("params", "tokens"), SCALES)
def test_best_setting_has_the_smallest_expected_regret(params: float, tokens: float) -> None:
    worlds = worlds_at(params, tokens)
    ours = best_setting(worlds)
    found = minimize(
        lambda at: expected_regret(worlds, *at),
        np.array(ours),
        method="Nelder-Mead",
        options={"xatol": 1e-4, "fatol": 1e-12},
    )
    # the search uses every fifth world, so its own argmin differs a little; what counts is what that costs
    assert expected_regret(worlds, *ours) <= 1.02 * float(found.fun) + 1e-6


@pytest.mark.parametrize("shift", [-1.5, 0.0, 1.0])
def test_best_lr_at_a_given_batch(shift: float) -> None:
    worlds = worlds_at(1e9, 3e10)
    log_batch = worlds.centre_log_batch + shift
    log_lr, same = best_setting(worlds, log_batch)
    assert same == log_batch
    grid = np.linspace(log_lr - 1, log_lr + 1, 401)
    least = min(expected_regret(worlds, float(x), log_batch) for x in grid)
    assert expected_regret(worlds, log_lr, log_batch) <= 1.02 * least + 1e-6


def test_a_cap_on_the_batch_is_kept() -> None:
    worlds = worlds_at(1e9, 3e10)
    cap = worlds.centre_log_batch - 1
    assert best_setting(worlds, max_log_batch=cap)[1] <= cap


def test_the_two_parts_make_the_whole() -> None:
    worlds = worlds_at(1e9, 3e10)
    log_lr, log_batch = best_setting(worlds)
    of_lr, of_batch = split_regret(worlds, log_lr, log_batch)
    assert min(of_lr, of_batch) >= 0
    assert of_lr + of_batch == pytest.approx(expected_regret(worlds, log_lr, log_batch), rel=1e-9)


def test_lr_given_batch_minimises_each_world() -> None:
    worlds = worlds_at(1e9, 3e10)
    log_batch = worlds.centre_log_batch - 0.7
    worlds = at_batch(worlds, log_batch)
    best = lr_given_batch(worlds, log_batch)
    v = log_batch - worlds.log_batch
    at_best = excess(best - worlds.log_lr, v, worlds.valley)
    for step in (-0.02, 0.02):
        assert np.all(excess(best + step - worlds.log_lr, v, worlds.valley) >= at_best)


class TestCheapZones:
    @pytest.mark.parametrize("share", [0.001, 0.0025])
    def test_lr_ends_cost_exactly_the_share(self, share: float) -> None:
        worlds = worlds_at(6e7, 1.8e9)
        log_batch = worlds.centre_log_batch - 0.5
        v = np.array(log_batch - worlds.centre_log_batch)
        least = excess(best_lr_shift(v, worlds.centre_valley), v, worlds.centre_valley)
        for end in cheap_lr_zone(worlds, log_batch, share):
            cost = excess(np.array(end - worlds.centre_log_lr), v, worlds.centre_valley) - least
            assert float(np.expm1(cost)) == pytest.approx(share, rel=1e-6)

    @pytest.mark.parametrize("share", [0.001, 0.0025])
    def test_batch_ends_cost_exactly_the_share_with_the_lr_following(self, share: float) -> None:
        worlds = worlds_at(6e7, 1.8e9)
        for end in cheap_batch_zone(worlds, share):
            v = np.array(end - worlds.centre_log_batch)
            cost = excess(best_lr_shift(v, worlds.centre_valley), v, worlds.centre_valley)
            assert float(np.expm1(cost)) == pytest.approx(share, rel=1e-6)

    def test_are_nested(self) -> None:
        worlds = worlds_at(6e7, 1.8e9)
        for zone in (
            lambda s: cheap_lr_zone(worlds, worlds.centre_log_batch, s),
            lambda s: cheap_batch_zone(worlds, s),
        ):
            narrow, wide = zone(0.001), zone(0.0025)
            assert wide[0] < narrow[0] < narrow[1] < wide[1]
