"""Shapes of schedules: golden numbers, limits, means in closed form, and the trainer's own shapes."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from lawfit.findings import finding
from lawfit.laws import named_schedules, schedules
from lawfit.laws.named_schedules import named_shape, of_run, unverified
from lawfit.laws.schedules import Fall, Shape
from lawfit.proxy.schedules import multipliers

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


NAMED = {
    "cosine": schedules.cosine,
    "cosine:floor=0.1": partial(schedules.cosine, floor=0.1),
    "uba:phi=0.5": partial(schedules.uba, phi=0.5),
    "wsd:cooldown=0.2,fall=1-sqrt": partial(schedules.wsd, cooldown=0.2, fall=Fall.ROOT),
    "constant": np.ones_like,
    "rex": schedules.rex,
    "rex:beta=0.9": partial(schedules.rex, beta=0.9),
    "wsd_s:ends=0.25/0.5/1,cooldown=0.1,floor=0.1": partial(
        schedules.wsd_s, ends=(0.25, 0.5, 1.0), cooldown=0.1, floor=0.1
    ),
    "power:capped=0.1,cooldown=0.2": partial(schedules.power, capped=0.1, cooldown=0.2),
}


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


def test_a_formula_from_memory_says_so() -> None:
    assert set(named_schedules.CHECKED) == set(named_schedules.SHAPES)
    said = unverified("uba:phi=1", "wsd_s:ends=1", "uba:phi=2", "rex", "power:capped=0.1")
    assert said == [finding("rules.from_memory", schedule=name) for name in ("uba", "wsd_s")]


def test_rex_is_what_two_trainers_run() -> None:
    """pytorch-optimizer 4.1: ``(1 - x) / (1 - x / 2)``; axolotl 0.19: ``z / (0.1 + 0.9 z)``, z what is left."""
    np.testing.assert_allclose(schedules.rex(X), (1 - X) / (1 - X / 2), rtol=1e-12)
    left = 1 - X
    np.testing.assert_allclose(schedules.rex(X, beta=0.9), left / (0.1 + 0.9 * left), rtol=1e-12)
    np.testing.assert_allclose(schedules.rex(X, beta=0), schedules.linear(X), atol=1e-15)


def test_power_from_a_batch_and_tokens_is_the_power_law_over_its_cap() -> None:
    shape = named_shape("power:sequences=1024,tokens=1e12")
    progress = np.linspace(0.001, 1, 500)
    np.testing.assert_allclose(
        shape(progress), schedules.power_lr(progress * 1e12, 1024) / schedules.POWER_CAP, rtol=1e-9
    )


def test_a_whole_run_rises_to_where_its_shape_stands_after_the_warmup() -> None:
    x = np.linspace(0, 1, 1001)
    np.testing.assert_allclose(of_run("linear", x, warmup=0.1), schedules.warmed_up(schedules.linear, x, warmup=0.1))
    power = of_run("power:capped=0.05", x, warmup=0.1)  # counts from the first token: past its cap when it is warm
    np.testing.assert_allclose(power[100:], (x[100:] / 0.05) ** schedules.POWER_EXPONENT, rtol=1e-9)
    np.testing.assert_allclose(power[:100], power[100] * x[:100] / 0.1, rtol=1e-9)


def test_a_table_is_straight_between_its_points(tmp_path: Path) -> None:
    path = tmp_path / "a,b=c.csv"  # a file may be called so
    path.write_text("step,multiplier\n1,0\n20,2\n100,0\n")
    shape = named_shape(f"table:file={path}")
    np.testing.assert_allclose(shape([0, 0.01, 0.2, 0.6, 1]), [0, 0, 1, 0.5, 0], atol=1e-12)


def test_a_cooldown_falls_from_where_the_power_law_had_come() -> None:
    """The last fifth of the run: until then the bare power law, from there its value times the fall to the floor."""
    x = np.linspace(0, 1, 101)
    bare = schedules.power(x, capped=0.1)
    with_fall = schedules.power(x, capped=0.1, cooldown=0.2, floor=0.05)
    np.testing.assert_allclose(with_fall[x <= 0.8], bare[x <= 0.8], rtol=1e-12)
    held = float(schedules.power(0.8, capped=0.1))
    np.testing.assert_allclose(
        with_fall[x > 0.8], held * schedules.wsd(x[x > 0.8], cooldown=0.2, floor=0.05), rtol=1e-12
    )


BAD_TABLES = {
    "no header": ("1,0\n2,1\n", "must begin with the line step,multiplier"),
    "no number": ("step,multiplier\n1,x\n2,1\n", "could not convert string to float: 'x'"),
    "one column": ("step,multiplier\n1\n2\n", "two numbers a line"),
    "steps fall": ("step,multiplier\n2,0\n1,1\n", "must ascend"),
    "negative": ("step,multiplier\n1,-1\n2,1\n", "zero or above"),
    "nothing but zeros": ("step,multiplier\n1,0\n2,0\n", "one of them above"),
    "not finite": ("step,multiplier\n1,nan\n2,1\n", "zero or above"),
    "empty": ("", "must begin with the line"),
}


@pytest.mark.parametrize(("content", "words"), BAD_TABLES.values(), ids=BAD_TABLES)
def test_a_bad_table_is_refused(content: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    path.write_text(content)
    with pytest.raises(ValueError, match=re.escape(words)):
        named_shape(f"table:file={path}")


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


@pytest.mark.parametrize(("text", "shape"), NAMED.items(), ids=NAMED)
def test_named_shape(text: str, shape: Shape) -> None:
    np.testing.assert_array_equal(named_shape(text)(X), shape(X))


BAD: dict[str, tuple[Callable[[], object], str]] = {
    "progress": (lambda: schedules.cosine(1.2), r"progress must lie in \[0, 1\], got 1.2"),
    "progress of nan": (lambda: schedules.rex(np.nan), "progress must lie"),
    "floor": (lambda: schedules.linear(0.5, floor=-0.1), "floor must be a share of the peak"),
    "cooldown": (lambda: schedules.wsd(0.5, cooldown=0), "cooldown must lie in"),
    "cooldowns above 1": (lambda: schedules.wsd_s(0.5, ends=(1,), cooldown=1.1, floor=0.1), "cooldown must lie in"),
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
    "no such name": (lambda: named_shape("cosin"), "no schedule 'cosin'; there are cosine, linear"),
    "no such number": (lambda: named_shape("cosine:flor=1"), "cosine has no 'flor'; it takes floor"),
    "none taken": (lambda: named_shape("constant:floor=1"), "it takes nothing"),
    "number missing": (lambda: named_shape("wsd:floor=0.1"), "wsd also needs cooldown"),
    "no number": (lambda: named_shape("cosine:floor=low"), "floor is a number such as 0.1"),
    "no such fall": (lambda: named_shape("wsd:cooldown=0.2,fall=steep"), "fall is linear, 1-sqrt"),
    "named out of range": (lambda: named_shape("wsd:cooldown=2"), "cooldown must lie in"),
    "beta": (lambda: schedules.rex(0.5, beta=1), "beta must lie in"),
    "power without its cap": (lambda: schedules.power(0.5), "power takes capped, or else sequences"),
    "power without tokens": (lambda: schedules.power(0.5, sequences=1024), "power takes capped, or else sequences"),
    "power told twice": (lambda: schedules.power(0.5, capped=0.1, sequences=1, tokens=1), "one of the two"),
    "no ends": (lambda: named_shape("wsd_s:cooldown=0.1,floor=0.1"), "wsd_s also needs ends: wsd_s:ends=0.25/0.5/1"),
    "ends of words": (lambda: named_shape("wsd_s:ends=a/1,cooldown=0.1,floor=0.1"), "ends is shares of the run"),
    "said twice": (lambda: named_shape("rex:beta=0.9,beta=0.8"), "the schedule rex:beta=0.9,beta=0.8 says beta twice"),
    "endless": (lambda: named_shape("rex:" + ",".join(["beta=0.9"] * 30)), "at most 200 characters"),
    "nan": (lambda: named_shape("rex:beta=nan"), "beta is a number such as 0.1"),
    **{
        f"words {text!a}": (partial(named_shape, text), "is not how a schedule is said: a name, or a name and its")
        for text in (
            "rex:beta= 0.9",
            "rex:beta=0.9\n",
            "rex:beta=\uff10.9",
            "rex:beta=0.9\u2028",
            "rex:beta=1_0",
            "rex:",
        )
    },
    "no such file": (lambda: named_shape("table:file=/nowhere/s.csv"), "cannot be read"),
}


@pytest.mark.parametrize(("call", "match"), BAD.values(), ids=BAD)
def test_refuses(call: Callable[[], object], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        call()
