"""Power-law regression: agreement with statsmodels, what is not identified is said, and the golden fit of E1."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats

from lawfit.errors import FitError, NotEnoughData
from lawfit.estimate.numerics.optima import Columns, locate_lr_per_batch
from lawfit.estimate.numerics.regression import Line, fit_argmin_ols, fit_e1, fit_power_law, fit_power_law_clustered
from lawfit.estimate.numerics.resample import size_clusters
from lawfit.findings import code_of, finding
from tests.estimate.step_law import read_step_law


@pytest.fixture
def rows(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """12 clusters of 5 rows with a shared error each."""
    cluster = np.repeat(np.arange(12), 5)
    params = np.repeat(10 ** rng.uniform(7, 9, 12), 5)
    tokens = np.repeat(10 ** rng.uniform(9, 11, 12), 5)
    shared = np.repeat(rng.normal(0, 0.1, 12), 5)
    y = 2.0 * params**-0.6 * tokens**0.3 * np.exp(shared + rng.normal(0, 0.05, 60))
    return {"cluster": cluster, "params": params, "tokens": tokens, "y": y}


def test_noise_free_law_is_exact(rows: dict[str, np.ndarray]) -> None:
    y = 1.79 * rows["params"] ** -0.713 * rows["tokens"] ** 0.307
    law = fit_power_law(y, {"params": rows["params"], "tokens": rows["tokens"]})
    assert law.const == pytest.approx(1.79, rel=1e-9)
    assert law.exponents == pytest.approx({"params": -0.713, "tokens": 0.307}, rel=1e-10)
    assert float(law.predict(params=1e9, tokens=1e11)) == pytest.approx(1.79 * 1e9**-0.713 * 1e11**0.307, rel=1e-9)


def test_agrees_with_refits_without_each_cluster(rows: dict[str, np.ndarray]) -> None:
    inputs = {"params": rows["params"], "tokens": rows["tokens"]}
    fit = fit_power_law_clustered(rows["y"], inputs, rows["cluster"])
    design = sm.add_constant(np.log(np.column_stack([rows["params"], rows["tokens"]])))
    reference = sm.OLS(np.log(rows["y"]), design).fit()
    np.testing.assert_allclose(fit.coefficients, reference.params, rtol=1e-8)
    assert fit.residual_sd == pytest.approx(np.sqrt(reference.mse_resid), rel=1e-9)
    kept = [rows["cluster"] != g for g in range(12)]
    steps = np.array([sm.OLS(np.log(rows["y"][k]), design[k]).fit().params for k in kept]) - reference.params
    cov = 11 / 12 * steps.T @ steps
    np.testing.assert_allclose(fit.cov, cov, rtol=1e-6)
    half = stats.t.ppf(0.95, 11) * np.sqrt(np.diag(cov))
    np.testing.assert_allclose(fit.high - fit.coefficients, half, rtol=1e-6)
    quick = fit_power_law(rows["y"], inputs)
    np.testing.assert_allclose([quick.log_const, *quick.exponents.values()], reference.params, rtol=1e-8)


def test_four_sizes_are_four_observations_of_an_exponent_of_params(rng: np.random.Generator) -> None:
    """1,000 laws whose sizes lie off them: the interval holds the exponent as often as it says, on as few clusters."""
    params, tokens = np.repeat(np.geomspace(1e8, 1e9, 4), 4), 10 ** rng.uniform(9, 11, 16)
    held, held_by_scales = 0, 0
    for _ in range(1000):
        shared = np.repeat(rng.normal(0, 0.15, 4), 4)
        y = params**-0.6 * tokens**0.3 * np.exp(shared + rng.normal(0, 0.02, 16))
        for by_size in (True, False):
            cluster = size_clusters(params, tokens) if by_size else np.arange(16)
            fit = fit_power_law_clustered(y, {"params": params, "tokens": tokens}, cluster)
            inside = fit.low[1] <= -0.6 <= fit.high[1]
            held, held_by_scales = held + (inside and by_size), held_by_scales + (inside and not by_size)
    assert held >= 880  # 900 less two standard errors
    assert held_by_scales < 800


def test_a_cluster_that_alone_determines_an_exponent_is_refused() -> None:
    params, tokens = np.repeat([1e8, 1e9], 4), np.tile(np.geomspace(1e9, 1e11, 4), 2)
    y = params**-0.6 * tokens**0.3
    with pytest.raises(FitError) as caught:
        fit_power_law_clustered(y, {"params": params, "tokens": tokens}, params)
    assert caught.value.finding == finding("numerics.one_cluster_alone", clusters=2)


@pytest.mark.parametrize("line", [Line.ROBUST, Line.MEDIAN])
def test_an_odd_scale_moves_a_robust_line_little(rows: dict[str, np.ndarray], line: Line) -> None:
    inputs = {name: rows[name][::5] for name in ("params", "tokens")}
    clean = 2.0 * inputs["params"] ** -0.6 * inputs["tokens"] ** 0.3 * np.exp(0.01 * np.cos(np.arange(12.0)))
    odd = clean.copy()
    odd[np.argmax(inputs["params"])] *= 10
    off = {each: abs(fit_power_law(odd, inputs, line=each).exponents["params"] + 0.6) for each in Line}
    assert off[line] < 0.03  # a few times the noise over the range of sizes
    assert off[Line.OLS] > 0.1
    exact = 2.0 * inputs["params"] ** -0.6 * inputs["tokens"] ** 0.3  # nothing to scale residuals by
    assert fit_power_law(exact, inputs, line=line).exponents == pytest.approx({"params": -0.6, "tokens": 0.3})


def test_the_median_line_has_the_least_absolute_residuals(rows: dict[str, np.ndarray]) -> None:
    """By linear programming, which knows nothing of statsmodels' reweighting."""
    from scipy.optimize import linprog

    y = np.log(rows["y"])
    x = np.column_stack([np.ones(60), np.log(rows["params"]), np.log(rows["tokens"])])
    cost = np.concatenate([np.zeros(6), np.ones(120)])
    best = linprog(cost, A_eq=np.hstack([x, -x, np.eye(60), -np.eye(60)]), b_eq=y, bounds=(0, None)).fun
    law = fit_power_law(rows["y"], {"params": rows["params"], "tokens": rows["tokens"]}, line=Line.MEDIAN)
    found = np.abs(y - x @ [law.log_const, *law.exponents.values()]).sum()
    assert best - 1e-9 <= found <= best * 1.001  # QuantReg stops at steps of 1e-6


