"""What a round may spend, and when it is enough."""

from __future__ import annotations

import pytest

from lawfit.planner.rounds import Until, read_until, shares


@pytest.mark.parametrize(
    ("text", "until"),
    [
        (None, Until()),
        ("regret=0.1%", Until(regret=0.001)),
        ("regret = 0.002", Until(regret=0.002)),
        ("Regret=1e-3", Until(regret=1e-3)),
        ("lr=x1.3", Until(lr_factor=1.3)),
        ("lr=1.25", Until(lr_factor=1.25)),
    ],
)
def test_an_end_as_people_write_it(text: str | None, until: Until) -> None:
    assert read_until(text) == until


@pytest.mark.parametrize("text", ["", "soon", "regret=", "regret=0%", "regret=200%", "lr=x1", "lr=0.5", "batch=x2"])
def test_what_is_no_end(text: str) -> None:
    with pytest.raises(ValueError, match=r"write regret=0.1% or lr=x1.3"):
        read_until(text)


def test_it_is_reached_where_the_answer_is_that_good() -> None:
    answer = {"expected_regret": 0.001, "lr_factor": 1.4}
    assert read_until("regret=0.1%").reached(answer)
    assert not read_until("regret=0.09%").reached(answer)
    assert read_until("lr=x1.4").reached(answer)
    assert not read_until("lr=x1.3").reached(answer)
    assert not read_until(None).reached(answer)


def test_a_round_takes_its_part_and_where_that_buys_nothing_all() -> None:
    assert list(shares(90.0, 3)) == [30.0, 90.0]
    assert list(shares(90.0, 1)) == [90.0]
