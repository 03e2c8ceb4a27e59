"""Power laws through a few optima with their own uncertainty."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from lawfit.errors import FitError
from lawfit.estimate.numerics.optimum_certificate import certify_law
from lawfit.estimate.numerics.optimum_law import (
    MeasuredOptima,
    OptimumLaw,
    curvature_interval,
    fit_optimum_law,
    separate_params_from_tokens,
)
from lawfit.findings import finding

PARAMS = np.array([5e7, 1e8, 2e8, 4e8, 8e8])


def optima(value: np.ndarray, tokens: np.ndarray, params: np.ndarray = PARAMS, sd: float = 0.03) -> MeasuredOptima:
    return MeasuredOptima.of(value, np.full(len(value), sd), {"params": params, "tokens": tokens})


def test_agrees_with_least_squares_when_all_are_alike(rng: np.random.Generator) -> None:
    value = 3.0 * PARAMS**0.4 * np.exp(0.05 * rng.standard_normal(5))
    law = fit_optimum_law(optima(value, 20 * PARAMS), ("params",))
    slope, level = np.polyfit(np.log(PARAMS), np.log(value), 1)
    assert law.exponents["params"] == pytest.approx(slope, rel=1e-9)
    assert law.const == pytest.approx(np.exp(level), rel=1e-7)


def test_a_precise_optimum_weighs_more() -> None:
    value = 3.0 * PARAMS**0.4
    value[0] *= 1.3
    sure = MeasuredOptima.of(value, [0.01, 0.3, 0.3, 0.3, 0.3], {"params": PARAMS})
    unsure = MeasuredOptima.of(value, [0.3, 0.01, 0.01, 0.01, 0.01], {"params": PARAMS})
    near = [fit_optimum_law(o, ("params",)).predict(params=5e7).value / value[0] for o in (sure, unsure)]
    assert abs(np.log(near[0])) < abs(np.log(near[1]))


def test_interval_widens_with_distance_and_scatter(rng: np.random.Generator) -> None:
    def width(params: float, scatter: float) -> float:
        value = 3.0 * PARAMS**0.4 * np.exp(scatter * np.array([1.0, -1.0, 0.5, 1.0, -1.0]))
        said = fit_optimum_law(optima(value, 20 * PARAMS), ("params",)).predict(params=params)
        return float(np.log(said.high / said.low))

    assert width(2e8, 0.02) < width(8e9, 0.02) < width(8e9, 0.3)
    assert fit_optimum_law(optima(PARAMS**0.4, PARAMS), ("params",)).predict(params=8e9).decades == pytest.approx(
        {"params": 1.0}
    )


def test_many_readings_of_one_run_count_once() -> None:
    """Trap 6: five targets read off each model's curves do not make its critical batch five times surer."""
    value = 3.0 * PARAMS**0.4 * np.exp([0.1, -0.1, 0.1, -0.1, 0.05])
    once = optima(value, 20 * PARAMS)
    repeated = MeasuredOptima.of(
        np.repeat(value, 5), np.full(25, 0.03), {"params": np.repeat(PARAMS, 5)}, group=np.repeat(np.arange(5), 5)
    )
    rows = MeasuredOptima.of(np.repeat(value, 5), np.full(25, 0.03), {"params": np.repeat(PARAMS, 5)})
    widths = []
    for o in (once, repeated, rows):
        low, high = fit_optimum_law(o, ("params",)).exponent_interval("params")
        widths.append(high - low)
    assert widths[1] == pytest.approx(widths[0], rel=1e-6)  # exactly the same information
    assert widths[2] < 0.6 * widths[0]  # what resampling rows would have claimed


def test_params_and_tokens_apart() -> None:
    ratio = np.array([10.0, 80.0, 20.0, 160.0, 40.0])
    tokens = PARAMS * ratio
    said = separate_params_from_tokens(optima(2.0 * tokens**0.46, tokens))
    assert said.verdict == "tokens"
    assert separate_params_from_tokens(optima(2.0 * PARAMS**0.46, tokens)).verdict == "params"
    assert separate_params_from_tokens(optima(2.0 * PARAMS**0.5 * tokens**0.5, tokens)).verdict == "both"
    assert separate_params_from_tokens(optima(np.full(5, 2.0), tokens)).verdict == "neither"


