"""Certificates of the fit of learning rate and batch: what is certified, what is named open, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from lawfit import pipeline
from lawfit.ask import PlanQuestion, Target
from lawfit.errors import NoFit
from lawfit.estimate.lr_batch import certificate as surface_certificate
from lawfit.estimate.lr_batch.analysis import FitOptions, fit_valley
from lawfit.estimate.lr_batch.backtest import observed_surfaces_of
from lawfit.estimate.lr_batch.certificate import LOOSE, NAMES, certify_surface
from lawfit.estimate.lr_batch.ensemble import Ensemble, fit_ensemble
from lawfit.estimate.lr_batch.surface import Ending, SurfaceFit
from lawfit.estimate.numerics.certificate import Certificate
from lawfit.estimate.observe.observations import observe
from lawfit.findings import code_of, finding
from lawfit.records import FitStatus, Run, Sweep
from lawfit.words import tell
from tests.estimate.simulated import COMPUTE_PATH, NINE, RECIPE, nine_fit, nine_scales, sweep

OF_PARAMS = "exponent of parameters in the best lr"
OF_TOKENS = "exponent of tokens in the best lr"


def certify(runs: tuple[Run, ...] | list[Run]) -> Certificate:
    observed = observe(runs)
    ensemble = fit_ensemble(observed, observed_surfaces_of(observed))
    return certify_surface(observed, ensemble, fit_valley(observed, ensemble, ()))


@cache
def nine_ensemble() -> Ensemble:
    return fit_ensemble(nine_scales(), observed_surfaces_of(nine_scales()))


@cache
def nine_valley() -> SurfaceFit:
    return fit_valley(nine_scales(), nine_ensemble(), ())


@pytest.fixture(scope="module")
def dense() -> Certificate:
    return certify_surface(nine_scales(), nine_ensemble(), nine_valley())


@pytest.fixture(scope="module")
def on_a_line() -> Certificate:
    return certify(sweep(COMPUTE_PATH).runs)


class TestDenseGrid:
    def test_is_certified_by_starts_and_gradient(self, dense: Certificate) -> None:
        assert dense.certified
        assert dense.search.converged
        assert dense.search.agreeing >= 2
        assert dense.search.spread < 0.1
        assert dense.search.gradient_norm < 0.05
        assert dense.clusters == 3  # sizes

    def test_every_exponent_is_determined_by_the_runs_alone(self, dense: Certificate) -> None:
        assert dense.weak == ()
        assert dense.needed_runs == ()
        assert all(0 < dense.standard_errors[name] < LOOSE for name in NAMES if name.startswith("exponent"))
        assert dense.condition_number < 100

    def test_no_scale_bends_it(self, dense: Certificate) -> None:
        assert len(dense.influence) == len(NINE) + 3  # each size too
        assert abs(dense.influence[0].shift) < 3
        assert "numerics.bends" not in map(code_of, dense.warnings)


class TestScalesOnOneLine:
    """20 tokens per parameter throughout: only one combination of the exponents is measured."""

    def test_names_the_exponents_that_are_open(self, on_a_line: Certificate) -> None:
        assert {OF_PARAMS, OF_TOKENS} <= set(on_a_line.weak)
        assert on_a_line.condition_number == np.inf
        (found,) = (each.data for each in on_a_line.warnings if code_of(each) == "lr_batch.open_exponents")
        assert found["parameters"] == list(on_a_line.weak)
        assert code_of(found["beside"]) == "lr_batch.rest_lent"

    def test_the_scale_it_asks_for_does_determine_them(self, on_a_line: Certificate) -> None:
        needed = on_a_line.needed_runs[0].inputs
        scale = (needed["params"], needed["tokens"])
        assert abs(np.log(scale[1] / scale[0] / 20)) > 0.5  # off the line
        after = certify(sweep((*COMPUTE_PATH, scale)).runs)
        assert max(after.standard_errors[OF_PARAMS], after.standard_errors[OF_TOKENS]) < LOOSE

    def test_it_is_used_all_the_same_since_laws_lend(self, on_a_line: Certificate) -> None:
        assert on_a_line.certified


def test_each_of_two_shapes_of_one_count_is_left_out_under_a_name_of_its_own() -> None:
    runs = sweep(NINE).runs
    shaped = [replace(run, extra={"width": f"{run.params**0.5:.0f}", "layers": "8"}) for run in runs]
    deep = [
        replace(run, run_key=f"d{run.run_key}", extra={"width": "99", "layers": "30"})
        for run in runs
        if run.params == NINE[0][0]
    ]
    groups = [found.group for found in certify([*shaped, *deep]).influence]
    assert len(set(groups)) == len(groups) == 4 + len(NINE) + sum(n == NINE[0][0] for n, _ in NINE)
    assert sum(group.endswith("at all horizons") for group in groups) == 4


@pytest.mark.parametrize("factor", [0.5, 2, 3])
def test_a_scale_off_the_law_is_said_to_bend_it(dense: Certificate, factor: float) -> None:
    runs = [replace(run, lr=run.lr * factor) if (run.params, run.tokens) == NINE[-1] else run for run in sweep().runs]
    found = certify(runs).influence
    assert {row.group for row in found[:2]} == {"180M at all horizons", "180M on 16.2B"}
    assert min(abs(row.shift) for row in found[:2]) > 2 * abs(dense.influence[0].shift)


class TestWhatIsRefused:
    def test_a_better_minimum_elsewhere(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def found_better(*args: object) -> list[Ending]:
            fit = args[4]
            end = Ending(law=fit.law, shape=fit.shape, objective=100.0, converged=True)  # type: ignore[attr-defined]
            return [end, replace(end, objective=90.0), replace(end, objective=90.0)]

        monkeypatch.setattr(surface_certificate, "search_again", found_better)
        found = certify_surface(nine_scales(), nine_ensemble(), nine_valley())
        assert not found.certified
        assert finding("lr_batch.better_minimum", above=10.0) in found.reasons

    def test_its_own_ending_does_not_stand(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fell_off(*args: object) -> list[Ending]:
            fit = args[4]
            end = Ending(law=fit.law, shape=fit.shape, objective=90.0, converged=True)  # type: ignore[attr-defined]
            return [replace(end, objective=100.0, converged=False), end, end]

        monkeypatch.setattr(surface_certificate, "search_again", fell_off)
        found = certify_surface(nine_scales(), nine_ensemble(), nine_valley())
        assert code_of(found.reasons[0]) == "numerics.not_converged"

    def test_no_other_start_ends_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def alone(*args: object) -> list[Ending]:
            fit = args[4]
            return [Ending(law=fit.law, shape=fit.shape, objective=100.0, converged=True)]  # type: ignore[attr-defined]

        monkeypatch.setattr(surface_certificate, "search_again", alone)
        found = certify_surface(nine_scales(), nine_ensemble(), nine_valley())
        assert found.reasons[0] == finding("lr_batch.few_starts_agree", agreeing=1, starts=5)

    def test_a_gradient_that_has_not_vanished(self) -> None:
        ensemble = nine_ensemble()
        top = max(ensemble.members, key=lambda m: m.weight)
        away = replace(top, fit=replace(top.fit, gradient_norm=2.0))
        members = tuple(away if m is top else m for m in ensemble.members)
        found = certify_surface(nine_scales(), replace(ensemble, members=members), nine_valley())
        assert found.reasons[0] == finding("numerics.not_converged", gradient_norm=2.0)

    def test_a_price_of_mistakes_that_was_not_found(self) -> None:
        unfound = replace(nine_valley(), converged=False, gradient_norm=3.0)
        found = certify_surface(nine_scales(), nine_ensemble(), unfound)
        assert found.reasons == (finding("numerics.not_converged", gradient_norm=3.0),)

    def test_it_is_stored_not_used_and_says_why(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(surface_certificate, "NEAR", 0.0)  # nothing is near enough
        with pipeline.open_store(":memory:") as store:
            store.put_sweeps([Sweep(recipe=RECIPE, runs=tuple(sweep(NINE[:4]).runs))])
            fit = pipeline.refit(store, options=FitOptions(backtest=False))
            assert fit.status is FitStatus.UNCERTIFIED
            target = Target(params=1e9, tokens=2e10)
            with pytest.raises(NoFit, match="not certified, so it is not used: the search did not converge"):
                pipeline.recommend(store, None, target)
            answer = pipeline.recommend(store, None, target, fit_id=fit.id)
            assert any("not certified (the search did not converge" in tell(each) for each in answer["warnings"])
            assert not answer["evidence"]["certificate"]["certified"]


def test_the_stored_document_is_json_and_has_a_line() -> None:
    document = nine_fit().payload["certificate"]
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert document["certified"]
    assert code_of(document["words"]) == "lr_batch.certificate"
    assert document["words"]["data"]["starts"] == 5
    assert "of 5 starts agree" in tell(document["words"])


def test_the_sentence_has_the_standard_error_of_the_parameter_it_names() -> None:
    """Scales of one size: nothing is known about the exponents of parameters, much about those of tokens."""
    found = certify(sweep(tuple((6e7, 6e7 * ratio) for ratio in (10, 30, 90))).runs)
    (warning,) = (each for each in found.warnings if code_of(each) == "lr_batch.open_exponents")
    last = found.needed_runs[-1]
    assert warning.data["sd_now"] is None
    assert (warning.data["parameter"], warning.data["sd_with_runs"]) == (last.parameter, last.sd_with_run)
    assert f"standard error of the {last.parameter}: open now, {last.sd_with_run:.2g} with" in tell(warning)
    assert found.standard_errors[last.parameter] > 3


def test_two_scales_have_no_influence_on_each_other() -> None:
    assert certify(sweep(NINE[:2]).runs).influence == ()


def test_an_older_fit_that_answers_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with pipeline.open_store(":memory:") as store:
        store.put_sweeps([Sweep(recipe=RECIPE, runs=tuple(sweep(NINE[:4]).runs))])
        old = pipeline.refit(store, options=FitOptions(backtest=False))
        monkeypatch.setattr(surface_certificate, "NEAR", 0.0)
        store.put_sweeps([Sweep(recipe=RECIPE, runs=tuple(sweep(NINE[:5]).runs))])
        new = pipeline.refit(store, options=FitOptions(backtest=False))
        assert new.status is FitStatus.UNCERTIFIED
        answer = pipeline.recommend(store, None, Target(params=1e9, tokens=2e10))
        assert answer["evidence"]["fit_id"] == old.id
        assert [code_of(each) for each in answer["warnings"][:2]] == ["pipeline.runs_changed", "pipeline.older_fit"]
        assert answer["warnings"][1]["data"]["newest"] == new.id
        assert f"older fit: the newest, {new.id}, is not certified" in tell(answer["warnings"][1])


def test_a_plan_says_why_a_fit_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surface_certificate, "NEAR", 0.0)
    with pipeline.open_store(":memory:") as store:
        store.put_sweeps([Sweep(recipe=RECIPE, runs=tuple(sweep(NINE[:4]).runs))])
        pipeline.refit(store, options=FitOptions(backtest=False))
        with pytest.raises(NoFit, match="not certified, so it is not used: the search did not converge"):
            pipeline.plan(store, None, PlanQuestion(flops=1e21))
