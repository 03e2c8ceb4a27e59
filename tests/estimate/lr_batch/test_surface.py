"""The joint surface: known truths, an independent optimiser on the same objective, cells left out, changes of units."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from scipy.optimize import least_squares

from lawfit.errors import FitError
from lawfit.estimate.lr_batch.analysis import fit_valley
from lawfit.estimate.lr_batch.backtest import observed_surfaces_of
from lawfit.estimate.lr_batch.borrowed import PRIOR_FORMS, law_prior
from lawfit.estimate.lr_batch.ensemble import fit_ensemble
from lawfit.estimate.lr_batch.surface import STEEPNESS_SD, SurfaceFit, fit_surface, search_again
from lawfit.estimate.numerics.elimination import LawPrior
from lawfit.estimate.numerics.law_terms import N_LAW, TERMS, law_design
from lawfit.estimate.numerics.shapes import SHAPES, Shape
from lawfit.estimate.observe.observations import Observations, observe
from lawfit.findings import finding
from lawfit.records import Run, RunStatus
from lawfit.simulate import Truth
from tests.estimate.simulated import NINE, nine_scales, sweep

WINDOW = 0.02
CUBIC = SHAPES["cubic"]
LEVELS, EXPONENTS = [0, TERMS], [1, 2, TERMS + 1, TERMS + 2]


def centre_of(observed: Observations) -> tuple[float, float]:
    return float(np.log(observed.params).mean()), float(np.log(observed.tokens).mean())


def own_prior(observed: Observations) -> LawPrior:
    """The widest form: what the runs say should decide."""
    return law_prior("own", centre_of(observed))


def each_cell(observed: Observations) -> list[np.ndarray]:
    return [np.array([c]) for c in range(observed.n_cells)]


@cache
def cubic_fit() -> SurfaceFit:
    observed = nine_scales()
    return fit_surface(observed, CUBIC, WINDOW, own_prior(observed), groups=each_cell(observed))


def in_the_family(shape: Shape, law: np.ndarray, q: np.ndarray) -> Observations:
    """Noise-free observations of exactly the fitted form, on the places of `nine_scales`."""
    observed = nine_scales()
    x = law_design(observed.params, observed.tokens, centre_of(observed))
    u = observed.log_lr - (x @ law[:TERMS])[observed.cell]
    v = observed.log_batch - (x @ law[TERMS:])[observed.cell]
    return replace(observed, log_loss=1.0 - 0.1 * observed.cell + shape(u, v, q)[0])


class TestKnownTruth:
    @pytest.mark.parametrize("name", ["quadratic", "cubic", "exponentials"])
    def test_of_the_fitted_form(self, name: str) -> None:
        shape = SHAPES[name]
        law = np.array([-5.5, -0.6, 0.2, 0.0, 0.0, 12.4, -0.1, 0.55, 0.0, 0.0])
        observed = in_the_family(shape, law, shape.prior_mean)
        fit = fit_surface(observed, shape, 0.05, own_prior(observed))
        # noise-free, but the noise has a prior of 1e-3 and exponents one of their own: a hundredth of the grid's step
        np.testing.assert_allclose(fit.law[EXPONENTS], law[EXPONENTS], atol=0.01)
        np.testing.assert_allclose(fit.law[LEVELS], law[LEVELS], atol=0.02)
        assert fit.noise < 1e-3

    @pytest.mark.parametrize("name", ["cubic", "exponentials"])
    def test_of_valleys_that_differ_from_scale_to_scale(self, name: str, rng: np.random.Generator) -> None:
        """Each scale keeps its own optimum, and how far valleys differ is found."""
        shape = SHAPES[name]
        observed = nine_scales()
        law = np.array([-5.5, -0.6, 0.2, 0.0, 0.0, 12.4, -0.1, 0.55, 0.0, 0.0])
        x = law_design(observed.params, observed.tokens, centre_of(observed))
        at = np.column_stack([x @ law[:TERMS], x @ law[TERMS:]])
        own = shape.prior_mean + 0.3 * shape.apart_sd * rng.standard_normal((observed.n_cells, len(shape.prior_mean)))
        u, v = (np.column_stack([observed.log_lr, observed.log_batch]) - at[observed.cell]).T
        noise = 2e-4 * rng.standard_normal(len(u))
        losses = 1.0 - 0.1 * observed.cell + shape(u, v, own[observed.cell].T)[0] + noise
        differing = replace(observed, log_loss=losses)
        fit = fit_surface(differing, shape, 0.05, own_prior(observed))
        assert 0.15 < np.sqrt(fit.valley_var) < 0.6
        off = fit.optima(differing) - at
        assert np.sqrt((off**2).mean()) < 0.06
        alike = fit_surface(in_the_family(shape, law, shape.prior_mean), shape, 0.05, own_prior(observed))
        assert np.sqrt(alike.valley_var) < 0.06

    def test_of_another_form(self) -> None:
        """Saturating ridge and exponential sides, as simulated: no fitted shape is that."""
        truth = Truth(noise=1e-6)
        observed = observe(sweep(truth=truth, lr_steps=9, batch_steps=9).runs)
        fit = fit_surface(observed, SHAPES["exponentials"], WINDOW, own_prior(observed))
        found = fit.optimum(observed.params, observed.tokens)
        true = np.log([truth.optimum(n, d) for n, d in NINE]).T
        # half a grid step is ln(2) / 4 = .17; the form costs about a third of that
        np.testing.assert_allclose(found[0], true[0], atol=0.06)
        np.testing.assert_allclose(found[1], true[1], atol=0.1)

    def test_scatter_of_the_scales_is_found(self) -> None:
        quiet = observe(sweep(truth=Truth(noise=2e-4), seed=4).runs)
        loud = observe(sweep(truth=Truth(noise=2e-4, scatter_lr=0.3, scatter_batch=0.3), seed=4).runs)
        of_quiet, of_loud = (fit_surface(o, CUBIC, WINDOW, own_prior(o)).scatter_var for o in (quiet, loud))
        assert np.all(of_loud > 4 * of_quiet)


def objective_residuals(
    observed: Observations, fit: SurfaceFit, prior: LawPrior, shape: Shape, vector: np.ndarray
) -> np.ndarray:
    """The objective of the module's docstring as a plain least-squares problem, written from that text alone."""
    cells, sizes = observed.n_cells, len(np.unique(observed.params))
    k = len(shape.prior_mean)
    law, q, steepness, of_size, scatter, own, floor = np.split(
        vector, np.cumsum([N_LAW, k, 1, 2 * sizes, 2 * cells, k * cells])
    )
    of_size, scatter, own = of_size.reshape(sizes, 2), scatter.reshape(cells, 2), own.reshape(cells, k)
    n, d = np.log(observed.params) - prior.centre[0], np.log(observed.tokens) - prior.centre[1]
    few = 0.5 * np.log1p(np.exp((np.log(10) - np.log(observed.tokens / observed.params)) / 0.5))
    terms = np.array([np.ones(cells), n, d, ((n + d) / 2) ** 2, few])
    size = np.searchsorted(np.unique(observed.params), observed.params)
    a = law[:TERMS] @ terms + of_size[size, 0] + scatter[:, 0]
    b = law[TERMS:] @ terms + of_size[size, 1] + scatter[:, 1]
    rows = observed.log_loss <= observed.lowest_log_loss()[observed.cell] + WINDOW
    c = observed.cell[rows]
    u, v = observed.log_lr[rows] - a[c], observed.log_batch[rows] - b[c]
    h = shape(u, v, (q + own[c]).T)[0] * np.exp(steepness * d[c])
    r = observed.log_loss[rows] - floor[c] - h
    huber = 2 * (
        np.sqrt(1 + (r / fit.noise_of_cells[c]) ** 2) - 1
    )  # Charbonnier's pseudo-Huber with its knee at one sd
    return np.concatenate(
        [
            np.sign(r) * np.sqrt(observed.seeds[rows] * huber),
            np.linalg.cholesky(prior.precision).T @ (law - prior.mean),
            (q - shape.prior_mean) / shape.prior_sd,
            steepness / STEEPNESS_SD,
            (of_size / np.sqrt(fit.size_var)).ravel(),
            (scatter / np.sqrt(fit.scatter_var)).ravel(),
            (own / (np.sqrt(fit.valley_var) * shape.apart_sd)).ravel(),
        ]
    )


