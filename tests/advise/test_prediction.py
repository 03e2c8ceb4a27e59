"""The recommendation: its numbers against the simulated truth, its constraints, its words, its shape as JSON."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from lawfit.advise.draws import Worlds, draw_worlds
from lawfit.advise.further import level_notes
from lawfit.advise.prediction import SCHEMA, recommend
from lawfit.advise.regret import lr_given_batch
from lawfit.ask import Target
from lawfit.estimate.lr_batch.analysis import FitOptions
from lawfit.findings import code_of, finding
from lawfit.records import Fit, FitStatus, Recipe
from lawfit.simulate import Truth
from lawfit.words import tell
from tests.estimate.lr_batch.test_analysis import numbers_in
from tests.estimate.simulated import NINE, RECIPE, fit_of, nine_fit, run, sweep

TRUTH = Truth()
QUICK = FitOptions(backtest=False)
INSIDE = Target(params=6e7, tokens=1.8e9)
NEXT = Target(params=1e9, tokens=3e10)


def answer(target: Target = NEXT, fit: Fit | None = None, recipe: Recipe = RECIPE, **changes: Any) -> dict[str, Any]:
    return recommend(fit or nine_fit(), recipe, replace(target, **changes))


def lr(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = document["recommendation"]["lr"]
    return found


def batch(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = document["recommendation"]["batch_tokens"]
    return found


def warned(document: dict[str, Any], code: str) -> list[dict[str, Any]]:
    """Numbers of the warnings of one kind."""
    return [warning["data"] for warning in document["warnings"] if code_of(warning) == code]


def width(of: dict[str, Any]) -> float:
    return math.log(of["high"] / of["low"])


def best_lr_at(target: Target, batch_tokens: float, truth: Truth = TRUTH) -> float:
    best, best_batch = truth.optimum(target.params, target.tokens)
    return best * math.exp(float(truth.best_lr_shift(np.array(math.log(batch_tokens / best_batch)))))


@cache
def thin_fit() -> Fit:
    """One learning-rate sweep at each of two sizes."""
    return fit_of(sweep(NINE[:4:3], batch_steps=1, lr_steps=8).runs, QUICK)


class TestDocument:
    def test_holds_what_is_promised(self) -> None:
        document = answer()
        assert document["schema"] == SCHEMA
        for of in (lr(document), batch(document)):
            assert of.keys() >= {
                "value", "low", "high", "level", "cheap_zone", "expected_regret", "extrapolation_decades", "status",
                "yours",
            }  # fmt: skip
        assert document["evidence"].keys() >= {"fit_id", "data_hash", "runs_used", "runs_rejected", "rejected", "cells"}
        assert document["published"][0].keys() >= {"law", "lr", "batch_tokens", "regret_on_your_runs"}
        assert isinstance(document["warnings"], list)

    def test_is_finite_json(self) -> None:
        assert json.loads(json.dumps(answer(), allow_nan=False)) == answer()

    def test_does_not_depend_on_how_the_fit_was_kept(self) -> None:
        fit = nine_fit()
        stored = replace(fit, payload=json.loads(json.dumps(fit.payload, sort_keys=True)))
        assert answer(fit=stored) == answer()

    def test_id_follows_fit_and_question(self) -> None:
        ids = {
            answer()["id"],
            answer(level=0.8)["id"],
            answer(batch_tokens=1e6)["id"],
            answer(fit=replace(nine_fit(), id="other"))["id"],
        }
        assert len(ids) == 4
        assert answer()["id"] in ids


class TestNumbers:
    @pytest.mark.parametrize("level", [0.8, 0.9, 0.95])
    @pytest.mark.parametrize("target", [INSIDE, NEXT], ids=["inside", "beyond"])
    def test_value_lies_inside_its_interval(self, target: Target, level: float) -> None:
        document = answer(target, level=level)
        for of in (lr(document), batch(document)):
            assert of["low"] <= of["value"] <= of["high"]
            assert of["level"] == level

    def test_a_higher_level_is_wider(self) -> None:
        narrow, usual, wide = (answer(level=level) for level in (0.5, 0.9, 0.95))
        for of in (lr, batch):
            assert width(of(narrow)) < width(of(usual)) < width(of(wide))

    def test_inside_the_runs_it_is_near_the_truth(self) -> None:
        document = answer(INSIDE)
        true_lr, true_batch = TRUTH.optimum(INSIDE.params, INSIDE.tokens)
        assert math.log(lr(document)["value"] / true_lr) == pytest.approx(0, abs=0.15)
        assert math.log(batch(document)["value"] / true_batch) == pytest.approx(0, abs=0.15)
        cost = TRUTH.excess(
            np.array(math.log(lr(document)["value"] / true_lr)),
            np.array(math.log(batch(document)["value"] / true_batch)),
        )
        assert float(cost) < 5e-4

    def test_interval_grows_with_the_distance(self) -> None:
        documents = [answer(Target(params=6e7 * s, tokens=1.8e9 * s)) for s in (1, 10, 100, 1000)]
        for of in (lr, batch):
            widths = [width(of(d)) for d in documents]
            assert widths == sorted(widths)
            assert widths[-1] > 2 * widths[0]
        risks = [d["expected_regret"]["loss_fraction"] for d in documents]
        assert risks == sorted(risks)

    def test_thin_evidence_is_wider_and_says_what_is_borrowed(self) -> None:
        thin, full = answer(fit=thin_fit()), answer()
        for of in (lr, batch):
            assert width(of(thin)) > 1.5 * width(of(full))
            assert of(thin)["yours"] < of(full)["yours"]
        assert thin["evidence"]["borrowed"]
        assert any("thin evidence" in tell(w) for w in thin["warnings"])
        assert batch(thin)["status"] == "borrowed"
        assert thin["expected_regret"]["loss_fraction"] > full["expected_regret"]["loss_fraction"]

    def test_thin_interval_holds_the_truth(self) -> None:
        document = answer(fit=thin_fit())
        true_lr, true_batch = TRUTH.optimum(NEXT.params, NEXT.tokens)
        assert lr(document)["low"] < true_lr < lr(document)["high"]
        assert batch(document)["low"] < true_batch < batch(document)["high"]

    def test_cheap_zones_hold_the_value_and_are_nested(self) -> None:
        document = answer(INSIDE)
        for of in (lr(document), batch(document)):
            narrow, wide = of["cheap_zone"]["0.001"], of["cheap_zone"]["0.0025"]
            assert wide[0] < narrow[0] < of["value"] < narrow[1] < wide[1]

    def test_regret_as_compute(self) -> None:
        document = answer()["expected_regret"]
        slope = nine_fit().payload["model"]["loss_slope_per_log_compute"]
        assert document["extra_compute_fraction"] == pytest.approx(math.expm1(document["loss_fraction"] / -slope))

    def test_parts_of_the_regret(self) -> None:
        document = answer()
        parts = lr(document)["expected_regret"] + batch(document)["expected_regret"]
        assert parts == pytest.approx(document["expected_regret"]["loss_fraction"], rel=1e-6)


class TestEstimand:
    """Sweeps at one batch a scale leave the batch open: there the two estimands are far apart."""

    def worlds(self) -> Worlds:
        return draw_worlds(thin_fit().payload["model"], NEXT.params, NEXT.tokens)

    def test_is_the_optimum_itself_where_the_batch_is_free(self) -> None:
        found = lr(answer(fit=thin_fit()))
        expected = np.exp(np.quantile(self.worlds().log_lr, [0.05, 0.95]))
        assert (found["low"], found["high"]) == pytest.approx(tuple(expected), rel=1e-5)  # printed with six digits
        assert found["low"] <= found["value"] <= found["high"]

    @pytest.mark.parametrize("how", ["batch_tokens", "max_batch_tokens"])
    def test_is_the_best_lr_at_the_batch_where_it_is_imposed(self, how: str) -> None:
        found = lr(answer(fit=thin_fit(), **{how: 1e5}))
        expected = np.exp(np.quantile(lr_given_batch(self.worlds(), math.log(1e5)), [0.05, 0.95]))
        assert (found["low"], found["high"]) == pytest.approx(tuple(expected), rel=1e-5)
        assert found["low"] <= found["value"] <= found["high"]


class TestDistance:
    @pytest.mark.parametrize(
        ("target", "params", "tokens"),
        [
            pytest.param(INSIDE, 0.0, 0.0, id="inside"),
            pytest.param(Target(params=1.8e9, tokens=1.8e9), 1.0, 0.0, id="ten times the params"),
            pytest.param(Target(params=6e7, tokens=1.62e12), 0.0, 2.0, id="a hundred times the tokens"),
            pytest.param(Target(params=2e6, tokens=2e7), 1.0, 1.0, id="below"),
        ],
    )
    def test_in_decades_beyond_the_runs(self, target: Target, params: float, tokens: float) -> None:
        for of in (lr(answer(target)), batch(answer(target))):
            assert of["extrapolation_decades"]["params"] == pytest.approx(params, abs=1e-3)
            assert of["extrapolation_decades"]["tokens"] == pytest.approx(tokens, abs=1e-3)
        assert lr(answer(target))["status"] == ("ok" if params == tokens == 0 else "extrapolated")

    def test_is_said(self) -> None:
        assert not warned(answer(INSIDE), "advice.beyond_runs")
        (said,) = warned(answer(), "advice.beyond_runs")
        (params, tokens) = (part["data"] for part in said["parts"])
        assert (params["input"], params["side"], tokens["input"]) == ("params", "beyond", "tokens")
        assert params["factor"] == pytest.approx(5.56, rel=1e-3)
        small = Target(params=NINE[0][0] / 5, tokens=NINE[0][1])
        ((params,),) = (said["parts"] for said in warned(answer(small), "advice.beyond_runs"))
        params = params["data"]
        assert (params["input"], params["side"], params["factor"]) == ("params", "below", pytest.approx(5, rel=1e-3))
        assert warned(answer(Target(params=1e12, tokens=3e13)), "advice.very_far")


class TestBatch:
    def test_in_whole_sequences(self) -> None:
        document = batch(answer(seq_len=2048))
        assert document["value"] == document["sequences"] * 2048
        assert document["sequences"] == int(document["sequences"])

    def test_the_recipe_knows_the_sequence_length(self) -> None:
        document = batch(answer(recipe=replace(RECIPE, seq_len=1024)))
        assert document["value"] == document["sequences"] * 1024

    def test_a_multiple(self) -> None:
        document = batch(answer(seq_len=2048, batch_multiple=64))
        assert document["sequences"] % 64 == 0
        free = batch(answer())["value"]
        assert abs(document["value"] - free) < 64 * 2048

    @pytest.mark.parametrize("unit", [2048, 8192, 20000, 30000, 40000, 60000, 90000, 2**17, 3e5, 1e6])
    @pytest.mark.parametrize(
        "target", [INSIDE, NEXT, Target(params=2e7, tokens=2e8)], ids=["inside", "beyond", "small"]
    )
    def test_rounding_never_leaves_the_cheap_zone_while_a_multiple_lies_in_it(
        self, target: Target, unit: float
    ) -> None:
        document = answer(target, seq_len=int(unit))
        found = batch(document)
        low, high = found["cheap_zone"]["0.001"]
        assert found["value"] % unit == 0
        said = warned(document, "advice.no_cheap_multiple")
        if math.floor(high / unit) >= max(1, math.ceil(low / unit)):
            assert low <= found["value"] <= high
            assert not said
        else:
            assert said, "out of the zone, and not a word"
            assert (said[0]["unit_tokens"], said[0]["share"]) == (unit, 0.001)

    def test_a_cap_is_kept_and_said(self) -> None:
        free = batch(answer())["value"]
        document = answer(max_batch_tokens=free / 8, seq_len=2048, batch_multiple=8)
        assert batch(document)["value"] <= free / 8
        assert batch(document)["imposed"] is True
        assert warned(document, "advice.batch_capped") == [
            {"best_tokens": pytest.approx(free), "most_tokens": free / 8}
        ]

    def test_a_cap_above_the_best_batch_changes_nothing(self) -> None:
        free, capped = answer(), answer(max_batch_tokens=batch(answer())["value"] * 4)
        assert (lr(free)["value"], batch(free)["value"]) == (lr(capped)["value"], batch(capped)["value"])
        assert batch(free)["imposed"] is batch(capped)["imposed"] is False

    @pytest.mark.parametrize("share", [0.2, 0.5, 1.0, 2.0])
    def test_lr_is_the_best_at_the_given_batch(self, share: float) -> None:
        """On the ridge, not the learning rate of the best batch."""
        given = share * TRUTH.optimum(INSIDE.params, INSIDE.tokens)[1]
        document = answer(INSIDE, batch_tokens=given)
        assert batch(document)["value"] == pytest.approx(given, abs=1)
        assert batch(document)["status"] == "given"
        assert batch(document)["imposed"] is True
        true = best_lr_at(INSIDE, given)
        assert math.log(lr(document)["value"] / true) == pytest.approx(0, abs=0.25)
        assert lr(document)["low"] / 1.05 <= true <= lr(document)["high"] * 1.05

    def test_lr_at_a_capped_batch_is_below_the_free_one(self) -> None:
        free = answer()
        capped = answer(max_batch_tokens=batch(free)["value"] / 8)
        assert lr(capped)["value"] < 0.7 * lr(free)["value"]
        true = best_lr_at(NEXT, batch(capped)["value"])
        assert lr(capped)["low"] <= true <= lr(capped)["high"]

    def test_given_and_capped_at_the_same_batch_agree(self) -> None:
        cap = round(batch(answer())["value"] / 4)
        given, capped = answer(batch_tokens=float(cap)), answer(max_batch_tokens=float(cap))
        assert lr(given)["value"] == pytest.approx(lr(capped)["value"], rel=1e-6)

    def test_never_more_than_the_whole_run(self) -> None:
        document = answer(Target(params=1e9, tokens=1e4))
        assert batch(document)["value"] <= 1e4
        assert warned(document, "advice.few_steps")

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            pytest.param({"batch_tokens": 1e12}, r"larger than the whole run of 3e\+10 tokens", id="too large"),
            pytest.param({"batch_tokens": 0.5}, "less than one token", id="half a token"),
            pytest.param({"max_batch_tokens": 0.5}, "less than one token", id="cap of half a token"),
            pytest.param({"batch_tokens": 1e6, "max_batch_tokens": 1e5}, "larger than the largest", id="above cap"),
            pytest.param({"max_batch_tokens": 1e3, "seq_len": 2048}, "one step's unit of 2048", id="cap below unit"),
            pytest.param({"batch_multiple": 10**12}, "larger than the whole run", id="unit above run"),
        ],
    )
    def test_contradictions_are_refused(self, changes: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            answer(**changes)

    def test_a_given_batch_off_the_multiple_is_said(self) -> None:
        document = answer(batch_tokens=1e6, seq_len=2048, batch_multiple=64)
        assert warned(document, "advice.no_multiple") == [{"unit_tokens": 131072}]

    def test_a_batch_far_from_all_that_was_tried_is_said(self) -> None:
        assert warned(answer(batch_tokens=1e3), "advice.batch_outside")


class TestAtTheEdge:
    def test_status_of_the_learning_rate(self) -> None:
        runs = [
            r for r in sweep(lr_steps=9, misplacement=0.0).runs if r.lr < 0.6 * TRUTH.optimum(r.params, r.tokens)[0]
        ]
        document = answer(INSIDE, fit=fit_of(runs, QUICK))
        assert lr(document)["status"] == "at_edge"
        assert width(lr(document)) > width(lr(answer(INSIDE)))


class TestPublished:
    def test_cheapest_on_these_runs_first(self) -> None:
        rows = answer()["published"]
        scored = [row["regret_on_your_runs"] for row in rows if row["regret_on_your_runs"] is not None]
        assert len(scored) >= 3
        assert scored == sorted(scored)
        assert all(row["regret_on_your_runs"] is None for row in rows[len(scored) :])

    def test_says_what_the_law_says(self) -> None:
        from lawfit.laws.published import published_law

        rows = {row["law"]: row for row in answer()["published"]}
        said = published_law("step_law").predict(NEXT.params, NEXT.tokens)
        assert rows["step_law"]["lr"] == pytest.approx(float(said.lr), rel=1e-5)  # type: ignore[arg-type]
        assert rows["step_law"]["batch_tokens"] == pytest.approx(float(said.batch_tokens), rel=1e-5)  # type: ignore[arg-type]


class TestWords:
    def test_unknown_parameter_convention(self) -> None:
        assert warned(answer(recipe=Recipe(name="r")), "advice.params_unsaid")
        assert not warned(answer(), "advice.params_unsaid")

    def test_an_uncertified_fit(self) -> None:
        assert warned(answer(fit=replace(nine_fit(), status=FitStatus.UNCERTIFIED)), "advice.not_certified")

    def test_warnings_of_the_fit_are_passed_on(self) -> None:
        said = answer(fit=thin_fit())["warnings"]
        assert thin_fit().payload["warnings"]
        assert all(warning in said for warning in thin_fit().payload["warnings"])


FAR = [Target(params=p, tokens=d) for p in (1.0, 1e3, 1e15, 1e18) for d in (1.0, 1e3, 1e15, 1e18)]


@pytest.mark.parametrize("kind", ["full", "thin", "one run"])
@pytest.mark.parametrize("target", [pytest.param(t, id=f"{t.params:g} x {t.tokens:g}") for t in FAR])
def test_any_target_ends_in_finite_numbers_and_a_warning(kind: str, target: Target) -> None:
    fit = {"full": nine_fit, "thin": thin_fit, "one run": one_run_fit}[kind]()
    document = answer(target, fit=fit)
    assert json.dumps(document, allow_nan=False)
    assert all(math.isfinite(x) for x in numbers_in(document))
    for of in (lr(document), batch(document)):
        assert 0 < of["low"] <= of["high"]
        assert of["value"] > 0
    assert document["warnings"]


@cache
def one_run_fit() -> Fit:
    return fit_of([run("a", 1e-3, 1e5, 3.0)], QUICK)


def test_runs_that_say_nothing_are_said_to() -> None:
    """One setting, four losses: the answer is borrowed as a whole."""
    runs = [run(f"{i}", 1e-3, 1e5, 3.0 + 0.1 * i) for i in range(4)]
    said = {"batch_given": False, "lenders": ["laws"]}
    assert warned(answer(fit=fit_of(runs, QUICK)), "advice.nothing_of_yours") == [said]
    assert not warned(answer(), "advice.nothing_of_yours")


def test_a_batch_below_one_sequence_is_refused() -> None:
    with pytest.raises(ValueError, match="the given batch, 1 tokens, is less than one sequence of 2,048 tokens"):
        answer(batch_tokens=1.0, seq_len=2048)


@pytest.mark.parametrize(
    ("held", "kind", "said"),
    [
        ("0.1", "", []),
        ("0.3", "", [{"held": "0.3", "weight_decay": 0.09, "nearest": "0.1"}]),
        ("unknown", "", [{"held": "unknown", "weight_decay": 0.09, "nearest": "0.1"}]),
        ("0.1", "independent", [{"held": "0.1", "weight_decay": 2.7e-4, "nearest": "0.0003"}]),
        ("", "", []),
    ],
    ids=["nearest", "another is nearer", "not stated", "independent", "each scale its own"],
)
def test_an_advised_weight_decay_at_another_level_than_the_answer_is_said(
    held: str, kind: str, said: list[dict[str, Any]]
) -> None:
    settings = [{"name": "weight_decay", "level": held, "levels": ["unknown", "0", "0.0003", "0.1", "0.3"]}]
    found = level_notes(settings, {"value": 0.09, "independent": 2.7e-4}, kind)
    assert found == [finding("advice.nearer_decay", **data) for data in said]
    assert level_notes(settings, None, kind) == []
