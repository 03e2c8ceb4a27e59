"""The batch of least tokens and its law in the loss (MiniCPM), the law of B_crit(L) (Kaplan, Su), the oracle's cost."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from lawfit.estimate.critical.analysis import analyse_critical
from lawfit.estimate.critical.least_tokens import HYPERBOLA, LEAST_SD, ORACLE, fit_least_tokens
from lawfit.estimate.critical.steps_to_target import StepsTable
from lawfit.findings import as_json, code_of
from lawfit.laws.critical_batch import Hyperbola
from lawfit.laws.lr_batch import StochasticOracle
from lawfit.laws.published import published_law
from lawfit.records import OptimumStatus
from lawfit.units import format_quantity
from lawfit.words import tell
from tests.estimate.critical.simulated_batches import measured
from tests.estimate.critical.test_steps_to_target import zhang_table

LOSSES = (3.6, 3.3, 3.0, 2.7)
SIZES = (1e7, 3e7, 1e8)


def valley_table(rng: np.random.Generator, noise: float = 0.0) -> StepsTable:
    """Tokens to each loss, least at MiniCPM's batch ``1.21e9 / L^6.24``; each size reaches two of the losses."""
    rows = []
    for size, losses in zip(SIZES, (LOSSES[:2], LOSSES[1:3], LOSSES[2:]), strict=True):
        for loss in losses:
            best = 1.21e9 / loss**6.24
            for batch in best * 2.0 ** (np.arange(-4, 5) + rng.uniform(-0.5, 0.5)):
                tokens = 1e9 * np.exp(0.05 * np.log(batch / best) ** 2 + noise * rng.standard_normal())
                rows.append((size, batch, tokens / batch, loss))
    return StepsTable.of(*np.array(rows).T)


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
def test_what_is_flat_does_not_depend_on_how_tokens_are_counted(unit: float, rng: np.random.Generator) -> None:
    """The noise of a loss is no noise of ln tokens: a share of 20 nats would call a valley of 1 % flat."""
    table = valley_table(rng)
    shallow = replace(table, steps=table.steps * unit)
    assert {each.status for each in fit_least_tokens(shallow).measured} == {OptimumStatus.INSIDE}
    log_tokens = np.log(table.steps * table.batch_tokens)
    middle = np.array([log_tokens[table.target_loss == loss].mean() for loss in table.target_loss])
    for depth, status in ((0.1, OptimumStatus.FLAT), (2.0, OptimumStatus.INSIDE)):  # of the noise of a crossing
        within = np.ptp(log_tokens[(table.target_loss == LOSSES[0])])
        squeezed = np.exp(middle + depth * LEAST_SD / within * (log_tokens - middle)) / table.batch_tokens
        found = fit_least_tokens(replace(table, steps=squeezed * unit)).measured
        assert found[0].status is status


def test_g20_minicpm_is_recovered(rng: np.random.Generator) -> None:
    """G20: from tables that follow it, the published law comes back, 1,275,113 tokens at a loss of 3."""
    found = fit_least_tokens(valley_table(rng))
    assert found.law is not None
    assert found.lent_by is None
    assert found.law.exponents["loss"] == pytest.approx(-6.24, rel=1e-3)  # noise-free parabolas
    published = float(published_law("minicpm").evaluate("batch_tokens", loss=3.0))
    assert found.law.predict(loss=3.0).value == pytest.approx(published, rel=1e-2)
    assert published == pytest.approx(1275113.198)
    assert "moving as loss^-6.2" in tell(found.words())
    assert json.loads(json.dumps(as_json(found.to_json()), allow_nan=False))["lent"] is False


def test_noise_is_in_the_interval(rng: np.random.Generator) -> None:
    inside = 0
    for _ in range(20):
        law = fit_least_tokens(valley_table(rng, noise=0.03)).law
        assert law is not None
        low, high = law.exponent_interval("loss")
        inside += low <= -6.24 <= high
    assert inside >= 14  # 20 draws at 0.9: P(below 14) = 0.002


def test_one_size_borrows_the_exponent(rng: np.random.Generator) -> None:
    table = valley_table(rng)
    one = table.params == SIZES[0]
    small = StepsTable.of(table.params[one], table.batch_tokens[one], table.steps[one], table.target_loss[one])
    found, alone = fit_least_tokens(small), fit_least_tokens(small, ("minicpm",))
    assert found.lent_by == ("minicpm",)
    assert "in part from minicpm" in tell(found.words())
    assert alone.lent_by == ()
    assert "in part from a vague prior" in tell(alone.words())
    assert found.law is not None
    assert alone.law is not None
    assert abs(alone.law.exponents["loss"]) < abs(found.law.exponents["loss"])  # nothing pulls it to -6.24 any more


def test_a_hyperbola_has_no_such_batch() -> None:
    """Trap 5: where the smallest batch is the cheapest the answer is that, and no vertex beyond it."""
    curve = Hyperbola(steps_min=1000.0, tokens_min=1e8)
    batches = 1e4 * 2.0 ** np.arange(9)
    found = fit_least_tokens(StepsTable.of(np.full(9, 1e7), batches, curve.steps(batches), np.full(9, 3.0)))
    assert found.law is None
    assert found.measured[0].status is OptimumStatus.AT_EDGE
    assert found.shape == HYPERBOLA
    assert found.errors[HYPERBOLA] < 1e-6
    assert [code_of(each) for each in found.words().data["findings"]] == [
        "critical.smallest_cheapest",
        "critical.shapes",
    ]