@pytest.mark.parametrize("name", ["cubic", "exponentials"])
def test_agrees_with_another_optimiser(name: str, rng: np.random.Generator) -> None:
    shape, observed = SHAPES[name], nine_scales()
    prior = own_prior(observed)
    fit = fit_surface(observed, shape, WINDOW, prior)
    own = search_again(observed, shape, WINDOW, prior, fit, ())[0]
    sd = np.sqrt(np.diag(fit.cov))
    start = fit.mode + 0.5 * sd * rng.standard_normal(len(sd))
    places = np.full(2 * (3 + observed.n_cells), 0.05)
    valleys = np.tile(np.sqrt(fit.valley_var) * shape.apart_sd, observed.n_cells)
    deviations = np.concatenate([places, valleys])
    found = least_squares(
        lambda vector: objective_residuals(observed, fit, prior, shape, vector),
        np.concatenate([start, np.zeros(len(deviations)), fit.floor]),
        x_scale=np.concatenate([sd, deviations, np.full(observed.n_cells, 1e-3)]),
        xtol=1e-12,
        ftol=1e-12,
    )
    assert own.objective <= 2 * found.cost + 1e-3  # in squared standard errors; the iteration stops at a gain of 1e-4
    off = np.abs(own.law - found.x[:N_LAW]) / sd[:N_LAW]
    assert off.max() < 0.05  # of a standard error


