"""The printed recommendation says everything that its document holds, on a terminal and in a pipe."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
from rich.console import Console

from lawfit.cli import output
from lawfit.cli.card import card
from tests.cli.samples import PREDICTION


def printed(document: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> str:
    output.show(*card(document))
    return capsys.readouterr().out


def on_terminal(document: dict[str, Any], width: int, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(output, "is_terminal", lambda: True)
    monkeypatch.setattr("lawfit.cli.card.is_terminal", lambda: True)
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    for part in card(document):
        console.print(part)
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


@pytest.mark.parametrize(
    "words",
    [
        "7B parameters on 1.4T tokens",
        "6.12e-4",
        "4,997,120 tokens",
        "2,440 sequences of 2,048",
        "90 % interval",
        "4.31e-4 to 9.02e-4",
        "Costs below 0.1 %",
        "4.20e-4 to 9.10e-4",
        "as if 1.12 % of the compute were lost",
        "parameters 6.46x (0.81 decades)",
        "multiples of 8 sequences",
        "arXiv:2503.04715",
        "argmin + OLS",
        "1,627 runs at 14 scales, 161 of them diverged",
        "left out: 3 (loss worse than that of an untrained model)",
        "how the batch grows with parameters",
        "aa11bb22cc33dd44",
        "lawfit predictions show 5f1c9a8e7b6d4c32",
        "In [cell] 3",
    ],
)
def test_card_says(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert words in printed(PREDICTION, capsys)


def test_a_pipe_gets_plain_text(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(PREDICTION, capsys)
    assert "\x1b" not in text
    assert not set(text) & set("╭╮╰╯│─")
    assert all(line == line.rstrip() for line in text.splitlines())


@pytest.mark.parametrize("width", [80, 120])
def test_a_terminal_is_not_overrun(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    text = on_terminal(PREDICTION, width, monkeypatch)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text  # nothing is cut off
    for whole in ("arXiv:2503.04715", "2,440 sequences of 2,048", "5.10e-4 to 7.60e-4"):
        assert whole in text


def test_laws_are_listed_cheapest_first_and_unscored_last(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(PREDICTION, capsys)
    assert text.index("\nstep_law ") < text.index("\ndeepseek ") < text.index("\nkaplan ")


def test_beside_a_batch_that_is_not_the_best_the_intervals_say_whose_they_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    document = copy.deepcopy(PREDICTION)
    assert "best batch: " not in printed(document, capsys)
    document["recommendation"]["batch_tokens"].update(value=2.0**17, imposed=True)
    said = [line for line in printed(document, capsys).splitlines() if "best batch: " in line]
    assert len(said) == 1 + len(document["recommendation"]["batch_tokens"]["cheap_zone"])


def test_what_is_not_known_is_a_dash(capsys: pytest.CaptureFixture[str]) -> None:
    document = copy.deepcopy(PREDICTION)
    document["target"]["batch_tokens"] = 2**20
    batch = document["recommendation"]["batch_tokens"]
    batch.update(value=2.0**20, low=None, high=None, cheap_zone={}, expected_regret=None, sequences=None, yours=None)
    document["expected_regret"]["extra_compute_fraction"] = None
    document.update(published=[], backtest=[], warnings=[])
    text = printed(document, capsys)
    assert "1,048,576 tokens" in text
    assert "(given)" in text
    assert "None" not in text
    assert "compute" not in text


def test_a_backtest_is_sorted_and_has_ours_and_the_plain_baseline(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"method": name, "mean_regret": cost, "worst_regret": cost, "cells": 3}
        for name, cost in (("lawfit", 0.09), ("argmin + OLS", 0.08), *((f"law {i}", 0.01 * i) for i in range(7)))
    ]
    output.show(output.backtest_table(rows))
    said = capsys.readouterr().out
    methods = [line.split("  ")[0] for line in said.splitlines()[1:7]]
    assert methods == ["law 0", "law 1", "law 2", "law 3", "argmin + OLS", "lawfit"]
    assert "3 more with --json" in said