class TestTogether:
    """Which exponents are needed is one question, not two: each interval alone holds its exponent nine times of ten."""

    RATIO = np.array([10.0, 80.0, 20.0, 160.0, 40.0, 25.0, 100.0])
    SIZES = np.geomspace(1e7, 1e9, 7)

    def verdicts(self, exponents: tuple[float, float], noise: float, spread: float = 1.0) -> list[str]:
        rng = np.random.default_rng(3)
        tokens = self.SIZES * self.RATIO**spread * 20 ** (1 - spread)
        found = []
        for _ in range(100):
            value = self.SIZES ** exponents[0] * tokens ** exponents[1] * np.exp(noise * rng.standard_normal(7))
            measured = MeasuredOptima.of(value, np.full(7, noise), {"params": self.SIZES, "tokens": tokens})
            found.append(separate_params_from_tokens(measured).verdict)
        return found

    def test_without_an_exponent_one_is_found_in_at_most_a_tenth(self) -> None:
        found = self.verdicts((0.0, 0.0), 0.1)
        assert np.mean([verdict != "neither" for verdict in found]) < 0.1 + 3 * np.sqrt(0.1 * 0.9 / 100)

    def test_an_exponent_too_many_is_found_in_at_most_a_tenth(self) -> None:
        found = self.verdicts((0.0, 0.46), 0.1)
        assert np.mean([verdict == "tokens" for verdict in found]) > 0.9
        found = self.verdicts((0.4, 0.0), 0.1)
        assert np.mean([verdict == "params" for verdict in found]) > 0.9

    def test_what_grew_together_is_said_not_to_be_told_apart(self) -> None:
        found = self.verdicts((0.2, 0.2), 0.1, spread=0.1)
        assert np.mean([verdict == "not_separable" for verdict in found]) > 0.9
        assert "both" in self.verdicts((0.5, 0.5), 0.02)


@pytest.mark.parametrize("name", ["params", "tokens", "loss"])
def test_a_law_in_one_input_alone_is_certified(name: str, rng: np.random.Generator) -> None:
    """Whatever the input: a law in parameters needs no tokens to be examined, nor one in the loss either of them."""
    x = {"params": PARAMS, "tokens": 20 * PARAMS, "loss": np.linspace(4, 3, len(PARAMS))}[name]
    value = x ** (-6.24 if name == "loss" else 0.4)
    measured = MeasuredOptima.of(value * np.exp(0.02 * rng.standard_normal(len(x))), np.full(len(x), 0.03), {name: x})
    certificate = certify_law(measured, fit_optimum_law(measured, (name,)), of="the optimum")
    assert certificate.certified, certificate


def test_one_line_in_params_and_tokens_is_not_identified() -> None:
    """Trap 2: all scales at tokens = 20 * params; the message names the combination and what would fix it."""
    on_line = optima(2.0 * PARAMS**0.46, 20 * PARAMS)
    with pytest.raises(FitError) as caught:
        fit_optimum_law(on_line, ("params", "tokens"))
    assert caught.value.finding == finding("numerics.scales_on_a_line", inputs=["params", "tokens"])
    separation = separate_params_from_tokens(on_line)
    assert (separation.verdict, separation.sentence) == ("not_separable", caught.value.finding)


def test_an_input_that_never_varies_is_named() -> None:
    with pytest.raises(FitError) as caught:
        fit_optimum_law(optima(np.ones(5), 20 * PARAMS, params=np.full(5, 1e8)), ("params",))
    assert caught.value.finding == finding("numerics.same_input", inputs=["params"])


def test_too_few_scales_are_refused() -> None:
    with pytest.raises(FitError) as caught:
        fit_optimum_law(optima(np.ones(2), PARAMS[:2], params=PARAMS[:2]), ("params",))
    assert caught.value.finding == finding("numerics.few_groups", groups=2, exponents=1, needed=3)


def test_curvature_is_seen_and_a_straight_law_is_not_accused(rng: np.random.Generator) -> None:
    """Trap 12: a power law must not be carried far where its log-log residuals curve."""
    params = np.geomspace(1e7, 1e10, 8)
    log_n = np.log(params / 3e8)
    noise = 0.02 * rng.standard_normal(8)
    bent = curvature_interval(optima(np.exp(0.4 * log_n + 0.05 * log_n**2 + noise), params, params=params), "params")
    straight = curvature_interval(optima(np.exp(0.4 * log_n + noise), params, params=params), "params")
    assert bent is not None
    assert straight is not None
    assert bent[0] > 0
    assert straight[0] < 0 < straight[1]
    assert curvature_interval(optima(np.ones(4), PARAMS[:4], params=PARAMS[:4]), "params") is None


def test_exponents_are_continuous_under_resampling(rng: np.random.Generator) -> None:
    """Trap 3: exponents picked from a grid take two values over resamples; these are all different."""
    found = set()
    for _ in range(50):
        value = 3.0 * PARAMS**0.4 * np.exp(0.001 * rng.standard_normal(5))
        found.add(round(fit_optimum_law(optima(value, 20 * PARAMS), ("params",)).exponents["params"], 12))
    assert len(found) == 50


