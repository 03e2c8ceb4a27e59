"""The joint fit's own minimiser: derivatives and variances against finite differences and dense algebra."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lawfit.estimate.weight_decay import valley as timescale
from tests.estimate.weight_decay.test_timescale import simulate


def problem(rng: np.random.Generator) -> tuple[timescale._Points, np.ndarray]:
    runs = simulate(rng)
    runs = replace(runs, batch_tokens=runs.batch_tokens * np.where(runs.lr < 2e-3, 1.5, 1.0))  # else it never varies
    points = timescale._points(timescale.usable_slices(runs), 0.05)
    assert points.varies == (True, True)
    return points, np.full(len(points.scales), 0.002)


@pytest.mark.parametrize("skew", [-0.8, -1e-4, 0.0, 0.5])
def test_gradient_is_that_of_the_cost(skew: float, rng: np.random.Generator) -> None:
    """At skew 0 the formula is a difference of small numbers: the series must take over without a step."""
    points, noise = problem(rng)
    theta = timescale._start(points, 0.2)
    theta[-4:] = 0.1, 0.05, np.log(0.004), skew
    gradient = timescale._system(theta, points, noise).gradient
    for at in range(len(theta)):
        step = np.zeros(len(theta))
        step[at] = 1e-6
        ahead, behind = (timescale._system(theta + s * step, points, noise).cost for s in (1, -1))
        # central differences: cancellation in a cost of 1e3 leaves about 1e-4 of the gradient's size
        assert gradient[at] == pytest.approx((ahead - behind) / 2e-6, rel=1e-4, abs=1e-3 * np.abs(gradient).max())


def test_arrow_algebra_is_the_dense_one(rng: np.random.Generator) -> None:
    points, noise = problem(rng)
    system = timescale._system(timescale._start(points, 0.0), points, noise)
    count = len(points.scales)
    dense = np.zeros((count + 4, count + 4))
    dense[:count, :count] = np.diag(system.own)
    dense[:count, count:] = system.across
    dense[count:, :count] = system.across.T
    dense[count:, count:] = system.shared
    centres, shared = system.variances()
    np.testing.assert_allclose(np.concatenate([centres, shared]), np.diag(np.linalg.inv(dense)), rtol=1e-8)
    step, promised = system.step(0.0)
    np.testing.assert_allclose(step, -np.linalg.solve(dense, system.gradient), rtol=1e-7)
    assert promised == pytest.approx(-0.5 * float(system.gradient @ step))


def test_every_start_ends_in_one_minimum(rng: np.random.Generator) -> None:
    points, noise = problem(rng)
    found = [timescale._minimum(timescale._start(points, shift), points, noise) for shift in (0.0, -1.0, 1.0)]
    assert all(converged for _, _, converged in found)
    assert np.ptp([cost for _, cost, _ in found]) < 1e-6 * found[0][1]
    np.testing.assert_allclose(found[1][0], found[0][0], atol=1e-3)


def test_a_search_at_its_minimum_to_rounding_has_converged(rng: np.random.Generator) -> None:
    """No step gains any more there: the gradient says that it is the minimum, not that the search gave up."""
    points, noise = problem(rng)
    theta, cost, _ = timescale._minimum(timescale._start(points, 0.0), points, noise)

    class Blunt(timescale._System):
        def step(self, damping: float) -> tuple[np.ndarray, float]:
            step, promised = super().step(damping)
            return step, max(promised, 1.0) if damping else promised

    system = timescale._system(theta, points, noise)
    blunt = Blunt(**vars(system))
    assert blunt.step(1e-3)[1] == 1.0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timescale, "_system", lambda *_: blunt)
        assert timescale._minimum(theta, points, noise)[1:] == (cost, True)
        away = Blunt(**{**vars(blunt), "gradient": blunt.gradient + 1e3})
        patch.setattr(timescale, "_system", lambda *_: away)
        assert not timescale._minimum(theta, points, noise)[2]


def test_no_start_that_converged_is_no_crash(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    points, _ = problem(rng)
    settled = timescale._minimum

    def never(*args: object) -> tuple[np.ndarray, float, bool]:
        theta, cost, _ = settled(*args)  # type: ignore[arg-type]
        return theta, cost, False

    monkeypatch.setattr(timescale, "_minimum", never)
    search = timescale._fit_valley(points).search
    assert (search.agreeing, search.spread, search.converged) == (0, 0.0, False)


def test_a_slope_by_several_fits_is_as_unsure_as_each_and_as_they_differ() -> None:
    assert timescale._pooled([None, (1.0, 0.3), (2.0, 0.4)]) == pytest.approx((1.5, np.sqrt(0.125 + 0.5)))
    assert timescale._pooled([(1.0, 0.3)]) == pytest.approx((1.0, 0.3))
    assert timescale._pooled([None]) is None
