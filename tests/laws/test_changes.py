"""Rules put together: what a change of batch or horizon does to each setting, and what is said about it."""

from __future__ import annotations

import dataclasses

import pytest

from lawfit.laws import transfer
from lawfit.laws.changes import Change, Changed, Tuned, change_batch, change_horizon
from lawfit.laws.timescale import DecayConvention, timescale

TUNED = Tuned(lr=3e-4, beta1=0.9, beta2=0.95, eps=1e-8, ema=0.9999, weight_decay=0.1)


def by_setting(change: Change) -> dict[str, Changed]:
    return {row.setting: row for row in change.settings}


def after(change: Change, setting: str) -> float:
    value = by_setting(change)[setting].after
    assert value is not None
    return value


def test_batch_by_default() -> None:
    change = change_batch(TUNED, 512, 64)
    assert after(change, "lr") == pytest.approx(3e-4 / 8**0.5, rel=1e-12)
    assert after(change, "beta1") == 0.9
    assert after(change, "beta2") == pytest.approx(0.9936088490, rel=1e-9)  # G24
    assert after(change, "eps") == 1e-8
    assert after(change, "ema") == pytest.approx(0.9999 ** (1 / 8), rel=1e-12)
    assert after(change, "weight_decay") == pytest.approx(0.1 / 8**0.5, rel=1e-12)


def test_batch_by_the_sde() -> None:
    change = change_batch(TUNED, 1e6, 4e6, sde=True)
    found = [after(change, name) for name in ("lr", "beta1", "beta2", "eps")]
    assert found == pytest.approx([6e-4, 0.6, 0.8, 5e-9], rel=1e-12)


@pytest.mark.parametrize("convention", DecayConvention)
@pytest.mark.parametrize("exponent", [0.5, 1.0, 0.3])
def test_batch_keeps_the_timescale_for_its_own_lr(convention: DecayConvention, exponent: float) -> None:
    tuned = dataclasses.replace(TUNED, convention=convention)
    change = change_batch(tuned, 1e6, 3e6, lr_exponent=exponent)
    before = timescale(1e6, 3e-4, 0.1, 2e10, convention)
    moved = timescale(3e6, after(change, "lr"), after(change, "weight_decay"), 2e10, convention)
    assert float(moved) == pytest.approx(float(before), rel=1e-12)


def test_factors_without_values() -> None:
    rows = by_setting(change_batch(Tuned(), 1e6, 4e6))
    assert {name: row.factor for name, row in rows.items()} == pytest.approx({"lr": 2.0, "weight_decay": 2.0})
    assert {row.after for row in rows.values()} == {None}


HORIZONS = {
    "rule of thumb": ({}, 3.834161495e-4),  # G12
    "large model": ({"params": 7e9}, 3.834161495e-4),
    "small model": ({"params": 50e6}, 1e-3 * 20**-0.7029),
    "own exponent": ({"exponent": 0.5}, 1e-3 * 20**-0.5),
}


@pytest.mark.parametrize(("options", "lr"), HORIZONS.values(), ids=HORIZONS)
def test_horizon(options: dict[str, float], lr: float) -> None:
    assert after(change_horizon(Tuned(lr=1e-3), 5e10, 1e12, **options), "lr") == pytest.approx(lr, rel=1e-9)


@pytest.mark.parametrize("convention", DecayConvention)
def test_horizon_moves_the_timescale_as_power_lines(convention: DecayConvention) -> None:
    change = change_horizon(Tuned(lr=1e-3, weight_decay=0.1, convention=convention), 1e10, 8e10)
    before = timescale(1e6, 1e-3, 0.1, 1e10, convention)
    moved = timescale(1e6, after(change, "lr"), after(change, "weight_decay"), 8e10, convention)
    assert float(moved / before) == pytest.approx(8**transfer.POWER_LINES_TIMESCALE_EXPONENT, rel=1e-12)


def test_notes_say_when_a_rule_is_stretched() -> None:
    notes = change_batch(Tuned(ema=0.99, beta2=0.95), 1, 1000, lr_exponent=0.3).notes
    assert [note.code for note in notes] == ["rules.stretched_average", "rules.short_half_life"]
    assert change_batch(Tuned(ema=0.9999, beta2=0.95), 1, 2, lr_exponent=0.3).notes == ()


def test_sde_and_another_exponent_contradict() -> None:
    with pytest.raises(ValueError, match="the square root of the batch"):
        change_batch(TUNED, 1, 2, lr_exponent=1.0, sde=True)


def test_every_rule_names_its_source() -> None:
    for change in (change_batch(TUNED, 1, 2), change_batch(TUNED, 1, 2, sde=True), change_horizon(TUNED, 1, 2)):
        for row in change.settings:
            unmoved = row.setting == "eps" and row.after == row.before
            assert unmoved or (row.cite.startswith("arXiv:") and row.checked in {"V1", "V2", "MEM"})
