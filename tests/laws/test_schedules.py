"""Shapes of schedules: golden numbers, limits, means in closed form, and the trainer's own shapes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

from lawfit.laws import schedules
from lawfit.laws.schedules import Fall, Shape
from lawfit.train.schedules import multipliers

X = np.linspace(0, 1, 101)

SHAPES: dict[str, Shape] = {
    "cosine": schedules.cosine,
    "cosine to a tenth": partial(schedules.cosine, floor=0.1),
    "linear": schedules.linear,
    "rex": schedules.rex,
    "uba": partial(schedules.uba, phi=0.5),
    "wsd": partial(schedules.wsd, cooldown=0.2),
    "wsd 1-sqrt": partial(schedules.wsd, cooldown=0.2, fall=Fall.ROOT),
    "wsd exponential": partial(schedules.wsd, cooldown=0.2, floor=0.1, fall=Fall.EXPONENTIAL),
    "wsd inverse": partial(schedules.wsd, cooldown=0.2, floor=0.1, fall=Fall.INVERSE),
    "power": partial(schedules.power, capped=0.1),
    "power with a fall": partial(schedules.power, capped=0.1, cooldown=0.1),
}
FLOORS = {"cosine to a tenth": 0.1, "wsd exponential": 0.1, "wsd inverse": 0.1, "power": 10**-0.51}

G28 = {
    "rex": (schedules.rex(0.5), 0.6666666667),
    "uba .5": (schedules.uba(0.5, phi=0.5), 0.8),
    "uba 1": (schedules.uba(0.5, phi=1), 0.6666666667),
    "uba 2": (schedules.uba(0.5, phi=2), 0.5),
    "uba 5": (schedules.uba(0.5, phi=5), 0.2857142857),
    "1-sqrt": (schedules.wsd(0.9, cooldown=0.2, fall=Fall.ROOT), 0.2928932188),
}


@pytest.mark.parametrize(("found", "expected"), G28.values(), ids=G28)
def test_g28(found: np.ndarray, expected: float) -> None:
    assert float(found) == pytest.approx(expected, rel=1e-9)


G19 = {"1e9": (1e9, 0.02), "1e11": (1e11, 0.01005448772), "1e12": (1e12, 3.107133747e-3)}


@pytest.mark.parametrize(("tokens", "lr"), G19.values(), ids=G19)
def test_g19_power_schedule(tokens: float, lr: float) -> None:
    assert float(schedules.power_lr(tokens, 1024)) == pytest.approx(lr, rel=1e-9)


def test_trap_8_the_power_schedule_counts_sequences_of_4096() -> None:
    """Tokens taken for sequences put the rate at its cap for the whole run."""
    assert float(schedules.power_lr(1e12, 1024 * 4096 / 4096)) == pytest.approx(3.107133747e-3, rel=1e-9)
    assert float(schedules.power_lr(1e12, 1024 * 4096)) == schedules.POWER_CAP


def test_power_shape_is_the_power_schedule_over_its_peak() -> None:
    tokens, batch = 1e12, 1024.0
    capped = (batch * schedules.POWER_FACTOR / schedules.POWER_CAP) ** (-1 / schedules.POWER_EXPONENT) / tokens
    progress = np.linspace(0.001, 1, 500)
    absolute = schedules.power_lr(progress * tokens, batch)
    np.testing.assert_allclose(schedules.power(progress, capped=capped), absolute / schedules.POWER_CAP, rtol=1e-12)


@pytest.mark.parametrize("name", SHAPES)
def test_falls_from_the_peak_to_the_floor(name: str) -> None:
    f = SHAPES[name](X)
    assert f[0] == 1
    assert f[-1] == pytest.approx(FLOORS.get(name, 0.0), abs=1e-12)
    assert (np.diff(f) <= 1e-15).all()


@pytest.mark.parametrize("name", SHAPES)
def test_warmup_rises_then_runs_the_whole_shape(name: str) -> None:
    f = schedules.warmed_up(SHAPES[name], np.linspace(0, 1, 1001), warmup=0.1)
    np.testing.assert_allclose(f[:101], np.arange(101) / 100, atol=1e-12)
    np.testing.assert_allclose(f[100::9], SHAPES[name](X), atol=1e-12)
    np.testing.assert_array_equal(schedules.warmed_up(SHAPES[name], X, warmup=0), SHAPES[name](X))


MEANS = {
    "cosine": 0.5,
    "cosine to a tenth": 0.55,
    "linear": 0.5,
    "rex": 2 * (1 - np.log(2)),
    "wsd": 0.9,
    "wsd 1-sqrt": 0.8 + 0.2 / 3,
    "wsd exponential": 0.8 + 0.2 * 0.9 / np.log(10),  # (1 - r) / ln(1 / r)
    "wsd inverse": 0.8 + 0.2 * np.log(10) / 9,  # ln(1 / r) / (1 / r - 1)
    "power": 0.1 + 0.1 * (10**0.49 - 1) / 0.49,
}


@pytest.mark.parametrize(("name", "expected"), MEANS.items(), ids=MEANS)
def test_mean_in_closed_form(name: str, expected: float) -> None:
    assert schedules.mean(SHAPES[name]) == pytest.approx(expected, rel=1e-6)  # midpoint rule across a root
    assert schedules.mean(SHAPES[name], warmup=0.1) == pytest.approx(0.05 + 0.9 * expected, rel=1e-6)


def test_uba_runs_from_constant_through_cosine() -> None:
    np.testing.assert_allclose(schedules.uba(X, phi=2), schedules.cosine(X), atol=1e-15)
    np.testing.assert_allclose(schedules.uba(X[:-1], phi=1e-9), 1, atol=1e-5)  # but for its end, which is 0
    assert (np.diff([schedules.uba(0.5, phi=phi) for phi in (0.1, 1, 2, 10)]) < 0).all()


def test_exponential_fall_halves_at_a_fixed_rate() -> None:
    """MiniCPM's ``0.5^((s - T) / T_half)``: with a floor of 1/16 the cooldown is four half-lives."""
    f = schedules.wsd([0.8, 0.85, 0.9, 0.95, 1.0], cooldown=0.2, floor=1 / 16, fall=Fall.EXPONENTIAL)
    np.testing.assert_allclose(f, [1, 1 / 2, 1 / 4, 1 / 8, 1 / 16], rtol=1e-12)


