"""Published laws on a recipe's own runs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lawfit.advise.compare.published import compare_published
from lawfit.advise.counted import CONVERTED, Counts
from lawfit.errors import NotEnoughData
from lawfit.estimate.lr_batch.backtest import observed_surfaces_of
from lawfit.estimate.numerics.snapping import PARAMS_TOLERANCE
from lawfit.estimate.observe.observations import observe
from lawfit.findings import code_of, finding
from lawfit.laws.critical_batch import DOUBLING, Definition, convert
from lawfit.laws.published import published_law, published_laws
from lawfit.records import Recipe, Run, RunStatus
from lawfit.words import tell, told
from tests.estimate.scored_laws import observed_regret
from tests.estimate.simulated import NINE, RECIPE, nine_scales, run, sweep

FURTHER = ("weight_decay", "loss", "critical_batch")


def test_every_law_is_scored_or_said_to_be_missing() -> None:
    table = compare_published(nine_scales(), RECIPE)
    scored = [row["law"] for kind in (table["laws"], *(table[k]["rows"] for k in FURTHER)) for row in kind]
    laws = scored + [row["law"] for row in table["not_scored"]]
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
    with pytest.raises(NotEnoughData) as caught:
        compare_published(observe([run("a", 1e-3, 1e5, 3.0)]), RECIPE)
    assert caught.value.finding == finding("compare.few_settings", needed=4)


def test_one_sweep_is_still_a_table() -> None:
    table = compare_published(observe(sweep(NINE[:1], batch_steps=1).runs), RECIPE)
    assert json.dumps(table, allow_nan=False)
    assert table["laws"]


def row_of(rows: Sequence[Mapping[str, Any]], law: str) -> Mapping[str, Any]:
    return next(row for row in rows if row["law"] == law)


TABLES = {"embedding_params": 5e6, "head_params": 5e6}


class TestCounts:
    """A law is asked about its own count of parameters where the runs tell it."""

    def test_converted_where_the_runs_tell_their_tables(self) -> None:
        runs = [replace(r, extra=TABLES) for r in sweep(NINE).runs]
        observed = observe(runs)
        row = row_of(compare_published(observed, RECIPE, runs=runs)["laws"], "porian")
        assert (row["counts"], row["same_params_convention"]) == ("converted", False)
        counted = {"law": "body_plus_head", "yours": "non_embedding", "how": "converted"}
        assert row["counts_words"] == finding("compare.counts_differ", **counted).to_json()
        said = "counts body-plus-head parameters, your runs count non-embedding: converted"
        assert tell(row["counts_words"]) == said
        regrets = []
        for cell, surface in observed_surfaces_of(observed).items():
            law = published_law("porian").predict(observed.params[cell] + 5e6, observed.tokens[cell])
            regrets.append(float(surface.regret(float(law.lr), float(law.batch_tokens)).regret))
        assert row["mean_regret"] == pytest.approx(np.mean(regrets), rel=1e-9)

    def test_said_where_they_do_not(self) -> None:
        rows = compare_published(nine_scales(), RECIPE, runs=sweep(NINE).runs)["laws"]
        assert row_of(rows, "porian")["counts"] == "not converted"
        assert row_of(rows, "moonlight")["counts"] == "not said"
        assert row_of(rows, "step_law")["counts"] == "as yours"
        assert row_of(rows, "marek")["counts"] == "no parameters"

    def test_by_width_and_vocabulary(self) -> None:
        runs = [replace(r, extra={"hidden_size": 512, "vocab_size": 32000, "tied": 1}) for r in sweep(NINE).runs]
        counts = Counts(RECIPE, runs)
        sizes = np.unique([r.params for r in runs])
        assert counts.of(published_law("chinchilla"), sizes).params == pytest.approx(sizes + 512 * 32000)
        assert counts.widths(sizes) == pytest.approx([512.0] * len(sizes))

    @pytest.mark.parametrize("wanted", ["non_embedding", "body_plus_head", "total"])
    @pytest.mark.parametrize("given", ["non_embedding", "body_plus_head", "total"])
    def test_from_every_count_to_every_other(self, given: str, wanted: str) -> None:
        """A body of 1e8 with an embedding of 3e6 and a head of 5e6 is the same model however it is counted."""
        count = {"non_embedding": 1e8, "body_plus_head": 1.05e8, "total": 1.08e8}
        tables = {"embedding_params": 3e6, "head_params": 5e6}
        counts = Counts(
            replace(RECIPE, params_convention=given), [run("a", 1e-3, 1e5, 3.0, params=count[given], extra=tables)]
        )
        law = published_law({"non_embedding": "step_law", "body_plus_head": "porian", "total": "chinchilla"}[wanted])
        assert law.params_convention == wanted
        counted = counts.of(law, np.array([count[given]]))
        assert counted.params == pytest.approx([count[wanted]], rel=1e-12)
        assert counted.how == ("as yours" if given == wanted else "converted")

    def test_a_count_below_its_own_tables_is_not_converted(self) -> None:
        """No body is left of 8e6 parameters with tables of 3e6 and 5e6."""
        tables = {"embedding_params": 3e6, "head_params": 5e6}
        for params, how in ((8e6, "not converted"), (8.1e6, "converted")):
            counts = Counts(
                replace(RECIPE, params_convention="total"), [run("a", 1e-3, 1e5, 3.0, params=params, extra=tables)]
            )
            assert counts.of(published_law("step_law"), np.array([params])).how == how

    def test_models_of_one_count_and_two_shapes_are_not_converted(self) -> None:
        one, two, *rest = sweep(NINE).runs
        runs = [replace(one, extra=TABLES), replace(two, extra={**TABLES, "head_params": 6e6}), *rest]
        counted = Counts(RECIPE, runs).of(published_law("chinchilla"), np.array([one.params]))
        assert counted.how == "not converted"


def test_a_law_of_exponents_is_carried_from_the_smallest_scale() -> None:
    """And scored on the others: the square root of the batch times what it says of tokens."""
    observed = nine_scales()
    row = row_of(compare_published(observed, RECIPE)["laws"], "scion_horizons")
    surfaces = observed_surfaces_of(observed)
    order = np.argsort(observed.params * observed.tokens, kind="stable")
    first = surfaces[int(order[0])]
    regrets = []
    for cell in order[1:]:
        grown = float(observed.tokens[cell] / observed.tokens[order[0]])
        batch = grown**0.45
        at = first.best_lr * batch**0.62 * grown**-0.56, first.best_batch_tokens * batch
        regrets.append(float(surfaces[int(cell)].regret(*at).regret))
    assert row["carried"]
    assert row["cells_scored"] == 8
    assert row["mean_regret"] == pytest.approx(np.mean(regrets), rel=1e-9)


def test_a_law_of_batches_is_priced_with_the_best_learning_rate_tried() -> None:
    observed = nine_scales()
    row = row_of(compare_published(observed, RECIPE)["laws"], "schaipp")
    assert row["gives"] == ["batch_tokens"]
    for lr in (1e-4, 1e-3, 1e-2):  # so it cannot cost more than with any learning rate
        costs = [
            float(
                surface.regret(
                    lr, float(published_law("schaipp").predict(1e8, observed.tokens[cell]).batch_tokens)
                ).regret
            )
            for cell, surface in observed_surfaces_of(observed).items()
        ]
        assert row["mean_regret"] <= np.mean(costs) + 1e-3  # a grid of learning rates, not a minimum


def test_the_law_that_made_the_losses_has_their_shape() -> None:
    """On another tokenizer, where every loss is 0.8 times what it was."""
    law = published_law("chinchilla")
    runs = []
    for i, (n, d) in enumerate(NINE):
        loss = 0.8 * float(law.evaluate("loss", params=n + 1e7, tokens=d))
        runs.append(replace(run(str(i), 1e-3, 1e5, loss), params=n, tokens=d, extra=TABLES))
    found = compare_published(observe(runs), RECIPE, runs=runs)
    assert found["reason"]  # nothing was swept, so no learning rate has a price
    best = found["loss"]["rows"][0]
    assert best["law"] == "chinchilla"
    assert best["shape_error"] < 1e-9
    assert best["level"] == pytest.approx(0.8, rel=1e-9)
    assert best["counts"] == "converted"


def test_the_timescale_that_made_the_losses_costs_least() -> None:
    law = published_law("power_lines_timescale")
    runs = []
    for n, d in NINE:
        best = 1e5 / (1e-3 * float(law.evaluate("timescale", params=n, tokens=d)) * d)
        for ratio in (1 / 9, 1 / 3, 1.0, 3.0, 9.0):
            loss = 3 * np.exp(0.01 * np.log(ratio) ** 2)
            key = f"{n:g}-{d:g}-{ratio:g}"
            runs.append(replace(run(key, 1e-3, 1e5, loss), params=n, tokens=d, weight_decay=best * ratio))
    found = compare_published(observe(runs), RECIPE, runs=runs)["weight_decay"]
    assert found["rows"][0]["law"] == "power_lines_timescale"
    assert found["rows"][0]["worst_regret"] < 1e-12
    assert told([row["label"] for row in found["baselines"]]) == ["always 0.1", "none"]
    assert min(row["mean_regret"] for row in found["baselines"]) > 1e-3
    kept = row_of(found["rows"], "wang_aitchison")
    assert kept["slices"] == len(NINE) - 1


def measured(law: str, definition: Definition) -> dict[str, Any]:
    """A stored fit whose critical batches are those of a published law, in another definition."""
    found = published_law(law)
    theirs = Definition.from_json(found.formulas["critical_batch_tokens"].definition)
    rows = []
    for n, d in ((10 * n, 30 * d) for n, d in NINE):
        value = float(convert(found.evaluate("critical_batch_tokens", params=n, tokens=d), theirs, definition))
        rows.append(
            {
                "params": n,
                "tokens": d,
                "loss": 3.0,
                "value_tokens": value,
                "low_tokens": value / 2,
                "high_tokens": value,
            }
        )
    said = [{**row, "definition": definition.to_json()} for row in rows]
    return {"route": "r", "routes": {"r": {"measured": said}}}


def test_the_critical_batch_is_compared_in_one_definition() -> None:
    found = compare_published(None, RECIPE, critical=measured("zhang_tokens", DOUBLING))["critical_batch"]
    assert found["rows"][0]["law"] == "zhang_tokens"
    assert found["rows"][0]["worst_error"] < 1e-9
    carried = row_of(found["rows"], "zhang_fixed_tokens")
    assert carried["carried"]
    assert carried["scales"] == len(NINE) - 1


def test_a_law_below_its_own_definition_says_so() -> None:
    small = measured("power_lines_critical", DOUBLING)
    for row in small["routes"]["r"]["measured"]:
        row["params"], row["tokens"] = 2e5, 4e6
    missing = compare_published(None, RECIPE, critical=small)["not_scored"]
    assert code_of(row_of(missing, "zhang_params")["reason"]) == "compare.below_definition"


def test_nothing_at_all_is_an_error() -> None:
    with pytest.raises(NotEnoughData) as caught:
        compare_published(None, RECIPE)
    assert code_of(caught.value.finding) == "compare.few_settings"


@pytest.mark.parametrize(("off", "converted"), [(1 + PARAMS_TOLERANCE, True), (1 + 4 * PARAMS_TOLERANCE, False)])
def test_a_count_is_converted_by_tables_of_its_own_size_alone(off: float, converted: bool) -> None:
    extra = {"width": 512, "vocab": 32000, "tied": "false"}
    run = Run(
        run_key="a", params=5e7, tokens=1e9, batch_tokens=1e5, lr=1e-3, status=RunStatus.FINISHED, loss=3.0, extra=extra
    )
    counts = Counts(Recipe(name="r", params_convention="non_embedding"), [run])
    law = next(law for law in published_laws().values() if law.params_convention == "total")
    assert (counts.of(law, np.array([5e7 * off])).how == CONVERTED) == converted
