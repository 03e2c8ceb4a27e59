"""Routes to the best size side by side: numbers of the figure, and tables."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from lawfit.advise.budget.plan import plan
from lawfit.ask import PlanQuestion
from lawfit.estimate.loss.ensemble import fit_ensemble
from lawfit.laws.loss import CHINCHILLA
from lawfit.plots.notebook import plot_plan
from lawfit.plots.plan_routes import members_table, profiles_table, routes_figure, routes_numbers
from lawfit.records import Fit
from lawfit.report.plan import plan_sections
from tests.advise.planning_samples import RECIPE, loss_fit, on_a_line, runs_of, settings

BUDGETS = np.geomspace(1e19, 1e21, 6)


@cache
def planned(profiles: bool = True) -> tuple[Fit, dict[str, Any]]:
    if profiles:
        flops = np.repeat(BUDGETS, 9)
        params = CHINCHILLA.optimum(flops)[0] * np.tile(np.geomspace(1 / 6, 6, 9), len(BUDGETS))
        tokens = flops / 6 / params
        noise = np.exp(0.002 * np.random.default_rng(2).standard_normal(len(params)))
        runs = params, tokens, CHINCHILLA.loss(params, tokens) * noise
    else:
        runs = runs_of(CHINCHILLA, 0.003)
    fit = loss_fit(*runs, resamples=60)
    forms = fit_ensemble(*runs, forms=("additive", "power"), rng=np.random.default_rng(0), resamples=60)
    fit = replace(fit, payload={**fit.payload, "forms": forms.to_json()})
    return fit, plan(PlanQuestion(flops=1e22), RECIPE, {"loss": fit}, {}, settings)


def test_profiles_and_forms_stand_side_by_side() -> None:
    _, document = planned()
    rows = {row[0]: row for row in members_table(document).rows}
    assert {"additive", "forms together", "IsoFLOP profiles", "plan"} <= set(rows)
    shares = [float(row[1].rstrip("%")) for name, row in rows.items() if name not in ("forms together", "plan")]
    assert sum(shares) == pytest.approx(100, abs=0.5 * len(shares))  # each is rounded
    part = document["isoflop"]["params"]
    assert part["low"] < float(CHINCHILLA.optimum(1e22)[0]) < part["high"]
    assert document["optimum"]["params"]["low"] < part["value"] < document["optimum"]["params"]["high"]
    minima = profiles_table(document)
    assert len(minima.rows) == len(BUDGETS)
    for row, flops in zip(document["isoflop"]["budgets"], BUDGETS, strict=True):
        assert row["flops"] == pytest.approx(flops, rel=1e-5)
        assert row["low"] < row["params"] < row["high"]


def test_a_form_that_takes_part_with_two_windows_is_named_twice() -> None:
    _, document = planned()
    names = [row[0] for row in members_table(document).rows]
    assert len(names) == len(set(names))
    windows = {row["fitted_from_flops"] for row in document["optimum"]["forms"] if row["form"] == "additive"}
    assert sum(name.startswith("additive") for name in names) == len(windows)


def test_the_figure_holds_every_route() -> None:
    fit, document = planned()
    chart = routes_numbers(fit, document)
    assert len(chart.profiles) == len(BUDGETS)
    at = np.interp(np.log(1e22), np.log(chart.flops), np.log(chart.line[0]))
    assert np.exp(at) == pytest.approx(document["isoflop"]["params"]["value"], rel=1e-3)
    assert (chart.line[1] < chart.line[0]).all()
    assert (chart.line[0] < chart.line[2]).all()
    for (_, share, sizes), row in zip(chart.members, document["optimum"]["forms"], strict=False):
        assert share == row["share"]
        said = np.exp(np.interp(np.log(1e22), np.log(chart.flops), np.log(sizes)))
        assert said == pytest.approx(row["params"], rel=0.01)  # between computes a quarter of a decade apart
    figure = routes_figure(chart)
    assert len(figure.data) == len(chart.members) + 5  # band, line, minima, answer
    assert figure == plot_plan(fit, document, "routes")


def test_without_profiles_the_reason_stands_on_the_page() -> None:
    fit, document = planned(profiles=False)
    chart = routes_numbers(fit, document)
    assert not chart.line.size
    assert len(routes_figure(chart).data) == len(chart.members) + 1
    page = plan_sections(fit, document)
    assert "The best size by other routes" in page
    assert "No route by IsoFLOP profiles: 0 budgets have a lowest loss" in page
    assert "IsoFLOP profiles" not in {row[0] for row in members_table(document).rows}


def test_no_routes_without_an_optimum() -> None:
    fit = on_a_line()
    document = plan(PlanQuestion(flops=1e21, params=2e9), RECIPE, {"loss": fit}, {}, settings)
    assert "other routes" not in plan_sections(fit, document)
    with pytest.raises(ValueError, match="one line"):
        plot_plan(fit, document, "routes")
