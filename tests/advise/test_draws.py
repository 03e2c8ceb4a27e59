"""Plausible worlds: always the same, as wide as they say, wider further out."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest

from lawfit.advise.draws import draw_worlds, runs_near
from lawfit.advise.members import WORLDS
from lawfit.estimate.lr_batch.ensemble import INFLATION
from lawfit.estimate.numerics.law_terms import TERMS, law_design
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
    assert worlds.centre_log_lr == pytest.approx(float(weights @ laws[:, :TERMS] @ x), rel=1e-12)
    assert worlds.centre_log_batch == pytest.approx(float(weights @ laws[:, TERMS:] @ x), rel=1e-12)
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


def test_a_new_size_is_less_sure_than_a_new_horizon_and_that_less_than_a_scale_of_the_runs() -> None:
    model = {**nine_fit().payload[MODEL], "calibration": [1.0, 1.0]}
    size, horizon, scale = (draw_worlds(model, n, d) for n, d in ((9e7, 2.5e9), (6e7, 2.5e9), (6e7, 1.8e9)))
    assert [worlds.known for worlds in (size, horizon, scale)] == ["", "size", "scale"]
    for name in ("log_lr", "log_batch"):
        assert np.std(getattr(size, name)) > np.std(getattr(horizon, name)) > np.std(getattr(scale, name))
    assert np.std(size.log_lr) > np.sqrt(size.posterior_cov[0, 0])  # of the law: the size's own deviation comes on top
    assert np.std(horizon.log_lr) > np.sqrt(horizon.posterior_cov[0, 0])  # and the scale's


def test_a_size_of_the_runs_brings_its_deviation() -> None:
    model = nine_fit().payload[MODEL]
    shift = np.average([m["sizes"]["shift"][1] for m in model["members"]], axis=0, weights=weights_of(model))
    known, unknown = draw_worlds(model, 6e7, 2.5e9), draw_worlds({**model, "sizes": [1.0]}, 6e7, 2.5e9)
    assert known.centre_log_lr - unknown.centre_log_lr == pytest.approx(shift[0], abs=1e-12)
    assert known.centre_log_batch - unknown.centre_log_batch == pytest.approx(shift[1], abs=1e-12)


def test_a_factor_on_the_widths_widens_what_is_drawn() -> None:
    model = nine_fit().payload[MODEL]
    plain, wide = (draw_worlds({**model, "calibration": c}, 1e9, 3e10) for c in ([1.0, 1.0], [1.5, 2.0]))
    assert np.ptp(wide.log_lr) == pytest.approx(1.5 * np.ptp(plain.log_lr), rel=0.1)
    assert np.ptp(wide.log_batch) == pytest.approx(2.0 * np.ptp(plain.log_batch), rel=0.1)


@pytest.mark.parametrize(
    "target", [(1e9, 3e10), (6e7, 2.5e9), (6e7, 1.8e9)], ids=["new size", "new horizon", "scale of the runs"]
)
def test_worlds_are_as_wide_as_the_parts_of_their_variance_add_up_to(
    target: tuple[float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Choices, coefficients, deviations of size and scale; then the factors. Student's t is scaled to that variance."""
    monkeypatch.setattr("lawfit.advise.members.WORLDS", 100_000)
    model = {**nine_fit().payload[MODEL], "calibration": [1.2, 1.1]}
    worlds = draw_worlds(model, *target)
    x = law_design(np.array([target[0]]), np.array([target[1]]), tuple(model["centre"]))[0]
    by_law = np.kron(np.eye(2), x)
    size, scale = model["sizes"].index(6e7), model["scales"].index([6e7, 1.8e9])
    centres, within = [], []
    for member in model["members"]:
        centre, cov = by_law @ member["law"], by_law @ np.array(member["cov"]) @ by_law.T
        if worlds.known == "scale":
            centre, cov = np.array(member["scales"]["at"][scale]), np.array(member["scales"]["cov"][scale])
        elif worlds.known == "size":
            cross = by_law @ np.array(member["sizes"]["cross"][size])
            centre = centre + member["sizes"]["shift"][size]
            cov = cov + cross + cross.T + np.array(member["sizes"]["cov"][size]) + np.diag(member["scatter_var"])
        else:
            cov = cov + np.diag(member["scatter_var"]) + np.diag(member["size_var"])
        centres.append(centre)
        within.append(np.diag(cov))
    weights = weights_of(model)
    apart = np.array(centres) - weights @ np.array(centres)
    factors = INFLATION * (np.ones(2) if worlds.known else np.array([1.2, 1.1]))  # promises are of sizes without runs
    expected = np.sqrt(factors**2 * (weights @ np.array(within)) + weights @ apart**2)
    found = np.std(worlds.log_lr), np.std(worlds.log_batch)
    np.testing.assert_allclose(found, expected, rtol=0.02)


def weights_of(model: Any) -> np.ndarray:
    return np.array([m["weight"] for m in model["members"]])


def test_runs_of_ones_own_narrow_what_laws_say() -> None:
    worlds = draw_worlds(nine_fit().payload[MODEL], 6e7, 1.8e9)
    assert np.all(np.diag(worlds.posterior_cov) < 0.3**2 * np.diag(worlds.prior_cov))


class TestRunsNear:
    """Sizes with few tokens each, and one with many: a large model on few tokens lies inside both ranges."""

    MODEL: ClassVar = {"scales": [[1e8, 2e9], [4e8, 8e9], [1.6e9, 3.2e10]]}

    @pytest.mark.parametrize(
        ("params", "tokens", "near"),
        [
            pytest.param(1e8, 2e9, True, id="a scale of the runs"),
            pytest.param(2e8, 4e9, True, id="between neighbours"),
            pytest.param(1.6e9, 2e9, False, id="inside both ranges, far from every run"),
            pytest.param(1e8, 3.2e10, False, id="the other corner"),
            pytest.param(4e8, 2.1e10, False, id="of a size with runs, at a horizon of none"),
        ],
    )
    def test_is_asked_of_both_inputs_at_once(self, params: float, tokens: float, near: bool) -> None:
        assert runs_near(self.MODEL, params, tokens) is near
