"""Fits of the learning rate against the batch: known truths come back, real grids choose, thin data is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from lawfit.errors import FitError, NotEnoughData
from lawfit.estimate.lr_batch.along_batch import (
    LrBatchFit,
    fit_form,
    fit_lr_batch,
    fit_max_initial_lr,
    fit_power_scheduler,
    fit_stochastic_oracle,
)
from lawfit.estimate.numerics.optima import locate_lr_per_batch
from lawfit.findings import finding
from lawfit.laws.lr_batch import Form, Power, PowerScheduler, Saturating, StochasticOracle, Surge, max_initial_lr
from tests.estimate.step_law import read_step_law

BATCHES = np.geomspace(3e4, 8e6, 9)
TRUTHS: dict[str, Form] = {
    "power": Power(const=1e-6, exponent=0.3),
    "saturating": Saturating(lr_max=0.01, noise_batch_tokens=5e5, sharpness=0.7),
    "saturating_sgd": Saturating(lr_max=0.01, noise_batch_tokens=5e5, sharpness=1.0),
    "surge": Surge(lr_max=0.01, noise_batch_tokens=5e5),
}


@pytest.mark.parametrize("name", TRUTHS)
def test_recovers_each_form(name: str) -> None:
    found = fit_lr_batch(BATCHES, TRUTHS[name](BATCHES))
    assert found.best == name
    numbers = dataclasses.astuple(found.forms[name].form)
    assert numbers == pytest.approx(dataclasses.astuple(TRUTHS[name]), rel=1e-6)  # noise-free, the last zoom 1e-8
    assert found.error(name) < 1e-6
    best, low, high = found.lr(2e7)
    assert best == pytest.approx(float(TRUTHS[name](2e7)), rel=1e-6)
    assert low <= best <= high


def noisy(name: str, rng: np.random.Generator, sd: float = 0.1) -> np.ndarray:
    return np.asarray(TRUTHS[name](BATCHES) * np.exp(sd * rng.normal(size=BATCHES.size)))


@pytest.mark.parametrize("name", TRUTHS)
def test_under_noise_the_true_form_stands(name: str, rng: np.random.Generator) -> None:
    fits = [fit_lr_batch(BATCHES, noisy(name, rng)) for _ in range(40)]
    # one standard error rejects the truth now and then: 15 % at worst, and chance on 40 fits
    assert stats.binomtest(sum(name in fit.standing for fit in fits), 40, 0.85, alternative="less").pvalue > 1e-3


def test_forms_that_the_batches_tell_apart_do_not_stand(rng: np.random.Generator) -> None:
    fits = [fit_lr_batch(BATCHES, noisy("surge", rng, sd=0.03)) for _ in range(20)]
    assert {fit.standing for fit in fits} == {("surge",)}


@pytest.mark.parametrize("name", ["saturating", "saturating_sgd", "surge"])
def test_intervals_of_the_noise_batch_cover(name: str, rng: np.random.Generator) -> None:
    """1,000 sweeps: 90 % intervals hold the truth in no less, by an exact bound at 1e-2."""
    fits = [fit_form(name, BATCHES, noisy(name, rng)) for _ in range(1000)]
    held = sum(fit.noise_batch_low <= 5e5 <= fit.noise_batch_high for fit in fits)
    assert stats.binomtest(held, 1000).proportion_ci(0.98, method="exact").high >= 0.9, held


def test_a_straight_line_leaves_the_noise_batch_open() -> None:
    """Nothing bends in these batches: the noise batch lies above them all, and how far is not known."""
    small = np.geomspace(1e3, 1e4, 6)
    lr = Surge(lr_max=0.01, noise_batch_tokens=1e7)(small) * np.exp([0.02, -0.02, 0.01, 0.0, 0.02, -0.02])
    fit = fit_form("surge", small, lr)
    assert fit.noise_batch_high == np.inf
    assert fit.noise_batch_low > 1e4
    assert np.isnan(fit_form("power", small, lr).noise_batch_low)


def test_trap_8_tokens_or_sequences_give_the_same_curve() -> None:
    lr = TRUTHS["saturating"](BATCHES)
    tokens, sequences = fit_lr_batch(BATCHES, lr), fit_lr_batch(BATCHES / 2048, lr)
    assert sequences.lr(1e6 / 2048)[0] == pytest.approx(tokens.lr(1e6)[0], rel=1e-6)
    in_tokens, in_sequences = tokens.forms["saturating"].form, sequences.forms["saturating"].form
    assert isinstance(in_tokens, Saturating)
    assert isinstance(in_sequences, Saturating)
    ratio = in_tokens.noise_batch_tokens / in_sequences.noise_batch_tokens
    assert ratio == pytest.approx(2048, rel=1e-6)


class TestStepLawGrid:
    """Real sweeps: best learning rates per batch in the 14 cells of the Step Law grid."""

    @pytest.fixture
    def fits(self, shared_data: Path) -> dict[tuple[float, float], LrBatchFit]:
        sweeps = locate_lr_per_batch(read_step_law(shared_data))
        cells = sorted(set(zip(sweeps.params, sweeps.tokens, strict=True)))
        found = {}
        for params, tokens in cells:
            rows = (sweeps.params == params) & (sweeps.tokens == tokens) & sweeps.inside
            found[params, tokens] = fit_lr_batch(sweeps.batch_tokens[rows], sweeps.lr[rows])
        return found

    def test_power_of_the_batch_is_the_conditional_exponent(self, fits: dict[tuple[float, float], LrBatchFit]) -> None:
        """Section 2: +0.30 (0.02) over all cells; cell by cell it runs from 0.13 to 0.61."""
        powers = [fit.forms["power"].form for fit in fits.values()]
        exponents = [form.exponent for form in powers if isinstance(form, Power)]
        assert len(exponents) == 14
        assert np.mean(exponents) == pytest.approx(0.30, abs=0.04)
        assert (min(exponents), max(exponents)) == pytest.approx((0.13, 0.61), abs=0.02)

    def test_curves_that_flatten_beat_a_power(self, fits: dict[tuple[float, float], LrBatchFit]) -> None:
        def error(name: str) -> float:
            return float(np.sqrt(np.mean([fit.error(name) ** 2 for fit in fits.values()])))

        assert error("saturating_sgd") < 0.65 * error("power")
        largest = {
            name: np.sqrt(np.mean([fit.left_out[name][-1] ** 2 for fit in fits.values()]))
            for name in ("power", "saturating_sgd")
        }
        assert largest["saturating_sgd"] < 0.6 * largest["power"]
        assert all(fit.best != "power" for fit in fits.values())

    def test_noise_batch_grows_with_the_horizon(self, fits: dict[tuple[float, float], LrBatchFit]) -> None:
        """Time Transfer (arXiv 2410.05838) has it grow as the horizon: within the smallest size it does."""
        smallest = min(params for params, _ in fits)
        rows = [(t, fit.forms["saturating_sgd"].form) for (p, t), fit in fits.items() if p == smallest]
        noise = [form.noise_batch_tokens for _, form in rows if isinstance(form, Saturating)]
        slope = np.polyfit(np.log([tokens for tokens, _ in rows]), np.log(noise), 1)[0]
        assert slope == pytest.approx(1.0, abs=0.25)


BAD = {
    "lengths": (BATCHES, [1e-3] * 8, ValueError, "one learning rate per batch"),
    "no rate": (BATCHES, [0.0] * 9, ValueError, "lr must be positive"),
}


@pytest.mark.parametrize(("batch", "lr", "error", "match"), BAD.values(), ids=BAD)
def test_refuses_bad_data(batch: list[float], lr: list[float], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        fit_lr_batch(batch, lr)


@pytest.mark.parametrize(("batch", "different"), [(BATCHES[:4], 4), ([1e5] * 8, 1)], ids=["four", "one often"])
def test_refuses_few_batches(batch: list[float], different: int) -> None:
    with pytest.raises(NotEnoughData) as caught:
        fit_lr_batch(batch, [1e-3] * len(batch))
    assert caught.value.finding == finding("lr_batch.few_batches", batches=different, needed=5)


def test_power_scheduler_comes_back(rng: np.random.Generator) -> None:
    tokens = np.repeat(np.geomspace(2e9, 2.56e11, 8), 3)
    batch = 4096 * np.tile([64.0, 128.0, 256.0], 8)
    truth = PowerScheduler(factor=4.6, exponent=-0.51)
    exact = fit_power_scheduler(batch, tokens, truth(batch, tokens))
    assert (exact.factor, exact.exponent) == pytest.approx((4.6, -0.51), rel=1e-9)
    spread = fit_power_scheduler(batch, tokens, truth(batch, tokens) * np.exp(0.1 * rng.normal(size=24)))
    standard_error = 0.1 / (np.std(np.log(tokens)) * np.sqrt(24))
    assert spread.exponent == pytest.approx(-0.51, abs=4 * standard_error)
    with pytest.raises(NotEnoughData) as caught:
        fit_power_scheduler(batch[:3], tokens[:3], [1e-3] * 3)
    assert caught.value.finding == finding("lr_batch.one_horizon")


def test_max_initial_lr_comes_back() -> None:
    depth, width = np.array([5, 10, 20, 40]), np.array([100, 200, 100, 400])
    lr = max_initial_lr(depth, width, const=3.0, exponent=0.6)
    assert fit_max_initial_lr(depth, width, lr) == pytest.approx((3.0, 0.6), rel=1e-9)
    with pytest.raises(NotEnoughData) as caught:
        fit_max_initial_lr([10, 20], [200, 100], [0.1, 0.1])
    assert caught.value.finding == finding("lr_batch.one_shape")


@pytest.mark.parametrize("batch_min", [0.05, 8.0, 15.5])
def test_stochastic_oracle_comes_back(batch_min: float) -> None:
    sizes = 2.0 ** np.arange(4, 12)
    truth = StochasticOracle(steps_min=2000, batch_min=batch_min)
    found = fit_stochastic_oracle(sizes, truth.steps(sizes))
    assert found.steps_min == pytest.approx(2000, rel=1e-6)
    assert found.best_batch == pytest.approx(2 * batch_min, rel=1e-4)  # at 0.05 the steps barely bend


def test_stochastic_oracle_with_noise(rng: np.random.Generator) -> None:
    sizes = 2.0 ** np.arange(4, 12)
    steps = StochasticOracle(steps_min=2000, batch_min=12).steps(sizes) * np.exp(0.03 * rng.normal(size=8))
    assert fit_stochastic_oracle(sizes, steps).best_batch == pytest.approx(24, rel=0.05)


def test_steps_that_do_not_fall_show_no_best_batch() -> None:
    with pytest.raises(FitError) as caught:
        fit_stochastic_oracle([16, 32, 64, 128], [1000, 1010, 1020, 1030])
    assert caught.value.finding == finding("lr_batch.steps_do_not_fall")
    with pytest.raises(NotEnoughData) as few:
        fit_stochastic_oracle([16, 32], [1000, 900])
    assert few.value.finding == finding("lr_batch.no_curve", batches=2, needed=3)
