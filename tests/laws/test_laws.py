"""Contract of every formula in LAWS, and the formulas themselves."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lawfit.laws.power import AFFINE_LOG, INPUTS, LAWS, POWER_PRODUCT, Law

positive = st.floats(1e-3, 1e15)
exponent = st.floats(-2, 2)


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
class TestLawContract:
    def test_is_registered_under_its_name_and_says_its_formula(self, law: Law) -> None:
        assert LAWS[law.name] is law
        assert law.formula

    def test_vectorised_equals_scalar(self, law: Law, rng: np.random.Generator) -> None:
        params, tokens = np.exp(rng.uniform(10, 25, size=(2, 7)))
        exponents = {"params": 0.1, "tokens": 0.2}
        together = law(2.0, exponents, {"params": params, "tokens": tokens})
        each = [law(2.0, exponents, {"params": n, "tokens": d}) for n, d in zip(params, tokens, strict=True)]
        np.testing.assert_allclose(together, each, rtol=1e-14)  # the same floating-point operations

    def test_broadcasts(self, law: Law) -> None:
        out = law(1.0, {"params": 0.1, "tokens": 0.2}, {"params": np.ones((3, 1)), "tokens": np.ones(4)})
        assert out.shape == (3, 4)

    @pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
    def test_refuses_what_is_no_quantity(self, law: Law, bad: float) -> None:
        with pytest.raises(ValueError, match="params must be positive"):
            law(1.0, {"params": 1.0}, {"params": [1.0, bad]})

    def test_names_a_missing_input(self, law: Law) -> None:
        with pytest.raises(ValueError, match="needs tokens"):
            law(1.0, {"tokens": 1.0}, {"params": 1.0})

    def test_refuses_an_unknown_input(self, law: Law) -> None:
        with pytest.raises(ValueError, match="moon_phase"):
            law(1.0, {"moon_phase": 1.0}, {"moon_phase": 1.0})


@settings(deadline=None)
@given(const=positive, e=exponent, f=exponent, n=positive, d=positive, factor=st.floats(0.1, 10))
def test_power_product_is_homogeneous(const: float, e: float, f: float, n: float, d: float, factor: float) -> None:
    """Scaling one input scales the answer by that factor to its exponent, whatever the rest."""
    law = {"params": e, "tokens": f}
    before = POWER_PRODUCT(const, law, {"params": n, "tokens": d})
    after = POWER_PRODUCT(const, law, {"params": n * factor, "tokens": d})
    assert float(after) == pytest.approx(float(before) * factor**e, rel=1e-11)  # logs up to 70 in double precision


@settings(deadline=None)
@given(const=st.floats(-1, 1), slope=st.floats(-1, 1), n=positive)
def test_affine_log_is_linear_in_natural_log(const: float, slope: float, n: float) -> None:
    said = float(AFFINE_LOG(const, {"params": slope}, {"params": n * math.e}))
    assert said - float(AFFINE_LOG(const, {"params": slope}, {"params": n})) == pytest.approx(slope, abs=1e-13)


def test_products_beyond_int64_stay_finite() -> None:
    """params * tokens of a large run overflows 64-bit integers."""
    said = POWER_PRODUCT(1.0, {"params": 1.0, "tokens": 1.0}, {"params": 10**12, "tokens": 10**14})
    assert float(said) == pytest.approx(1e26)


def test_inputs_are_explained() -> None:
    assert all(INPUTS.values())
