"""Numbers as people write and read them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lawfit import units


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("7e9", 7e9),
        ("7B", 7e9),
        ("7b", 7e9),
        ("1.4T", 1.4e12),
        (" 500k ", 5e5),
        ("0.0016", 0.0016),
        (".5", 0.5),
        ("2.", 2.0),
        ("1.5e3k", 1.5e6),
        ("-3", -3.0),
        ("7G", 7e9),
    ],
)
def test_parse_quantity(text: str, value: float) -> None:
    assert units.parse_quantity(text) == value


@pytest.mark.parametrize(
    "text", ["", "seven", "7 B 9", "nan", "inf", "-inf", "1,000", "7%", "0x10", "1e999", "B", "7BB"]
)
def test_what_is_not_a_quantity(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a number|too large"):
        units.parse_quantity(text)


@pytest.mark.parametrize(
    ("value", "text"),
    [(7e9, "7B"), (1.05e6, "1.05M"), (1.4e12, "1.4T"), (131072, "131k"), (999_600, "1M"), (42, "42"), (0.5, "0.5")],
)
def test_format_quantity(value: float, text: str) -> None:
    assert units.format_quantity(value) == text


@given(st.floats(min_value=1e-3, max_value=1e15))
def test_a_written_quantity_is_read_back(value: float) -> None:
    assert units.parse_quantity(units.format_quantity(value)) == pytest.approx(value, rel=0.0051)  # 3 digits


@pytest.mark.parametrize(
    ("value", "text"),
    [(6.123e-4, "6.12e-4"), (0.01, "1.00e-2"), (3.0, "3.00e0"), (None, "-"), (math.nan, "-")],
)
def test_format_lr(value: float | None, text: str) -> None:
    assert units.format_lr(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.00 %"),
        (0.00062, "0.06 %"),
        (0.00006, "0.006 %"),
        (1e-9, "< 0.001 %"),
        (0.25, "25 %"),
        (None, "-"),
        (math.inf, "-"),
    ],
)
def test_format_percent(value: float | None, text: str) -> None:
    assert units.format_percent(value) == text


@pytest.mark.parametrize(
    ("value", "words"), [(1e21, "1e21"), (5.534e20, "5.53e20"), (9.999e20, "1e21"), (math.inf, "inf")]
)
def test_flops_for_people(value: float, words: str) -> None:
    assert units.format_flops(value) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(12, "12 seconds"), (90, "1.5 minutes"), (39062.5, "10.9 hours"), (3 * 86400, "3 days"), (4e8, "12.7 years")],
)
def test_durations_for_people(seconds: float, words: str) -> None:
    assert units.format_duration(seconds) == words


@pytest.mark.parametrize(
    ("number", "words", "text"),
    [
        (0, ("run",), "0 runs"),
        (1, ("run",), "1 run"),
        (1627, ("run",), "1,627 runs"),
        (2, ("loss", "losses"), "2 losses"),
    ],
)
def test_numbers_of_things(number: int, words: tuple[str, ...], text: str) -> None:
    assert units.counted(number, *words) == text
