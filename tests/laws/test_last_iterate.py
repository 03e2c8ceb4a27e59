"""The bound on the last iterate: held against real descents, against limits in closed form, and its transfer rule."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from lawfit.laws import schedules
from lawfit.laws.last_iterate import best_scale, bound, peak_ratio
from lawfit.laws.schedules import Shape


def steps(shape: Shape, count: int) -> np.ndarray:
    """Multipliers of a run: the floor would come at step `count`, one after the last."""
    return np.asarray(shape(np.arange(count) / count))


WSD = partial(schedules.wsd, cooldown=0.2)


@pytest.mark.parametrize(
    "shape", [schedules.linear, schedules.cosine, WSD, np.ones_like], ids=["linear", "cosine", "wsd", "constant"]
)
def test_holds_for_descents_on_convex_functions(shape: Shape, rng: np.random.Generator) -> None:
    """Subgradient descent on the largest of random linear functions: 60 problems, rates around the best one."""
    ratios = []
    for _ in range(60):
        planes = rng.normal(size=(40, 6))
        planes /= np.linalg.norm(planes, axis=1, keepdims=True)
        planes = np.concatenate([planes, -planes])  # symmetric: the minimum, 0, is at the origin; gradients have norm 1
        start = rng.normal(size=6)
        distance = float(np.linalg.norm(start))
        rates = steps(shape, int(rng.integers(2, 60)))
        rates = rates * best_scale(rates, distance=distance) * np.exp(rng.uniform(-1, 1))
        x = start
        for rate in rates[:-1]:  # the T-th iterate is where T - 1 steps lead
            x = x - rate * planes[np.argmax(planes @ x)]
        ratios.append(np.max(planes @ x) / bound(rates, distance=distance))
    assert max(ratios) <= 1
    assert max(ratios) > 0.1  # the bound is no empty promise: some descent comes within ten times of it


def test_linear_decay_in_closed_form() -> None:
    """Sums become integrals: the best peak is d / (G sqrt T) and the bound there 2 d G / sqrt T."""
    rates = steps(schedules.linear, 100_000)
    scale = best_scale(rates, distance=3, gradient_bound=2)
    assert scale == pytest.approx(3 / 2 / np.sqrt(100_000), rel=1e-3)  # terms in 1 / T and ln(T) / T
    assert bound(scale * rates, distance=3, gradient_bound=2) == pytest.approx(2 * 3 * 2 / np.sqrt(100_000), rel=1e-3)


def test_constant_rate_in_closed_form() -> None:
    """``d^2 / (2 g T) + g G^2 (1 + H_{T-1}) / 2``, with H the harmonic number."""
    harmonic = sum(1 / k for k in range(1, 200))
    assert bound(np.full(200, 0.3), distance=2) == pytest.approx(
        4 / (2 * 0.3 * 200) + 0.3 * (1 + harmonic) / 2, rel=1e-12
    )
    assert best_scale(np.ones(200), distance=2) == pytest.approx(2 / np.sqrt(200 * (1 + harmonic)), rel=1e-12)


@pytest.mark.parametrize("shape", [schedules.linear, schedules.cosine, WSD], ids=["linear", "cosine", "wsd"])
def test_best_scale_is_where_the_bound_is_least(shape: Shape) -> None:
    rates = steps(shape, 500)
    best = best_scale(rates)
    around = [bound(best * factor * rates) for factor in (0.99, 1.0, 1.01)]
    assert around[1] == min(around)


@pytest.mark.parametrize("shape", [schedules.linear, schedules.cosine, WSD], ids=["linear", "cosine", "wsd"])
def test_a_run_four_times_as_long_takes_half_the_peak(shape: Shape) -> None:
    """Section 18 of the sheet: at a fixed cooldown share the best rate goes as 1 / sqrt(T)."""
    assert peak_ratio(steps(shape, 5_000), steps(shape, 20_000)) == pytest.approx(0.5, rel=3e-3)  # ln(T) / T


def test_wsd_wants_about_half_the_peak_of_a_cosine() -> None:
    assert peak_ratio(steps(schedules.cosine, 5_000), steps(WSD, 5_000)) == pytest.approx(0.53, abs=0.01)


def test_distance_and_gradients_cancel_in_the_ratio() -> None:
    cosine, wsd = steps(schedules.cosine, 300), steps(WSD, 300)
    scales = [best_scale(rates, distance=7, gradient_bound=np.full(300, 0.3)) for rates in (cosine, wsd)]
    assert scales[1] / scales[0] == pytest.approx(peak_ratio(cosine, wsd), rel=1e-12)


@pytest.mark.parametrize("rates", [[], [1.0, 0.0], [1.0, np.nan], [[1.0]]], ids=["none", "zero", "nan", "two axes"])
def test_refuses_what_is_no_schedule(rates: list[float]) -> None:
    with pytest.raises(ValueError, match="rates must be a series of positive finite learning rates"):
        best_scale(rates)


def test_refuses_gradients_of_zero() -> None:
    with pytest.raises(ValueError, match="gradient_bound must be positive"):
        bound([1.0, 0.5], gradient_bound=0)
