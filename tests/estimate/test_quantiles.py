"""Against scipy, which these stand in for."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special

from lawfit.estimate.quantiles import averaged_ends, normal_cdf, normal_quantile, student_cdf, student_quantile


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


SHARES = (np.arange(1000) + 0.5) / 1000


@pytest.mark.parametrize(
    ("weights", "upper"),
    # a standard normal moved by -1/2 or 1/2, with equal chances; by 3/4 with one in four, else by -1/4
    [pytest.param((0.5, 0.5), 1.8387512, id="alike"), pytest.param((0.75, 0.25), 1.8199676, id="one counts more")],
)
def test_members_two_apart_move_their_average_by_half_of_that(weights: tuple[float, float], upper: float) -> None:
    normal = special.ndtri(SHARES)
    middle = 2 * weights[1]
    low, high = averaged_ends([normal, normal + 2], [0.0, 2.0], weights, 0.05, 0.5)
    assert high - middle == pytest.approx(upper, abs=5e-3)  # a thousand shares
    if weights[0] == weights[1]:
        assert middle - low == pytest.approx(upper, abs=5e-3)


def test_spreads_of_members_are_averaged() -> None:
    """Not mixed: of spreads 1 and 3 the wide one would say 3.9 at 95 %, and their average is 2."""
    normal = special.ndtri(SHARES)
    ends = averaged_ends([normal, 3 * normal], [0.0, 0.0], [0.5, 0.5], 0.05, 0.5)
    assert ends == pytest.approx((-2 * 1.6449, 2 * 1.6449), abs=4e-3)


def test_what_is_open_in_one_member_has_no_end_in_the_average() -> None:
    normal = special.ndtri(SHARES)
    low, high = averaged_ends([normal, np.where(SHARES > 0.9, np.inf, normal)], [0.0, 0.0], [0.9, 0.1], 0.05, 0.5)
    assert low == pytest.approx(-1.6449, abs=2e-3)
    assert not np.isfinite(high)
    assert np.isnan(
        averaged_ends([normal, np.full(1000, -np.inf), np.full(1000, np.inf)], [0, 0, 0], [1 / 3] * 3, 0.05, 0.5)
    ).all()
