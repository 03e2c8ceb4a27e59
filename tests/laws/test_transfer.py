"""Properties of the exact rescaling rules; their golden numbers are in test_golden."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lawfit.laws import transfer
from lawfit.laws.timescale import DecayConvention, timescale
from lawfit.proxy.pack import parse_pack

batch = st.floats(1e3, 1e8)
ratio = st.floats(0.1, 10)


@settings(deadline=None)
@given(beta2=st.floats(0.5, 0.9999), start=batch, first=ratio, second=ratio)
def test_rescaling_beta2_twice_is_once_by_the_product(beta2: float, start: float, first: float, second: float) -> None:
    middle = transfer.beta2_for_batch(beta2, start, start * first)
    twice = transfer.beta2_for_batch(middle, start * first, start * first * second)
    once = transfer.beta2_for_batch(beta2, start, start * first * second)
    assert float(twice) == pytest.approx(float(once), rel=1e-9)


@settings(deadline=None)
@given(beta2=st.floats(0.5, 0.9999), start=batch, factor=ratio)
def test_beta2_keeps_its_half_life_in_tokens(beta2: float, start: float, factor: float) -> None:
    before = transfer.beta2_half_life_tokens(beta2, start)
    after = transfer.beta2_half_life_tokens(transfer.beta2_for_batch(beta2, start, start * factor), start * factor)
    assert float(after) == pytest.approx(float(before), rel=1e-6)  # ln(beta2) loses digits near 1


@settings(deadline=None)
@given(lr=st.floats(1e-5, 1e-1), tokens=st.floats(1e9, 1e13), factor=ratio)
def test_horizon_there_and_back(lr: float, tokens: float, factor: float) -> None:
    there = transfer.horizon_lr(lr, tokens, tokens * factor)
    assert float(transfer.horizon_lr(there, tokens * factor, tokens)) == pytest.approx(lr, rel=1e-12)


def test_sqrt_rule_is_vectorised() -> None:
    np.testing.assert_allclose(transfer.batch_lr(1e-3, 1e5, np.array([1e5, 4e5, 16e5])), [1e-3, 2e-3, 4e-3])


@settings(deadline=None)
@given(half_life=st.floats(1e5, 1e9), start=batch)
def test_beta2_of_a_half_life_has_it(half_life: float, start: float) -> None:
    assume(1e-300 < 0.5 ** (start / half_life) < 1 - 1e-9)  # doubles tell it from 0 and, with 6 digits, from 1
    beta2 = transfer.beta2_of_half_life(half_life, start)
    assert float(transfer.beta2_half_life_tokens(beta2, start)) == pytest.approx(half_life, rel=1e-6)


def test_beta2_of_a_half_life_is_what_the_trainer_uses() -> None:
    model = {"vocab": 64, "seq_len": 32, "width": 32, "layers": 1, "heads": 1, "hidden": 32}
    runs = [{"lr": 1e-3, "steps": 10, "beta2_half_life_tokens": 1e4}]
    pack = parse_pack({"name": "p", "model": model, "batch_sequences": 4, "runs": runs})
    assert pack.beta2(0) == pytest.approx(float(transfer.beta2_of_half_life(1e4, 4 * 32)), rel=1e-12)


def test_horizon_exponent_is_the_measured_one_at_each_measured_size() -> None:
    sizes = [50e6, 125e6, 350e6, 760e6, 7e9]
    np.testing.assert_allclose(transfer.horizon_exponent(sizes), [0.7029, 0.6531, 0.3799, 0.32, 0.32], rtol=1e-12)
    assert float(transfer.horizon_exponent(1e6)) == 0.7029  # nothing smaller was measured
    between = transfer.horizon_exponent(np.geomspace(50e6, 760e6, 30))
    assert (np.diff(between) < 0).all()


def test_a_longer_wsd_run_takes_the_root() -> None:
    """Section 18 of the sheet: extending T1 to T2 means lr * sqrt(T1 / T2)."""
    moved = transfer.horizon_lr(1e-3, 50e3, 200e3, exponent=transfer.WSD_TOKEN_EXPONENT)
    assert float(moved) == pytest.approx(5e-4, rel=1e-12)


ADAM = transfer.Adam(lr=3e-4, beta1=0.9, beta2=0.95, eps=1e-8)


def test_adam_sde_moves_all_four_together() -> None:
    moved = transfer.adam_sde(ADAM, 4.0)
    assert (moved.lr, moved.beta1, moved.beta2, moved.eps) == pytest.approx((6e-4, 0.6, 0.8, 5e-9), rel=1e-12)


@settings(deadline=None)
@given(first=st.floats(0.01, 3), second=st.floats(0.01, 3))
def test_adam_sde_twice_is_once_by_the_product(first: float, second: float) -> None:
    twice = transfer.adam_sde(transfer.adam_sde(ADAM, first), second)
    once = transfer.adam_sde(ADAM, first * second)
    assert [*vars(twice).values()] == pytest.approx([*vars(once).values()], rel=1e-9)


def test_adam_sde_agrees_with_the_half_life_to_first_order() -> None:
    """``1 - kappa (1 - b)`` and ``b^kappa`` differ by terms in the square of ``kappa (1 - b)``."""
    slow = transfer.Adam(lr=1e-3, beta1=0.0, beta2=0.9999, eps=1e-8)
    sde, half_life = transfer.adam_sde(slow, 8).beta2, float(transfer.beta2_for_batch(0.9999, 1, 8))
    assert abs(sde - half_life) < (8 * 1e-4) ** 2
    assert transfer.adam_sde(slow, 8).beta1 == 0  # no average stays none


def test_adam_sde_refuses_averages_shorter_than_a_step() -> None:
    with pytest.raises(ValueError, match=r"beta1 0\.9 must average over more than 16 steps.*is below 10"):
        transfer.adam_sde(ADAM, 16)


def test_sde_keeps_the_noise_of_sign_descent() -> None:
    """Where noise dominates, Adam without averages steps by signs: variance lr^2 a step, over steps ~ 1 / batch."""
    for kappa in (0.25, 4.0, 9.0):
        adam = transfer.adam_sde(transfer.Adam(lr=1e-3, beta1=0, beta2=0, eps=1e-8), kappa)
        assert adam.lr**2 / kappa == pytest.approx(1e-6, rel=1e-12)


def test_ema_gap_says_when_the_rule_fails() -> None:
    assert float(transfer.ema_gap(0.999, 1)) == pytest.approx(0, abs=1e-12)
    assert float(transfer.ema_gap(0.9999, 8)) == pytest.approx(7 / 2 * 1e-4, rel=1e-2)  # (kappa - 1)(1 - rho) / 2
    assert float(transfer.ema_gap(0.99, 1000)) > 0.8


def test_ema_follows_a_line_as_the_small_batch_did() -> None:
    """Weights that drift steadily: an average over large steps lags by as many tokens as one over small steps."""
    rho, kappa = 0.999, 8
    small, large = 0.0, 0.0
    for step in range(1, 40001):
        small = rho * small + (1 - rho) * step
        if step % kappa == 0:
            large = float(transfer.ema_for_batch(rho, kappa)) * large + (1 - rho**kappa) * step
    lag_small, lag_large = 40000 - small, 40000 - large
    assert lag_small == pytest.approx(999, rel=1e-3)  # rho / (1 - rho)
    assert abs(lag_large - lag_small) < kappa  # less than one large step


@pytest.mark.parametrize("convention", DecayConvention)
def test_weight_decay_keeps_its_timescale(convention: DecayConvention) -> None:
    """Batch x 4, horizon x 3, learning rate x 1.7, all from their definition."""
    moved = transfer.weight_decay_for(0.1, batch_ratio=4, tokens_ratio=3, lr_ratio=1.7, convention=convention)
    before = timescale(1e6, 1e-3, 0.1, 1e10, convention)
    assert float(timescale(4e6, 1.7e-3, moved, 3e10, convention)) == pytest.approx(float(before), rel=1e-12)


def test_weight_decay_at_fixed_tokens_is_proportional_to_the_batch() -> None:
    """Power Lines' reading of a kept timescale: lambda ~ B at fixed size, tokens and learning rate."""
    np.testing.assert_allclose(transfer.weight_decay_for(0.1, batch_ratio=[0.5, 1, 8]), [0.05, 0.1, 0.8])