def test_g29_the_oracles_shape_is_told_from_the_hyperbola(rng: np.random.Generator) -> None:
    """G29: A=1000, B=4, eps^2=.5, whose cost is least at 16 samples and is 64,000 gradients there."""
    curve = StochasticOracle.of_constants(A=1000, B=4, eps_squared=0.5)
    batches = 8.5 * 1.2 ** np.arange(12)
    steps = curve.steps(batches) * np.exp(0.003 * rng.standard_normal(12))
    found = fit_least_tokens(StepsTable.of(np.full(12, 1e7), batches, steps, np.full(12, 3.0)))
    assert found.shape == ORACLE
    assert found.measured[0].batch_tokens == pytest.approx(16, rel=0.1)  # a parabola near it
    assert found.measured[0].tokens == pytest.approx(64000, rel=0.03)


def test_zhang_follows_the_hyperbola() -> None:
    found = fit_least_tokens(zhang_table())
    assert found.shape == HYPERBOLA
    assert found.errors[HYPERBOLA] < 0.1 < 1.0 < found.errors[ORACLE]


def test_g14_critical_batch_of_the_loss() -> None:
    """G14: batches on ``2e8 / L^(1 / 0.21)`` (Kaplan, Su) give that law back: 1,069,114 tokens at a loss of 3."""
    found = analyse_critical(
        [
            replace(measured(2e8 * loss ** (-1 / 0.21), params, 20 * params), loss=loss)
            for params, loss in zip((1e7, 3e7, 1e8, 3e8), (4.0, 3.4, 2.9, 2.5), strict=True)
        ]
    )
    law = found.laws["loss"]
    assert law.exponents["loss"] == pytest.approx(-1 / 0.21, rel=1e-6)
    assert law.predict(loss=3.0).value == pytest.approx(1069114.010, rel=1e-6)
    assert found.certificates["loss"].search.converged


@pytest.mark.parametrize(("steps_min", "batch_min"), [(1000.0, 2e4), (50.0, 3e5), (7e4, 1e3)])
def test_the_oracle_is_stored_and_printed_with_its_own_numbers(steps_min: float, batch_min: float) -> None:
    """b* = 2 b_min and a cost of 4 S_min b_min tokens there, whatever the hyperbola would say (arXiv 2201.11989)."""
    curve = StochasticOracle(steps_min=steps_min, batch_min=batch_min)
    batches = batch_min * 1.2 * 1.7 ** np.arange(9)
    steps = np.concatenate([curve.steps(batches), 5 * curve.steps(batches)])
    table = StepsTable.of(np.repeat([1e7, 3e7], 9), np.tile(batches, 2), steps, np.full(18, 3.0))
    found = fit_least_tokens(table)
    assert found.shape == ORACLE
    assert [each.params for each in found.oracle] == [1e7, 3e7]
    for factor, each in zip((1, 5), found.oracle, strict=True):
        assert each.steps_min == pytest.approx(factor * steps_min, rel=1e-4)
        assert each.best_batch == pytest.approx(2 * batch_min, rel=1e-4)
        assert each.cost == pytest.approx(4 * factor * steps_min * batch_min, rel=1e-4)
        assert each.best_batch_low <= 2.0001 * batch_min
        assert each.best_batch_high >= 1.9999 * batch_min
    said = tell(found.lines()[-1])
    assert f"S_min {5 * steps_min:,.0f} steps" in said
    assert f"b* {format_quantity(2 * batch_min)} (" in said
    stored = found.to_json()["oracle"][0]
    assert {"steps_min", "batch_min", "best_batch", "cost"} <= set(stored)


def test_intervals_of_the_oracle_hold_its_batch(rng: np.random.Generator) -> None:
    curve = StochasticOracle(steps_min=1000.0, batch_min=2e4)
    batches = 3e4 * 1.7 ** np.arange(8)
    inside = 0
    for _ in range(60):
        steps = curve.steps(batches) * np.exp(0.03 * rng.standard_normal(8))
        (each,) = fit_least_tokens(StepsTable.of(np.full(8, 1e7), batches, steps, np.full(8, 3.0))).oracle
        inside += each.best_batch_low <= 4e4 <= each.best_batch_high
    assert 46 <= inside <= 60  # of 60 at 0.9: P(below 46) = 0.0008


def test_steps_of_a_hyperbola_are_given_no_oracle_that_is_closed_below() -> None:
    curve = Hyperbola(steps_min=1000.0, tokens_min=1e6)
    batches = 1e5 * 2.0 ** np.arange(8)
    found = fit_least_tokens(StepsTable.of(np.full(8, 1e7), batches, np.full(8, 1000.0), np.full(8, 3.0)))
    assert found.oracle == ()
    assert "critical.oracle" not in map(code_of, found.lines())
    assert fit_least_tokens(StepsTable.of(np.full(8, 1e7), batches, curve.steps(batches), np.full(8, 3.0))).errors[
        HYPERBOLA
    ] == pytest.approx(0, abs=1e-6)
