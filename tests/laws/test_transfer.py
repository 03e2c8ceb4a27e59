"""Properties of the exact rescaling rules; their golden numbers are in test_golden."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lawfit.laws import transfer

batch = st.floats(1e3, 1e8)
ratio = st.floats(0.1, 10)


@settings(deadline=None)
@given(beta2=st.floats(0.5, 0.9999), start=batch, first=ratio, second=ratio)
def test_rescaling_beta2_twice_is_once_by_the_product(beta2: float, start: float, first: float, second: float) -> None:
    middle = transfer.beta2_for_batch(beta2, start, start * first)
    twice = transfer.beta2_for_batch(middle, start * first, start * first * second)
    once = transfer.beta2_for_batch(beta2, start, start * first * second)
    assert float(twice) == pytest.approx(float(once), rel=1e-9)


@settings(deadline=None)
@given(beta2=st.floats(0.5, 0.9999), start=batch, factor=ratio)
def test_beta2_keeps_its_half_life_in_tokens(beta2: float, start: float, factor: float) -> None:
    before = transfer.beta2_half_life_tokens(beta2, start)
    after = transfer.beta2_half_life_tokens(transfer.beta2_for_batch(beta2, start, start * factor), start * factor)
    assert float(after) == pytest.approx(float(before), rel=1e-6)  # ln(beta2) loses digits near 1


@settings(deadline=None)
@given(lr=st.floats(1e-5, 1e-1), tokens=st.floats(1e9, 1e13), factor=ratio)
def test_horizon_there_and_back(lr: float, tokens: float, factor: float) -> None:
    there = transfer.horizon_lr(lr, tokens, tokens * factor)
    assert float(transfer.horizon_lr(there, tokens * factor, tokens)) == pytest.approx(lr, rel=1e-12)


def test_sqrt_rule_is_vectorised() -> None:
    np.testing.assert_allclose(transfer.batch_lr(1e-3, 1e5, np.array([1e5, 4e5, 16e5])), [1e-3, 2e-3, 4e-3])


BAD = {
    "zero batch": lambda: transfer.batch_lr(1e-3, 0, 1),
    "negative tokens": lambda: transfer.horizon_lr(1e-3, 1e9, -1e9),
    "beta2 of one": lambda: transfer.beta2_for_batch(1.0, 1, 2),
    "nan": lambda: transfer.ema_for_batch(0.9, float("nan")),
}


@pytest.mark.parametrize("call", BAD.values(), ids=BAD)
def test_refuses_what_is_no_quantity(call: object) -> None:
    with pytest.raises(ValueError, match="must"):
        call()  # type: ignore[operator]
