from __future__ import annotations

import math

import numpy as np
import pytest

from lawfit.train.pack import RunSettings
from lawfit.train.schedules import SCHEDULES, multipliers


@pytest.mark.parametrize("name", SCHEDULES)
def test_warmup_rises_to_the_peak_and_nothing_exceeds_it(name: str) -> None:
    f = multipliers(name, 100, warmup_steps=9)
    np.testing.assert_allclose(f[:10], np.arange(1, 11) / 10)
    assert f.max() == 1.0
    assert (f > 0).all()
    assert (np.diff(f[9:]) <= 0).all()


def test_linear() -> None:
    np.testing.assert_allclose(multipliers("linear", 4), [1, 0.75, 0.5, 0.25])
    np.testing.assert_allclose(multipliers("linear", 4, floor=0.2), [1, 0.8, 0.6, 0.4])


def test_cosine() -> None:
    f = multipliers("cosine", 8, floor=0.1)
    np.testing.assert_allclose(f, [0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * i / 8)) for i in range(8)])


def test_wsd_cools_down_over_the_last_share_of_the_whole_run() -> None:
    f = multipliers("wsd", 100, warmup_steps=10, cooldown=0.2)
    assert (f[10:81] == 1).all()  # step 80 is where the fall begins
    np.testing.assert_allclose(f[80:], 1 - np.arange(20) / 20, atol=1e-12)


def test_constant() -> None:
    assert (multipliers("constant", 5) == 1).all()


def test_warmup_must_fit() -> None:
    with pytest.raises(ValueError, match="warmup of 5 steps does not fit into 5 steps"):
        multipliers("linear", 5, warmup_steps=5)


def test_rates_of_a_run() -> None:
    """To a fraction of the peak, or to a floor that is the same for any peak (settings.final_lr wins)."""
    run = RunSettings(lr=0.4, steps=8, schedule="cosine", final_fraction=0.5, warmup_steps=2)
    np.testing.assert_allclose(run.rates(), 0.4 * multipliers("cosine", 8, warmup_steps=2, floor=0.5))
    for lr in (0.4, 0.04):
        rates = RunSettings(lr=lr, steps=1000, schedule="cosine", final_lr=0.01, final_fraction=0.9).rates()
        assert rates[0] == lr
        assert rates[-1] == pytest.approx(0.01, rel=1e-3)  # one step before the floor
