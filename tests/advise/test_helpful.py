"""Which runs an answer names: those that help this target, the most telling first."""

from __future__ import annotations

from typing import Any

import pytest

from lawfit.advise.helpful import MOST, runs_that_would_help
from lawfit.ask import Target
from lawfit.findings import code_of
from tests.plots.further_samples import whole


def payload(**changes: Any) -> dict[str, Any]:
    return {**whole()[0].payload, **changes}


def edge(params: float, tokens: float) -> dict[str, Any]:
    """A grid beyond the end of a sweep."""
    return {"params": params, "tokens": tokens, "lr": [1e-2], "batch_tokens": [1e5], "why": "an edge"}


EDGES = [edge(2e7, 2e8), edge(1.8e8, 1.6e10), edge(6e7, 6e8)]


@pytest.mark.parametrize("edges", [[], EDGES])
def test_for_a_target_beyond_the_runs_a_nearer_size_comes_first(edges: list[dict[str, Any]]) -> None:
    found = runs_that_would_help(payload(next_grid=edges), Target(params=1e10, tokens=1e11))
    assert code_of(found[0]["why"]) == "advice.nearer_size"
    largest = max(cell["params"] for cell in whole()[0].payload["cells"])
    assert largest < found[0]["params"] <= 2 * largest
    assert found[1:] == [edge(1.8e8, 1.6e10)] * bool(edges)  # the scale nearest to the target


@pytest.mark.parametrize("at", EDGES)
def test_inside_the_runs_the_edge_nearest_to_the_target_does(at: dict[str, Any]) -> None:
    found = runs_that_would_help(payload(next_grid=EDGES), Target(params=at["params"], tokens=at["tokens"]))
    assert found[0] == at
    assert len(found) == MOST


def test_an_open_exponent_comes_before_all(monkeypatch: pytest.MonkeyPatch) -> None:
    needed = {"needed_runs": [{"inputs": {"params": 5e6, "tokens": 1e8}}], "influence": []}
    found = runs_that_would_help(payload(next_grid=EDGES, certificate=needed), Target(params=1e10, tokens=1e11))
    assert (found[0]["params"], code_of(found[0]["why"])) == (5e6, "advice.open_exponent")