def test_one_step_without_a_cell_is_close_to_a_refit() -> None:
    observed, fit = nine_scales(), cubic_fit()
    of_step, of_full = [], []
    for cell in range(observed.n_cells):
        rest = np.delete(np.arange(observed.n_cells), cell)
        refit = fit_surface(observed.subset(rest), CUBIC, WINDOW, own_prior(observed), start=fit)
        where = observed.params[[cell]], observed.tokens[[cell]]
        size = observed.size_of_cell()[cell]
        without = np.ravel(refit.optimum(*where)) + refit.size_shift[size]
        of_step.append(np.abs(fit.foretold[cell][0] - without).max())
        of_full.append(np.abs(np.ravel(fit.optimum(*where)) + fit.size_shift[size] - without).max())
    assert max(of_step) < 0.02  # ln units; noise and spreads are not estimated again by the step
    assert np.mean(of_step) < 0.5 * np.mean(of_full)  # and the full fit would not do in its place


def test_leaving_a_group_out_leaves_all_its_cells_out() -> None:
    observed = nine_scales()
    group = np.flatnonzero(observed.params == 1.8e8)
    fit = fit_surface(observed, CUBIC, WINDOW, own_prior(observed), groups=[group])
    moved = observed.log_loss + np.where(np.isin(observed.cell, group), 0.004 * np.sin(40 * observed.log_lr), 0.0)
    other = fit_surface(replace(observed, log_loss=moved), CUBIC, WINDOW, own_prior(observed), groups=[group])
    with_all = np.abs(fit.law - other.law)[LEVELS + EXPONENTS].max()
    without = np.abs(fit.without_group - other.without_group)[0, LEVELS + EXPONENTS].max()
    assert with_all > 0.05  # the change matters, or the test says nothing
    assert (
        without < 0.2 * with_all
    )  # what is left: noise and scatter are shared, and the step starts at the mode of all