def test_wsd_s_decays_at_every_end_and_returns_to_the_peak() -> None:
    shape = partial(schedules.wsd_s, ends=(0.25, 0.5, 1.0), cooldown=0.1, floor=0.1)
    f = shape([0.2, 0.225, 0.2375, 0.25, 0.2501, 0.45, 0.5, 0.6, 0.9, 0.95, 1.0])
    half_way = 1 / (0.5 / 0.1 + 0.5)  # 1 / f is linear in the progress through the decay
    np.testing.assert_allclose(f, [1, 1, half_way, 0.1, 1, 1, 0.1, 1, 1, half_way, 0.1], rtol=1e-9)
    alone = schedules.wsd(X, cooldown=0.1, floor=0.1, fall=Fall.INVERSE)
    np.testing.assert_allclose(schedules.wsd_s(X, ends=(1.0,), cooldown=0.1, floor=0.1), alone, rtol=1e-12)


def test_refined_by_gradients_that_do_not_change_is_linear_decay() -> None:
    np.testing.assert_allclose(schedules.refined(np.full(5, 3.0), adaptive=False), [1, 0.75, 0.5, 0.25, 0])


def test_refined_follows_its_formula() -> None:
    norms = np.array([4.0, 2.0, 1.0, 2.0])
    weights = 1 / norms
    expected = weights * np.array([sum(weights[t + 1 :]) for t in range(4)])
    np.testing.assert_allclose(schedules.refined(norms, adaptive=True), expected / expected.max(), rtol=1e-12)
    np.testing.assert_allclose(
        schedules.refined(norms, adaptive=False), schedules.refined(norms**2, adaptive=True), rtol=1e-12
    )


TRAINER = {
    "linear": partial(schedules.linear, floor=0.1),
    "cosine": partial(schedules.cosine, floor=0.1),
    "wsd": partial(schedules.wsd, cooldown=0.2 * 100 / 90, floor=0.1),  # of the run after its warmup
}


