"""The ensemble: weights follow the cells left out, choices fit the evidence, laws left out lend nothing."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from lawfit.errors import FitError, UnknownLaw
from lawfit.estimate.lr_batch import ensemble as room
from lawfit.estimate.lr_batch.backtest import observed_surfaces_of
from lawfit.estimate.lr_batch.borrowed import PRIOR_FORMS, borrowed, law_prior
from lawfit.estimate.lr_batch.ensemble import Choice, Ensemble, candidate_choices, fit_ensemble, usable_windows
from lawfit.estimate.observe.observations import Observations, observe
from lawfit.findings import code_of, finding
from lawfit.simulate import Truth
from tests.estimate.simulated import COMPUTE_PATH, NINE, nine_scales, sweep


def fit(observed: Observations, **options: object) -> Ensemble:
    return fit_ensemble(observed, observed_surfaces_of(observed), **options)  # type: ignore[arg-type]


def test_weights_are_a_share_and_fall_with_the_score() -> None:
    members = fit(nine_scales()).members
    assert sum(m.weight for m in members) == pytest.approx(1.0, abs=1e-12)
    assert all(m.weight >= 0 for m in members)
    by_score = sorted(members, key=lambda m: m.score or 0.0)
    weights = [m.weight for m in by_score]
    assert weights == sorted(weights, reverse=True)


def test_every_reasonable_choice_is_tried() -> None:
    members = fit(nine_scales()).members
    assert {m.choice.shape for m in members} == set(room.TRIED_SHAPES)
    assert {m.choice.prior for m in members} == set(PRIOR_FORMS)
    assert 1 <= len({m.choice.window for m in members}) <= room.WINDOWS_TRIED


def test_recovers_the_truth_between_its_scales() -> None:
    at = np.array([6e7]), np.array([1.8e9])
    found = fit(nine_scales()).optimum(*at)
    true = np.log(Truth().optimum(6e7, 1.8e9))
    assert float(found[0][0]) == pytest.approx(true[0], abs=0.15)  # 30 runs a scale, grid steps of .35
    assert float(found[1][0]) == pytest.approx(true[1], abs=0.15)


@pytest.mark.parametrize(
    "scales", [NINE[:1], NINE[:4], COMPUTE_PATH], ids=["one scale", "four scales", "20 tokens per parameter"]
)
def test_without_scales_to_choose_by_all_choices_count_alike(scales: tuple[tuple[float, float], ...]) -> None:
    found = fit(observe(sweep(scales).runs))
    assert {m.score for m in found.members} == {None}
    assert len({round(m.weight, 12) for m in found.members}) == 1
    assert {m.choice.prior for m in found.members} == {"published"}


def test_windows_follow_the_noise() -> None:
    observed = nine_scales()
    quiet = {c.window for c in candidate_choices(observed, 1e-4, can_choose=True)}
    loud = {c.window for c in candidate_choices(observed, 0.01, can_choose=True)}
    assert min(loud) > min(quiet)


def test_windows_hold_runs_enough() -> None:
    observed = nine_scales()
    above = observed.log_loss - observed.lowest_log_loss()[observed.cell]
    for window in usable_windows(observed):
        assert np.median(np.bincount(observed.cell[above <= window])) >= room.ROWS_PER_CELL


class TestStarts:
    def test_do_not_move_the_answer(self) -> None:
        observed = nine_scales()
        cold = fit(observed)
        noisier = replace(observed, log_loss=observed.log_loss + 0.01 * np.sin(50 * observed.log_lr))
        elsewhere = {m.choice: m.fit for m in fit(noisier).members}
        warm = fit(observed, starts=elsewhere)
        scales = observed.params, observed.tokens
        # a start changes where the iteration stops, by a hundredth of a standard error; a saddle is started afresh
        moved = np.array(warm.optimum(*scales)) - cold.optimum(*scales)
        cov = np.array([cold.foretell(n, d)[1] for n, d in zip(*scales, strict=True)])
        assert np.max(np.abs(moved) / np.sqrt(np.diagonal(cov, axis1=1, axis2=2).T)) < 0.01

    def test_may_be_centred_elsewhere(self) -> None:
        observed = nine_scales()
        part = observed.subset([0, 1, 2, 3, 4, 5])
        starts = {m.choice: m.fit for m in fit(observed).members}
        cold, warm = fit(part), fit(part, starts=starts)
        np.testing.assert_allclose(
            warm.optimum(observed.params, observed.tokens),
            cold.optimum(observed.params, observed.tokens),
            rtol=0,
            atol=2e-3,
        )


class TestWithoutLaws:
    def test_the_evidence_of_a_law_is_gone(self) -> None:
        centre = float(np.log(1e8)), float(np.log(2e9))
        with_all, without = law_prior("published", centre), law_prior("published", centre, ("step_law",))
        assert not np.allclose(with_all.mean, without.mean)
        assert not any("deepseek" in found.data["laws"] for found in borrowed(("deepseek",)))
        assert all("deepseek" in found.data["laws"] for found in borrowed())
        assert [code_of(found) for found in borrowed()] == ["lr_batch.exponents_lent", "lr_batch.level_lent"] * 2

    def test_moves_a_fit_that_leans_on_it(self) -> None:
        observed = observe(sweep(NINE[:1], batch_steps=1).runs)
        far = np.array([1e10]), np.array([2e11])
        one, other = fit(observed).optimum(*far), fit(observed, without_laws=("step_law",)).optimum(*far)
        assert not np.allclose(one, other, atol=1e-3)

    def test_an_unknown_law_is_said(self) -> None:
        with pytest.raises(UnknownLaw, match="no published law 'nonsense'"):
            fit(nine_scales(), without_laws=("nonsense",))


def test_no_choice_that_converges_is_an_error() -> None:
    observed = nine_scales()
    with pytest.raises(FitError) as caught:
        fit_ensemble(observed, {}, choices=[Choice("cubic", -1.0, "own")])
    empty = finding("lr_batch.empty_window")
    failed = finding("lr_batch.choice_failed", shape="cubic", window=-1.0, prior="own", why=empty)
    assert caught.value.finding == finding("lr_batch.no_surface", choices=[failed])


def test_a_cell_counts_once_alone_once_with_its_size_and_once_with_all_larger_sizes() -> None:
    """Six sizes of two cells: what was foretold of each in each group costs another amount, and shares are counted."""
    size = np.repeat(np.arange(6), 2)
    observed = SimpleNamespace(n_cells=12, size_of_cell=lambda: size)
    groups = room.left_out_groups(observed)  # type: ignore[arg-type]
    rng = np.random.default_rng(1)
    fits = [SimpleNamespace(foretold=[rng.normal(size=(len(group), 2)) for group in groups]) for _ in range(3)]
    surfaces = {
        cell: SimpleNamespace(regret=lambda lr, batch: SimpleNamespace(regret=np.log(lr) ** 2 + np.log(batch) ** 2))
        for cell in range(11)  # the last one has too few runs to price a mistake
    }
    found = room._scores(observed, surfaces, groups, dict(enumerate(fits)))  # type: ignore[arg-type]
    upward = [group for group in groups if len(set(size[group])) > 1]
    assert [len(group) for group in upward] == [8, 6, 4]
    wanted, weights = np.zeros(3), 0.0
    for at, group in enumerate(groups):
        for place, cell in enumerate(group):
            if cell == 11:
                continue
            held = sum(cell in each for each in upward)
            weight = 1 / held if len(set(size[group])) > 1 else 1.0
            weights += weight
            wanted += weight * np.array([(fit.foretold[at][place] ** 2).sum() for fit in fits])
    np.testing.assert_allclose(found, wanted / weights, rtol=1e-12)
    assert weights == pytest.approx(2 * 11 + 7)  # alone, with its size; and the seven larger ones that can be priced
