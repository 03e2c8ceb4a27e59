"""Hyperbola, definitions of critical batch and their conversions, the three-term law."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lawfit.laws.critical_batch import DOUBLING, ZHANG, Definition, Hyperbola, ThreeTerm, convert, tokens_at_batch
from lawfit.words import tell

batches = st.floats(1e3, 1e9)
fractions = st.floats(0.01, 4)


def test_g15_hyperbola() -> None:
    curve = Hyperbola(steps_min=1000, tokens_min=1e6)
    tokens = float(curve.tokens_of_steps(2500))
    assert tokens == pytest.approx(1666666.667, rel=1e-9)  # the printed digits
    assert curve.doubling_batch_tokens == pytest.approx(1000)
    assert tokens / 2500 == pytest.approx(666.6666667, rel=1e-9)


@settings(deadline=None)
@given(batch=batches, doubling=batches, steps=st.floats(10, 1e7))
def test_hyperbola_round_trips(batch: float, doubling: float, steps: float) -> None:
    """(S, E) -> (S_min, E_min) -> (S, E), and tokens = batch * steps on the way."""
    curve = Hyperbola.through(steps, batch * steps, doubling)
    assert curve.doubling_batch_tokens == pytest.approx(doubling, rel=1e-12)
    assert float(curve.steps(batch)) == pytest.approx(steps, rel=1e-12)
    assert float(curve.tokens(batch)) == pytest.approx(batch * steps, rel=1e-12)
    assert float(tokens_at_batch(curve.tokens_min, batch, doubling)) == pytest.approx(batch * steps, rel=1e-12)


@settings(deadline=None)
@given(doubling=batches, fraction=fractions, reference=st.one_of(st.just(0.0), batches))
def test_a_definition_means_what_it_says(doubling: float, fraction: float, reference: float) -> None:
    """At the critical batch the target costs `fraction` more tokens than at the reference: by the hyperbola itself."""
    definition = Definition(fraction=fraction, reference_batch_tokens=reference)
    curve = Hyperbola(steps_min=100.0, tokens_min=100.0 * doubling)
    at_reference = float(curve.tokens(reference)) if reference else curve.tokens_min
    critical = curve.critical_batch_tokens(definition)
    assert float(curve.tokens(critical)) == pytest.approx((1 + fraction) * at_reference, rel=1e-9)
    # the same in steps: linear scaling from the reference would take at_reference / critical
    assert float(curve.steps(critical)) == pytest.approx((1 + fraction) * at_reference / critical, rel=1e-9)


@settings(deadline=None)
@given(doubling=st.floats(1e4, 1e9), first=fractions, second=fractions, reference=st.floats(1.0, 1e4))
def test_conversion_goes_there_and_back(doubling: float, first: float, second: float, reference: float) -> None:
    a = Definition(fraction=first)
    b = Definition(fraction=second, reference_batch_tokens=reference)
    there = convert(a.of_doubling(doubling), a, b)
    # a small fraction over a reference loses digits in the difference: (1 + 4) 1e4 / (0.01 * 1e4) of them
    assert float(convert(there, b, a)) == pytest.approx(float(a.of_doubling(doubling)), rel=1e-11)


def test_zhang_is_far_below_the_doubling_batch_of_the_same_data() -> None:
    """85M: b / a is 2191 sequences where the paper's number is 745."""
    assert float(convert(745.3200 * 512, ZHANG, DOUBLING)) / 512 == pytest.approx(2190.6, rel=1e-6)


@settings(deadline=None)
@given(scale=batches, sharpness=st.floats(0.5, 2), fraction=fractions, reference=st.one_of(st.just(0.0), batches))
def test_another_bend_by_the_same_definition(scale: float, sharpness: float, fraction: float, reference: float) -> None:
    definition = Definition(fraction=fraction, reference_batch_tokens=reference)
    critical = float(definition.of_bend(scale, sharpness))

    def tokens(batch: float) -> float:
        return float((batch**sharpness + scale**sharpness) ** (1 / sharpness))

    # near a large reference digits are lost in the difference
    assert tokens(critical) == pytest.approx((1 + fraction) * tokens(reference), rel=1e-6)
    assert float(definition.of_bend(scale, 1.0)) == pytest.approx(float(definition.of_doubling(scale)), rel=1e-9)


def test_a_number_that_cannot_come_from_its_definition_is_refused() -> None:
    """Trap 8: sequences given where tokens are meant."""
    with pytest.raises(ValueError, match="in sequences"):
        ZHANG.to_doubling(745.32)


def test_definition_survives_json_and_has_words() -> None:
    for definition in (DOUBLING, ZHANG):
        assert Definition.from_json(json.loads(json.dumps(definition.to_json()))) == definition
    assert tell(ZHANG.words()) == "20 % more steps than linear scaling from a batch of 131,072 tokens"
    assert (DOUBLING.kind, ZHANG.kind) == ("extra_data", "extra_steps")


@pytest.mark.parametrize(
    "bad", [{"fraction": 0.0}, {"fraction": np.inf}, {"fraction": 1.0, "reference_batch_tokens": -1.0}]
)
def test_an_impossible_definition_is_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        Definition(**bad)


THREE = ThreeTerm(
    floor=1.7,
    params_scale=400.0,
    params_exponent=0.34,
    batch_scale=40.0,
    batch_exponent=0.5,
    steps_scale=30.0,
    steps_exponent=0.6,
)


def test_three_term_optimum_is_that_of_a_search() -> None:
    batches_tried = np.exp(np.linspace(np.log(1e3), np.log(1e8), 400_001))
    loss = THREE(1e8, batches_tried, 1e10 / batches_tried)
    best = batches_tried[np.argmin(loss)]
    assert float(THREE.optimal_batch_tokens(1e10)) == pytest.approx(best, rel=1e-4)  # the spacing is 3e-5


def test_three_term_inverts() -> None:
    steps = THREE.steps_to(THREE(1e8, 1e5, 1e4), 1e8, 1e5)
    assert float(steps) == pytest.approx(1e4, rel=1e-9)
    assert np.isinf(THREE.steps_to(float(THREE.base(1e8)) + 0.1, 1e8, 1e3))  # a batch of 1e3 leaves 1.26 nats


def test_three_term_without_a_batch_term_has_no_optimum() -> None:
    flat = ThreeTerm(**{**vars(THREE), "batch_scale": 0.0})
    with pytest.raises(ValueError, match="no optimal batch"):
        flat.optimal_batch_tokens(1e10)


@pytest.mark.parametrize(
    ("text", "fraction", "reference"),
    [
        ("doubling", 1.0, 0.0),
        ("zhang", 0.2, 131072.0),
        ("0.2@256x512", 0.2, 131072.0),
        ("0.5@0.5M", 0.5, 5e5),
        ("2", 2.0, 0.0),
    ],
)
def test_definitions_as_people_write_them(text: str, fraction: float, reference: float) -> None:
    found = Definition.parse(text)
    assert (found.fraction, found.reference_batch_tokens) == (fraction, reference)


@pytest.mark.parametrize("text", ["mine", "", "0.2@", "@256", "0.2@256xmany", "-1", "0"])
def test_what_is_no_definition_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"no definition|must be positive|not a number|is not positive|'many'"):
        Definition.parse(text)
