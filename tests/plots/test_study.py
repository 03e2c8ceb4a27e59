"""Figures of a study: their numbers, then that they build."""

from __future__ import annotations

from typing import Any

import pytest

from lawfit.plots.study import history_figure, history_numbers, map_figure, map_numbers
from tests.study.test_over_http import BETTER, KNOWN, ROUND

BLIND = {**ROUND, "promised": None, "before": None, "got": None, "answer": None, "refused": "why"}


def study(*rounds: dict[str, Any]) -> Any:
    numbered = [{**one, "number": number, "phase": "fitted"} for number, one in enumerate(rounds, 1)]
    return {"target": {"params": 1e8, "tokens": 2e9, "level": 0.9}, "budget": {"unit": "flops"}, "rounds": numbered}


def test_what_was_known_stands_where_it_was_spent() -> None:
    chart = history_numbers(study(ROUND, BLIND, {**ROUND, "before": BETTER}))
    assert [(step.round, step.spent) for step in chart.known] == [(0, 0.0), (1, 1e12), (3, 3e12)]
    assert chart.known[0].values["expected_regret"] == pytest.approx(100 * KNOWN["expected_regret"])
    assert [(a.spent, b.spent) for a, b in chart.promised] == [(0.0, 1e12), (2e12, 3e12)]
    assert len(history_figure(chart).data) == 3 * (2 + 1)


def test_grids_of_a_round_at_one_scale_are_one_ring() -> None:
    two = {**ROUND, "scales": [*ROUND["scales"], *ROUND["scales"], {**ROUND["scales"][0], "params": 2e6}]}
    chart = map_numbers(study(two, ROUND))
    assert chart.rings == ((1, 1e6, 2e7, 18), (1, 2e6, 2e7, 9), (2, 1e6, 2e7, 9))
    figure = map_figure(chart)
    assert [trace.name for trace in figure.data] == ["round 1", "round 2", "target"]