def test_ignoring_clusters_would_be_overconfident(rows: dict[str, np.ndarray]) -> None:
    clustered = fit_power_law_clustered(rows["y"], {"params": rows["params"]}, rows["cluster"])
    single = fit_power_law_clustered(rows["y"], {"params": rows["params"]}, np.arange(60))
    assert clustered.cov[1, 1] > 1.5 * single.cov[1, 1]


class TestNotIdentified:
    def test_all_cells_on_one_line(self) -> None:
        params = np.geomspace(1e7, 1e9, 8)
        with pytest.raises(FitError) as caught:
            fit_power_law(params**-0.5, {"params": params, "tokens": 20 * params})
        assert caught.value.finding == finding("numerics.runs_on_a_line", inputs=["params", "tokens"])

    def test_one_input_never_varies(self) -> None:
        params = np.geomspace(1e7, 1e9, 8)
        with pytest.raises(FitError) as caught:
            fit_power_law(params**-0.5, {"params": params, "tokens": np.full(8, 1e10)})
        assert caught.value.finding == finding("numerics.fixed_input", inputs=["tokens"])

    def test_the_third_input_is_not_blamed(self, rng: np.random.Generator) -> None:
        params, batch = np.geomspace(1e7, 1e9, 8), 10 ** rng.uniform(4, 6, 8)
        with pytest.raises(FitError) as caught:
            fit_power_law(params**-0.5, {"params": params, "tokens": 20 * params, "batch_tokens": batch})
        assert caught.value.finding == finding("numerics.runs_on_a_line", inputs=["params", "tokens"])

    def test_too_few_scales(self) -> None:
        with pytest.raises(FitError) as caught:
            fit_power_law([1e-3, 2e-3], {"params": [1e7, 1e8], "tokens": [1e9, 3e9]})
        assert caught.value.finding == finding("numerics.few_scales", scales=2, exponents=2)

    def test_everything_diverged(self) -> None:
        runs = Columns.of([1e8, 2e8], [1e9, 2e9], [1e5, 1e5], [1e-3, 1e-3], [np.nan, np.nan])
        for fit, code in ((fit_argmin_ols, "numerics.no_finished_cell"), (fit_e1, "numerics.no_finished_run")):
            with pytest.raises(NotEnoughData) as caught:
                fit(runs)
            assert code_of(caught.value.finding) == code


class TestStepLawGrid:
    @pytest.fixture
    def runs(self, shared_data: Path) -> Columns:
        return read_step_law(shared_data)

    def test_g30_e1(self, runs: Columns) -> None:
        laws = fit_e1(runs)
        assert laws.rows == 101
        assert laws.lr.exponents == pytest.approx({"params": -0.76998, "tokens": 0.19857}, rel=1e-3)
        assert laws.batch_tokens.const == pytest.approx(0.12179, rel=1e-3)
        assert laws.batch_tokens.exponents == pytest.approx({"tokens": 0.63694}, rel=1e-3)

    def test_conditional_on_batch(self, runs: Columns) -> None:
        """The sheet, on 17 cells: N -0.60(0.06), D +0.01(0.03), B +0.30(0.02); ours has 14 of them."""
        sweeps = locate_lr_per_batch(runs)
        inside = sweeps.inside
        law = fit_power_law(
            sweeps.lr[inside],
            {name: getattr(sweeps, name)[inside] for name in ("params", "tokens", "batch_tokens")},
        )
        assert law.exponents["params"] == pytest.approx(-0.60, abs=0.06)
        assert law.exponents["tokens"] == pytest.approx(0.01, abs=0.03)
        assert law.exponents["batch_tokens"] == pytest.approx(0.30, abs=0.02)

    def test_baselines_take_milliseconds(self, runs: Columns) -> None:
        best = []
        for _ in range(5):
            start = time.perf_counter()
            fit_argmin_ols(runs)
            best.append(time.perf_counter() - start)
        assert min(best) < 0.05  # 2 ms measured; a backtest makes some hundred of them