class TestEquivariance:
    def test_rows_in_any_order(self, rng: np.random.Generator) -> None:
        runs = list(sweep().runs)
        mixed = observe([runs[i] for i in rng.permutation(len(runs))])
        fit = fit_surface(mixed, CUBIC, WINDOW, own_prior(mixed), groups=each_cell(mixed))
        np.testing.assert_allclose(fit.law, cubic_fit().law, rtol=0, atol=1e-9)  # sums in another order

    def test_loss_in_other_units(self) -> None:
        observed = nine_scales()
        in_bits = replace(observed, log_loss=observed.log_loss - np.log(np.log(2)))
        fit = fit_surface(in_bits, CUBIC, WINDOW, own_prior(observed))
        np.testing.assert_allclose(fit.law, cubic_fit().law, rtol=0, atol=1e-6)
        np.testing.assert_allclose(fit.floor, cubic_fit().floor - np.log(np.log(2)), rtol=0, atol=1e-6)

    @pytest.mark.parametrize(
        ("column", "axis", "shift"),
        [("log_batch", 1, -np.log(2048)), ("log_lr", 0, np.log(3.0))],
        ids=["batch in sequences", "three times the lr"],
    )
    def test_settings_in_other_units(self, column: str, axis: int, shift: float) -> None:
        """Optima move by the change of units, a factor 100 beyond the scales too. The prior of the level does not, but
        is doubted: sd .1 against 2 x the shift."""
        observed = nine_scales()
        changed = replace(observed, **{column: getattr(observed, column) + shift})
        conflict = (shift, 0.0) if column == "log_lr" else (0.0, shift)  # as the ensemble says it
        fit = fit_surface(changed, CUBIC, WINDOW, law_prior("own", centre_of(observed), (), conflict))
        scales = np.append(observed.params, 1.8e10), np.append(observed.tokens, 1.6e12)
        moved = np.array(fit.optimum(*scales)) - cubic_fit().optimum(*scales)
        moved[axis] -= shift
        np.testing.assert_allclose(moved, 0.0, atol=0.006 * abs(shift))


def test_more_seeds_count_more() -> None:
    observed = nine_scales()
    moved = replace(observed, log_lr=observed.log_lr + np.where(observed.cell == 0, 0.3, 0.0))
    where = observed.params[[0]], observed.tokens[[0]]
    at = []
    for count in (0.1, 1.0):
        weighted = replace(moved, seeds=np.where(observed.cell == 0, count, 1.0))
        at.append(float(fit_surface(weighted, CUBIC, WINDOW, own_prior(observed)).optimum(*where)[0][0]))
    assert at[1] > at[0] + 0.01


@pytest.mark.parametrize("form", PRIOR_FORMS)
@pytest.mark.parametrize("name", ["cubic", "exponentials"])
def test_gradient_is_small_where_it_says_converged(name: str, form: str) -> None:
    observed = nine_scales()
    fit = fit_surface(observed, SHAPES[name], WINDOW, law_prior(form, centre_of(observed)))
    assert fit.converged
    assert fit.gradient_norm < 0.01  # length of the Newton step in standard errors
    assert np.all(np.linalg.eigvalsh(fit.cov) > 0)


@pytest.mark.parametrize("draw", [16, 17, 18, 19])
def test_arrives_along_the_valley_of_a_noisy_sweep_of_one_batch_size(draw: int) -> None:
    """Losses that differ between rates by little more than by noise: hundreds of steps, where ten are usual."""
    rates = {13440.0: (1e-3, 2.5e-3, 5e-3, 1e-2, 2e-2), 43200.0: (2e-3, 5e-3, 1e-2, 2e-2, 4e-2)}
    losses = (1.2899, 1.1658, 1.1638, 1.1671, 1.1717, 1.1583, 1.1587, 1.1579, 1.1587, 1.1617)
    noise = np.exp(0.008 * np.random.default_rng(5).standard_normal((20, len(losses)))[draw])
    settings = [(params, lr) for params, tried in rates.items() for lr in tried]
    runs = [
        Run(
            run_key=f"{params:g}/{lr:g}",
            params=params,
            tokens=153600.0,
            batch_tokens=512.0,
            lr=lr,
            status=RunStatus.FINISHED,
            loss=loss * wrong,
        )
        for (params, lr), loss, wrong in zip(settings, losses, noise, strict=True)
    ]
    observed = observe(runs)
    valley = fit_valley(observed, fit_ensemble(observed, observed_surfaces_of(observed)), ())
    assert valley.converged
    assert valley.gradient_norm < 0.05


def test_nothing_in_the_window_is_an_error() -> None:
    observed = nine_scales()
    with pytest.raises(FitError) as caught:
        fit_surface(observed, CUBIC, -1.0, own_prior(observed))
    assert caught.value.finding == finding("lr_batch.empty_window")


def test_unknown_prior_form() -> None:
    with pytest.raises(ValueError, match="no prior form 'mine'; there are published, own, tokens_only"):
        law_prior("mine", (18.0, 21.0))
