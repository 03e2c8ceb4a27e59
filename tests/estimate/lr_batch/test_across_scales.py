"""The learning rate over size, horizon and batch: known truths, coverage with clusters, and what real runs say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from lawfit.errors import NotEnoughData
from lawfit.estimate.lr_batch.across_scales import (
    fit_across_scales,
    fit_power_across_scales,
)
from lawfit.estimate.numerics.optima import locate_lr_per_batch
from lawfit.findings import finding
from lawfit.laws.lr_batch import BENDS, SURGE, AcrossScales
from tests.estimate.step_law import read_step_law

TRUTH = AcrossScales(const=3.0, params_exponent=-0.7, tokens_exponent=0.3, noise_const=6e-4, noise_tokens_exponent=0.83)
Columns = tuple[np.ndarray, np.ndarray, np.ndarray]


def grid() -> Columns:
    """4 sizes, 4 horizons each, 6 batches."""
    sizes, ratios, batches = np.geomspace(2e8, 1e9, 4), np.geomspace(20, 320, 4), np.geomspace(3e4, 4e6, 6)
    params, ratio, batch = (x.ravel() for x in np.meshgrid(sizes, ratios, batches, indexing="ij"))
    return params, params * ratio, batch


@pytest.mark.parametrize("noise_const", [6e-4, 3e-3])
@pytest.mark.parametrize("form", BENDS)
def test_recovers_the_truth_of_every_form(form: str, noise_const: float) -> None:
    truth = replace(TRUTH, form=form, noise_const=noise_const)
    found = fit_across_scales(*grid(), truth(*grid()), form=form)
    assert vars(found.law) == {
        **{name: pytest.approx(value, rel=1e-5) for name, value in vars(truth).items() if name != "form"},
        "form": form,  # noise-free; constants lie 20 e-folds away
    }
    assert found.starts_agree
    assert found.clusters == 4  # sizes
    assert found.residual_sd < 1e-7


def errors(folds: list[np.ndarray], *columns: np.ndarray) -> tuple[float, float]:
    """Of ln lr by the power and by the saturating law at rows that they did not see, root mean square."""
    found: list[tuple[np.ndarray, np.ndarray]] = []
    for fold in folds:
        seen, (params, tokens, batch, lr) = [x[~fold] for x in columns], (x[fold] for x in columns)
        power = fit_power_across_scales(*seen).predict(params=params, tokens=tokens, batch_tokens=batch)
        saturating = fit_across_scales(*seen).law(params, tokens, batch)
        found.append((np.log(lr / power), np.log(lr / saturating)))
    one, other = (np.concatenate(columns) for columns in zip(*found, strict=True))
    return float(np.sqrt((one**2).mean())), float(np.sqrt((other**2).mean()))


def errors_at_sizes_left_out(*columns: np.ndarray) -> tuple[float, float]:
    return errors([columns[0] == size for size in np.unique(columns[0])], *columns)


def test_where_the_truth_is_a_power_the_power_wins() -> None:
    params, tokens, batch = grid()
    lr = 0.5 * params**-0.6 * tokens**0.02 * batch**0.3
    assert fit_power_across_scales(params, tokens, batch, lr).exponents == pytest.approx(
        {"params": -0.6, "tokens": 0.02, "batch_tokens": 0.3}, rel=1e-6
    )
    power, saturating = errors_at_sizes_left_out(params, tokens, batch, lr)
    assert power < 1e-6 < saturating


@pytest.mark.parametrize("groups", [16, 4], ids=["scales", "sizes"])
@pytest.mark.soak
def test_intervals_cover_with_noise_that_is_shared(groups: int, rng: np.random.Generator) -> None:
    """1,000 sweeps whose scales, or sizes, move as one, where resampling rows would be too narrow."""
    params, tokens, batch = grid()
    exact = np.log(TRUTH(params, tokens, batch))
    held = {"params_exponent": 0, "tokens_exponent": 0, "noise_tokens_exponent": 0}
    for _ in range(1000):
        shared = np.repeat(0.08 * rng.normal(size=groups), exact.size // groups)
        lr = np.exp(exact + shared + 0.08 * rng.normal(size=exact.size))
        for name, (low, high) in fit_across_scales(params, tokens, batch, lr).intervals.items():
            held[name] += low <= getattr(TRUTH, name) <= high
    for name, count in held.items():
        assert stats.binomtest(count, 1000).proportion_ci(0.98, method="exact").high >= 0.9, (name, count)


def test_limits_are_the_laws_that_look_contradictory() -> None:
    """Below the noise batch proportional to it and falling with the horizon; above, free of it and rising."""
    tokens = np.array([1e10, 1e11])
    below, above = TRUTH(1e9, tokens, 1.0), TRUTH(1e9, tokens, 1e12)
    assert np.diff(np.log10(below))[0] == pytest.approx(0.3 - 0.83, abs=1e-4)
    assert np.diff(np.log10(above))[0] == pytest.approx(0.3, abs=1e-4)
    assert float(TRUTH(1e9, 1e10, 2.0) / TRUTH(1e9, 1e10, 1.0)) == pytest.approx(2, rel=1e-4)
    for truth in (TRUTH, replace(TRUTH, form=SURGE)):
        at_one = truth.at(1e9, 1e10)
        np.testing.assert_allclose(at_one([1e4, 1e6]), truth(1e9, 1e10, [1e4, 1e6]), rtol=1e-12)


@pytest.mark.parametrize("form", BENDS)
def test_slopes_of_a_bend_are_its_derivatives(form: str) -> None:
    x, step = np.linspace(-20, 20, 81), 1e-5
    bend = BENDS[form]
    np.testing.assert_allclose(bend.slope(x), (bend.log(x + step) - bend.log(x - step)) / (2 * step), atol=1e-8)


class TestStepLawGrid:
    """Real runs, 14 scales: what one fit says of four published laws (sections 2, 4, 11.1 and 12 of the sheet)."""

    @pytest.fixture
    def optima(self, shared_data: Path) -> tuple[np.ndarray, ...]:
        sweeps = locate_lr_per_batch(read_step_law(shared_data))
        rows = sweeps.inside
        return sweeps.params[rows], sweeps.tokens[rows], sweeps.batch_tokens[rows], sweeps.lr[rows]

    def test_power_at_given_batch_is_the_known_one(self, optima: tuple[np.ndarray, ...]) -> None:
        """Section 2 (CALC, 17 cells): N^-0.60(0.06) D^+0.01(0.03) B^+0.30(0.02)."""
        found = fit_power_across_scales(*optima).exponents
        assert found == pytest.approx({"params": -0.60, "tokens": 0.01, "batch_tokens": 0.30}, abs=0.03)

    def test_saturation_says_more_of_unseen_sizes_and_horizons(self, optima: tuple[np.ndarray, ...]) -> None:
        power, saturating = errors_at_sizes_left_out(*optima)
        assert saturating < 0.65 * power
        power, saturating = errors([optima[1] >= 4e10], *optima)
        assert saturating < 0.5 * power

    def test_its_ceiling_is_the_step_law(self, optima: tuple[np.ndarray, ...]) -> None:
        """-0.713 and +0.307, measured at the best batch, are what large batches saturate at."""
        found = fit_across_scales(*optima)
        assert found.starts_agree
        for name, published in (("params_exponent", -0.713), ("tokens_exponent", 0.307)):
            low, high = found.intervals[name]
            assert low < published < high

    def test_at_half_a_million_tokens_a_step_it_falls_with_the_horizon(self, optima: tuple[np.ndarray, ...]) -> None:
        """Bjorck et al.: tokens^-0.32 at a batch of 0.5M over 25B to 800B. Most of it shows; the power shows none."""
        tokens = np.array([25e9, 800e9])
        law = fit_across_scales(*optima).law
        slope = np.diff(np.log(law(1e9, tokens, 524288)))[0] / np.diff(np.log(tokens))[0]
        assert slope == pytest.approx(-0.25, abs=0.03)
        assert fit_power_across_scales(*optima).exponents["tokens"] > 0

    def test_far_below_the_noise_batch_it_is_the_power_scheduler(self, optima: tuple[np.ndarray, ...]) -> None:
        """Shen et al.: proportional to the batch, tokens^-0.51."""
        law = fit_across_scales(*optima).law
        assert law.tokens_exponent - law.noise_tokens_exponent == pytest.approx(-0.51, abs=0.06)


THIN = {
    "one size": (lambda p, t, b: p == p[0], ("sizes", 1, 2)),
    "one horizon": (lambda p, t, b: t == t[0], ("sizes", 1, 2)),
    "two batches": (lambda p, t, b: b < 1e5, ("batches", 2, 3)),
}


@pytest.mark.parametrize(("rows", "few"), THIN.values(), ids=THIN)
def test_refuses_thin_data(rows: object, few: tuple[str, int, int]) -> None:
    kept = rows(*grid())  # type: ignore[operator]
    columns = [column[kept] for column in (*grid(), TRUTH(*grid()))]
    with pytest.raises(NotEnoughData) as caught:
        fit_across_scales(*columns)
    of, count, needed = few
    assert caught.value.finding == finding("lr_batch.few_optima", of=of, count=count, needed=needed)


def test_refuses_columns_of_different_lengths() -> None:
    params, tokens, batch = grid()
    with pytest.raises(ValueError, match="columns of one length"):
        fit_across_scales(params, tokens, batch, [1e-3])
