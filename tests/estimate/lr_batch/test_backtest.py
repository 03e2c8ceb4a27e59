"""The backtest: nothing of the cells left out reaches what is predicted for them, and everyone is scored alike."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import statsmodels.api as sm

from lawfit.estimate.lr_batch import backtest
from lawfit.estimate.lr_batch.analysis import fit_valley
from lawfit.estimate.lr_batch.backtest import (
    ARGMIN,
    COMPUTE,
    E1,
    MEDIAN,
    OURS,
    ROBUST,
    best_runs,
    columns_of,
    observed_surfaces_of,
    published_predictions,
    run_backtest,
    scale_splits,
)
from lawfit.estimate.lr_batch.backtest import _methods as methods_of  # the predictions that a split scores
from lawfit.estimate.lr_batch.ensemble import fit_ensemble
from lawfit.estimate.observe.observations import Observations, observe
from lawfit.simulate import Truth
from tests.estimate.scored_laws import observed_regret
from tests.estimate.simulated import COMPUTE_PATH, NINE, nine_fit, nine_scales, sweep

KEPT = np.array([0, 1, 2, 3, 4, 5])
LEFT = np.array([6, 7, 8])


def predictions(observed: Observations, kept: np.ndarray = KEPT) -> dict[str, np.ndarray]:
    """ln (lr, batch) of every method at the cells left out, exactly as a round of the backtest makes them."""
    surfaces = observed_surfaces_of(observed)
    starts = {m.choice: m.fit for m in fit_ensemble(observed, surfaces).members}
    left = np.setdiff1d(np.arange(observed.n_cells), kept)
    scales = observed.params[left], observed.tokens[left]
    _, found = methods_of(observed, surfaces, kept, starts, best_runs(observed), ())
    return {name: np.log(np.array(predict(*scales))) for name, predict in found.items()}


@pytest.mark.parametrize("seeds", [1, 2])
def test_losses_left_out_change_no_prediction(seeds: int, rng: np.random.Generator) -> None:
    """The leak that matters: spoil the held-out losses (and the spread of their seeds) and predict again."""
    observed = observe(sweep(truth=Truth(scatter_lr=0.1, scatter_batch=0.1), seeds=seeds).runs)
    spoilt = np.isin(observed.cell, LEFT)
    other = replace(
        observed,
        log_loss=observed.log_loss + np.where(spoilt, rng.normal(0, 0.1, len(spoilt)), 0.0),
        seed_squares=np.where(spoilt, 1.0, observed.seed_squares),
    )
    before, after = predictions(observed), predictions(other)
    assert before.keys() == after.keys() >= {OURS, ARGMIN, E1}
    for method in before:
        # ours starts from coefficients of the full fit, and stops within 1e-4 of the objective of the same mode
        tolerance = 1e-3 if method == OURS else 1e-12
        np.testing.assert_allclose(after[method], before[method], rtol=0, atol=tolerance, err_msg=method)


def test_losses_kept_do_change_predictions() -> None:
    """The counterpart: the test above could not fail if predictions never changed."""
    observed = nine_scales()
    tilt = np.where(np.isin(observed.cell, KEPT), 0.01 * (observed.log_lr + 6), 0.0)
    before, after = predictions(observed), predictions(replace(observed, log_loss=observed.log_loss + tilt))
    assert np.abs(after[OURS] - before[OURS]).max() > 0.1
    assert np.abs(after[ARGMIN] - before[ARGMIN]).max() > 0.01


class TestTable:
    def test_everyone_in_one_table(self) -> None:
        labels = set(published_predictions())
        for split in nine_fit().payload["backtest"]["splits"]:
            methods = {row["method"] for row in split["rows"]}
            assert {OURS, ARGMIN, E1} <= methods
            assert methods & labels
            assert len({row["cells"] for row in split["rows"]}) == 1

    def test_ours_comes_first_then_by_mean(self) -> None:
        for split in nine_fit().payload["backtest"]["splits"]:
            names = [row["method"] for row in split["rows"]]
            means = [row["mean_regret"] for row in split["rows"][1:]]
            assert names[0] == OURS
            assert means == sorted(means)

    def test_worst_is_at_least_the_mean_and_none_is_negative(self) -> None:
        for split in nine_fit().payload["backtest"]["splits"]:
            for row in split["rows"]:
                assert 0 <= row["mean_regret"] <= row["worst_regret"]


def test_a_method_is_ranked_on_all_scales_or_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that fails in a round, or says nothing somewhere, would be ranked on the easier scales."""
    observed = nine_scales()
    surfaces = observed_surfaces_of(observed)
    best = best_runs(observed)
    found = {(n, d): (cell.lr, cell.batch_tokens) for (n, d), cell in best.items()}

    def right(params: np.ndarray, tokens: np.ndarray, factor: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
        lr, batch = np.array([found[scale] for scale in zip(params, tokens, strict=True)]).T
        return lr * factor, batch

    def silent_once(params: np.ndarray, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        lr, batch = right(params, tokens)
        return np.where(params == observed.params.max(), np.nan, lr), batch

    rounds = []

    def methods(*_args: object) -> object:
        rounds.append(1)
        said = {"twice": lambda n, d: right(n, d, 2.0), "best": right, "silent once": silent_once}
        return None, said if len(rounds) == 2 else {**said, "fails once": right}

    monkeypatch.setattr(backtest, "_methods", methods)
    full = SimpleNamespace(members=())
    (split, rows), *_ = run_backtest(observed, surfaces, full, None)[0]  # type: ignore[arg-type]
    assert [(row.method, row.cells) for row in rows] == [("best", 9), ("twice", 9)]
    assert len(split.rounds) == 3
    regrets = [
        float(surfaces[cell].regret(2 * found[scale][0], found[scale][1]).regret)
        for cell, scale in enumerate(zip(observed.params.tolist(), observed.tokens.tolist(), strict=True))
    ]
    assert (rows[0].mean_regret, rows[0].worst_regret) == (0.0, 0.0)
    assert rows[1].mean_regret == pytest.approx(np.mean(regrets), rel=1e-12)
    assert rows[1].worst_regret == pytest.approx(np.max(regrets), rel=1e-12)


def test_rivals_are_the_lines_that_others_draw() -> None:
    """Each baseline against the line drawn anew by statsmodels: one that is told wrong makes ours look better."""
    observed = observe(sweep(truth=Truth(scatter_lr=0.3, scatter_batch=0.3)).runs)
    best = list(best_runs(observed).values())
    best[4] = replace(best[4], lr=4 * best[4].lr, batch_tokens=6 * best[4].batch_tokens)  # an odd one
    scales = np.log([(cell.params, cell.tokens) for cell in best])
    wanted = np.log([(cell.lr, cell.batch_tokens) for cell in best])
    target = np.log([[3e9, 5e10], [1e7, 2e9]])
    both, alone = sm.add_constant(scales), sm.add_constant(scales.sum(axis=1) + np.log(6))
    lines = {
        ARGMIN: lambda y: sm.OLS(y, both).fit(),
        ROBUST: lambda y: sm.RLM(y, both).fit(),
        MEDIAN: lambda y: sm.QuantReg(y, both - [0, *scales.mean(axis=0)]).fit(q=0.5, max_iter=2000),
        COMPUTE: lambda y: sm.OLS(y, alone).fit(),
    }
    rows = {
        name: np.column_stack([np.ones(2), *(target - (scales.mean(axis=0) if name == MEDIAN else 0)).T])
        if name != COMPUTE
        else np.column_stack([np.ones(2), target.sum(axis=1) + np.log(6)])
        for name in lines
    }
    said = {}
    for name, line in lines.items():
        laws = backtest._BASELINES[name](columns_of(observed), best=best)
        said[name] = [np.log(laws.predict(*np.exp(scale))) for scale in target]
        expected = np.column_stack([rows[name] @ line(y).params for y in wanted.T])
        np.testing.assert_allclose(said[name], expected, rtol=0, atol=1e-5, err_msg=name)
    for name in (ROBUST, MEDIAN, COMPUTE):
        assert np.abs(np.subtract(said[name], said[ARGMIN])).max() > 0.01  # another line indeed


def test_ours_is_scored_on_observed_runs() -> None:
    """The reported figure again, from the runs alone: linear interpolation of measured losses, over the lowest."""
    observed = nine_scales()
    surfaces = observed_surfaces_of(observed)
    full = fit_ensemble(observed, surfaces)
    split, rows = run_backtest(observed, surfaces, full, fit_valley(observed, full, ()))[0][0]
    regrets = []
    for kept in split.rounds:
        left = np.setdiff1d(np.arange(observed.n_cells), kept)
        part = observed.subset(kept)
        mine = fit_ensemble(part, observed_surfaces_of(part))
        log_lr, log_batch = mine.optimum(observed.params[left], observed.tokens[left])
        for cell, lr, batch in zip(left, np.exp(log_lr), np.exp(log_batch), strict=True):
            runs = observed.rows_of(int(cell))
            scored = observed_regret(
                np.exp(observed.log_lr[runs]),
                np.exp(observed.log_batch[runs]),
                np.exp(observed.log_loss[runs]),
                at_lr=lr,
                at_batch=batch,
                rule="bilinear",
            )
            regrets.append(float(scored.regret))
    ours = next(row for row in rows if row.method == OURS)
    assert ours.cells == len(regrets) == observed.n_cells
    # predictions agree to 1e-3 (starts), where the valley rises by less than 1e-4 for that
    assert ours.mean_regret == pytest.approx(np.mean(regrets), abs=2e-5)
    assert ours.worst_regret == pytest.approx(np.max(regrets), abs=1e-4)


class TestSplits:
    @pytest.mark.parametrize("scales", [NINE, NINE[:4], COMPUTE_PATH, NINE[:3]], ids=["9", "4", "path", "one size"])
    def test_every_round_learns_from_some_and_scores_others(self, scales: tuple[tuple[float, float], ...]) -> None:
        observed = observe(sweep(scales).runs)
        for split in scale_splits(observed):
            for kept in split.rounds:
                assert 0 < len(kept) < observed.n_cells
                assert len(np.unique(kept)) == len(kept)

    def test_the_larger_scales_are_left_out(self) -> None:
        observed = nine_scales()
        compute = observed.params * observed.tokens
        split = next(s for s in scale_splits(observed) if s.name.startswith("largest third"))
        kept = split.rounds[0]
        left = np.setdiff1d(np.arange(observed.n_cells), kept)
        assert compute[kept].max() <= compute[left].min()

    def test_a_size_is_left_out_whole(self) -> None:
        observed = nine_scales()
        split = next(s for s in scale_splits(observed) if s.name.startswith("each model size"))
        for kept in split.rounds:
            left = np.setdiff1d(np.arange(observed.n_cells), kept)
            assert not set(observed.params[kept]) & set(observed.params[left])

    @pytest.mark.parametrize("count", [1, 2])
    def test_one_or_two_scales_cannot_be_left_out(self, count: int) -> None:
        assert scale_splits(observe(sweep(NINE[:count]).runs)) == []


def test_columns_keep_diverged_settings() -> None:
    observed = observe(sweep(truth=Truth(diverges_above=0.3)).runs)
    columns = columns_of(observed)
    assert len(observed.diverged_log_lr) > 0
    assert int(np.isnan(columns.loss).sum()) == len(observed.diverged_log_lr)
    assert len(columns.loss) == len(observed.log_loss) + len(observed.diverged_log_lr)


def test_a_scale_with_few_settings_is_not_scored() -> None:
    """Whatever is recommended where one run was made would look free."""
    runs = list(sweep().runs)
    lonely = [replace(runs[0], run_key="lonely", params=7e8, tokens=7e9)]
    observed = observe([*runs, *lonely])
    surfaces = observed_surfaces_of(observed)
    assert len(surfaces) == observed.n_cells - 1
    full = fit_ensemble(observed, surfaces)
    scored, _ = run_backtest(observed, surfaces, full, fit_valley(observed, full, ()))
    assert all(row.cells <= len(surfaces) for _, rows in scored for row in rows)
