"""The refinement of a schedule: the published algorithm written out, and the bound that it minimises."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from lawfit.laws.last_iterate import best_scale, bound
from lawfit.laws.refinement import MOST_POINTS, median_filtered, refined, refined_run
from lawfit.laws.schedules import cosine, linear, rex


def algorithm_1(norms: list[float], power: float) -> list[float]:
    """arXiv 2310.07831, Algorithm 1, line by line: weights, the sum of those after each step, and the largest is 1."""
    steps = range(len(norms))
    weights = [norm**-power for norm in norms]
    rates = [weights[t] * sum(weights[p] for p in range(t + 1, len(norms))) for t in steps]
    return [rate / max(rates) for rate in rates]


def test_gradients_that_do_not_change_give_linear_decay() -> None:
    np.testing.assert_allclose(refined(np.full(5, 3.0), adaptive=False), [1, 0.75, 0.5, 0.25, 0])


@pytest.mark.parametrize(("adaptive", "power"), [(False, 2.0), (True, 1.0)], ids=["2-norms", "1-norms"])
def test_agrees_with_the_algorithm_as_it_is_published(adaptive: bool, power: float, rng: np.random.Generator) -> None:
    for scale in (1e-6, 1.0, 1e4):  # units of the gradients do not matter
        norms = scale * np.exp(rng.normal(size=200))
        np.testing.assert_allclose(refined(norms, adaptive=adaptive), algorithm_1(norms.tolist(), power), atol=1e-12)


def test_gradients_that_shrink_at_the_start_ask_for_a_warmup_and_growing_ones_for_an_earlier_fall() -> None:
    x = np.linspace(0, 1, 1000)
    start, end = 1 + 4 * np.exp(-x / 0.02), 1 + 2 * np.clip((x - 0.8) / 0.2, 0, 1)
    warm = refined(start, adaptive=False)
    assert 0.03 < np.argmax(warm) / 1000 < 0.15
    assert warm[0] < 0.1
    assert (refined(end, adaptive=False)[800:-1] < linear(x[800:-1])).all()


@pytest.mark.parametrize("shape", [linear, cosine, rex], ids=["linear", "cosine", "rex"])
def test_no_usual_schedule_has_a_lower_bound_for_these_gradients(shape, rng: np.random.Generator) -> None:  # type: ignore[no-untyped-def]
    """Theorem 1 of the source: each at its own best peak."""
    steps = 400
    x = np.arange(steps) / steps
    for norms in (0.5 + 3 * np.exp(-x / 0.05), 1 + x, np.exp(0.3 * rng.normal(size=steps))):
        ours, other = refined(norms, adaptive=False)[:-1], shape(x)
        sizes = norms[:-1]
        least = bound(best_scale(ours, gradient_bound=sizes) * ours, gradient_bound=sizes)
        assert least < bound(best_scale(other, gradient_bound=norms) * other, gradient_bound=norms)


def test_the_median_is_scipys_with_the_start_held_and_the_end_mirrored(rng: np.random.Generator) -> None:
    series = rng.normal(size=101)
    for width in (1, 4, 5, 21):
        odd = 2 * (width // 2) + 1
        found = median_filtered(series, width)
        near, mirrored = (ndimage.median_filter(series, odd, mode=mode) for mode in ("nearest", "reflect"))
        np.testing.assert_array_equal(found[:50], near[:50])
        np.testing.assert_array_equal(found[50:], mirrored[50:])
    assert median_filtered(series, 10**6).shape == series.shape


class TestRun:
    def test_a_log_of_every_step_is_the_algorithm_itself(self, rng: np.random.Generator) -> None:
        norms = np.exp(rng.normal(size=300))
        found = refined_run(np.arange(1, 301), norms, adaptive=False, smoothing=0)
        np.testing.assert_allclose(found, algorithm_1(norms.tolist(), 2.0), atol=1e-9)

    def test_a_log_of_some_steps_is_that_of_all_of_them(self) -> None:
        """Norms that are powers between two lines lose nothing; one step a line or twenty is the same schedule."""
        steps = np.arange(1, 2001)
        norms = np.exp(-steps / 700)
        whole = refined_run(steps, norms, adaptive=False, smoothing=0)
        some = refined_run(steps[19::20], norms[19::20], adaptive=False, smoothing=0)
        np.testing.assert_allclose(some[20:], whole[20:], rtol=1e-6)

    def test_a_wild_step_gets_no_rate_of_its_own(self, rng: np.random.Generator) -> None:
        steps = np.arange(10, 10_001, 10)
        norms = np.ones(1000)
        norms[rng.integers(0, 1000, 20)] = 1e-3
        smooth = refined_run(steps, norms, adaptive=False, smoothing=0.05)
        np.testing.assert_allclose(smooth, 1 - np.arange(1, 10_001) / 10_000, atol=2e-3)
        assert refined_run(steps, norms, adaptive=False, smoothing=0).mean() < 0.1

    def test_a_long_log_is_thinned_to_medians(self, rng: np.random.Generator) -> None:
        steps = np.arange(1, 20 * MOST_POINTS + 1)
        norms = (1 + np.exp(-steps / 4000)) * np.exp(0.2 * rng.normal(size=steps.size))
        found = refined_run(steps, norms, adaptive=False)
        expected = refined(1 + np.exp(-steps / 4000), adaptive=False)
        assert found.shape == steps.shape
        np.testing.assert_allclose(found, expected, atol=0.05)

    @pytest.mark.parametrize(
        ("steps", "norms", "smoothing", "words"),
        [
            ([1], [1.0], 0.0, "2 or more"),
            ([1, 2], [1.0, 0.0], 0.0, "must all be positive"),
            ([1, 2], [1.0, np.nan], 0.0, "must all be positive"),
            ([2, 1], [1.0, 1.0], 0.0, "must ascend"),
            ([0, 1], [1.0, 1.0], 0.0, "from 1 or later"),
            ([1, 2], [1.0, 1.0], 1.5, "share of the run"),
        ],
        ids=["one", "zero", "nan", "not ascending", "step 0", "smoothing"],
    )
    def test_refuses(self, steps: list[int], norms: list[float], smoothing: float, words: str) -> None:
        with pytest.raises(ValueError, match=words):
            refined_run(steps, norms, adaptive=False, smoothing=smoothing)