def test_weight_decay_with_power_lines_follows_their_law() -> None:
    """Ratios of G6 and G7: the law at 20 and at 80 tokens per parameter, its multiplier cancels."""
    moved = transfer.weight_decay_for(
        0.2931524014, tokens_ratio=4, timescale_exponent=transfer.POWER_LINES_TIMESCALE_EXPONENT
    )
    expected = 983040 / (1.5e-3 * 4e10 * 0.1076715237)
    assert float(moved) == pytest.approx(expected, rel=1e-6)  # the printed digits
    grown = transfer.weight_decay_for(0.1, tokens_ratio=4, params_ratio=4, timescale_exponent=-0.527)
    assert float(grown) == pytest.approx(0.025, rel=1e-12)  # the same tokens per parameter: a kept timescale


def test_g26_nanochat_weight_decay() -> None:
    """``lambda = lambda_ref sqrt(B / B_ref) (D_ref / D)`` is the kept timescale under the square-root rule."""
    tokens_ratio = 12 * 918e6 / 1623209472
    moved = transfer.weight_decay_for(
        1.0, batch_ratio=2, tokens_ratio=tokens_ratio, lr_ratio=transfer.batch_lr(1, 1, 2)
    )
    assert float(moved) == pytest.approx(0.2083846087, rel=1e-9)


