"""The hyperbola, its interval and statuses, and critical batches with their definition."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.optimize import curve_fit

from lawfit.errors import FitError
from lawfit.estimate.critical.batch import CriticalStatus, measured_optima
from lawfit.estimate.critical.hyperbola import _status, fit_hyperbola, share_bends
from lawfit.findings import code_of, finding
from lawfit.laws.critical_batch import DOUBLING, ZHANG, Hyperbola

TRUTH = Hyperbola(steps_min=2000.0, tokens_min=2e9)  # doubling batch 1e6 tokens
BATCHES = 32768.0 * 2.0 ** np.arange(10)  # to 1.7e7


def noisy_steps(rng: np.random.Generator, noise: float, batches: np.ndarray = BATCHES) -> np.ndarray:
    return np.asarray(TRUTH.steps(batches) * np.exp(noise * rng.standard_normal(len(batches))))


def test_recovers_a_noise_free_hyperbola() -> None:
    fit = fit_hyperbola(BATCHES, TRUTH.steps(BATCHES))
    assert fit.status is CriticalStatus.INSIDE
    assert fit.curve.doubling_batch_tokens == pytest.approx(1e6, rel=1e-6)  # noise-free; golden section
    assert fit.curve.steps_min == pytest.approx(2000.0, rel=1e-6)


def test_agrees_with_scipy_from_a_good_start(rng: np.random.Generator) -> None:
    steps = noisy_steps(rng, 0.05)
    fit = fit_hyperbola(BATCHES, steps)
    (log_a, log_b), _ = curve_fit(
        lambda batch, a, b: np.log(np.exp(a) + np.exp(b) / batch),
        BATCHES,
        np.log(steps),
        p0=np.log([TRUTH.steps_min, TRUTH.tokens_min]),
        ftol=1e-14,
        xtol=1e-14,
    )
    assert fit.curve.steps_min == pytest.approx(np.exp(log_a), rel=1e-5)  # both stop at machine precision of a square
    assert fit.curve.tokens_min == pytest.approx(np.exp(log_b), rel=1e-5)


def test_scale_free(rng: np.random.Generator) -> None:
    """Trap 4: batches or steps in another unit must give the same curve in that unit, to the last digits."""
    steps = noisy_steps(rng, 0.05)
    plain = fit_hyperbola(BATCHES, steps)
    scaled = fit_hyperbola(BATCHES / 2048e6, steps * 1e9)
    assert scaled.curve.doubling_batch_tokens * 2048e6 == pytest.approx(plain.curve.doubling_batch_tokens, rel=1e-6)
    assert scaled.curve.steps_min / 1e9 == pytest.approx(plain.curve.steps_min, rel=1e-6)
    assert scaled.doubling_high * 2048e6 == pytest.approx(plain.doubling_high, rel=1e-6)


def test_interval_covers_at_the_promised_rate(rng: np.random.Generator) -> None:
    """A quick look at the level; the full count with an exact bound is tests/benchmarks/critical_batch.py."""
    covered = 0
    for _ in range(200):
        fit = fit_hyperbola(BATCHES, noisy_steps(rng, 0.05))
        covered += fit.doubling_low <= TRUTH.doubling_batch_tokens <= fit.doubling_high
    assert covered >= 165  # 200 draws at 0.9: P(below 165) < 1e-3


SIDES = {
    "all far below the critical batch": (BATCHES[:4] / 100, CriticalStatus.ABOVE_TRIED),
    "all far above the critical batch": (BATCHES[-4:] * 100, CriticalStatus.BELOW_TRIED),
}


@pytest.mark.parametrize(("batches", "status"), SIDES.values(), ids=SIDES)
def test_a_curve_that_does_not_bend_is_open_on_one_side(
    batches: np.ndarray, status: CriticalStatus, rng: np.random.Generator
) -> None:
    """Trap 5: no critical batch is invented outside the batches tried."""
    fit = fit_hyperbola(batches, noisy_steps(rng, 0.03, batches))
    assert fit.status is status
    above = status is CriticalStatus.ABOVE_TRIED
    assert (fit.doubling_high == np.inf) == above
    assert (fit.doubling_low == 0) == (not above)
    assert all(batch > batches.max() if above else batch < batches.min() for batch in fit.next_batch_tokens)
    ratio = batches[1] / batches[0]  # the next two in the same steps, from small to large
    steps = batches.max() * ratio ** np.array([1, 2]) if above else batches.min() / ratio ** np.array([2, 1])
    assert sorted(fit.next_batch_tokens) == pytest.approx(steps)
    document = json.loads(json.dumps(fit.critical(ZHANG).to_json(), allow_nan=False))
    assert document["status"] == status.value
    assert (document["high_tokens"] is None) == above


def test_two_batches_are_refused_with_the_number() -> None:
    with pytest.raises(FitError) as caught:
        fit_hyperbola(BATCHES[:2], TRUTH.steps(BATCHES[:2]))
    assert caught.value.finding == finding("critical.few_batches", batches=2, needed=3)


def test_repeats_of_a_batch_count_by_their_fewest_steps(rng: np.random.Generator) -> None:
    """E4: the rows of one batch are a sweep over learning rates; worse ones say nothing."""
    steps = noisy_steps(rng, 0.05)
    again = fit_hyperbola(np.concatenate([BATCHES, BATCHES * 1.0005]), np.concatenate([steps, steps * 1.7]))
    assert again.curve.doubling_batch_tokens == pytest.approx(
        fit_hyperbola(BATCHES, steps).curve.doubling_batch_tokens, rel=1e-3
    )  # the merged batch moves by half of 5e-4
    assert len(again.batches) == len(BATCHES)


def test_from_the_best_batch_on(rng: np.random.Generator) -> None:
    """Small batches that waste tokens are left out, and counted; without them the curve is the true one."""
    steps = noisy_steps(rng, 0.02)
    steps[:3] *= np.array([2.0, 1.6, 1.3])
    fit = fit_hyperbola(BATCHES, steps, from_best=True)
    assert code_of(fit.notes[0]) == "critical.below_best"
    assert fit.notes[0].data["batches"] == 3
    assert fit.curve.doubling_batch_tokens == pytest.approx(1e6, rel=0.2)  # 2 % noise on 7 batches
    assert fit_hyperbola(BATCHES, steps).residual_sd > 3 * fit.residual_sd
    with pytest.raises(FitError) as caught:
        fit_hyperbola(BATCHES[:5], np.array([10.0, 4.0, 1.8, 0.8, 0.35]), from_best=True)
    assert code_of(caught.value.finding) == "critical.few_larger"
    assert caught.value.finding.data == {"batch_tokens": pytest.approx(BATCHES[4]), "larger": 0}


def test_definitions_share_one_fit(rng: np.random.Generator) -> None:
    fit = fit_hyperbola(BATCHES, noisy_steps(rng, 0.05), params=1e8, target_loss=3.0)
    doubling, zhang = fit.critical(DOUBLING), fit.critical(ZHANG)
    assert zhang.value_tokens == pytest.approx(0.2 * doubling.value_tokens + 1.2 * 131072)
    assert zhang.low_tokens < 0.2 * fit.doubling_low + 1.2 * 131072  # the curve may bend otherwise than a hyperbola
    assert zhang.high_tokens > 0.2 * fit.doubling_high + 1.2 * 131072
    assert zhang.log_sd < doubling.log_sd  # the reference's part is known exactly
    assert zhang.form_log_sd < doubling.form_log_sd  # and 20 % more data is nearer to what was run than twice
    assert doubling.tokens == pytest.approx(fit.curve.tokens_min)
    assert zhang.tokens == pytest.approx(float(fit.curve.tokens(131072)))
    assert (zhang.params, zhang.loss) == (1e8, 3.0)


def test_critical_batches_by_different_definitions_are_not_pooled(rng: np.random.Generator) -> None:
    fit = fit_hyperbola(BATCHES, noisy_steps(rng, 0.05))
    with pytest.raises(ValueError, match="different definitions"):
        measured_optima([fit.critical(DOUBLING), fit.critical(ZHANG)])


def test_open_ones_are_named_and_left_out(rng: np.random.Generator) -> None:
    closed = fit_hyperbola(BATCHES, noisy_steps(rng, 0.05), params=1e8, target_loss=3.0)
    small = BATCHES[:4] / 100
    open_above = fit_hyperbola(small, noisy_steps(rng, 0.03, small), params=2e8, target_loss=2.8)
    optima, refused = measured_optima([closed.critical(), open_above.critical()])
    assert len(optima) == 1
    assert len(refused) == 1
    assert code_of(refused[0]) == "critical.refused"
    assert refused[0].data == {**refused[0].data, "status": "above_tried", "params": 2e8, "loss": 2.8}
    with pytest.raises(FitError) as caught:
        measured_optima([open_above.critical()])
    assert caught.value.finding == finding("critical.none_closed", refused=refused)


def test_another_bend_is_inside_the_interval() -> None:
    """Steps that turn more sharply than a hyperbola (Zhang's do): the interval knows, and sizes share the knowledge."""
    sharp = 1.25
    steps = 2000.0 * (1 + (1e6 / BATCHES) ** sharp) ** (1 / sharp)
    truth = float(DOUBLING.of_bend(1e6, sharp))
    fit = fit_hyperbola(BATCHES, steps, params=1e8, target_loss=3.0)
    found = fit.critical()
    assert not fit.doubling_low <= truth <= fit.doubling_high  # the hyperbola alone would have missed it
    assert found.low_tokens <= truth <= found.high_tokens
    other = fit_hyperbola(BATCHES, steps, params=2e8, target_loss=2.8)
    shared = share_bends([fit, other])[0]
    best = max(shared.bends, key=lambda bend: bend.weight)
    assert best.sharpness in (1.2, 1.35)
    assert sum(bend.weight for bend in shared.bends) == pytest.approx(1.0)
    again = share_bends([fit, fit])[0]  # a second target of the same size is no second piece of evidence
    assert [b.weight for b in again.bends] == pytest.approx([b.weight for b in fit.bends], abs=1e-9)


@pytest.mark.parametrize(
    ("low", "high", "status"),
    [(0.0, np.inf, "TOO_FEW"), (-1.0, np.inf, "TOO_FEW"), (1e4, np.inf, "ABOVE_TRIED"), (0.0, 1e6, "BELOW_TRIED")],
)
def test_an_interval_that_is_open_on_a_side_says_which(low: float, high: float, status: str) -> None:
    """Nought is no bound of a batch: an interval that begins there is open below."""
    assert _status(2e5, low, high, BATCHES)[0] is CriticalStatus[status]
