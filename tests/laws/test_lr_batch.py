"""Forms of the learning rate against the batch, and costs of a batch: golden numbers, slopes, symmetries, inverses."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lawfit.laws.critical_batch import Hyperbola
from lawfit.laws.lr_batch import (
    Form,
    Power,
    PowerScheduler,
    Saturating,
    StochasticOracle,
    Surge,
    max_initial_lr,
    token_ratio,
)
from lawfit.laws.published import published_law

FORMS: dict[str, Form] = {
    "power": Power(const=1e-6, exponent=0.3),
    "saturating": Saturating(lr_max=0.01, noise_batch_tokens=3e5, sharpness=0.7),
    "surge": Surge(lr_max=0.01, noise_batch_tokens=3e5),
}
BATCHES = np.geomspace(1e3, 1e8, 40)


def test_g16_saturating() -> None:
    assert float(Saturating(lr_max=0.01, noise_batch_tokens=1000)(250)) == pytest.approx(0.002, rel=1e-12)


def test_g16_surge() -> None:
    surge = Surge(lr_max=0.01, noise_batch_tokens=1000)
    np.testing.assert_allclose(surge([250, 1000, 4000]), [0.008, 0.010, 0.008], rtol=1e-12)


@settings(deadline=None)
@given(factor=st.floats(1e-3, 1e3))
def test_surge_is_symmetric_and_peaks_at_the_noise_batch(factor: float) -> None:
    surge = Surge(lr_max=0.01, noise_batch_tokens=3e5)
    assert float(surge(3e5 * factor)) == pytest.approx(float(surge(3e5 / factor)), rel=1e-12)
    assert float(surge(3e5 * factor)) <= float(surge(3e5)) == pytest.approx(0.01, rel=1e-12)


@pytest.mark.parametrize("name", FORMS)
def test_slope_is_the_derivative(name: str) -> None:
    form, h = FORMS[name], 1e-4
    difference = (np.log(form(BATCHES * np.exp(h))) - np.log(form(BATCHES * np.exp(-h)))) / (2 * h)
    np.testing.assert_allclose(form.slope(BATCHES), difference, atol=1e-7)  # h^2 and rounding / h


LIMITS = {"power": (0.3, 0.3), "saturating": (0.7, 0.0), "surge": (0.5, -0.5)}


@pytest.mark.parametrize("name", FORMS)
def test_slopes_far_from_the_noise_batch(name: str) -> None:
    """The rules of transfer are these limits: a power of the batch below, nothing (or a fall) above."""
    assert FORMS[name].slope([1e-3, 1e15]) == pytest.approx(LIMITS[name], abs=1e-8)


def test_time_transfer_regimes() -> None:
    """Section 10: with a noise batch that grows as T, a surge at fixed batch gives T^-1/2 early and T^1/2 late."""
    horizon = np.array([1.0, 1.01])
    for batch, expected in ((1e3, -0.5), (1e9, 0.5)):
        lr = [float(Surge(lr_max=1, noise_batch_tokens=1e6 * t)(batch)) for t in horizon]
        assert np.diff(np.log(lr))[0] / np.diff(np.log(horizon))[0] == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize(("sequences", "tokens"), [(128, 2e9), (128, 2.56e11), (1024, 1e13)])
def test_g18_power_scheduler_is_the_one_of_the_catalogue(sequences: float, tokens: float) -> None:
    ours = PowerScheduler(factor=4.6, exponent=-0.51)(sequences * 4096, tokens)
    catalogue = published_law("power_scheduler").predict(1e9, tokens, batch_tokens=sequences * 4096).lr
    assert float(ours) == pytest.approx(catalogue, rel=1e-12)


def test_g18() -> None:
    law = PowerScheduler(factor=4.6, exponent=-0.51)
    np.testing.assert_allclose(
        law(np.array([128, 128, 1024]) * 4096, [2e9, 2.56e11, 1e13]),
        [0.01062777872, 8.948812714e-4, 1.104225541e-3],
        rtol=1e-9,
    )


def test_g29_stochastic_oracle() -> None:
    curve = StochasticOracle.of_constants(A=1000, B=4, eps_squared=0.5)
    assert curve.best_batch == 16
    assert float(curve.steps(16)) == 4000
    assert float(curve.cost(16)) == 64000


def test_stochastic_oracle_has_its_optimum_inside() -> None:
    """Unlike the hyperbola, whose data efficiency has none: both shapes of a cost of batches."""
    curve = StochasticOracle(steps_min=2000, batch_min=8)
    sizes = np.geomspace(8.01, 1e4, 20001)
    assert sizes[np.argmin(curve.cost(sizes))] == pytest.approx(16, rel=1e-3)
    assert np.diff(curve.steps(sizes)).max() < 0
    np.testing.assert_array_equal(curve.steps([8, 4]), [np.inf, np.inf])
    tokens = Hyperbola(steps_min=2000, tokens_min=16000).tokens(sizes)
    assert np.argmin(tokens) == 0


def test_token_ratio_of_two_optimizers() -> None:
    """9 % less data at a tiny batch and twice the critical batch, so the ratio grows with the batch."""
    adamw = Hyperbola(steps_min=1000, tokens_min=1.1e9)
    muon = Hyperbola(steps_min=500, tokens_min=1e9)
    ratio = token_ratio(adamw.tokens, muon.tokens, [1e-3, 1e6, 1e15])
    np.testing.assert_allclose(ratio, [1.1, (1.1e9 + 1e9) / (1e9 + 5e8), 2.0], rtol=1e-6)
    assert np.diff(token_ratio(adamw.tokens, muon.tokens, BATCHES)).min() > 0
    np.testing.assert_allclose(token_ratio(adamw.tokens, adamw.tokens, BATCHES), 1)


def test_max_initial_lr_depends_on_depth_times_width() -> None:
    lr = max_initial_lr([10, 20, 40], [400, 200, 400], const=2.0, exponent=0.5)
    np.testing.assert_allclose(lr, [2 / 4000**0.5, 2 / 4000**0.5, 2 / 16000**0.5], rtol=1e-12)


BAD: dict[str, Callable[[], object]] = {
    "batch of zero": lambda: FORMS["surge"](0),
    "negative batch": lambda: FORMS["power"](-1),
    "nan": lambda: FORMS["saturating"](float("nan")),
    "tokens of zero": lambda: PowerScheduler(factor=4.6, exponent=-0.51)(1e6, 0),
    "smallest batch of zero": lambda: StochasticOracle(steps_min=1, batch_min=0),
    "depth of zero": lambda: max_initial_lr(0, 10, const=1, exponent=1),
}


@pytest.mark.parametrize("call", BAD.values(), ids=BAD)
def test_refuses_what_is_no_quantity(call: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match="must be positive and finite"):
        call()
