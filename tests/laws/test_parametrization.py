"""muP and CompleteP: the table of the sources."""

from __future__ import annotations

import dataclasses

import pytest

from lawfit.laws.parametrization import Growth, Kind, Multipliers, Rules
from lawfit.laws.timescale import DecayConvention, timescale

WIDER = Growth(rules=Rules.MUP, base_width=256, width=4096)
BOTH = Growth(rules=Rules.COMPLETEP, base_width=256, width=1024, base_depth=4, depth=32)


def test_mup_hidden_matrices_follow_the_table() -> None:
    """Section 21 of the sheet: variance / m_d, Adam lr / m_d, logits / m_d, all else as it was."""
    assert WIDER.width_ratio == 16
    assert WIDER.of(Kind.HIDDEN) == Multipliers(lr=1 / 16, init_std=1 / 4, weight_decay=16, eps=1)
    for kind in (Kind.EMBEDDING, Kind.VECTOR, Kind.OUTPUT):
        assert WIDER.of(kind) == Multipliers()
    assert (WIDER.output_multiplier, WIDER.residual_multiplier) == (1 / 16, 1)
    assert WIDER.attention_scale(64) == 1 / 64


def test_completep_adds_depth() -> None:
    assert BOTH.of(Kind.HIDDEN) == Multipliers(lr=1 / 4, init_std=1 / 2, weight_decay=4, eps=1 / 32)
    assert BOTH.of(Kind.VECTOR) == Multipliers(eps=1 / 32)
    assert BOTH.of(Kind.OUTPUT) == BOTH.of(Kind.EMBEDDING) == Multipliers(eps=1 / 4)
    assert (BOTH.output_multiplier, BOTH.residual_multiplier) == (1 / 4, 1 / 8)


@pytest.mark.parametrize("convention", DecayConvention)
def test_weight_decay_keeps_the_timescale_of_hidden_matrices(convention: DecayConvention) -> None:
    hidden = dataclasses.replace(WIDER, convention=convention).of(Kind.HIDDEN)
    before = timescale(1e6, 3e-4, 0.1, 1e10, convention)
    after = timescale(1e6, 3e-4 * hidden.lr, 0.1 * hidden.weight_decay, 1e10, convention)
    assert float(after) == pytest.approx(float(before), rel=1e-12)


@pytest.mark.parametrize("rules", Rules)
@pytest.mark.parametrize("kind", Kind)
def test_growing_twice_is_growing_once(rules: Rules, kind: Kind) -> None:
    depths = (2, 8, 16) if rules is Rules.COMPLETEP else (2, 2, 2)
    steps = [
        Growth(rules=rules, base_width=64 * 4**i, width=64 * 4**j, base_depth=depths[i], depth=depths[j]).of(kind)
        for i, j in ((0, 1), (1, 2), (0, 2))
    ]
    first, second, once = map(dataclasses.asdict, steps)
    assert {name: first[name] * second[name] for name in once} == pytest.approx(once, rel=1e-12)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        pytest.param({"width": 0}, "width must be 1 or more, got 0", id="no width"),
        pytest.param(
            {"base_depth": 4, "depth": 8}, "muP carries nothing from 4 layers to 8: use completep", id="depth"
        ),
    ],
)
def test_refuses(change: dict[str, int], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        dataclasses.replace(WIDER, **change)


def test_no_head_size() -> None:
    with pytest.raises(ValueError, match="head_size must be 1 or more"):
        WIDER.attention_scale(0)