@pytest.mark.parametrize(("name", "shape"), TRAINER.items(), ids=TRAINER)
def test_agrees_with_the_trainer(name: str, shape: Shape) -> None:
    """Written on their own: what the trainer runs at its steps after the warmup is the shape there."""
    ran = multipliers(name, 100, warmup_steps=10, floor=0.1, cooldown=0.2)
    np.testing.assert_allclose(ran[10:], shape(np.arange(90) / 90), atol=1e-12)


NAMED = {
    "cosine": schedules.cosine,
    "cosine:floor=0.1": partial(schedules.cosine, floor=0.1),
    "uba:phi=0.5": partial(schedules.uba, phi=0.5),
    "wsd:cooldown=0.2,fall=1-sqrt": partial(schedules.wsd, cooldown=0.2, fall=Fall.ROOT),
    "constant": np.ones_like,
}


@pytest.mark.parametrize(("text", "shape"), NAMED.items(), ids=NAMED)
def test_named_shape(text: str, shape: Shape) -> None:
    np.testing.assert_array_equal(schedules.named_shape(text)(X), shape(X))


BAD: dict[str, tuple[Callable[[], object], str]] = {
    "progress": (lambda: schedules.cosine(1.2), r"progress must lie in \[0, 1\], got 1.2"),
    "progress of nan": (lambda: schedules.rex(np.nan), "progress must lie"),
    "floor": (lambda: schedules.linear(0.5, floor=-0.1), "floor must be a share of the peak"),
    "cooldown": (lambda: schedules.wsd(0.5, cooldown=0), "cooldown must lie in"),
    "phi": (lambda: schedules.uba(0.5, phi=0), "phi must be positive"),
    "no floor to fall to": (
        lambda: schedules.wsd(0.5, cooldown=0.2, fall=Fall.INVERSE),
        "a fall that is inverse needs a floor above 0",
    ),
    "ends fall": (lambda: schedules.wsd_s(0.5, ends=(0.6, 0.4, 1), cooldown=0.1, floor=0.1), "ends must rise"),
    "ends before 1": (lambda: schedules.wsd_s(0.5, ends=(0.4,), cooldown=0.1, floor=0.1), "ends must rise"),
    "decays overlap": (
        lambda: schedules.wsd_s(0.5, ends=(0.9, 1), cooldown=0.2, floor=0.1),
        "would begin before that; shorten the cooldown",
    ),
    "capped": (lambda: schedules.power(0.5, capped=0), "capped must lie in"),
    "power cooldown": (lambda: schedules.power(0.5, capped=0.1, cooldown=1), "cooldown must lie in"),
    "tokens seen": (lambda: schedules.power_lr(0, 1024), "tokens_seen must be positive"),
    "warmup": (lambda: schedules.warmed_up(schedules.linear, 0.5, warmup=1), "warmup must be a share"),
    "no such name": (lambda: schedules.named_shape("cosin"), "no schedule 'cosin'; there are cosine, linear"),
    "no such number": (lambda: schedules.named_shape("cosine:flor=1"), "cosine has no 'flor'; it takes floor"),
    "none taken": (lambda: schedules.named_shape("constant:floor=1"), "it takes nothing"),
    "number missing": (lambda: schedules.named_shape("wsd:floor=0.1"), "wsd also needs cooldown"),
    "no number": (lambda: schedules.named_shape("cosine:floor=low"), "floor is a number such as 0.1"),
    "no such fall": (lambda: schedules.named_shape("wsd:cooldown=0.2,fall=steep"), "fall is linear, 1-sqrt"),
    "named out of range": (lambda: schedules.named_shape("wsd:cooldown=2"), "cooldown must lie in"),
    "one norm": (lambda: schedules.refined([1.0], adaptive=True), "series of 2 or more"),
    "norm of zero": (lambda: schedules.refined([1.0, 0.0], adaptive=True), "must all be positive"),
}


@pytest.mark.parametrize(("call", "match"), BAD.values(), ids=BAD)
def test_refuses(call: Callable[[], object], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        call()
