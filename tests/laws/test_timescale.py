"""The AdamW timescale in both conventions of weight decay."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lawfit.laws.timescale import DecayConvention, TimescaleLaw, convert_weight_decay, timescale, weight_decay_of

COUPLED, INDEPENDENT = DecayConvention.COUPLED, DecayConvention.INDEPENDENT
POWER_LINES = TimescaleLaw(const=1.084, exponent=-0.527)


def test_g7_weight_decay_of_power_lines() -> None:
    decay = POWER_LINES.weight_decay(5e8, 1e10, 983040, 1.5e-3)
    assert float(decay) == pytest.approx(0.2931524014, rel=1e-9)
    assert float(timescale(983040, 1.5e-3, decay, 1e10)) == pytest.approx(0.2235560742, rel=1e-9)


@settings(deadline=None)
@given(
    tau=st.floats(1e-3, 10),
    batch=st.floats(1e3, 1e8),
    lr=st.floats(1e-6, 1e-1),
    tokens=st.floats(1e7, 1e14),
    convention=st.sampled_from(list(DecayConvention)),
)
def test_weight_decay_back_substitutes(
    tau: float, batch: float, lr: float, tokens: float, convention: DecayConvention
) -> None:
    decay = weight_decay_of(tau, batch, lr, tokens, convention)
    assert float(timescale(batch, lr, decay, tokens, convention)) == pytest.approx(tau, rel=1e-12)


@settings(deadline=None)
@given(decay=st.floats(1e-6, 1), lr=st.floats(1e-6, 1e-1))
def test_conventions_shrink_alike(decay: float, lr: float) -> None:
    """The same tau by either formula after conversion, and back to where it was."""
    independent = convert_weight_decay(decay, lr, COUPLED, INDEPENDENT)
    assert float(independent) == pytest.approx(lr * decay, rel=1e-15)
    both = [timescale(5e5, lr, decay, 1e10), timescale(5e5, lr, independent, 1e10, INDEPENDENT)]
    assert float(both[0]) == pytest.approx(float(both[1]), rel=1e-14)
    assert float(convert_weight_decay(independent, lr, INDEPENDENT, COUPLED)) == pytest.approx(decay, rel=1e-14)


def test_conversion_is_what_an_optimizer_does() -> None:
    """Shrinking a weight step by step with zero gradient, under a schedule: both conventions leave the same weight."""
    lr, decay = 3e-3, 0.1
    schedule = np.linspace(1, 0, 500)
    coupled = np.prod(1 - lr * schedule * decay)
    independent = np.prod(1 - float(convert_weight_decay(decay, lr, COUPLED, INDEPENDENT)) * schedule)
    assert coupled == pytest.approx(independent, rel=1e-13)


def test_independent_timescale_does_not_see_the_learning_rate() -> None:
    assert timescale(5e5, 1e-3, 1e-4, 1e10, INDEPENDENT) == timescale(5e5, 1e-2, 1e-4, 1e10, INDEPENDENT)


def test_no_weight_decay_is_an_endless_memory() -> None:
    assert np.isinf(timescale(5e5, 1e-3, 0.0, 1e10))


def test_negative_weight_decay_is_refused() -> None:
    with pytest.raises(ValueError, match="zero or positive"):
        timescale(5e5, 1e-3, -0.1, 1e10)


def test_law_survives_json() -> None:
    assert TimescaleLaw.from_json(json.loads(json.dumps(POWER_LINES.to_json()))) == POWER_LINES
