"""Valley shapes: derivatives against finite differences, the origin is their minimum, exponentials are convex."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lawfit.estimate.numerics.shapes import SHAPES, Exponentials, Polynomial, Shape

STEP = 1e-5
near = st.floats(-2.0, 2.0)
ALL = [pytest.param(shape, id=name) for name, shape in SHAPES.items()]


def coefficients(shape: Shape, seed: int) -> np.ndarray:
    """A draw from the shape's own prior."""
    chance = np.random.default_rng(seed)
    return shape.prior_mean + shape.prior_sd * chance.standard_normal(len(shape.prior_mean))


def value(shape: Shape, u: float, v: float, q: np.ndarray) -> float:
    return float(shape(np.array([u]), np.array([v]), q)[0][0])


def slope(above: float, below: float, step: float = STEP) -> float:
    return (above - below) / (2 * step)


@pytest.mark.parametrize("shape", ALL)
@settings(max_examples=40, deadline=None)
@given(u=near, v=near, seed=st.integers(0, 10_000))
def test_derivatives_by_place(shape: Shape, u: float, v: float, seed: int) -> None:
    q = coefficients(shape, seed)
    h, by_u, by_v, _ = shape(np.array([u]), np.array([v]), q)
    # central differences, whose error is largest where an exponential goes over into its straight line
    tolerance = 1e-9 + 1e-4 * (abs(float(h[0])) + abs(float(by_u[0])) + abs(float(by_v[0])))
    assert by_u[0] == pytest.approx(slope(value(shape, u + STEP, v, q), value(shape, u - STEP, v, q)), abs=tolerance)
    assert by_v[0] == pytest.approx(slope(value(shape, u, v + STEP, q), value(shape, u, v - STEP, q)), abs=tolerance)


@pytest.mark.parametrize("shape", ALL)
@settings(max_examples=40, deadline=None)
@given(u=near, v=near, seed=st.integers(0, 10_000))
def test_derivatives_by_coefficient(shape: Shape, u: float, v: float, seed: int) -> None:
    q = coefficients(shape, seed)
    by_q = shape(np.array([u]), np.array([v]), q)[3][:, 0]
    for at in range(len(q)):
        above, below = q.copy(), q.copy()
        above[at] += STEP
        below[at] -= STEP
        expected = slope(value(shape, u, v, above), value(shape, u, v, below))
        assert by_q[at] == pytest.approx(expected, rel=1e-3, abs=1e-6 * (1 + abs(value(shape, u, v, q))))


@pytest.mark.parametrize("shape", ALL)
def test_coefficients_of_each_row_are_those_of_its_own_shape(shape: Shape, rng: np.random.Generator) -> None:
    u, v = rng.normal(size=(2, 5))
    each = np.array([coefficients(shape, seed) for seed in range(5)])
    together = shape(u, v, each.T)
    alone = [shape(u[[i]], v[[i]], each[i]) for i in range(5)]
    for found, expected in zip(together, zip(*alone, strict=True), strict=True):
        np.testing.assert_allclose(found, np.concatenate(expected, axis=-1), rtol=1e-12)


@pytest.mark.parametrize("shape", ALL)
def test_zero_with_zero_gradient_at_the_origin(shape: Shape) -> None:
    h, by_u, by_v, by_q = shape(np.zeros(1), np.zeros(1), coefficients(shape, 3))
    assert h[0] == by_u[0] == by_v[0] == 0.0
    assert not by_q.any()


far = st.floats(-40.0, 40.0)


@settings(max_examples=200, deadline=None)
@given(a=st.tuples(far, far), b=st.tuples(far, far), seed=st.integers(0, 10_000))
def test_exponentials_are_convex_however_far(a: tuple[float, float], b: tuple[float, float], seed: int) -> None:
    shape = Exponentials()
    q = coefficients(shape, seed)
    middle = value(shape, (a[0] + b[0]) / 2, (a[1] + b[1]) / 2, q)
    ends = value(shape, *a, q), value(shape, *b, q)
    assert middle <= sum(ends) / 2 + 1e-9 * (1 + max(ends))
    assert middle >= 0


@pytest.mark.parametrize("degree", [2, 3, 4])
def test_polynomials_are_linear_in_their_coefficients(degree: int, rng: np.random.Generator) -> None:
    shape = Polynomial(degree)
    u, v = rng.normal(size=(2, 20))
    one, other = coefficients(shape, 1), coefficients(shape, 2)
    together = shape(u, v, one + other)[0]
    np.testing.assert_allclose(together, shape(u, v, one)[0] + shape(u, v, other)[0], rtol=1e-12, atol=1e-12)


def test_names_are_the_keys() -> None:
    assert {name: shape.name for name, shape in SHAPES.items()} == {name: name for name in SHAPES}


@pytest.mark.parametrize(
    ("q", "upwards"),
    [((0.006, -0.004, 0.005), True), ((-0.006, 0.004, 0.001), False), ((0.001, 0.02, 0.001), False)],
    ids=["valley", "hill", "saddle"],
)
def test_a_saddle_is_not_a_valley(q: tuple[float, float, float], upwards: bool) -> None:
    shape = SHAPES["quadratic"]
    assert shape.curves_up(np.array(q)) is upwards
    angle = np.linspace(0, np.pi, 181)
    assert bool(shape(np.cos(angle), np.sin(angle), np.array(q))[0].min() > 0) is upwards
