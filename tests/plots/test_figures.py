"""The numbers of every figure, and that the figures build and hold them."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest

from lawfit.advise.draws import draw_worlds
from lawfit.advise.regret import expected_regrets
from lawfit.advise.setting_cost import cost_of
from lawfit.ask import SettingQuestion
from lawfit.estimate.lr_batch.valley import excess, steepened
from lawfit.estimate.observe.observations import observe
from lawfit.laws.published import published_laws
from lawfit.plots import notebook
from lawfit.plots.backtest import backtest_figure, backtest_numbers
from lawfit.plots.costs import cost_numbers
from lawfit.plots.scaling import LAWS_SHOWN, scaling_figure, scaling_numbers, short_label
from lawfit.plots.style import COLOURS, GOOD_TO_BAD, SMALL_TO_LARGE, dark_partners, log_ticks, scale_colours
from lawfit.plots.surface import CONTOUR_COSTS, ZONE_COSTS, best_shown_cell, surface_figure, surface_numbers
from lawfit.plots.valley import valley_figure, valley_numbers
from lawfit.records import RunStatus
from tests.plots.samples import TARGET, sample, sweep

QUANTITIES = ("lr", "batch_tokens")


class TestSurface:
    @pytest.fixture
    def cell(self) -> int:
        return next(i for i, c in enumerate(sample().fit.payload["cells"]) if c["diverged"])

    def test_shows_every_run_of_the_cell(self, cell: int) -> None:
        found = surface_numbers(sample().fit.payload, sample().observed, cell)
        own = [
            r
            for r in sample().runs
            if r.params == pytest.approx(found.params) and r.tokens == pytest.approx(found.tokens)
        ]
        finished = [r for r in own if r.status is RunStatus.FINISHED]
        assert sorted(found.loss) == pytest.approx(sorted(r.loss for r in finished))
        assert len(found.diverged_lr) == len(own) - len(finished) > 0

    def test_excess_is_relative_to_the_best_run(self, cell: int) -> None:
        found = surface_numbers(sample().fit.payload, sample().observed, cell)
        assert found.excess.min() == 0
        assert found.excess == pytest.approx(found.loss / sample().fit.payload["cells"][cell]["best"]["loss"] - 1)

    def test_zones_cost_what_they_say(self, cell: int) -> None:
        payload = sample().fit.payload
        found = surface_numbers(payload, sample().observed, cell)
        assert [zone.cost for zone in found.zones] == list(ZONE_COSTS)
        assert [contour.cost for contour in found.contours] == list(CONTOUR_COSTS)
        valley, _ = steepened(payload["model"]["valley"], found.tokens)  # as steep as it is at this horizon
        for zone in (*found.zones, *found.contours):
            there = np.isfinite(zone.lr)
            u = np.log(zone.lr[there] / found.optimum_lr)
            v = np.log(zone.batch_tokens[there] / found.optimum_batch_tokens)
            cost = np.expm1(excess(u, v, valley))
            assert cost == pytest.approx(np.full(there.sum(), zone.cost), rel=1e-6)  # bisection, 50 halvings
            assert there.mean() > 0.5

    def test_figure_holds_runs_crosses_and_optimum(self, cell: int) -> None:
        found = surface_numbers(sample().fit.payload, sample().observed, cell)
        traces = {trace.name: trace for trace in surface_figure(found).data}
        assert len(traces["run"].x) == len(found.lr)
        assert max(traces["run"].marker.color) == pytest.approx(100 * found.excess.max())
        assert traces["diverged"].marker.symbol == "x-thin"
        star = next(trace for name, trace in traces.items() if name.startswith("fitted optimum"))
        assert star.x[0] == found.optimum_lr

    def test_an_optimum_at_the_edge_is_an_open_star_and_says_so(self, cell: int) -> None:
        payload = copy.deepcopy(dict(sample().fit.payload))
        payload["cells"][cell]["optimum"] |= {"status": "at_edge", "edges": ["lr_high"]}
        star = surface_figure(surface_numbers(payload, sample().observed, cell)).data[-1]
        assert star.marker.symbol == "star-open"
        assert "edge" in star.name

    def test_a_cell_whose_runs_are_gone_is_drawn_without_them(self, cell: int) -> None:
        found = sample().fit.payload["cells"][cell]
        left = observe([r for r in sample().runs if not math.isclose(r.params, found["params"], rel_tol=1e-3)])
        numbers = surface_numbers(sample().fit.payload, left, cell)
        assert len(numbers.lr) == 0
        assert surface_figure(numbers).data[-1].x[0] == numbers.optimum_lr

    def test_opens_with_the_largest_scale_that_shows_its_optimum(self) -> None:
        payload = copy.deepcopy(dict(sample().fit.payload))
        cells = payload["cells"]
        largest = max(range(len(cells)), key=lambda i: cells[i]["params"] * cells[i]["tokens"])
        for cell in cells:
            cell["optimum"]["status"] = "inside"
        assert best_shown_cell(payload) == largest
        cells[largest]["optimum"]["status"] = "at_edge"
        assert best_shown_cell(payload) != largest


@pytest.mark.parametrize("quantity", QUANTITIES)
@pytest.mark.parametrize("along", ["tokens", "params"])
class TestScaling:
    @pytest.mark.parametrize("batch", ["document", "given", "capped"], ids=["free", "given", "capped"])
    def test_at_the_target_the_band_is_the_interval_that_was_recommended(
        self, quantity: str, along: str, batch: str
    ) -> None:
        document = getattr(sample(), batch)
        found = scaling_numbers(sample().fit, document, quantity, along)
        said = document["recommendation"][quantity]
        at = int(np.flatnonzero(found.x == found.target[along])[0])
        # the document rounds to six digits, and the batch to whole sequences
        assert (found.low[at], found.high[at]) == pytest.approx((said["low"], said["high"]), rel=1e-3)
        assert found.recommended == said["value"]
        assert np.all(found.low < found.value)
        assert np.all(found.value < found.high)

    def test_published_lines_pass_through_what_the_document_says(self, quantity: str, along: str) -> None:
        found = scaling_numbers(sample().fit, sample().document, quantity, along)
        at = int(np.flatnonzero(found.x == found.target[along])[0])
        said = {row["law"]: row[quantity] for row in sample().document["published"] if row[quantity] is not None}
        assert {line.law: float(line.value[at]) for line in found.published} == pytest.approx(said, rel=1e-3)
        shown = [line for line in found.published if line.shown]
        assert 0 < len(shown) <= LAWS_SHOWN
        cites = [published_laws()[line.law].cite for line in shown]
        assert len(set(cites)) == len(cites)

    def test_cells_are_those_of_the_fit(self, quantity: str, along: str) -> None:
        found = scaling_numbers(sample().fit, sample().document, quantity, along)
        cells = sample().fit.payload["cells"]
        assert [c.value for c in found.cells] == [c["optimum"][quantity] for c in cells]
        assert found.measured == pytest.approx((min(c[along] for c in cells), max(c[along] for c in cells)))

    def test_figure_marks_where_the_runs_end(self, quantity: str, along: str) -> None:
        found = scaling_numbers(sample().fit, sample().document, quantity, along)
        figure = scaling_figure(found)
        beyond = [a for a in figure.layout.annotations if "beyond your runs" in a.text]
        assert len(beyond) == (1 if getattr(TARGET, along) > found.measured[1] else 0)
        target = next(trace for trace in figure.data if (trace.name or "").startswith("recommended"))
        assert target.y[0] + target.error_y.array[0] == pytest.approx(found.recommended_high)

    def test_a_given_batch_is_not_called_recommended(self, quantity: str, along: str) -> None:
        found = scaling_numbers(sample().fit, sample().given, quantity, along)
        names = [trace.name or "" for trace in scaling_figure(found).data]
        assert any(name.startswith("given batch") for name in names) == (quantity == "batch_tokens")


def test_optima_at_the_edge_are_open_symbols() -> None:
    fit = sample().fit
    cells = copy.deepcopy(fit.payload["cells"])
    for cell in cells:
        cell["optimum"]["status"] = "inside"
    cells[0]["optimum"]["status"] = "at_edge"
    changed = type(fit)(**{**vars(fit), "payload": {**fit.payload, "cells": cells}})
    figure = scaling_figure(scaling_numbers(changed, sample().document, "lr"))
    symbols = [s for trace in figure.data if isinstance(trace.marker.symbol, tuple) for s in trace.marker.symbol]
    assert sorted(symbols) == ["circle"] * (len(cells) - 1) + ["circle-open"]


def test_scaling_refuses_what_it_cannot_draw() -> None:
    with pytest.raises(ValueError, match="weight_decay"):
        scaling_numbers(sample().fit, sample().document, "weight_decay")


class TestCosts:
    @pytest.mark.parametrize("quantity", QUANTITIES)
    def test_the_recommendation_is_the_cheapest_place(self, quantity: str) -> None:
        found = cost_numbers(sample().fit, sample().document, quantity)
        at = int(np.flatnonzero(found.x == found.recommended)[0])
        assert found.recommended_cost == pytest.approx(sample().document["expected_regret"]["loss_fraction"], rel=0.02)
        # the search stops at a grid; a hundredth of the cost is far below any difference one could see
        assert found.expected[at] <= found.expected.min() * 1.01

    @pytest.mark.parametrize("quantity", QUANTITIES)
    def test_zones_end_where_the_fitted_curve_costs_that_much(self, quantity: str) -> None:
        found = cost_numbers(sample().fit, sample().document, quantity)
        assert set(found.zones) == {"0.001", "0.0025"}
        for cost, ends in found.zones.items():
            there = np.interp(np.log(ends), np.log(found.x), found.fitted)
            assert there == pytest.approx([float(cost)] * 2, rel=0.08)  # linear between 31 or 61 points

    def test_doubt_costs_more_than_none(self) -> None:
        found = cost_numbers(sample().fit, sample().document, "lr")
        assert found.expected.min() > found.fitted.min() >= 0


class TestBacktest:
    def test_holds_every_method_best_first(self) -> None:
        splits = backtest_numbers(sample().fit.payload)
        for split, stored in zip(splits, sample().fit.payload["backtest"]["splits"], strict=True):
            assert {s.method for s in split.scores} == {row["method"] for row in stored["rows"]}
            means = [s.mean_regret for s in split.scores]
            assert means == sorted(means)
            assert sum(s.ours for s in split.scores) == 1

    def test_figure_shows_mean_and_worst(self) -> None:
        split = backtest_numbers(sample().fit.payload)[0]
        traces = {trace.name: trace for trace in backtest_figure(split).data if trace.name}
        assert list(traces["mean"].x) == pytest.approx([100 * s.mean_regret for s in split.scores[::-1]])
        assert list(traces["worst scale"].x) == pytest.approx([100 * s.worst_regret for s in split.scores[::-1]])

    def test_a_method_without_a_score_is_named(self) -> None:
        row = {"method": "broken", "mean_regret": None, "worst_regret": None, "cells": 0}
        found = backtest_numbers({"backtest": {"splits": [{"name": "x", "rows": [row]}]}})
        assert found[0].not_scored == ("broken",)


class TestNotebook:
    def test_surface_takes_runs_or_observations(self) -> None:
        fit, runs, observed = sample().fit, sample().runs, sample().observed
        one, other = notebook.plot_surface(fit, runs), notebook.plot_surface(fit, observed)
        assert one.layout == other.layout
        for of_runs, of_observations in zip(one.data, other.data, strict=True):  # only runs have names
            assert (of_runs.x, of_runs.y, of_runs.marker) == (
                of_observations.x,
                of_observations.y,
                of_observations.marker,
            )

    @pytest.mark.parametrize("cell", [-1, 99])
    def test_a_scale_that_is_not_there_is_refused(self, cell: int) -> None:
        with pytest.raises(ValueError, match="this fit has 6"):
            notebook.plot_surface(sample().fit, sample().observed, cell)

    @pytest.mark.parametrize("quantity", QUANTITIES)
    def test_scaling_and_costs_build(self, quantity: str) -> None:
        assert len(notebook.plot_scaling(sample().fit, sample().document, quantity, "params").data) > 5
        assert len(notebook.plot_costs(sample().fit, sample().document, quantity).data) == 3

    def test_backtest_builds_or_says_what_there_is(self) -> None:
        assert notebook.plot_backtest(sample().fit).data
        with pytest.raises(ValueError, match="each model size left out"):
            notebook.plot_backtest(sample().fit, 17)


class TestStyle:
    @pytest.mark.parametrize(("low", "high"), [(1e-4, 1e-2), (2e8, 5e8), (1e6, 1e15), (3.0, 3.3)])
    def test_ticks_lie_inside_and_are_few(self, low: float, high: float) -> None:
        ticks = log_ticks(low, high)
        assert len(ticks) <= 9
        assert all(low <= tick <= high for tick in ticks)
        assert len(ticks) >= 2 or high / low < 1.2

    def test_every_colour_has_one_partner_on_dark_paper(self) -> None:
        assert len(dark_partners()) == len(COLOURS) + len(GOOD_TO_BAD) + len(SMALL_TO_LARGE)

    @pytest.mark.parametrize("count", [1, 2, 5, 12, 33])
    def test_as_many_scale_colours_as_asked_and_none_twice(self, count: int) -> None:
        assert len(set(scale_colours(count))) == count

    def test_long_labels_are_cut_for_the_legend(self) -> None:
        assert short_label("Step Law") == "Step Law"
        assert short_label("Video diffusion transformers (Yin et al.)").endswith("…")


class TestValley:
    def test_the_recommendation_is_the_cheapest_place_about(self) -> None:
        valley = valley_numbers(sample().fit, sample().document)
        lr, batch = valley.recommended
        worlds = draw_worlds(sample().fit.payload["model"], 1e9, 2e10)
        here = float(expected_regrets(worlds, np.log([lr]), np.log([batch]))[0, 0])
        # shading for risk is bounded, and the batch is a whole number of sequences: not exactly the least
        assert valley.cost.min() <= here <= valley.cost.min() + 0.001
        assert valley.cost.max() > 4 * here
        assert valley.lr[0] < valley.lr_interval[0] < lr < valley.lr_interval[1] < valley.lr[-1]

    def test_it_agrees_with_what_another_setting_costs(self) -> None:
        valley = valley_numbers(sample().fit, sample().document)
        for i, j in ((8, 5), (16, 10), (20, 14)):
            lr, batch = float(valley.lr[i]), float(valley.batch_tokens[j])
            asked = SettingQuestion(params=1e9, tokens=2e10, seq_len=1024, lr=lr, batch_tokens=batch)
            said = cost_of(sample().fit, sweep().recipe, asked, {})["regret"]["loss_fraction"]
            assert valley.cost[j, i] == pytest.approx(said, rel=0.02)  # the middle world's best rate, not each one's

    def test_bands_are_few_and_begin_above_the_cheapest(self) -> None:
        figure = valley_figure(valley_numbers(sample().fit, sample().document))
        bands = figure.data[0]
        assert 1 <= len(bands.colorbar.ticktext) <= 6
        assert np.min(bands.z) < 1  # some setting lies in the best band
        assert [trace.name for trace in figure.data[1:]][-1].startswith("recommended")