def test_trap_8_ratio_rules_do_not_care_about_sequences() -> None:
    """Sequences or tokens: the same answer, as long as both batches are in one unit; a half-life is in tokens."""
    in_sequences = transfer.beta2_for_batch(0.95, 256, 1024), transfer.batch_lr(1e-3, 256, 1024)
    in_tokens = (
        transfer.beta2_for_batch(0.95, 256 * 2048, 1024 * 2048),
        transfer.batch_lr(1e-3, 256 * 2048, 1024 * 2048),
    )
    assert np.allclose(in_sequences, in_tokens, rtol=1e-12)
    ratio = transfer.beta2_half_life_tokens(0.95, 256 * 2048) / transfer.beta2_half_life_tokens(0.95, 256)
    assert float(ratio) == pytest.approx(2048, rel=1e-12)


BAD = {
    "zero batch": lambda: transfer.batch_lr(1e-3, 0, 1),
    "negative tokens": lambda: transfer.horizon_lr(1e-3, 1e9, -1e9),
    "beta2 of one": lambda: transfer.beta2_for_batch(1.0, 1, 2),
    "nan": lambda: transfer.ema_for_batch(0.9, float("nan")),
    "exponent of nan": lambda: transfer.batch_lr(1e-3, 1, 2, exponent=float("nan")),
    "negative weight decay": lambda: transfer.weight_decay_for(-0.1),
    "lr ratio of zero": lambda: transfer.weight_decay_for(0.1, lr_ratio=0),
    "beta1 of one": lambda: transfer.Adam(lr=1e-3, beta1=1, beta2=0.95, eps=1e-8),
    "eps of zero": lambda: transfer.Adam(lr=1e-3, beta1=0.9, beta2=0.95, eps=0),
    "half-life of zero": lambda: transfer.beta2_of_half_life(0, 1e6),
}


@pytest.mark.parametrize("call", BAD.values(), ids=BAD)
def test_refuses_what_is_no_quantity(call: object) -> None:
    with pytest.raises(ValueError, match="must"):
        call()  # type: ignore[operator]
