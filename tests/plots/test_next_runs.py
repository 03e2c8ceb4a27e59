"""Figures of what to run next: their numbers, then that they build."""

from __future__ import annotations

import pytest

from lawfit import pipeline
from lawfit.ask import NextQuestion
from lawfit.documents import NextRuns
from lawfit.plots.next_runs import map_figure, map_numbers, narrowing_figure, narrowing_numbers
from lawfit.words import told
from tests.golden_stores import fitted


@pytest.fixture(scope="module")
def document() -> NextRuns:
    with fitted("five_sizes") as store:
        return told(
            pipeline.plan_next(store, None, NextQuestion(params=2e9, tokens=6e10, budget="1e20flops"), keep=False)
        )  # type: ignore[no-any-return]


def test_intervals_are_the_documents(document: NextRuns) -> None:
    chart = narrowing_numbers(document)
    for interval, factor in zip(chart.intervals, ("lr_factor", "batch_factor"), strict=True):
        for ends, there in ((interval.now, document["now"]), (interval.after, document["after"])):
            assert ends[1] / interval.value == pytest.approx(there[factor])  # type: ignore[literal-required]
            assert interval.value / ends[0] == pytest.approx(there[factor])  # type: ignore[literal-required]
    assert chart.floor < chart.regret_after < chart.regret_now
    bars = [trace for trace in narrowing_figure(chart).data if trace.mode == "lines"]
    assert [max(bar.x) for bar in bars[-2:]] == pytest.approx([100 * chart.regret_now, 100 * chart.regret_after])


def test_every_run_is_in_one_ring(document: NextRuns) -> None:
    chart = map_numbers(document)
    assert sum(ring.runs for ring in chart.rings) == document["budget"]["runs"]
    assert sorted(place for ring in chart.rings for place in ring.places) == list(range(1, len(document["grids"]) + 1))
    assert len({(ring.params, ring.tokens) for ring in chart.rings}) == len(chart.rings)
    assert len(chart.known) == len(document["known"]) == 10
    known, rings, target = map_figure(chart).data
    assert (len(known.x), len(rings.x), target.x[0]) == (10, len(chart.rings), 2e9)
    sizes = dict(zip((ring.runs for ring in chart.rings), rings.marker.size, strict=True))
    assert sizes[max(sizes)] == max(sizes.values())
