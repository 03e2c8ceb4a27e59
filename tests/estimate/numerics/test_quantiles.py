"""Against scipy, which these stand in for."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special

from lawfit.estimate.numerics.quantiles import normal_cdf, normal_quantile, student_cdf, student_quantile


def test_normal() -> None:
    z = np.linspace(-8, 8, 33)
    assert normal_cdf(z) == pytest.approx(special.ndtr(z), rel=1e-12)
    for p in (1e-6, 0.05, 0.5, 0.9, 0.9995):
        assert normal_quantile(p) == pytest.approx(special.ndtri(p), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 5, 10, 31, 400, 5001])
def test_student(freedom: int) -> None:
    for t in (-30.0, -2.5, 0.0, 0.3, 1.0, 12.0):
        assert student_cdf(t, freedom) == pytest.approx(special.stdtr(freedom, t), abs=1e-13)
    for p in (0.001, 0.05, 0.5, 0.75, 0.95, 0.9995):
        assert student_quantile(p, freedom) == pytest.approx(special.stdtrit(freedom, p), rel=1e-8, abs=1e-12)