def test_survives_json() -> None:
    law = fit_optimum_law(optima(3.0 * PARAMS**0.4, 20 * PARAMS), ("params",))
    again = OptimumLaw.from_json(json.loads(json.dumps(law.to_json(), allow_nan=False)))
    assert again.predict(params=3e9) == law.predict(params=3e9)


def test_needs_its_inputs() -> None:
    with pytest.raises(ValueError, match="needs params"):
        fit_optimum_law(optima(3.0 * PARAMS**0.4, 20 * PARAMS), ("params",)).predict(tokens=1e9)


def test_a_lent_exponent_carries_a_single_scale() -> None:
    one = MeasuredOptima.of([0.2], [0.1], {"ratio": [20.0]})
    law = fit_optimum_law(one, ("ratio",), prior={"ratio": (-0.5, 0.1)})
    assert law.predict(ratio=80.0).value == pytest.approx(0.1, rel=1e-9)  # 0.2 * 4^-0.5
    low, high = law.exponent_interval("ratio", 0.9)
    assert (low, high) == pytest.approx((-0.5 - 1.645 * 0.1, -0.5 + 1.645 * 0.1), abs=1e-3)
    with pytest.raises(FitError) as caught:
        fit_optimum_law(one, ("ratio",))
    assert caught.value.finding == finding("numerics.few_groups", groups=1, exponents=1, needed=3)


def test_a_vague_loan_changes_nothing() -> None:
    value = 3.0 * PARAMS**0.4 * np.exp([0.1, -0.1, 0.1, -0.1, 0.05])
    alone = fit_optimum_law(optima(value, PARAMS), ("params",))
    vague = fit_optimum_law(optima(value, PARAMS), ("params",), prior={"params": (0.0, 1e4)})
    assert vague.predict(params=3e9).high == pytest.approx(alone.predict(params=3e9).high, rel=1e-6)


def test_for_each_scatter_it_is_statsmodels_wls_and_gls(rng: np.random.Generator) -> None:
    """Errors of the optima themselves and a scatter that optima of one group share: the weights are known there."""
    import statsmodels.api as sm

    for groups in (np.arange(12), np.repeat(np.arange(4), 3)):
        tokens = 10 ** rng.uniform(9, 11, 12)
        sd = rng.uniform(0.02, 0.3, 12)
        value = 5.0 * tokens**0.4 * np.exp(sd * rng.standard_normal(12))
        law = fit_optimum_law(MeasuredOptima.of(value, sd, {"tokens": tokens}, groups), ("tokens",))
        design = sm.add_constant(np.log(tokens) - law.centre[0])
        own = sd**2 * np.bincount(groups)[groups]  # optima of one group count as one
        for k in (0, len(law.scatters) // 2):
            covariance = np.diag(own) + law.scatters[k] ** 2 * (groups[:, None] == groups[None, :])
            reference = (
                sm.WLS(np.log(value), design, weights=1 / np.diag(covariance))
                if len(np.unique(groups)) == 12
                else sm.GLS(np.log(value), design, sigma=covariance)
            ).fit()
            np.testing.assert_allclose(law.means[k], reference.params, rtol=1e-7)
            np.testing.assert_allclose(law.covariances[k], reference.normalized_cov_params, rtol=1e-7)


def test_a_prediction_adds_coefficients_scatter_and_the_shared_error() -> None:
    """One scatter known exactly: the interval is a normal one, of three variances."""
    law = fit_optimum_law(optima(3.0 * PARAMS**0.4 * np.exp([0.1, -0.1, 0.1, -0.1, 0.05]), PARAMS), ("params",))
    k = len(law.scatters) // 2
    known = replace(
        law,
        weights=np.ones(1),
        **{name: getattr(law, name)[k : k + 1] for name in ("scatters", "means", "covariances")},
        shared_log_sd=0.21,
    )
    row = np.array([1.0, np.log(6.4e9) - law.centre[0]])
    sd = np.sqrt(row @ law.covariances[k] @ row + law.scatters[k] ** 2 + 0.21**2)
    found = known.predict(0.9, params=6.4e9)
    half = stats.norm.ppf(0.95) * sd
    assert np.log(found.high / found.value) == pytest.approx(half, rel=1e-5)
    assert np.log(found.value / found.low) == pytest.approx(half, rel=1e-5)
    low, high = known.exponent_interval("params", 0.9)
    assert (high - low) / 2 == pytest.approx(stats.norm.ppf(0.95) * np.sqrt(law.covariances[k][1, 1]), rel=1e-5)
