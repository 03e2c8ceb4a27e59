"""Which forms are extrapolated with, and how wide the answer becomes."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from lawfit.errors import NotEnoughData
from lawfit.estimate.loss.backtest import TOLERATED, Candidate, candidates, cuts, judge
from lawfit.estimate.loss.ensemble import LossEnsemble, _resamples, fit_ensemble
from lawfit.estimate.loss.fit import AsymptotePrior, fit_loss
from lawfit.findings import code_of, finding
from lawfit.laws.loss import CHINCHILLA

Floats = NDArray[np.float64]
FORMS = ("additive", "kaplan", "compute_only")


def simulated(rng: np.random.Generator, outer: float = 1.0) -> tuple[Floats, Floats, Floats]:
    """Runs of the additive law, or of one whose reducible part is raised to a power."""
    params = np.exp(rng.uniform(np.log(1e7), np.log(3e9), 150))
    tokens = params * np.exp(rng.uniform(np.log(2), np.log(316), 150))
    reducible = CHINCHILLA.loss(params, tokens) - CHINCHILLA.E
    loss = CHINCHILLA.E + reducible**outer
    return params, tokens, loss * np.exp(0.003 * rng.standard_normal(150))


def _windows(found: LossEnsemble) -> list[float]:
    return [b.without for b in found.backtests if not b.rejected]


@pytest.fixture(scope="module")
def ensemble() -> LossEnsemble:
    rng = np.random.default_rng(4)
    return fit_ensemble(*simulated(rng), forms=FORMS, rng=rng, resamples=100)


def best(ensemble: LossEnsemble) -> float:
    return min(b.error for b in ensemble.backtests)


def test_the_true_form_wins_and_the_null_model_is_rejected(ensemble: LossEnsemble) -> None:
    assert ensemble.backtests[0].form == "additive"
    null = next(b for b in ensemble.backtests if b.form == "compute_only")
    assert null.rejected
    assert null.reason == finding("loss.worse_form", loss_fraction=null.error, times=null.error / best(ensemble))
    assert null.weight == 0
    assert [fit.form for fit in ensemble.fits] == [b.form for b in ensemble.backtests if not b.rejected]


def test_forms_are_kept_by_their_error(ensemble: LossEnsemble) -> None:
    best = ensemble.backtests[0].error
    for backtest in ensemble.backtests:
        assert backtest.rejected == (backtest.error > TOLERATED * best)


def test_the_average_is_over_log_losses_by_weight(ensemble: LossEnsemble) -> None:
    logs = [np.log(float(fit.loss(1e10, 2e11))) for fit in ensemble.fits]
    assert ensemble.weights.sum() == pytest.approx(1)
    assert ensemble.predict(1e10, 2e11).expected.value == pytest.approx(np.exp(ensemble.weights @ logs))
    own = {fit.form: [] for fit in ensemble.fits}
    for fit, log, weight in zip(ensemble.fits, logs, ensemble.weights, strict=True):
        own[fit.form].append((log, weight))
    assert ensemble.each(1e10, 2e11) == pytest.approx(
        {
            form: np.exp(np.average(*np.transpose(found)[:1], weights=np.transpose(found)[1]))
            for form, found in own.items()
        }
    )


def test_fits_without_the_small_runs_have_no_say_among_them(ensemble: LossEnsemble) -> None:
    larger = {b.without > 0 for b in ensemble.backtests if not b.rejected}
    assert larger == {False, True}
    shares = [b.without for b in ensemble.backtests if not b.rejected]
    low, high = ensemble.scales["flops"]
    ratio = 20.0
    small, middle, large = (np.sqrt(c / 6 / ratio) for c in (low, np.sqrt(low * high), 10 * high))
    told = {
        name: float(ensemble.weights_at(n, ratio * n)[np.array(shares) > 0].sum())
        for name, n in (("small", small), ("middle", middle), ("large", large))
    }
    assert told["small"] == 0
    assert (
        told["small"] < told["middle"] <= told["large"] == pytest.approx(ensemble.weights[np.array(shares) > 0].sum())
    )
    assert ensemble.log_loss(small, ratio * small) == pytest.approx(
        float(np.log(CHINCHILLA.loss(small, ratio * small))), abs=0.01
    )


def test_a_law_that_all_runs_certify_keeps_a_say_however_it_fared_inside() -> None:
    """The first form is four times worse and more above the cuts: it is the certified one."""
    errors = {Candidate("additive", 0.0): [np.full(5, 0.09)], Candidate("farseer", 0.0): [np.full(5, 0.01)]}
    assert [b.rejected for b in judge(errors, {})] == [False, True]
    kept = judge(errors, {}, [Candidate("additive", 0.0)])
    assert [b.rejected for b in kept] == [False, False]
    assert 0 < kept[1].weight < 0.1


def test_a_flexible_form_does_not_answer_from_few_scales(rng: np.random.Generator) -> None:
    """27 scales of fresh tokens, noise of 0.3 %: nine parameters would fit anything."""
    params = np.repeat(np.geomspace(1e8, 4e9, 9), 3)
    tokens = params * np.tile([5.0, 20.0, 80.0], 9)
    loss = CHINCHILLA.loss(params, tokens) * np.exp(0.003 * rng.standard_normal(27))
    found = fit_ensemble(params, tokens, loss, rng=rng, resamples=10)
    shares = {b.form: b.weight for b in found.by_form()}
    assert shares["farseer"] < 0.5
    assert shares["additive"] > 0.1
    at = found.predict(1e11, 2e12).expected.value
    assert at == pytest.approx(float(CHINCHILLA.loss(1e11, 2e12)), rel=0.03)


def test_intervals_widen_with_distance_and_never_below_a_single_form(ensemble: LossEnsemble) -> None:
    def width(interval) -> float:  # type: ignore[no-untyped-def]
        return float(np.log(interval.high / interval.low))

    inside, near, far = (ensemble.predict(n, 20 * n) for n in (1e9, 1e11, 1e13))
    assert width(inside.expected) < width(near.expected) < width(far.expected)
    assert width(far.expected) > width(ensemble.fits[0].predict(1e13, 2e14).expected)
    assert width(near.run) > 0.97 * width(near.expected)  # a run has noise of its own; tails of 4000 draws
    assert width(inside.run) > 1.5 * width(inside.expected)
    assert inside.extrapolation_decades["flops"] == 0


def test_drift_is_what_the_backtest_saw(rng: np.random.Generator) -> None:
    straight = fit_ensemble(*simulated(rng), forms=("additive",), rng=rng, resamples=10)
    bent = fit_ensemble(*simulated(rng, outer=0.4), forms=("compute_only",), rng=rng, resamples=10)
    assert bent.drift.sd > 2 * straight.drift.sd > 0


def test_json_keeps_what_it_says(ensemble: LossEnsemble) -> None:
    text = json.dumps(ensemble.to_json())
    again = LossEnsemble.from_json(json.loads(text))
    assert again.backtests == ensemble.backtests
    assert again.predict(1e11, 2e12).run.high == pytest.approx(ensemble.predict(1e11, 2e12).run.high, rel=1e-6)
    assert again.at_level(0.5).predict(1e11, 2e12).run.high < again.predict(1e11, 2e12).run.high


def test_a_form_without_a_prediction_survives_json(rng: np.random.Generator) -> None:
    params = np.repeat(np.geomspace(1e7, 1e9, 4), 3)
    tokens = params * np.tile([5, 20, 80], 4)
    loss = CHINCHILLA.loss(params, tokens) * np.exp(0.001 * rng.standard_normal(12))
    few = fit_ensemble(params, tokens, loss, forms=("power", "farseer"), rng=rng, resamples=20)
    lost = next(b for b in few.backtests if b.form == "farseer")
    assert lost.reason == finding("loss.few_for_form", parameters=9, needed=18, runs=12)
    content = few.to_json()
    for found in content["backtests"]:  # as `findings.finite` leaves it
        found.update({name: None for name in ("error", "bias") if not np.isfinite(found[name])})
    assert LossEnsemble.from_json(content).backtests == few.backtests


def test_a_lent_asymptote_is_for_forms_that_have_one(rng: np.random.Generator) -> None:
    lent = fit_ensemble(
        *simulated(rng),
        forms=("additive", "kaplan"),
        asymptote=AsymptotePrior(mean=1.7, log_sd=0.1),
        rng=rng,
        resamples=10,
    )
    assert {fit.form: fit.asymptote for fit in lent.fits}["additive"] == "prior"


def test_the_same_prediction_twice(ensemble: LossEnsemble) -> None:
    assert ensemble.predict(1e11, 2e12) == ensemble.predict(1e11, 2e12)


def test_one_budget_cannot_be_split(rng: np.random.Generator) -> None:
    params = np.geomspace(1e8, 1e9, 20)
    with pytest.raises(NotEnoughData) as caught:
        fit_ensemble(params, 1e18 / params, np.linspace(3, 2.9, 20), rng=rng)
    assert code_of(caught.value.finding) == "loss.few_budgets"
    assert (caught.value.finding.data["scales"], caught.value.finding.data["budgets"]) == (20, 1)


def test_a_single_form_ensemble_is_that_fit(rng: np.random.Generator) -> None:
    runs = simulated(rng)
    alone = fit_loss(*runs, rng=rng, resamples=0)
    ensemble = fit_ensemble(*runs, forms=("additive",), rng=rng, resamples=0)
    whole = next(f for f, w in zip(ensemble.fits, _windows(ensemble), strict=True) if not w)
    assert float(whole.loss(1e11, 2e12)) == pytest.approx(float(alone.loss(1e11, 2e12)), rel=1e-9)
    assert ensemble.predict(1e11, 2e12).expected.low is None


@pytest.mark.parametrize(("runs", "windows"), [(14, {0.0}), (16, {0.0, 0.5})])
def test_a_window_that_leaves_too_few_runs_is_not_tried(runs: int, windows: set[float]) -> None:
    """The larger half of 14 has seven, fewer than a window must hold to be learnt from."""
    params, tokens = np.geomspace(1e7, 1e9, runs), np.geomspace(2e8, 4e10, runs)
    columns = [params, tokens, np.asarray(CHINCHILLA.loss(params, tokens))]
    found = candidates(["additive"], columns, np.arange(runs))
    assert {candidate.without for candidate in found} == windows


@pytest.mark.parametrize(
    ("asked", "weight", "made"), [(300, 0.2, 120), (300, 0.7, 300), (300, 0.001, 50), (20, 0.2, 20)]
)
def test_a_member_is_resampled_as_often_as_it_counts(asked: int, weight: float, made: int) -> None:
    assert _resamples(asked, weight) == made


def test_runs_are_parted_once_at_each_place_and_never_with_nothing_held_back() -> None:
    """Three budgets: however many quantiles fall between two of them, the runs part there in one way."""
    log_flops = np.log(np.repeat([1e18, 1e19, 1e20], 12))
    (cut,) = cuts(log_flops, np.arange(36))
    assert (cut.inner == (log_flops < np.log(2e19))).all()
    np.testing.assert_allclose(cut.beyond, 1.0)
    with pytest.raises(NotEnoughData) as caught:
        cuts(log_flops[:12], np.arange(12))
    needed = {"smaller": 8, "larger": 3, "beyond": 10**0.05}
    assert caught.value.finding == finding("loss.few_budgets", scales=12, budgets=1, **needed)


def test_the_noise_of_a_run_is_added_as_it_is(ensemble: LossEnsemble) -> None:
    """Residuals that all lie above the law put a run above it, by so much."""
    above = tuple(replace(fit, residuals=np.full_like(fit.residuals, 0.1)) for fit in ensemble.fits)
    law, run = replace(ensemble, fits=above).mixed_log_draws(1e9, 2e10)
    np.testing.assert_allclose(run - law, 0.1, atol=1e-12)
