"""Fit of the annealing law: a known law comes back, steps one by one as the source writes them, real curves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lawfit.errors import NotEnoughData
from lawfit.estimate.schedules.annealing import fit_annealing
from lawfit.findings import finding
from lawfit.laws.annealing import AnnealingLaw, annealed_area
from lawfit.laws.multi_power import Course
from tests.estimate.schedules.test_multi_power import CONSTANT, COSINE, LEARNED, TWO_STAGES, WSD, X, read_curves

LAW = AnnealingLaw(L0=2.5, A=0.65, alpha=0.42, C=0.6, memory_steps=700.0)


def test_the_area_is_the_recursion_of_the_source() -> None:
    """``m_i = lambda m_{i-1} + (eta_{i-1} - eta_i)``, summed; logged at every step, with a memory of many steps."""
    steps = np.arange(1.0, 4001.0)
    lr = 3e-4 * (0.55 + 0.45 * np.cos(np.pi * steps / 4000))
    decay = 1 - 1 / 500
    momentum, area = 0.0, [0.0]
    for fall in lr[:-1] - lr[1:]:
        momentum = decay * momentum + fall
        area.append(area[-1] + momentum)
    found = annealed_area(Course.of(steps, lr, warmup_steps=0), np.array([500.0]))[0]
    np.testing.assert_allclose(found[200:], area[200:], rtol=1e-2)  # half a step early, lambda against e^(-1/500)
    assert found[-1] == pytest.approx(area[-1], rel=2e-3)


def test_a_known_law_comes_back_and_tells_another_schedule() -> None:
    courses = [COSINE, CONSTANT, TWO_STAGES]
    found = fit_annealing(courses, [LAW.loss(c) for c in courses])
    assert found.at_bound == ()
    assert found.starts_agree
    for name, value in vars(LAW).items():
        assert getattr(found.law, name) == pytest.approx(value, rel=1e-3)
    np.testing.assert_allclose(found.law.loss(WSD), LAW.loss(WSD), rtol=1e-6)


def test_noise_of_a_logged_loss_is_no_trouble(rng: np.random.Generator) -> None:
    courses = [COSINE, CONSTANT, TWO_STAGES]
    found = fit_annealing(courses, [LAW.loss(c) * np.exp(2e-3 * rng.normal(size=X.size)) for c in courses])
    np.testing.assert_allclose(found.law.loss(WSD), LAW.loss(WSD), rtol=3e-3)


def test_a_constant_rate_shows_no_annealing() -> None:
    with pytest.raises(NotEnoughData) as caught:
        fit_annealing([CONSTANT, CONSTANT], [LAW.loss(CONSTANT)] * 2)
    assert caught.value.finding == finding("schedules.nothing_falls")


def test_three_schedules_tell_six_others(shared_data: Path) -> None:
    """As the Multi-Power Law does, with two numbers less."""
    runs = read_curves(shared_data, "100M")
    found = fit_annealing(*zip(*(runs[name] for name in LEARNED), strict=True))
    errors = [np.mean(np.abs(found.law.loss(c) / y - 1)) for name, (c, y) in runs.items() if name not in LEARNED]
    assert np.mean(errors) < 0.003
