"""Estimators of a cell's optimum: known truth comes back, edges are bounds, and a flat sweep is called flat."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lawfit.estimate.numerics.optima import ESTIMATORS, Columns, locate_lr_per_batch, near_optimal_rows
from lawfit.estimate.numerics.sweeps import SweepOptimum, same_value, sweep_akima, sweep_parabola
from lawfit.records import OptimumStatus
from tests.estimate.step_law import read_step_law

INSIDE, AT_EDGE, FLAT, TOO_FEW = OptimumStatus.INSIDE, OptimumStatus.AT_EDGE, OptimumStatus.FLAT, OptimumStatus.TOO_FEW
Sweep = Callable[..., SweepOptimum]
SWEEPS = pytest.mark.parametrize("sweep", [sweep_parabola, sweep_akima])
ALL = pytest.mark.parametrize("name", ESTIMATORS)

LR = np.geomspace(2.5e-4, 1.6e-2, 13)  # steps of sqrt(2), as published grids have
BATCH = np.geomspace(2**15, 2**21, 9)


def valley(x: np.ndarray, best: float, curvature: float = 0.02, skew: float = 0.0) -> np.ndarray:
    u = np.log(x / best)
    return 2.5 + curvature * u**2 + skew * u**3


def cell(
    best_lr: float = 2e-3, best_batch: float = 2.5e5, *, slope: float = 0.3, noise: float = 0.0, seed: int = 0
) -> Columns:
    """One grid whose best lr grows as batch^slope, so its ridge is tilted as in real runs."""
    lr, batch = (a.ravel() for a in np.meshgrid(LR, BATCH, indexing="ij"))
    v = np.log(batch / best_batch)
    u = np.log(lr / best_lr) - slope * v
    loss = 2.5 + 0.02 * u**2 + 0.012 * v**2 + noise * np.random.default_rng(seed).normal(size=len(lr))
    return Columns.of(np.full(len(lr), 1e8), np.full(len(lr), 2e9), batch, lr, loss)


class TestSweeps:
    def test_parabola_is_exact_on_a_parabola(self) -> None:
        found = sweep_parabola(LR, valley(LR, 1.7e-3))
        assert found.status is INSIDE
        assert found.value == pytest.approx(1.7e-3, rel=1e-9)  # least squares of a noise-free parabola
        assert found.loss == pytest.approx(2.5, rel=1e-12)

    def test_akima_is_within_one_search_step(self) -> None:
        found = sweep_akima(LR, valley(LR, 1.7e-3))
        assert found.status is INSIDE
        assert abs(np.log(found.value / 1.7e-3)) < 1.5 * np.log(LR[-1] / LR[0]) / 99  # 100 points

    @SWEEPS
    @pytest.mark.parametrize(("best", "beyond"), [(1e-1, "above"), (1e-5, "below")])
    def test_a_minimum_outside_is_at_the_edge_with_the_next_grid(self, sweep: Sweep, best: float, beyond: str) -> None:
        found = sweep(LR, valley(LR, best))
        assert found.status is AT_EDGE
        assert LR[0] * 0.999 <= found.value <= LR[-1] * 1.001
        expected = (
            LR[-1] * np.sqrt(2) ** np.arange(1, 4) if beyond == "above" else LR[0] / np.sqrt(2) ** np.arange(1, 4)
        )
        np.testing.assert_allclose(found.next_values, expected, rtol=1e-6)

    @SWEEPS
    def test_diverged_runs_beyond_the_best_bracket_it(self, sweep: Sweep) -> None:
        loss = np.where(LR > 4.1e-3, np.nan, valley(LR, 6e-3))
        found = sweep(LR, loss)
        assert found.status is INSIDE
        assert found.value <= 4.1e-3

    @SWEEPS
    def test_diverged_runs_below_the_best_bracket_it_as_well(self, sweep: Sweep) -> None:
        """As batches may: where the smallest are those that diverge, the lowest finished one is no edge."""
        loss = np.where(LR < 0.9e-3, np.nan, valley(LR, 6e-4))
        found = sweep(LR, loss)
        assert found.status is INSIDE
        assert 0.9e-3 <= found.value <= LR[5]
        assert sweep(LR[4:], loss[4:]).status is AT_EDGE  # without them it is one
        above = sweep(LR, np.where(LR < 0.9e-3, np.nan, valley(LR, 1e-1)))
        assert above.status is AT_EDGE  # they bracket nothing at the other end
        np.testing.assert_allclose(above.next_values, LR[-1] * np.sqrt(2) ** np.arange(1, 4), rtol=1e-6)

    @SWEEPS
    def test_a_flat_sweep_says_so(self, sweep: Sweep, rng: np.random.Generator) -> None:
        found = sweep(LR, 2.5 + 1e-4 * rng.uniform(size=len(LR)))  # 0.004 % of loss: less than runs differ by
        assert found.status is FLAT
        assert found.next_values[0] < LR[0] < LR[-1] < found.next_values[-1]

    @pytest.mark.parametrize(("window", "at"), [(1, 6), (2, 6), (3, 6), (3, 1)])
    def test_the_parabola_runs_through_the_window_and_no_further(self, window: int, at: int) -> None:
        """Through so many neighbours on each side, cut where the sweep ends, and never past the nearest ones."""
        loss = valley(LR, float(LR[at] * 1.15), skew=0.004)
        found = sweep_parabola(LR, loss, window=window)
        assert int(np.argmin(loss)) == at
        rows = slice(max(at - window, 0), at + window + 1)
        bend, slope, _ = np.polyfit(np.log(LR[rows]), loss[rows], 2)
        assert found.value == pytest.approx(np.clip(np.exp(-slope / (2 * bend)), LR[at - 1], LR[at + 1]), rel=1e-6)
        assert found.value != pytest.approx(sweep_parabola(LR, loss, window=window + 1).value, rel=1e-4)

    def test_downward_curvature_is_not_a_minimum(self) -> None:
        hump = sweep_parabola(LR[:7], [2.3, 2.5, 2.7, 2.29, 2.7, 2.5, 2.3], window=3)
        assert hump.status is FLAT

    @SWEEPS
    @pytest.mark.parametrize("n", [0, 1, 2])
    def test_too_few(self, sweep: Sweep, n: int) -> None:
        found = sweep(LR[:n], valley(LR[:n], 1e-3))
        assert found.status is TOO_FEW
        assert np.isnan(found.value) == (n == 0)
        assert found.next_values == (pytest.approx((LR[0] / 2, 2 * LR[n - 1])) if n else ())

    @SWEEPS
    def test_all_diverged(self, sweep: Sweep) -> None:
        assert sweep(LR, np.full(len(LR), np.nan)).status is TOO_FEW

    @SWEEPS
    @settings(deadline=None, max_examples=50)
    @given(
        best=st.floats(1e-5, 1e-1),
        skew=st.floats(-0.005, 0.005),
        noise=st.lists(st.floats(-0.003, 0.003), min_size=13, max_size=13),
        diverged=st.integers(0, 6),
    )
    def test_never_outside_what_was_tried(
        self, sweep: Sweep, best: float, skew: float, noise: list[float], diverged: int
    ) -> None:
        loss = valley(LR, best, skew=skew) + np.array(noise)
        loss[len(LR) - diverged :] = np.nan
        found = sweep(LR, np.where(loss > 0, loss, np.nan))
        if found.status is not TOO_FEW:
            assert LR[0] * 0.999 <= found.value <= LR[-1] * 1.001
        assert (found.status is AT_EDGE) <= bool(found.next_values)

    def test_repeats_printed_differently_are_one_value(self) -> None:
        np.testing.assert_array_equal(same_value(np.array([0.002762, 0.001, 0.002760, 0.00391])), [1, 0, 1, 2])
        found = sweep_parabola(np.tile(LR, 2) * np.repeat([1, 1.0007], 13), np.tile(valley(LR, 1.7e-3), 2))
        assert found.value == pytest.approx(1.7e-3, rel=1e-3)  # the tolerance of the values themselves


@ALL
class TestEstimators:
    def test_recovers_the_optimum_of_a_tilted_valley(self, name: str) -> None:
        [found] = ESTIMATORS[name](cell())
        assert found.status is INSIDE
        # argmin can be off by a grid step; the others interpolate, to a fraction of one
        step = {"argmin": 1.0, "near_optimal": 0.5, "akima": 0.25, "parabola": 0.1}[name]
        assert abs(np.log(found.lr / 2e-3)) <= step * np.log(LR[1] / LR[0])
        assert abs(np.log(found.batch_tokens / 2.5e5)) <= step * np.log(BATCH[1] / BATCH[0])

    def test_counts_diverged_runs(self, name: str) -> None:
        runs = cell()
        loss = np.where(runs.lr > 6e-3, np.nan, runs.loss)
        [found] = ESTIMATORS[name](Columns.of(runs.params, runs.tokens, runs.batch_tokens, runs.lr, loss))
        assert (found.runs, found.diverged) == (117, 27)
        assert found.lr <= 6e-3

    def test_optimum_at_an_edge_is_said(self, name: str) -> None:
        [found] = ESTIMATORS[name](cell(best_lr=2e-2))
        assert found.lr_status is AT_EDGE
        assert found.status is AT_EDGE
        assert min(found.next_lr) > LR[-1]

    def test_batch_at_an_edge_is_said(self, name: str) -> None:
        [found] = ESTIMATORS[name](cell(best_batch=2**23, slope=0.0))
        assert found.batch_status is AT_EDGE
        assert (found.lr_status, found.status) == (INSIDE, AT_EDGE)  # the worse of both
        assert min(found.next_batch_tokens) > BATCH[-1]

    def test_cells_come_in_order_and_empty_ones_are_kept(self, name: str) -> None:
        a, n = cell(), len(cell())
        runs = Columns.of(
            np.repeat([2e8, 1e8], n), np.repeat([4e9, 2e9], n), np.tile(a.batch_tokens, 2), np.tile(a.lr, 2),
            np.concatenate([np.full(n, np.nan), a.loss]),
        )  # fmt: skip
        found = ESTIMATORS[name](runs)
        assert [c.params for c in found] == [1e8, 2e8]
        assert [c.status for c in found] == [INSIDE, TOO_FEW]
        assert np.isnan(found[1].lr)
        assert found[1].diverged == n

    def test_a_learning_rate_sweep_at_one_batch(self, name: str) -> None:
        runs = cell()
        one = runs.take(runs.batch_tokens == BATCH[4])
        [found] = ESTIMATORS[name](one)
        assert found.lr_status is INSIDE
        assert found.batch_status is TOO_FEW
        assert found.batch_tokens == pytest.approx(BATCH[4])
        best_there = 2e-3 * (BATCH[4] / 2.5e5) ** 0.3
        assert abs(np.log(found.lr / best_there)) <= np.log(LR[1] / LR[0])

    def test_noise_moves_it_by_no_more_than_a_few_steps(self, name: str) -> None:
        found = [ESTIMATORS[name](cell(noise=0.001, seed=s))[0] for s in range(20)]
        error = np.array([np.log(f.lr / 2e-3) for f in found])
        assert np.abs(error).max() < 4 * np.log(LR[1] / LR[0])
        assert abs(np.median(error)) < 1.5 * np.log(LR[1] / LR[0])


def test_near_optimal_band_is_relative_and_per_cell() -> None:
    loss = [2.0, 2.0049, 2.0051, np.nan, 4.0, 4.009]
    cells = [1e8, 1e8, 1e8, 1e8, 2e8, 2e8]
    runs = Columns.of(cells, [1e9] * 6, [1e5] * 6, [1e-3] * 6, loss)
    np.testing.assert_array_equal(near_optimal_rows(runs), [True, True, False, False, True, True])


def test_columns_refuse_what_is_no_quantity() -> None:
    with pytest.raises(ValueError, match="lr must be positive"):
        Columns.of([1e8], [1e9], [1e5], [0.0], [2.0])
    with pytest.raises(ValueError, match="differ in length"):
        Columns.of([1e8], [1e9], [1e5], [1e-3, 2e-3], [2.0])


class TestStepLawGrid:
    @pytest.fixture
    def runs(self, shared_data: Path) -> Columns:
        return read_step_law(shared_data)

    @ALL
    def test_every_cell_has_its_optimum_inside(self, name: str, runs: Columns) -> None:
        found = ESTIMATORS[name](runs)
        assert len(found) == 14
        assert {c.status for c in found} == {INSIDE}

    def test_estimators_agree_within_a_factor(self, runs: Columns) -> None:
        lr = np.log([[c.lr for c in locate(runs)] for locate in ESTIMATORS.values()])
        assert np.ptp(lr, axis=0).max() < np.log(2.1)  # argmin wanders by two grid steps of sqrt(2)

    def test_sweeps_per_batch_find_most_minima(self, runs: Columns) -> None:
        sweeps = locate_lr_per_batch(runs)
        assert len(sweeps.optima) == 140  # 14 cells of 10 batch sizes
        assert sweeps.inside.sum() >= 125
