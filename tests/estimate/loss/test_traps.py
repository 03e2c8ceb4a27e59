"""Traps that existing tools fall into, as far as they concern loss laws: the right answer, or the right refusal."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from lawfit.errors import FitError
from lawfit.estimate.loss.fit import AsymptotePrior, LossFit, fit_loss
from lawfit.estimate.loss.forms import FORMS
from lawfit.estimate.numerics.newton import minimise
from lawfit.estimate.numerics.varpro import global_minima
from lawfit.findings import code_of, finding
from lawfit.laws.loss import CHINCHILLA

Floats = NDArray[np.float64]


def scales(rng: np.random.Generator, rows: int) -> tuple[Floats, Floats]:
    params = np.exp(rng.uniform(np.log(1e7), np.log(3e9), rows))
    return params, params * np.exp(rng.uniform(np.log(2), np.log(316), rows))


def width(fit: LossFit, name: str) -> float:
    interval = fit.parameters[name]
    assert interval.low is not None
    assert interval.high is not None
    return interval.high - interval.low


def test_trap_1_outliers_are_fitted_to_convergence(rng: np.random.Generator) -> None:
    params, tokens = scales(rng, 500)
    error = 0.005 * rng.standard_normal(500)
    clean = fit_loss(params, tokens, CHINCHILLA.loss(params, tokens) * np.exp(error), rng=rng, resamples=200)
    error[rng.choice(500, 15, replace=False)] += np.log(1.1)
    spoilt = fit_loss(params, tokens, CHINCHILLA.loss(params, tokens) * np.exp(error), rng=rng, resamples=200)
    assert spoilt.certificate.search.converged
    assert spoilt.certificate.search.gradient_norm < 1e-4
    # 3 % of outliers move a median-like estimate by less than its own interval; reweighting stopped early moved by .025
    assert abs(spoilt.parameters["alpha"].value - clean.parameters["alpha"].value) < width(clean, "alpha")
    assert spoilt.parameters["alpha"].value == pytest.approx(0.34, abs=0.012)


@pytest.fixture(scope="module")
def on_a_line() -> LossFit:
    rng = np.random.default_rng(5)
    params = np.exp(rng.uniform(np.log(1e7), np.log(3e9), 200))
    loss = CHINCHILLA.loss(params, 20 * params) * np.exp(0.005 * rng.standard_normal(200))
    return fit_loss(params, 20 * params, loss, rng=rng, resamples=200)


class TestTrap2:
    """All runs at 20 tokens per parameter."""

    def test_is_not_certified_and_says_which_parameters_are_open(self, on_a_line: LossFit) -> None:
        assert not on_a_line.certificate.certified
        assert {"alpha", "beta"} <= set(on_a_line.certificate.weak)
        (found,) = (each.data for each in on_a_line.certificate.reasons if code_of(each) == "numerics.open")
        assert found["parameters"] == list(on_a_line.certificate.weak)

    def test_gives_no_interval_for_them_and_no_allocation(self, on_a_line: LossFit) -> None:
        for name in ("alpha", "beta", "params_exponent"):
            assert on_a_line.parameters[name].low is None
        with pytest.raises(FitError) as caught:
            on_a_line.optimum(1e22)
        weak = on_a_line.certificate.weak
        assert caught.value.finding == finding("loss.no_inversion", parameters=weak)

    def test_asks_for_a_run_off_the_line(self, on_a_line: LossFit) -> None:
        run = on_a_line.certificate.needed_runs[0].inputs
        assert abs(np.log10(run["tokens"] / run["params"] / 20)) > 0.5
        assert 6 * run["params"] * run["tokens"] <= on_a_line.scales["flops"][1] * 1.001  # no dearer than what there is

    def test_the_runs_it_asks_for_do_identify(self, on_a_line: LossFit) -> None:
        rng = np.random.default_rng(6)
        params = np.exp(rng.uniform(np.log(1e7), np.log(3e9), 200))
        tokens = 20 * params
        for run in on_a_line.certificate.needed_runs:
            params, tokens = np.append(params, run.inputs["params"]), np.append(tokens, run.inputs["tokens"])
        loss = CHINCHILLA.loss(params, tokens) * np.exp(0.005 * rng.standard_normal(len(params)))
        fixed = fit_loss(params, tokens, loss, rng=rng, resamples=100)
        assert not {"alpha", "beta"} & set(fixed.certificate.weak)


def test_trap_3_resampled_exponents_are_not_on_a_grid(rng: np.random.Generator) -> None:
    params, tokens = scales(rng, 200)
    loss = CHINCHILLA.loss(params, tokens) * np.exp(0.005 * rng.standard_normal(200))
    draws = fit_loss(params, tokens, loss, rng=rng, resamples=200).draws
    assert len(np.unique(np.round(draws[:, 2], 8))) == 200


def test_trap_4_the_scale_of_the_objective_does_not_matter(rng: np.random.Generator) -> None:
    """A mean is a sum with weights 1 / n: tolerances are relative to standard errors, so both end at one point."""
    params, tokens = scales(rng, 300)
    log_loss = np.log(CHINCHILLA.loss(params, tokens)) + 0.005 * rng.standard_normal(300)
    logs = np.log(np.column_stack([params, tokens]))
    problem = FORMS["additive"].problem(log_loss, logs - logs.mean(axis=0), 1e-3)
    start = np.array([[0.3, -0.4, 0.5, -0.4, 0.5]])
    ends = [minimise(problem, start, np.full((1, 300), weight)) for weight in (1.0, 2.0**-10, 2.0**-40)]
    assert all(end.converged.all() for end in ends)
    for end in ends[1:]:
        # the remaining step is below 1e-5 standard errors, which are about 0.005; powers of two keep the path the same
        assert end.theta == pytest.approx(ends[0].theta, abs=1e-6)
    found = global_minima(problem, np.ones((1, 300)))  # type: ignore[arg-type]
    assert ends[0].objective[0] == pytest.approx(found.objective.min(), rel=1e-9)


def test_trap_6_checkpoints_of_one_run_are_one_piece_of_evidence(rng: np.random.Generator) -> None:
    size = np.exp(rng.uniform(np.log(2e7), np.log(3e9), 24))
    params = np.repeat(size, 40)
    tokens = params * np.tile(np.geomspace(4, 300, 40), 24)
    runs = np.repeat(np.arange(24), 40)
    loss = CHINCHILLA.loss(params, tokens) * np.exp(0.01 * rng.standard_normal(24)[runs])
    loss *= np.exp(0.001 * rng.standard_normal(len(loss)))
    by_row = fit_loss(params, tokens, loss, rng=rng, resamples=200)
    by_run = fit_loss(params, tokens, loss, clusters=runs, rng=rng, resamples=200)
    assert (by_row.certificate.clusters, by_run.certificate.clusters) == (960, 24)
    assert width(by_run, "alpha") > 2.5 * width(by_row, "alpha")
    truth = CHINCHILLA.alpha
    interval = by_run.parameters["alpha"]
    assert interval.low is not None
    assert interval.high is not None
    assert interval.low < truth < interval.high


def test_trap_6_fewer_clusters_than_parameters_give_no_interval(rng: np.random.Generator) -> None:
    params = np.repeat([1e8, 5e8, 2e9], 30)
    tokens = params * np.tile(np.geomspace(4, 300, 30), 3)
    loss = CHINCHILLA.loss(params, tokens) * np.exp(0.002 * rng.standard_normal(90))
    fit = fit_loss(params, tokens, loss, clusters=params, rng=rng, resamples=100)
    assert fit.parameters["beta"].low is None
    assert finding("numerics.no_intervals", clusters=3, parameters=5) in fit.certificate.reasons


def test_trap_9_a_diverged_run_is_refused_and_not_dropped(rng: np.random.Generator) -> None:
    params, tokens = scales(rng, 50)
    loss = CHINCHILLA.loss(params, tokens)
    loss[3] = np.nan
    with pytest.raises(ValueError, match="row 3"):
        fit_loss(params, tokens, loss, rng=rng)


@pytest.fixture(scope="module")
def narrow() -> tuple[Floats, Floats, Floats]:
    rng = np.random.default_rng(8)
    params = np.exp(rng.uniform(np.log(1e8), np.log(4e8), 40))
    tokens = params * np.exp(rng.uniform(np.log(10), np.log(40), 40))
    return params, tokens, CHINCHILLA.loss(params, tokens) * np.exp(0.005 * rng.standard_normal(40))


class TestTrap10:
    """An asymptote left free on a narrow range of scales."""

    def test_free_is_not_certified(self, narrow: tuple[Floats, Floats, Floats]) -> None:
        fit = fit_loss(*narrow, rng=np.random.default_rng(1), resamples=200)
        assert not fit.certificate.certified
        assert fit.certificate.weak

    def test_its_sensitivity_shows_that_the_data_do_not_care(self, narrow: tuple[Floats, Floats, Floats]) -> None:
        fit = fit_loss(*narrow, rng=np.random.default_rng(1), resamples=200)
        near = [case for case in fit.sensitivity if abs(case.doubt) < 4]
        alphas = [case.parameters["alpha"] for case in near]
        assert len(near) >= 2
        assert max(alphas) > 1.05 * min(alphas)

    def test_a_prior_narrows_it(self, narrow: tuple[Floats, Floats, Floats]) -> None:
        free = fit_loss(*narrow, rng=np.random.default_rng(1), resamples=200)
        known = fit_loss(
            *narrow, rng=np.random.default_rng(1), resamples=200, asymptote=AsymptotePrior(mean=1.69, log_sd=0.02)
        )
        assert np.ptp(known.draws[:, 0]) < 0.5 * np.ptp(free.draws[:, 0])
        assert known.certificate.standard_errors["E"] < 0.03


def test_trap_12_a_law_that_curves_says_so(rng: np.random.Generator) -> None:
    params, tokens = scales(rng, 300)
    bend = 0.02 * (np.log10(tokens / tokens.mean())) ** 2
    loss = CHINCHILLA.loss(params, tokens) * np.exp(bend + 0.003 * rng.standard_normal(300))
    fit = fit_loss(params, tokens, loss, rng=rng, resamples=50)
    structure = fit.certificate.lack_of_fit
    assert structure is not None
    assert structure.p_value < 1e-3
    assert "numerics.structure" in map(code_of, fit.certificate.warnings)
