"""The fitted loss law: known truths, published data, intervals, and what is refused."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import approx_fprime

from lawfit.errors import FitError, NotEnoughData
from lawfit.estimate.loss.fit import AsymptotePrior, LossFit, fit_loss
from lawfit.estimate.loss.forms import FORMS
from lawfit.findings import finding
from lawfit.laws.loss import CHINCHILLA, EPOCH, EPOCH_SE, KAPLAN

Floats = NDArray[np.float64]


def scales(rng: np.random.Generator, rows: int = 200) -> tuple[Floats, Floats]:
    params = np.exp(rng.uniform(np.log(1e7), np.log(3e9), rows))
    return params, params * np.exp(rng.uniform(np.log(2), np.log(316), rows))


def simulated(rng: np.random.Generator, rows: int = 200, noise: float = 0.005) -> tuple[Floats, Floats, Floats]:
    params, tokens = scales(rng, rows)
    return params, tokens, CHINCHILLA.loss(params, tokens) * np.exp(noise * rng.standard_normal(rows))


@pytest.fixture(scope="module")
def fit() -> LossFit:
    rng = np.random.default_rng(7)
    return fit_loss(*simulated(rng), rng=rng, resamples=400)


class TestTruth:
    def test_noise_free_runs(self, rng: np.random.Generator) -> None:
        found = fit_loss(*simulated(rng, 40, 0.0), rng=rng, resamples=20).law
        for name in ("E", "A", "alpha", "B", "beta"):
            # log residuals down to 1e-11, over a condition number of some 1e3
            assert getattr(found, name) == pytest.approx(getattr(CHINCHILLA, name), rel=1e-5)

    def test_intervals_are_near_the_truth(self, fit: LossFit) -> None:
        for name in ("E", "alpha", "beta"):
            interval = fit.parameters[name]
            assert interval.low is not None
            assert interval.high is not None
            width = interval.high - interval.low
            assert abs(interval.value - getattr(CHINCHILLA, name)) < width  # 3.3 standard errors
        assert fit.certificate.certified
        assert fit.noise == pytest.approx(0.005, rel=0.3)  # median of 200 absolute values: sd 8 %

    def test_epochs_refit_of_chinchilla(self, shared_data: Path, rng: np.random.Generator) -> None:
        with (shared_data / "public" / "chinchilla_digitised.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        columns = [np.array([float(r[name]) for r in rows]) for name in ("n_params", "n_tokens", "final_loss")]
        fit = fit_loss(*columns, rng=rng, resamples=100)
        for name in ("alpha", "beta"):
            assert abs(fit.parameters[name].value - getattr(EPOCH, name)) < 2 * EPOCH_SE[name]
        # an independent fit of this file, as printed
        assert fit.parameters["alpha"].value == pytest.approx(0.3426, abs=6e-5)
        assert fit.parameters["beta"].value == pytest.approx(0.3420, abs=6e-5)
        assert fit.parameters["E"].value == pytest.approx(1.784, abs=6e-4)
        assert fit.certificate.search.agreeing == fit.certificate.search.starts

    def test_other_units_of_params_change_only_A(self, rng: np.random.Generator) -> None:
        params, tokens, loss = simulated(rng)
        plain = fit_loss(params, tokens, loss, rng=rng, resamples=0).law
        millions = fit_loss(params / 1e6, tokens, loss, rng=rng, resamples=0).law
        assert millions.alpha == pytest.approx(plain.alpha, rel=1e-6)
        assert millions.A * 1e6**millions.alpha == pytest.approx(plain.A, rel=1e-5)

    def test_integers_beyond_64_bits_do_not_overflow(self, rng: np.random.Generator) -> None:
        params, tokens, loss = simulated(rng)
        whole = fit_loss((params * 1e3).astype(np.int64), (tokens * 1e3).astype(np.int64), loss, rng=rng, resamples=0)
        assert whole.scales["flops"][1] == pytest.approx(6e6 * float((params * tokens).max()), rel=1e-6)


class TestAnswers:
    def test_prediction(self, fit: LossFit) -> None:
        at = fit.predict(1e10, 2e11)
        truth = float(CHINCHILLA.loss(1e10, 2e11))
        assert at.expected.low is not None
        assert at.expected.high is not None
        assert at.run.low is not None
        assert at.expected.low - 0.01 < truth < at.expected.high + 0.01
        assert at.run.low < at.expected.low  # a run has its own noise
        assert at.extrapolation_decades["params"] == pytest.approx(np.log10(1e10 / fit.scales["params"][1]))
        assert at.expected.value == pytest.approx(float(fit.loss(1e10, 2e11)))

    def test_the_same_prediction_twice(self, fit: LossFit) -> None:
        assert fit.predict(1e10, 2e11) == fit.predict(1e10, 2e11)

    def test_optimum(self, fit: LossFit) -> None:
        best = fit.optimum(1e23)
        assert best.params.value * best.tokens.value == pytest.approx(1e23 / 6, rel=1e-9)
        assert best.params.low is not None
        assert best.params.high is not None
        assert best.params.low < best.params.value < best.params.high
        other = fit.law.loss(best.params.value * np.array([0.9, 1.1]), best.tokens.value / np.array([0.9, 1.1]))
        assert best.loss.value < other.min()

    def test_iso_loss(self, fit: LossFit) -> None:
        loss = float(fit.loss(1e9, 2e10))
        assert fit.tokens_for(loss, 1e9).value == pytest.approx(2e10, rel=1e-6)
        assert fit.params_for(loss, 2e10).value == pytest.approx(1e9, rel=1e-6)
        assert np.isinf(fit.tokens_for(1.5, 1e9).value)

    def test_json_round_trip(self, fit: LossFit) -> None:
        again = LossFit.from_json(json.loads(json.dumps(fit.to_json())))
        assert again.optimum(1e22).params.value == fit.optimum(1e22).params.value
        assert again.predict(1e10, 1e11).expected.low == pytest.approx(fit.predict(1e10, 1e11).expected.low, rel=1e-6)
        assert again.certificate == fit.certificate

    def test_chance_is_the_callers(self, rng: np.random.Generator) -> None:
        runs = simulated(rng, 60)
        first, second = (fit_loss(*runs, rng=np.random.default_rng(3), resamples=50) for _ in range(2))
        assert np.array_equal(first.draws, second.draws)


class TestAsymptote:
    def test_fixed(self, rng: np.random.Generator) -> None:
        fit = fit_loss(*simulated(rng), rng=rng, resamples=50, asymptote=1.6)
        assert fit.parameters["E"].value == pytest.approx(1.6)
        assert np.ptp(fit.draws[:, 0]) == 0
        assert "E" not in fit.certificate.standard_errors

    def test_prior_lies_between_free_and_fixed(self, rng: np.random.Generator) -> None:
        runs = simulated(rng, 40, 0.02)
        free = fit_loss(*runs, rng=rng, resamples=300)
        prior = fit_loss(*runs, rng=rng, resamples=300, asymptote=AsymptotePrior(mean=1.69, log_sd=0.01))
        assert abs(np.log(prior.parameters["E"].value / 1.69)) < abs(np.log(free.parameters["E"].value / 1.69))
        assert 0.003 < prior.draws[:, 0].std() < 0.012  # narrower than the prior, not frozen
        assert prior.draws[:, 2].std() < free.draws[:, 2].std()

    def test_a_vague_prior_is_no_prior(self, rng: np.random.Generator) -> None:
        runs = simulated(rng)
        free = fit_loss(*runs, rng=rng, resamples=0)
        vague = fit_loss(*runs, rng=rng, resamples=0, asymptote=AsymptotePrior(mean=1.5, log_sd=50.0))
        assert vague.theta == pytest.approx(free.theta, abs=1e-4)

    def test_sensitivity(self, fit: LossFit) -> None:
        cases = fit.sensitivity
        assert len(cases) == 4
        assert all(case.doubt > 0 for case in cases)
        alphas = [case.parameters["alpha"] for case in cases]
        assert alphas == sorted(alphas)  # a higher asymptote makes what is left fall faster

    @pytest.mark.parametrize("value", [pytest.param(-1.0, id="negative"), pytest.param(99.0, id="above all losses")])
    def test_impossible_values(self, rng: np.random.Generator, value: float) -> None:
        with pytest.raises(ValueError, match="asymptote must lie"):
            fit_loss(*simulated(rng), rng=rng, asymptote=value)

    def test_a_form_without_one(self, rng: np.random.Generator) -> None:
        with pytest.raises(ValueError, match="no asymptote"):
            fit_loss(*simulated(rng), rng=rng, form="kaplan", asymptote=1.7)


class TestForms:
    @pytest.mark.parametrize("form", [pytest.param(name, id=name) for name in FORMS])
    def test_derivatives(self, rng: np.random.Generator, form: str) -> None:
        params, tokens, loss = simulated(rng, 30)
        logs = np.log(np.column_stack([params, tokens]))
        problem = FORMS[form].problem(np.log(loss), logs - logs.mean(axis=0), 1e-3)
        start = FORMS[form].starts
        powers = [-0.4, 0.3, -0.3, 0.3]
        theta = np.array([0.5, *powers][-problem.size :]) if start is None else start(problem)[0] + 0.01
        numeric = approx_fprime(theta, lambda t: problem.log_model(t[None])[0])
        # forward differences: 1.5e-8 times second derivatives, of order 10 here
        assert problem.jacobian(theta) == pytest.approx(numeric, rel=1e-5, abs=1e-5)

    @pytest.mark.parametrize("form", [pytest.param(name, id=name) for name in FORMS])
    def test_minimum_and_answers(self, rng: np.random.Generator, form: str) -> None:
        fit = fit_loss(*simulated(rng, 60), form=form, rng=rng, resamples=20)
        assert fit.certificate.search.converged
        assert np.isfinite(fit.loss(1e9, 2e10))
        assert set(fit.parameters) >= set(FORMS[form].names)
        assert LossFit.from_json(json.loads(json.dumps(fit.to_json()))).form == form

    def test_kaplan_recovers_its_constants(self, rng: np.random.Generator) -> None:
        params, tokens = scales(rng, 60)
        fit = fit_loss(params, tokens, KAPLAN.loss(params, tokens), form="kaplan", rng=rng, resamples=0)
        for name in ("params_scale", "alpha", "tokens_scale", "beta"):
            assert fit.parameters[name].value == pytest.approx(getattr(KAPLAN, name), rel=1e-4)  # no noise

    def test_coupled_recovers_its_outer_exponent(self, rng: np.random.Generator) -> None:
        params, tokens = scales(rng, 60)
        loss = 1.7 + ((2e9 / params) ** 0.9 + (4e10 / tokens) ** 0.8) ** 0.4 * 0.3
        fit = fit_loss(params, tokens, loss, form="coupled", rng=rng, resamples=0)
        assert fit.parameters["outer"].value == pytest.approx(0.4, rel=1e-3)  # no noise

    def test_only_the_additive_form_allocates(self, rng: np.random.Generator) -> None:
        fit = fit_loss(*simulated(rng), form="kaplan", rng=rng, resamples=10)
        with pytest.raises(FitError) as caught:
            fit.optimum(1e22)
        assert caught.value.finding == finding("loss.additive_alone", form="kaplan")

    def test_unknown(self, rng: np.random.Generator) -> None:
        with pytest.raises(ValueError, match="unknown form 'cubic'; there are additive"):
            fit_loss(*simulated(rng), form="cubic", rng=rng)


class TestRefusals:
    def test_not_enough_runs(self, rng: np.random.Generator) -> None:
        with pytest.raises(NotEnoughData) as caught:
            fit_loss(*simulated(rng, 5), rng=rng)
        few = {"runs": 5, "parameters": 5, "needed": 6}
        assert caught.value.finding == finding("loss.few_runs", **few, formula=FORMS["additive"].formula)

    @pytest.mark.parametrize("column", [0, 1, 2], ids=["params", "tokens", "loss"])
    @pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf], ids=["zero", "negative", "nan", "inf"])
    def test_rows_that_are_no_runs(self, rng: np.random.Generator, column: int, bad: float) -> None:
        runs = simulated(rng)
        runs[column][17] = bad
        with pytest.raises(ValueError, match=r"must be positive and finite in every row; row 17"):
            fit_loss(*runs, rng=rng)

    def test_columns_of_different_length(self, rng: np.random.Generator) -> None:
        params, tokens, loss = simulated(rng)
        with pytest.raises(ValueError, match="200, 199, 200 rows"):
            fit_loss(params, tokens[1:], loss, rng=rng)

    def test_losses_that_rise(self, rng: np.random.Generator) -> None:
        params, tokens, loss = simulated(rng)
        with pytest.raises(FitError, match="do not fall"):
            fit_loss(params, tokens, 10 / loss, rng=rng)


def test_a_form_without_an_asymptote_has_none_to_be_sensitive_to() -> None:
    params, tokens = (grid.ravel() for grid in np.meshgrid(np.geomspace(1e7, 1e9, 5), np.geomspace(1e9, 1e11, 4)))
    loss = CHINCHILLA.loss(params, tokens)
    for name, form in FORMS.items():
        found = fit_loss(params, tokens, loss, rng=np.random.default_rng(0), form=name, resamples=0)
        assert bool(found.sensitivity) == form.asymptote, name


@pytest.mark.parametrize("more", [1, 4])
def test_a_size_of_one_run_that_the_law_rests_on_is_said(more: int, rng: np.random.Generator) -> None:
    params = np.repeat([2e7, 6e7, 1e9], [8, 8, more])
    tokens = np.concatenate([np.tile(np.geomspace(2e8, 2e10, 8), 2), np.geomspace(2e9, 2e10, more)])
    loss = CHINCHILLA.loss(params, tokens) * np.exp(0.002 * rng.standard_normal(len(params)))
    said = [
        each.data
        for each in fit_loss(params, tokens, loss, rng=rng, resamples=50).certificate.warnings
        if each.code == "numerics.one_run"
    ]
    assert said == ([{"group": "params 9.97e+08"}] if more == 1 else [])  # of sizes within half a percent


@pytest.mark.parametrize("count", [3, 5])
def test_a_size_is_left_out_where_the_others_determine_the_law(count: int, rng: np.random.Generator) -> None:
    """Two sizes leave a ridge, anywhere on which a law without the third may lie: that says nothing of the third."""
    params, tokens = (x.ravel() for x in np.meshgrid(np.geomspace(2e7, 1.8e8, count), np.geomspace(2e8, 2e10, 6)))
    loss = CHINCHILLA.loss(params, tokens) * np.exp(0.001 * rng.standard_normal(len(params)))
    bent = np.where(np.isclose(params, 1.8e8) & (count > 3), 1.02 * loss, loss)
    found = fit_loss(params, tokens, bent, rng=rng, resamples=100).certificate
    groups = [each.group for each in found.influence]
    if count == 3:
        assert not any(group.startswith("params") for group in groups)
        assert sum(group.startswith("tokens") for group in groups) == 6
    else:
        assert groups[0] == "params 1.8e+08"
        assert {f"params {size:.3g}" for size in np.unique(params)} <= set(groups)
        assert "numerics.bends" in [each.code for each in found.warnings]
