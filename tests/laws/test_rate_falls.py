"""What the name of a schedule says about where its learning rate falls."""

from __future__ import annotations

import pytest

from lawfit.laws.rate_falls import Falls, cooldown_share, falls, holds_the_rate

WHEN = {
    "constant": Falls.NEVER,
    "constant_with_warmup": Falls.NEVER,
    "constant_after_warmup_with_ema": Falls.NEVER,
    "Constant (linear warmup over 1 %)": Falls.NEVER,
    "constant, weight decay 0.1": Falls.NEVER,
    "fixed lr, no decay": Falls.NEVER,
    "wsd to 0": Falls.AT_END,
    "WSD-S": Falls.AT_END,
    "warmup_stable_linear_decay": Falls.AT_END,
    "warmup-stable-decay": Falls.AT_END,
    "trapezoidal": Falls.AT_END,
    "constant_then_linear_cooldown": Falls.AT_END,
    "constant then 1-sqrt": Falls.AT_END,
    "two_stage_constant": Falls.AT_END,
    "piecewise constant": Falls.AT_END,
    "constant to 1e-5": Falls.AT_END,
    "warmdown": Falls.AT_END,
    "cosine": Falls.THROUGHOUT,
    "cosine to 10 %": Falls.THROUGHOUT,
    "cosine_with_restarts": Falls.THROUGHOUT,
    "CosineAnnealingLR": Falls.THROUGHOUT,
    "linear to 0": Falls.THROUGHOUT,
    "warmup_linear": Falls.THROUGHOUT,
    "inverse_sqrt": Falls.THROUGHOUT,
    "polynomial": Falls.THROUGHOUT,
    "ExponentialLR": Falls.THROUGHOUT,
    "power": Falls.THROUGHOUT,
    "multistep": Falls.THROUGHOUT,
    "": Falls.UNSAID,
    "custom": Falls.UNSAID,
    "reduce_lr_on_plateau": Falls.UNSAID,
}


@pytest.mark.parametrize("schedule", WHEN)
def test_a_name_says_when_the_rate_falls(schedule: str) -> None:
    assert falls(schedule) is WHEN[schedule]
    assert falls(schedule.upper()) is WHEN[schedule]
    assert holds_the_rate(schedule) == (WHEN[schedule] in (Falls.NEVER, Falls.AT_END))


SHARES = {
    "wsd:cooldown=0.2,fall=1-sqrt": 0.2,
    "WSD (20 % cooldown)": 0.2,
    "wsd, linear decay over the last 10%": 0.1,
    "constant, then 15 percent linear cooldown": 0.15,
    "wsd decay_fraction 0.3": 0.3,
    "wsd cooldown 20 % to 10 %": 0.2,
    "wsd to 0": None,
    "wsd decay to 0.1": None,
    "wsd, cooldown 1-sqrt": None,
    "wsd cooldown 2000 steps": None,
    "wsd with weight decay 0.1": None,
    "wsd, ema decay 0.99": None,
    "wsd 10 % decay or 20 % decay": None,
    "constant": None,
}


@pytest.mark.parametrize("schedule", SHARES)
def test_a_name_may_say_which_share_falls(schedule: str) -> None:
    assert cooldown_share(schedule) == SHARES[schedule]


def test_of_several_decays_the_first_one_counts() -> None:
    """WSD-S: the rate holds up to 0.9 of the first quarter, and what comes later is no shorter run."""
    assert cooldown_share("wsd_s:ends=0.25/0.5/1,cooldown=0.1 to 0.1") == pytest.approx(1 - 0.25 * 0.9)
    assert cooldown_share("WSD-S") is None  # it does not say when
    assert holds_the_rate("wsd_s:ends=0.25/0.5/1,cooldown=0.1")
    assert cooldown_share("wsd stable, cooldown 0.2") == 0.2
