"""The valley of a stored fit: the fitted shape again, convex, with its best learning rate at every batch."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from lawfit.estimate.shapes import Exponentials
from lawfit.estimate.valley import LINEAR_BEYOND, best_lr_shift, excess

SHAPE = Exponentials()


def draws(count: int, seed: int = 0) -> np.ndarray:
    chance = np.random.default_rng(seed)
    return SHAPE.prior_mean + 0.3 * chance.standard_normal((count, 9))


def test_is_the_fitted_shape_near_the_optimum(rng: np.random.Generator) -> None:
    u, v = rng.uniform(-1, 1, size=(2, 200))
    for q in draws(5):
        exponents = [q[3 * k + 1] * u + q[3 * k + 2] * v for k in range(3)]
        assert np.max(exponents) < LINEAR_BEYOND  # beyond it, this one goes on straight
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
