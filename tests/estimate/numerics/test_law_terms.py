"""The terms of a law: what a bend at few tokens per parameter leaves alone, and where it sets in."""

from __future__ import annotations

import numpy as np
import pytest

from lawfit.estimate.numerics.law_terms import FEW_TOKENS_PER_PARAM, LAW_TERMS, TERMS, few_tokens, law_design


def test_a_scale_at_the_centre_has_the_constant_alone_but_for_its_tokens_per_parameter() -> None:
    x = law_design(np.array([1e8]), np.array([5e9]), (float(np.log(1e8)), float(np.log(5e9))))
    assert x.shape == (1, TERMS) == (1, len(LAW_TERMS))
    np.testing.assert_allclose(x[0, :4], [1, 0, 0, 0], atol=1e-12)
    assert x[0, 4] == pytest.approx(0.02, abs=0.02)  # 50 tokens per parameter: rounded off, next to nothing


def test_the_bend_rises_by_one_per_nat_below_and_vanishes_above() -> None:
    ratio = FEW_TOKENS_PER_PARAM
    low = few_tokens(np.log([ratio / 100, ratio / 50]))
    assert low[0] - low[1] == pytest.approx(np.log(2), rel=0.01)
    assert float(few_tokens(np.array(np.log(30 * ratio)))) < 1e-3
    middle = few_tokens(np.log(ratio * np.geomspace(0.1, 10, 50)))
    assert np.all(np.diff(middle) < 0)
    assert np.all(middle > 0)
