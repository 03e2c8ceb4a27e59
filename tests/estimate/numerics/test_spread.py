"""How far sizes lie off their law: found where they do, not silenced by few sizes, and what few sizes cannot tell."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from lawfit.estimate.lr_batch.borrowed import law_prior
from lawfit.estimate.lr_batch.surface import SurfaceFit, fit_surface, under_other_priors
from lawfit.estimate.numerics.shapes import SHAPES
from lawfit.estimate.numerics.snapping import one_family
from lawfit.estimate.numerics.spread import ANY_SHAPE, DRAWS, ONE_FAMILY, Spread, Variances
from lawfit.estimate.observe.observations import Observations, observe
from lawfit.simulate import Truth
from tests.estimate.simulated import sweep

SIX = tuple((size, size * ratio) for size in (2e7, 4e7, 8e7, 1.6e8, 3.2e8, 6.4e8) for ratio in (20, 60))


@cache
def fitted(size_sd: float, sizes: int = 6, seed: int = 3) -> SurfaceFit:
    truth = Truth(noise=3e-4, size_scatter_lr=size_sd, size_scatter_batch=size_sd, scatter_lr=0.02, scatter_batch=0.02)
    observed = observe(sweep(SIX[: 2 * sizes], truth=truth, seed=seed).runs)
    centre = float(np.log(observed.params).mean()), float(np.log(observed.tokens).mean())
    return fit_surface(observed, SHAPES["cubic"], 0.02, law_prior("own", centre))


def test_sizes_off_their_law_are_told_from_scales_off_their_size() -> None:
    apart = [fitted(0.3, seed=seed) for seed in (3, 4, 5)]
    together = [fitted(0.0, seed=seed) for seed in (3, 4, 5)]
    found = np.sqrt(np.mean([fit.size_var for fit in apart], axis=0))
    np.testing.assert_allclose(found, 0.3, rtol=0.5)  # six sizes, two of them spent on level and exponent, three times
    assert np.all(np.sqrt(np.mean([fit.size_var for fit in together], axis=0)) < 0.12)
    assert np.all(np.sqrt(np.mean([fit.scatter_var for fit in apart], axis=0)) < 0.1)


def test_few_sizes_do_not_silence_the_spread() -> None:
    """Two sizes say nothing of how far sizes lie off a law of two coefficients: the prior is left as it was."""
    two, six = fitted(0.0, sizes=2), fitted(0.0, sizes=6)
    assert np.all(
        np.sqrt(two.size_var) > np.array(ANY_SHAPE.median)
    )  # the mean square of the prior lies above its median
    assert np.all(np.sqrt(six.size_var) < 0.75 * np.sqrt(two.size_var))


def shaped(depths: tuple[int, ...]) -> Observations:
    """Six sizes whose runs state width and depth."""
    runs = sweep(SIX, truth=Truth(noise=3e-4), seed=3).runs
    sizes = sorted({run.params for run in runs})
    extra = {n: {"width": str(round((n / d) ** 0.5)), "layers": str(d)} for n, d in zip(sizes, depths, strict=True)}
    return observe([replace(run, extra={**run.extra, **extra[run.params]}) for run in runs])


def test_sizes_of_one_family_are_expected_nearer_to_their_law() -> None:
    family, mixed, unsaid = shaped((8,) * 6), shaped((4, 16, 6, 24, 8, 12)), observe(sweep(SIX, seed=3).runs)
    assert [o.one_family for o in (family, mixed, unsaid)] == [True, False, False]
    centre = float(np.log(family.params).mean()), float(np.log(family.tokens).mean())
    prior = law_prior("own", centre)
    near, far = (fit_surface(o, SHAPES["cubic"], 0.02, prior) for o in (family, mixed))
    assert np.all(near.size_var < far.size_var)
    assert ONE_FAMILY.median < ANY_SHAPE.median


def test_a_second_shape_of_a_count_ends_a_family_whatever_the_order_of_the_runs() -> None:
    runs = sweep(SIX, seed=3).runs
    extra = {run.params: {"width": str(round((run.params / 8) ** 0.5)), "layers": "8"} for run in runs}
    flat = [replace(run, extra=extra[run.params]) for run in runs]
    deep = [
        replace(run, run_key=f"d{run.run_key}", extra={"width": "1118", "layers": "16"})
        for run in runs
        if run.params == SIX[0][0]
    ]
    assert one_family(flat)
    assert one_family([*flat, *(replace(run, run_key=f"u{run.run_key}", extra={}) for run in runs)])  # some unsaid
    assert not one_family([*flat, *deep])
    assert not one_family([*deep, *flat])
    assert not one_family([replace(run, extra={**run.extra, "heads": "0"}) for run in flat])  # no dimension


def test_two_shapes_of_one_count_are_two_sizes() -> None:
    runs = sweep(SIX[:2], seed=3).runs
    deep = [replace(run, run_key=f"d{run.run_key}", extra={"layers": "24", "width": "264"}) for run in runs]
    flat = [replace(run, extra={"layers": "6", "width": "528"}) for run in runs]
    both = observe([*flat, *deep])
    assert both.n_cells == 4
    assert both.size_of_cell().tolist() == [0, 0, 1, 1]
    np.testing.assert_allclose(both.params, both.params[0], rtol=1e-8)
    assert both.seed_squares.sum() == 0  # they are no seeds of each other
    unsaid = [replace(run, run_key=f"u{run.run_key}") for run in runs]
    assert observe([*flat, *unsaid]).n_cells == 2  # of the only shape there is


def test_an_exponent_of_params_is_as_unsure_as_few_sizes_make_it() -> None:
    wide, narrow = fitted(0.3), fitted(0.0)
    assert np.sqrt(wide.cov[1, 1]) > 2 * np.sqrt(narrow.cov[1, 1])
    assert np.sqrt(wide.cov[2, 2]) < 2 * np.sqrt(narrow.cov[2, 2])  # horizons of one size share its shift


def test_wider_priors_leave_wider_spreads() -> None:
    truth = Truth(noise=3e-4)
    observed = observe(sweep(SIX[:6], truth=truth, seed=3).runs)
    centre = float(np.log(observed.params).mean()), float(np.log(observed.tokens).mean())
    prior = law_prior("own", centre)
    fit = fit_surface(observed, SHAPES["cubic"], 0.02, prior)
    found = under_other_priors(observed, SHAPES["cubic"], 0.02, prior, fit)
    spreads = np.array([each.size_var for each in found])
    assert np.all(np.diff(spreads, axis=0) > 0)
    assert found[1].size_var == pytest.approx(fit.size_var, rel=0.05)  # the prior that the fit itself has


def test_freedom_follows_from_how_unequal_the_draws_are() -> None:
    def spread(size_vars: np.ndarray) -> Spread:
        draws = tuple(Variances(scatter=np.zeros(2), size=np.full(2, var)) for var in size_vars)
        return Spread(draws=draws)

    rng = np.random.default_rng(0)
    for freedom in (6.0, 12.0):
        # variances of a normal that is Student's t with so many degrees of freedom
        found = spread(1 / rng.gamma(freedom / 2, size=200_000)).freedom()
        assert found == pytest.approx(freedom, rel=0.1)
    assert spread(np.ones(DRAWS)).freedom() > 30
