"""Published laws on a recipe's own runs."""

from __future__ import annotations

import json

import numpy as np
import pytest

from lawfit.advise.compare import compare_published
from lawfit.errors import NotEnoughData
from lawfit.estimate.observations import observe
from lawfit.estimate.scoring import observed_regret
from lawfit.laws.published import published_law, published_laws
from lawfit.records import Recipe
from tests.estimate.simulated import NINE, RECIPE, nine_scales, run, sweep


def test_every_law_is_scored_or_said_to_be_missing() -> None:
    table = compare_published(nine_scales(), RECIPE)
    laws = [row["law"] for row in table["laws"]] + [row["law"] for row in table["not_scored"]]
    assert sorted(laws) == sorted(published_laws())
    assert all(row["reason"] for row in table["not_scored"])
    assert json.dumps(table, allow_nan=False)


def test_cheapest_mean_first() -> None:
    means = [row["mean_regret"] for row in compare_published(nine_scales(), RECIPE)["laws"]]
    assert means == sorted(means)
    assert min(means) >= 0


def test_the_figure_is_the_one_on_the_runs() -> None:
    observed = nine_scales()
    row = next(row for row in compare_published(observed, RECIPE)["laws"] if row["law"] == "step_law")
    regrets = []
    for cell in range(observed.n_cells):
        said = published_law("step_law").predict(float(observed.params[cell]), float(observed.tokens[cell]))
        rows = observed.rows_of(cell)
        settings = (np.exp(a[rows]) for a in (observed.log_lr, observed.log_batch, observed.log_loss))
        scored = observed_regret(*settings, at_lr=said.lr, at_batch=said.batch_tokens, rule="bilinear")  # type: ignore[arg-type]
        regrets.append(float(scored.regret))
    assert row["mean_regret"] == pytest.approx(np.mean(regrets), rel=1e-9)
    assert row["worst_regret"] == pytest.approx(np.max(regrets), rel=1e-9)
    assert row["cells_scored"] == 9


def test_conventions_are_compared_only_when_known() -> None:
    unknown = compare_published(nine_scales(), Recipe(name="r"))
    assert not any(row["same_params_convention"] for row in unknown["laws"])
    known = compare_published(nine_scales(), RECIPE)
    assert any(row["same_params_convention"] for row in known["laws"])


def test_a_scale_with_one_setting_prices_nothing() -> None:
    with pytest.raises(NotEnoughData, match="4 or more settings"):
        compare_published(observe([run("a", 1e-3, 1e5, 3.0)]), RECIPE)


def test_one_sweep_is_still_a_table() -> None:
    table = compare_published(observe(sweep(NINE[:1], batch_steps=1).runs), RECIPE)
    assert json.dumps(table, allow_nan=False)
    assert table["laws"]
