"""The three-term surface: recovery, its optimal batch, and what the Step Law grid says through it."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lawfit.errors import NotEnoughData
from lawfit.estimate.critical.batch import CriticalStatus
from lawfit.estimate.critical.three_term import BatchRuns, best_over_lr, fit_three_term, fit_three_term_or_lend
from lawfit.estimate.critical.three_term_result import ThreeTermFit
from lawfit.estimate.loss.law import lent_asymptote
from lawfit.findings import code_of, finding
from lawfit.laws.critical_batch import ThreeTerm

TRUTH = ThreeTerm(
    floor=1.7,
    params_scale=400.0,
    params_exponent=0.34,
    batch_scale=30.0,
    batch_exponent=0.45,
    steps_scale=25.0,
    steps_exponent=0.5,
)
SCALES = [(n, n * r) for n in (5e7, 1e8, 2e8, 4e8) for r in (10, 40, 160)]


def simulate(rng: np.random.Generator, *, noise: float, scales: list[tuple[float, float]] | None = None) -> BatchRuns:
    rows = []
    for params, tokens in scales or SCALES:
        best = float(TRUTH.optimal_batch_tokens(tokens))
        for batch in best * 2.0 ** np.arange(-4, 5):
            loss = float(TRUTH(params, batch, tokens / batch)) * np.exp(noise * rng.standard_normal())
            rows.append((params, tokens, batch, loss))
    n, d, b, y = np.array(rows).T
    return BatchRuns(params=n, tokens=d, batch_tokens=b, loss=y, edge=np.zeros(len(y), dtype=bool))


@pytest.fixture(scope="module")
def fitted() -> ThreeTermFit:
    rng = np.random.default_rng(1)
    return fit_three_term(simulate(rng, noise=0.001), rng=rng, resamples=60)


def test_recovers_a_noise_free_surface(rng: np.random.Generator) -> None:
    fit = fit_three_term(simulate(rng, noise=0.0), rng=rng, resamples=0)
    assert fit.law.floor == pytest.approx(TRUTH.floor, rel=1e-3)  # noise-free, Newton; the valley is long
    assert fit.law.steps_exponent == pytest.approx(TRUTH.steps_exponent, rel=1e-2)
    for tokens in (1e9, 1e10, 1e11):
        assert fit.optimal_batch(tokens).value_tokens == pytest.approx(
            float(TRUTH.optimal_batch_tokens(tokens)), rel=1e-3
        )


def test_optimal_batch_with_an_interval(fitted: ThreeTermFit) -> None:
    for tokens in (2e9, 2e10):
        said = fitted.optimal_batch(tokens)
        truth = float(TRUTH.optimal_batch_tokens(tokens))
        assert said.low_tokens is not None
        assert said.high_tokens is not None
        assert said.low_tokens <= truth <= said.high_tokens
        assert said.high_tokens / said.low_tokens < 2
        assert said.decades == 0
    assert fitted.optimal_batch(6.4e11).decades == pytest.approx(1.0)


def test_certificate_comes_with_it(fitted: ThreeTermFit) -> None:
    assert fitted.certificate.search.converged
    assert fitted.certificate.search.agreeing > 1
    assert fitted.certificate.clusters == len(SCALES)
    assert len(fitted.floors) >= 2
    held = {round(case.floor / 1.7, 1): float(case.law.optimal_batch_tokens(1e10)) for case in fitted.floors}
    assert max(held.values()) / min(held.values()) < 1.5  # the floor hardly moves the optimal batch


def test_critical_batch_by_its_own_definition(fitted: ThreeTermFit) -> None:
    """At the critical batch the loss of the optimal batch takes `fraction` more tokens: by the law itself."""
    found = fitted.critical(2e8, 1e10, 0.2)
    assert found.status is CriticalStatus.INSIDE
    assert found.definition.reference_batch_tokens == pytest.approx(fitted.optimal_batch(1e10).value_tokens)
    assert found.loss is not None
    steps = float(fitted.law.steps_to(found.loss, 2e8, found.value_tokens))
    assert steps * found.value_tokens == pytest.approx(1.2 * 1e10, rel=1e-6)
    assert found.low_tokens < found.value_tokens < found.high_tokens
    assert found.log_sd == pytest.approx(np.log(found.high_tokens / found.low_tokens) / (2 * 1.6448536), rel=1e-6)
    wider = replace(fitted, level=0.98).critical(2e8, 1e10, 0.2)
    assert wider.log_sd == pytest.approx(np.log(wider.high_tokens / wider.low_tokens) / (2 * 2.3263479), rel=1e-6)
    assert found.value_tokens > found.definition.reference_batch_tokens


def test_one_size_has_no_params_term(rng: np.random.Generator) -> None:
    one = simulate(rng, noise=0.0005, scales=[(1e8, 1e9 * 2.0**k) for k in range(7)])
    fit = fit_three_term(one, rng=rng, resamples=0)
    assert fit.law.params_scale == 0
    assert fit.optimal_batch(1e10).value_tokens == pytest.approx(float(TRUTH.optimal_batch_tokens(1e10)), rel=0.2)


def test_survives_json(fitted: ThreeTermFit) -> None:
    again = ThreeTermFit.from_json(json.loads(json.dumps(fitted.to_json(), allow_nan=False)))
    assert again.optimal_batch(3e10) == fitted.optimal_batch(3e10)
    assert again.critical(2e8, 1e10, 0.2) == fitted.critical(2e8, 1e10, 0.2)


def test_too_little_is_refused(rng: np.random.Generator) -> None:
    runs = simulate(rng, noise=0.0)
    few = runs.batch_tokens < 1.01 * TRUTH.optimal_batch_tokens(runs.tokens)
    few &= runs.batch_tokens > 0.4 * TRUTH.optimal_batch_tokens(runs.tokens)
    with pytest.raises(NotEnoughData) as caught:
        fit_three_term(taken(runs, few), rng=rng)
    assert code_of(caught.value.finding) == "critical.few_batches_of_scale"
    with pytest.raises(NotEnoughData) as caught:
        fit_three_term(taken(runs, np.isin(np.arange(len(runs)), [0, 1, 2, 9, 30, 60])), rng=rng)
    assert caught.value.finding == finding("critical.few_rows", batches=6, parameters=7, needed=14)


def taken(runs: BatchRuns, rows: np.ndarray) -> BatchRuns:
    return BatchRuns(**{name: column[rows] for name, column in vars(runs).items()})


def test_best_over_lr_takes_the_lowest_and_names_edges() -> None:
    rates = np.array([1e-3, 2e-3, 4e-3, 8e-3, 1e-3, 2e-3, 4e-3])
    loss = np.array([3.2, 3.1, 3.15, np.nan, 3.3, 3.2, 3.1])
    batch = np.array([1e5] * 4 + [2e5] * 3)
    found = best_over_lr(np.full(7, 1e8), np.full(7, 2e9), batch, rates, loss)
    assert found.edge.tolist() == [False, True]
    assert found.loss == pytest.approx([3.095, 3.1], abs=0.01)


def test_step_law_grid(shared_data: Path) -> None:
    """An independent form on the grid of the Step Law lands where its own batch law does (1.11M tokens at 1e11)."""
    with (shared_data / "public" / "step_law_dense.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = ("n_params", "n_tokens", "batch_size_tokens", "learning_rate")
    loss = [np.nan if row["diverged"] == "1" else float(row["smooth_loss"]) for row in rows]
    runs = best_over_lr(*([float(row[name]) for row in rows] for name in names), loss)
    assert len(runs) == 140  # 14 scales x 10 batches
    fit = fit_three_term_or_lend(runs, lent_asymptote(), rng=np.random.default_rng(0), resamples=40)
    said = fit.optimal_batch(1e11)
    assert said.value_tokens == pytest.approx(0.58 * 1e11**0.571, rel=0.15)
    assert said.low_tokens is not None
    assert said.high_tokens is not None
    assert said.low_tokens < 0.58 * 1e11**0.571 < said.high_tokens
    # the runs do not determine the parameters one by one, and the certificate says so; the best batch they do
    assert fit.floor_lent
    assert not fit.certificate.certified
    assert {"A", "B"} <= set(fit.certificate.weak)
    assert fit.certificate.search.resamples_agreeing == 40
