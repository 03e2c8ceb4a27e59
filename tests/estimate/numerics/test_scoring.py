"""The yardstick: interpolation of observed losses, what lies outside, and the figures known for the Step Law grid."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lawfit.errors import NotEnoughData
from lawfit.estimate.numerics.optima import Columns
from lawfit.estimate.numerics.regression import LrBatchLaws, fit_argmin_ols, fit_e1
from lawfit.estimate.numerics.scoring import ObservedSurface, median
from lawfit.findings import finding
from lawfit.laws.published import published_law
from tests.estimate.scored_laws import LawScore, observed_regret, observed_surfaces, score_law
from tests.estimate.step_law import read_step_law

RULES = pytest.mark.parametrize("rule", ["triangles", "bilinear"])
LR = np.geomspace(1e-4, 1e-2, 9)
BATCH = np.geomspace(1e5, 1e6, 6)


def plane(lr: np.ndarray, batch: np.ndarray) -> np.ndarray:
    return 3 + 0.1 * np.log(lr / 1e-3) - 0.05 * np.log(batch / 3e5)


def grid(hole: tuple[int, int] | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    lr, batch = (a.ravel() for a in np.meshgrid(LR, BATCH, indexing="ij"))
    loss = plane(lr, batch)
    if hole is not None:
        loss[np.ravel_multi_index(hole, (len(LR), len(BATCH)))] = np.nan
    return lr, batch, loss


@RULES
class TestObservedSurface:
    def test_a_plane_in_logs_is_exact(self, rule: str, rng: np.random.Generator) -> None:
        surface = ObservedSurface(*grid(), rule=rule)
        lr, batch = np.exp(rng.uniform(np.log([[1e-4], [1e5]]), np.log([[1e-2], [1e6]]), size=(2, 200)))
        loss, outside = surface.loss_at(lr, batch)
        np.testing.assert_allclose(loss, plane(lr, batch), rtol=1e-12)  # linear interpolation of a plane
        assert not outside.any()

    def test_a_hole_is_bridged(self, rule: str) -> None:
        lr, batch, loss = grid(hole=(4, 3))
        surface = ObservedSurface(lr, batch, loss, rule=rule)
        at, outside = surface.loss_at(LR[4], BATCH[3])
        assert float(at) == pytest.approx(float(plane(LR[4], BATCH[3])), rel=1e-12)
        assert not outside

    def test_observed_runs_score_their_own_loss(self, rule: str, rng: np.random.Generator) -> None:
        lr, batch, loss = grid()
        loss = loss + rng.normal(0, 0.1, size=loss.shape)
        result = observed_regret(lr, batch, loss, at_lr=lr, at_batch=batch, rule=rule)
        np.testing.assert_allclose(result.regret, loss / loss.min() - 1, atol=1e-9)
        assert not result.outside.any()

    @pytest.mark.parametrize(
        ("at", "edge"),
        [((1e-1, 3e5), (1e-2, 3e5)), ((1e-3, 1e8), (1e-3, 1e6)), ((1e-9, 1e-9), (1e-4, 1e5))],
        ids=["lr too high", "batch too large", "both too low"],
    )
    def test_outside_is_clamped_and_flagged(
        self, rule: str, at: tuple[float, float], edge: tuple[float, float]
    ) -> None:
        loss, outside = ObservedSurface(*grid(), rule=rule).loss_at(*at)
        assert outside
        assert float(loss) == pytest.approx(float(plane(*map(np.asarray, edge))), rel=1e-6)  # one step inside the hull

    def test_scalar_and_array_queries_agree(self, rule: str) -> None:
        surface = ObservedSurface(*grid(), rule=rule)
        many = surface.regret(LR, 3e5)
        assert many.regret.shape == LR.shape
        assert float(surface.regret(LR[2], 3e5).regret) == many.regret[2]

    def test_seeds_are_averaged_before_the_lowest_is_taken(self, rule: str) -> None:
        lr, batch, loss = grid()
        surface = ObservedSurface(
            np.tile(lr, 2), np.tile(batch, 2), np.concatenate([loss - 0.1, loss + 0.1]), rule=rule
        )
        assert surface.lowest_loss == pytest.approx(loss.min())

    def test_one_learning_rate_sweep_is_a_line(self, rule: str) -> None:
        surface = ObservedSurface(LR, np.full(9, 3e5), plane(LR, np.full(9, 3e5)), rule=rule)
        loss, outside = surface.loss_at([5e-4, 5e-4, 1.0], [3e5, 6e5, 3e5])
        np.testing.assert_allclose(loss[:2], float(plane(np.asarray(5e-4), np.asarray(3e5))), rtol=1e-12)
        np.testing.assert_array_equal(outside, [False, True, True])

    def test_a_single_run(self, rule: str) -> None:
        result = observed_regret([1e-3], [1e5], [3.0], at_lr=[1e-3, 2e-3], at_batch=1e5, rule=rule)
        np.testing.assert_array_equal(result.regret, 0)
        np.testing.assert_array_equal(result.outside, [False, True])

    def test_nothing_finished(self, rule: str) -> None:
        with pytest.raises(NotEnoughData) as caught:
            ObservedSurface([1e-3, 2e-3], [1e5, 1e5], [np.nan, np.inf], rule=rule)
        assert caught.value.finding == finding("numerics.nothing_finished", runs=2)


def test_batch_tied_to_the_learning_rate_is_a_line() -> None:
    surface = ObservedSurface(LR, 1e8 * LR, plane(LR, 1e8 * LR))
    loss, outside = surface.loss_at(LR[3], [1e8 * LR[3], 2e8 * LR[3]])
    np.testing.assert_allclose(loss, float(plane(LR[3], 1e8 * LR[3])), rtol=1e-12)
    np.testing.assert_array_equal(outside, [False, True])


def test_a_law_without_an_answer_is_counted_not_averaged() -> None:
    surfaces = {(1e8, 2e9): ObservedSurface(*grid()), (1e12, 2e13): ObservedSurface(*grid())}
    score = score_law(surfaces, lambda params, tokens: (1e-4 if params < 1e9 else float("nan"), 1e6))
    assert score.cells == ((1e8, 2e9),)
    assert score.unanswered == ((1e12, 2e13),)
    assert score.mean == pytest.approx(0.0, abs=1e-9)  # the plane's lowest corner
    with pytest.raises(NotEnoughData, match="2 without an answer"):
        score_law(surfaces, lambda params, tokens: (-1.0, 1e6))


def test_random_search_needs_no_grid(rng: np.random.Generator) -> None:
    lr, batch = np.exp(rng.uniform(np.log([[1e-4], [1e5]]), np.log([[1e-2], [1e6]]), size=(2, 60)))
    surface = ObservedSurface(lr, batch, plane(lr, batch))
    loss, outside = surface.loss_at(1e-3, 3e5)
    assert float(loss) == pytest.approx(3.0, rel=1e-9)
    assert not outside


def test_nearly_equal_learning_rates_are_one_grid_line() -> None:
    """0.002760 in some rows and 0.002762 in others, as real files print them."""
    lr, batch, loss = grid()
    lr = lr * np.where(np.arange(len(lr)) % 2, 1.0007, 1.0)
    at, _ = ObservedSurface(lr, batch, loss, rule="bilinear").loss_at(1.3e-3, 3e5)
    assert float(at) == pytest.approx(float(plane(np.asarray(1.3e-3), np.asarray(3e5))), rel=1e-4)  # 0.07 % of lr


def leave_one_out(runs: Columns, fit: Callable[[Columns], LrBatchLaws]) -> np.ndarray:
    surfaces = observed_surfaces(runs.params, runs.tokens, runs.batch_tokens, runs.lr, runs.loss)
    regret = [
        score_law(
            {cell: surface for cell, surface in surfaces.items() if cell[0] == params},
            fit(runs.take(runs.params != params)).predict,
        ).regret
        for params in np.unique(runs.params)
    ]
    return np.concatenate(regret)


class TestStepLawGrid:
    """Figures of the estimation sheet, to their printed digits (percent)."""

    @pytest.fixture
    def runs(self, shared_data: Path) -> Columns:
        return read_step_law(shared_data)

    @pytest.fixture
    def published(self, runs: Columns) -> LawScore:
        law = published_law("step_law")

        def predict(params: float, tokens: float) -> tuple[float, float]:
            said = law.predict(params, tokens)
            assert said.lr is not None
            assert said.batch_tokens is not None
            return float(said.lr), float(said.batch_tokens)

        return score_law(observed_surfaces(runs.params, runs.tokens, runs.batch_tokens, runs.lr, runs.loss), predict)

    def test_published_law(self, published: LawScore) -> None:
        assert len(published.cells) == 14
        assert not published.outside.any()
        assert 100 * published.mean == pytest.approx(0.128, abs=5e-4)
        assert 100 * published.worst == pytest.approx(0.244, abs=5e-4)

    def test_published_law_on_larger_models(self, published: LawScore) -> None:
        large = [r for (params, _), r in zip(published.cells, published.regret, strict=True) if params >= 5e8]
        assert 100 * np.mean(large) == pytest.approx(0.0955, abs=6e-4)  # printed as .095

    def test_argmin_leave_one_out(self, runs: Columns) -> None:
        assert 100 * leave_one_out(runs, fit_argmin_ols).mean() == pytest.approx(0.109, abs=5e-4)

    def test_argmin_with_batch_of_tokens_only(self, runs: Columns) -> None:
        regret = leave_one_out(runs, lambda r: fit_argmin_ols(r, batch_inputs=("tokens",)))
        assert 100 * regret.mean() == pytest.approx(0.168, abs=5e-4)

    def test_e1_leave_one_out(self, runs: Columns) -> None:
        assert 100 * leave_one_out(runs, fit_e1).mean() == pytest.approx(0.118, abs=5e-4)


@pytest.mark.parametrize("size", [1, 2, 3, 8, 31])
def test_median_is_that_of_numpy(size: int, rng: np.random.Generator) -> None:
    values = rng.normal(size=size)
    assert median(values) == np.median(values)
