"""The valley of a stored fit: the fitted shape again, convex, with its best learning rate at every batch."""

from __future__ import annotations

from types import MappingProxyType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from lawfit.estimate.lr_batch.valley import (
    FLOOR_AT,
    along_floor,
    best_lr_shift,
    excess,
    law_share,
    steepened,
)
from lawfit.estimate.numerics.shapes import STRAIGHT_BEYOND, Exponentials

SHAPE = Exponentials()


def draws(count: int, seed: int = 0) -> np.ndarray:
    chance = np.random.default_rng(seed)
    return SHAPE.prior_mean + 0.3 * chance.standard_normal((count, 9))


@pytest.mark.parametrize("far", [1.0, 12.0], ids=["near", "beyond where it goes on straight"])
def test_is_the_fitted_shape_everywhere(far: float, rng: np.random.Generator) -> None:
    u, v = rng.uniform(-far, far, size=(2, 200))
    for q in draws(5):
        exponents = [q[3 * k + 1] * u + q[3 * k + 2] * v for k in range(3)]
        assert (np.max(exponents) > STRAIGHT_BEYOND) == (far > 6)
        np.testing.assert_allclose(excess(u, v, q), SHAPE(u, v, q)[0], rtol=1e-12, atol=1e-15)


def test_one_value_per_world(rng: np.random.Generator) -> None:
    u, v = rng.uniform(-1, 1, size=(2, 7))
    q = draws(7)
    together = excess(u, v, q)
    np.testing.assert_allclose(together, [float(excess(a, b, c)) for a, b, c in zip(u, v, q, strict=True)], rtol=1e-12)


far = st.floats(-15.0, 15.0)


@settings(max_examples=100, deadline=None)
@given(a=st.tuples(far, far), b=st.tuples(far, far), seed=st.integers(0, 1000))
def test_is_convex_and_never_negative(a: tuple[float, float], b: tuple[float, float], seed: int) -> None:
    q = draws(1, seed)[0]
    at = [float(excess(np.array(x), np.array(y), q)) for x, y in (a, b, ((a[0] + b[0]) / 2, (a[1] + b[1]) / 2))]
    assert min(at) >= 0
    assert at[2] <= (at[0] + at[1]) / 2 + 1e-9 * (1 + max(at))


@pytest.mark.parametrize("v", [-3.0, -1.0, 0.0, 0.7, 2.0])
def test_best_lr_agrees_with_another_optimiser(v: float) -> None:
    for q in draws(5, seed=2):
        expected = minimize_scalar(
            lambda u, q=q: float(excess(np.array(u), np.array(v), q)), bracket=(-1, 1), tol=1e-12
        )
        # the valley is flat at its floor: an optimiser on values resolves sqrt(1e-12)
        assert float(best_lr_shift(np.array(v), q)) == pytest.approx(float(expected.x), abs=1e-4)


def test_at_the_best_batch_the_best_lr_is_the_optimum() -> None:
    assert np.abs(best_lr_shift(np.zeros(5), draws(5))).max() < 1e-9


class TestAlongTheFloor:
    """How the best learning rate follows the batch: each analysis's own tilt nearby, the shared valley beyond."""

    Q = np.array([-5.5, -1.0, 0.6, -5.5, 1.3, -0.9, -6.2, 1.2, 0.8])

    def shift(self, r: float, floor: np.ndarray) -> float:
        return float(along_floor(np.array([r]), floor[None], self.Q[None], self.Q)[0])

    def test_at_the_best_batch_nothing_moves(self) -> None:
        assert self.shift(0.0, np.array(FLOOR_AT) * 0.7) == 0.0

    @pytest.mark.parametrize("r", [-0.6, 0.3, 0.9])
    def test_nearby_it_is_the_analysis_s_own(self, r: float) -> None:
        assert self.shift(r, np.array(FLOOR_AT) * 0.7) == pytest.approx(0.7 * r, abs=1e-9)

    @pytest.mark.parametrize("r", [-3.0, 2.5])
    def test_beyond_one_nat_the_shared_valley_goes_on_from_there(self, r: float) -> None:
        end = np.copysign(1.0, r)
        shared = best_lr_shift(np.array([r, end]), self.Q)
        assert self.shift(r, np.array(FLOOR_AT) * 0.7) == pytest.approx(0.7 * end + shared[0] - shared[1], abs=1e-6)

    def test_an_analysis_with_the_shared_valley_follows_it_everywhere(self) -> None:
        floor = best_lr_shift(np.array(FLOOR_AT), self.Q)
        for r in (-2.0, -1.0, -0.5, 0.75, 1.0, 3.0):
            assert self.shift(r, floor) == pytest.approx(float(best_lr_shift(np.array(r), self.Q)), abs=1e-6)


class TestSteepened:
    """The valley's steepness moves with the horizon inside the horizons of the runs, and no further."""

    VALLEY = MappingProxyType(
        {
            "q": [-5.5, -1.0, 0.6, -5.5, 1.3, -0.9, -6.2, 1.2, 0.8],
            "cov": (0.01 * np.eye(10)).tolist(),
            "steepness": -0.15,
            "log_tokens": [20.0, 24.0],
            "centre_log_tokens": 22.0,
        }
    )

    @pytest.mark.parametrize(
        ("log_tokens", "factor"), [(22.0, 0.0), (24.0, 2.0), (30.0, 2.0), (20.0, -2.0), (15.0, -2.0)]
    )
    def test_costs_scale_by_a_power_of_the_horizon(self, log_tokens: float, factor: float) -> None:
        q, cov = steepened(self.VALLEY, float(np.exp(log_tokens)))
        plain = np.array(self.VALLEY["q"])
        cost, before = (float(excess(np.array(0.5), np.array(0.2), each)) for each in (q, plain))
        assert cost == pytest.approx(np.exp(-0.15 * factor) * before, rel=1e-9)
        assert cov[0, 0] == pytest.approx(0.01 * (1 + factor**2), rel=1e-9)  # of the amplitude and of the steepness
        assert cov[1, 1] == pytest.approx(0.01, rel=1e-9)


def test_the_saturating_law_has_no_share_at_the_best_batch_and_half_far_away() -> None:
    np.testing.assert_allclose(law_share(np.array([0.0, 8.0, -8.0])), [0.0, 0.5, 0.5], atol=1e-12)
    assert np.all(np.diff(law_share(np.linspace(0, 4, 20))) > 0)
