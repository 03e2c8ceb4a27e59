"""Expected regret, the setting that minimises it, and cheap zones, against direct sums and searches."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize, minimize_scalar

from lawfit.advise.draws import Worlds, draw_worlds, law_row
from lawfit.advise.regret import (
    CAP,
    at_batch,
    best_setting,
    cheap_batch_zone,
    cheap_lr_zone,
    expected_regret,
    floor_log_lr,
    lr_given_batch,
    shares_of_runs,
    split_regret,
)
from lawfit.estimate.lr_batch.valley import best_lr_shift, excess
from lawfit.estimate.numerics.shapes import STRAIGHT_BEYOND
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


@pytest.mark.parametrize("shift", [-0.4, 1.2, 4.0])
def test_the_batchs_part_is_what_the_best_rate_of_each_world_leaves(shift: float) -> None:
    """By a search in every world: near the best batch, where it costs something, and where most worlds are capped."""
    whole = worlds_at(1e9, 3e10)
    some = np.arange(0, len(whole.log_lr), 25)
    worlds = replace(
        whole, log_lr=whole.log_lr[some], log_batch=whole.log_batch[some], valley=whole.valley[some], floor=None
    )
    log_lr, log_batch = worlds.centre_log_lr + 0.5, worlds.centre_log_batch + shift
    left = [
        minimize_scalar(lambda u, v=log_batch - b, q=q: float(excess(np.array(u), np.array(v), q)), (-3, 3)).fun
        for b, q in zip(worlds.log_batch, worlds.valley, strict=True)
    ]
    of_lr, of_batch = split_regret(worlds, log_lr, log_batch)
    assert of_batch == pytest.approx(np.mean(np.expm1(np.minimum(left, 0.05))), rel=1e-6)
    assert of_lr == pytest.approx(expected_regret(worlds, log_lr, log_batch) - of_batch, rel=1e-9)
    assert (np.max(left) > 0.05) == (shift == 4.0)


def test_no_world_counts_more_than_a_run_that_is_started_again() -> None:
    worlds = worlds_at(1e9, 3e10)
    assert expected_regret(worlds, worlds.centre_log_lr + 8, worlds.centre_log_batch) == pytest.approx(np.expm1(0.05))


@pytest.mark.parametrize(("params", "tokens"), [(9e7, 2.5e9), (1e9, 3e10)])
def test_the_share_of_the_runs_is_one_less_posterior_over_prior_variance(params: float, tokens: float) -> None:
    """The prior's by published laws alone; the posterior's over choices, by second moments instead of deviations."""
    model, worlds = nine_fit().payload["model"], worlds_at(params, tokens)
    x = law_row(model, params, tokens)
    rows = np.block([[x, np.zeros(len(x))], [np.zeros(len(x)), x]])
    prior = rows @ np.array(model["published_prior"]["cov"]) @ rows.T
    weights = np.array([member["weight"] for member in model["members"]]) / sum(m["weight"] for m in model["members"])
    second, first = np.zeros((2, 2)), np.zeros(2)
    for weight, member in zip(weights, model["members"], strict=True):
        at = rows @ np.array(member["law"])
        second += weight * (rows @ np.array(member["cov"]) @ rows.T + np.outer(at, at))
        first += weight * at
    posterior = second - np.outer(first, first)
    shares = shares_of_runs(worlds, None)
    np.testing.assert_allclose(shares, 1 - np.diag(posterior) / np.diag(prior), rtol=1e-6)
    assert all(0 < share < 1 for share in shares)
    # with a batch imposed the rate asked for moves with the best batch by the floor's slope there
    log_batch, h = worlds.centre_log_batch + 0.6, 1e-4
    slope = (floor_log_lr(worlds, log_batch + h) - floor_log_lr(worlds, log_batch - h)) / (2 * h)
    along = np.array([1.0, -slope])
    imposed, of_batch = shares_of_runs(worlds, log_batch)
    assert imposed == pytest.approx(1 - (along @ posterior @ along) / (along @ prior @ along), rel=1e-3)
    assert of_batch == shares[1]
    assert abs(imposed - shares[0]) > 1e-4  # the slope matters


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
