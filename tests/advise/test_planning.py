"""Plans: the best split of a budget, what else it buys, and refusals where the runs do not say."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from lawfit.advise.budget.belief import LossBelief
from lawfit.advise.budget.optimum import OptimalPath, best_split, optimal_path, params_for, tokens_for
from lawfit.advise.budget.plan import plan
from lawfit.advise.budget.routes import each_form
from lawfit.advise.budget.runs import helpful_runs, judge, on_one_line
from lawfit.ask import PlanQuestion
from lawfit.errors import FitError, LawfitError, NotEnoughData
from lawfit.estimate.loss.backtest import Drift, FormBacktest
from lawfit.estimate.loss.ensemble import LossEnsemble, fit_ensemble
from lawfit.estimate.loss.result import LossFit
from lawfit.estimate.numerics.resample import tail
from lawfit.findings import code_of, finding
from lawfit.laws.loss import CHINCHILLA, DATA_CONSTRAINED, EPOCH, AdditiveLaw
from lawfit.records import Fit
from lawfit.words import tell, told
from tests.advise.planning_samples import RECIPE, chinchilla, loss_fit, on_a_line, runs_of, settings

GRID = 1e-3  # relative, of a best size: a parabola through a grid of 5 %


def asked(fit: Fit | None = None, **question: Any) -> dict[str, Any]:
    return plan(PlanQuestion(**question), RECIPE, {"loss": fit or chinchilla()}, {}, settings)


@cache
def exact(law: AdditiveLaw) -> LossBelief:
    """A belief without doubt."""
    return LossBelief.of(loss_fit(*runs_of(law, 0.0), resamples=0), 0.9)


class TestOptimum:
    @pytest.mark.parametrize(
        ("law", "params", "tokens", "exponent"),
        [
            # laws.md, golden table G21 and G22; exponents beta / (alpha + beta)
            pytest.param(EPOCH, 9.586065405e10, 1.738634775e12, 0.3658 / 0.7136, id="epoch"),
            pytest.param(CHINCHILLA, 4.129670242e10, 4.035834750e12, 0.28 / 0.62, id="chinchilla"),
            # arXiv 2305.16264: alpha = beta, so N and D grow alike
            pytest.param(DATA_CONSTRAINED.law, None, None, 0.5, id="muennighoff"),
        ],
    )
    def test_published_optima_come_out_of_a_fit_to_their_law(
        self, law: AdditiveLaw, params: float | None, tokens: float | None, exponent: float
    ) -> None:
        belief = exact(law)
        best = best_split(belief, 1e24)
        wanted = law.optimum(1e24)
        assert math.exp(best.log_params) == pytest.approx(params or float(wanted[0]), rel=GRID)
        assert math.exp(best.log_tokens) == pytest.approx(tokens or float(wanted[1]), rel=GRID)
        path = optimal_path(belief, budgets=np.array([1e23, 1e25]))
        assert float(np.diff(path.log_params[0])[0] / math.log(100)) == pytest.approx(exponent, abs=1e-3)

    def test_epoch_has_their_tokens_per_parameter(self) -> None:
        best = best_split(exact(EPOCH), 1e24)
        assert math.exp(best.log_tokens - best.log_params) == pytest.approx(18.137105, rel=2 * GRID)  # G21

    def test_every_world_agrees_with_the_closed_form(self) -> None:
        belief = LossBelief.of(chinchilla(), 0.9)
        best = best_split(belief, 1e22)
        wanted = belief.fits[0].optimum(1e22)
        assert math.exp(best.log_params) == pytest.approx(wanted.params.value, rel=GRID)
        assert belief.bounds(np.exp(best.log_params_each)) == pytest.approx(
            (wanted.params.low, wanted.params.high), rel=GRID
        )

    def test_the_zone_holds_the_chosen_size_and_costs_what_it_says(self) -> None:
        """Of the same average as the choice: zones of the centre alone would lie beside the plan."""
        best = best_split(LossBelief.of(chinchilla(0.02), 0.9), 1e22)
        x = best.valley.log_params
        regret = np.minimum(np.expm1(best.valley.each - best.log_loss_each[:, None]), 0.05).mean(axis=0)
        for share, (low, high) in best.zones.items():
            assert low < np.exp(best.chosen) < high
            there = np.interp(np.log([low, high]), x, regret)
            assert there - best.regret == pytest.approx([share, share], rel=0.02)

    def test_of_one_law_the_zone_is_its_own(self) -> None:
        belief = exact(CHINCHILLA)
        best = best_split(belief, 1e21)
        for share, ends in best.zones.items():
            cost = CHINCHILLA.loss(np.array(ends), 1e21 / 6 / np.array(ends)) / CHINCHILLA.loss(
                *CHINCHILLA.optimum(1e21)
            )
            assert cost == pytest.approx(1 + share, abs=0.03 * share + 1e-5)

    def test_the_chosen_size_costs_least_on_average(self) -> None:
        belief = LossBelief.of(chinchilla(0.02), 0.9)
        best = best_split(belief, 1e22)
        there = [best.chosen, best.log_params, best.chosen - 0.3, best.chosen + 0.3]
        params = np.exp(there)
        losses = belief.each(params, 1e22 / 6 / params)
        regret = np.minimum(np.expm1(losses - best.log_loss_each[:, None]), 0.05).mean(axis=0)
        assert regret.argmin() == 0
        assert regret[0] == pytest.approx(best.regret, rel=0.02)

    @pytest.mark.parametrize("served", [1e11, 1e13], ids=["some", "much"])
    def test_serving_makes_models_smaller(self, served: float) -> None:
        """The minimum over sizes of the loss that is left after serving is paid (arXiv 2401.00448)."""
        belief = exact(CHINCHILLA)
        best = best_split(belief, 1e23, served=served)
        params = np.geomspace(1e8, 0.99e23 / 2 / served, 20001)
        losses = CHINCHILLA.loss(params, (1e23 / params - 2 * served) / 6)
        assert math.exp(best.log_params) == pytest.approx(params[losses.argmin()], rel=3 * GRID)
        assert best.log_params < best_split(belief, 1e23).log_params


class TestInverses:
    def test_tokens_and_params_that_reach_a_loss(self) -> None:
        belief = exact(CHINCHILLA)
        sizes = np.array([1e8, 1e9, 1e11])
        assert tokens_for(belief.centre, belief.scales, 2.3, sizes) == pytest.approx(
            CHINCHILLA.tokens_for(2.3, sizes), rel=1e-3
        )
        assert params_for(belief.log_loss, belief.scales, 2.3, 1e11) == pytest.approx(
            float(CHINCHILLA.params_for(2.3, 1e11)), rel=1e-3
        )
        assert np.isinf(tokens_for(belief.centre, belief.scales, 1.8, 1e8))[0]

    @pytest.mark.parametrize(
        ("name", "value"),
        [("loss", 2.1), ("params", 3e9), ("tokens", 3e11)],
    )
    def test_the_budget_of_a_loss_a_size_or_tokens(self, name: str, value: float) -> None:
        path = optimal_path(exact(CHINCHILLA))
        flops = float(np.exp(path.at(name, value)[0]))
        params, tokens = CHINCHILLA.optimum(flops)
        said = {"loss": CHINCHILLA.loss(params, tokens), "params": params, "tokens": tokens}[name]
        # flops^(-0.15) of the reducible loss: 0.05 % of loss is 1 % of flops
        assert float(said) == pytest.approx(value, rel=1e-4 if name == "loss" else 5e-3)

    def test_a_plan_for_a_loss_reaches_it(self) -> None:
        document = asked(loss=2.2)
        wanted = float(CHINCHILLA.flops_for(2.2))
        assert document["budget"]["flops"] == pytest.approx(wanted, rel=0.2)  # noise of the sample
        budget = document["optimum"]["budget"]
        assert budget["low"] < wanted < budget["high"]
        assert document["plan"]["cost"] < 1e-5

    def test_a_size_alone_keeps_the_size(self) -> None:
        document = asked(params=1e9)
        assert document["plan"]["params"] == 1e9
        assert document["optimum"]["tokens"]["low"] < document["plan"]["tokens"] < document["optimum"]["tokens"]["high"]
        assert document["budget"]["flops"] == pytest.approx(6 * 1e9 * document["plan"]["tokens"], rel=1e-5)


class TestDocument:
    def test_is_json_and_adds_up(self) -> None:
        document = asked(flops=1e21)
        json.dumps(document, allow_nan=False)
        plan = document["plan"]
        assert 6 * plan["params"] * plan["tokens"] == pytest.approx(1e21, rel=1e-4)
        assert plan["steps"] == pytest.approx(plan["tokens"] / 2**19, rel=1e-4)
        low, high = document["optimum"]["params"]["low"], document["optimum"]["params"]["high"]
        assert low < float(CHINCHILLA.optimum(1e21)[0]) < high
        assert low <= plan["params"] <= high
        assert document["budget"]["convention"]["params_convention"] == "total"
        assert document["budget"]["extrapolation_decades"] == 0
        beyond = asked(flops=1e24)["budget"]["extrapolation_decades"]
        assert beyond == pytest.approx(math.log10(1e24 / (6 * 2e9 * 3.2e11)), abs=1e-4)

    def test_other_sizes_cost_what_the_law_says(self) -> None:
        document = asked(flops=1e21)
        rows = document["alternatives"]
        (own,) = (row for row in rows if row["planned"])
        assert own["loss"] == pytest.approx(document["optimum"]["loss"]["value"], rel=1e-5)  # one plan, one loss
        for row in rows:
            assert 6 * row["params"] * row["tokens"] == pytest.approx(1e21, rel=1e-4)
            assert row["cost_low"] <= row["cost"] <= row["cost_high"]
            assert row["loss"] == pytest.approx(float(CHINCHILLA.loss(row["params"], row["tokens"])), rel=0.01)
            if row["same_loss"]["tokens"] is not None:
                ratio = row["params"] * row["same_loss"]["tokens"] * 6 / 1e21
                assert row["same_loss"]["compute_ratio"] == pytest.approx(ratio, rel=1e-4)
        assert max(row["cost"] for row in rows) > 0.01

    def test_gpu_time_is_compute(self) -> None:
        hours = asked(gpu_hours=1000, flops_per_second=4e14)
        wall = asked(gpus=8, days=1000 / 24 / 8, flops_per_second=4e14)
        assert hours["budget"]["flops"] == pytest.approx(1000 * 3600 * 4e14)
        assert wall["budget"]["flops"] == pytest.approx(hours["budget"]["flops"], rel=1e-5)
        assert wall["plan"]["params"] == pytest.approx(hours["plan"]["params"], rel=1e-5)
        assert wall["budget"]["seconds"] == pytest.approx(1000 * 3600 / 8, rel=1e-4)
        assert hours["budget"]["seconds"] is None
        assert hours["budget"]["gpu_hours"] == pytest.approx(1000, rel=1e-4)

    def test_a_size_beside_the_budget_is_compared_with_the_best_split(self) -> None:
        document = asked(flops=1e21, params=3e8)
        assert document["plan"]["tokens"] == pytest.approx(1e21 / 6 / 3e8, rel=1e-5)
        truth = float(CHINCHILLA.loss(3e8, 1e21 / 6 / 3e8) / CHINCHILLA.loss(*CHINCHILLA.optimum(1e21)) - 1)
        assert document["plan"]["cost"] == pytest.approx(truth, rel=0.15)
        assert document["optimum"]["params"]["value"] > 1e9
        tokens = asked(flops=1e21, tokens=document["plan"]["tokens"])
        assert tokens["plan"]["params"] == pytest.approx(3e8, rel=1e-4)

    def test_a_level_widens(self) -> None:
        wide, narrow = (asked(flops=1e21, level=level)["optimum"]["params"] for level in (0.95, 0.5))
        assert wide["low"] < narrow["low"] < narrow["high"] < wide["high"]

    def test_distance_is_said(self) -> None:
        near, far = asked(flops=1e20), asked(flops=1e25)
        assert "plan.beyond_runs" not in map(code_of, near["warnings"])
        (said,) = (each["data"] for each in far["warnings"] if code_of(each) == "plan.beyond_runs")
        assert (said["factor"], said["very_far"]) == (pytest.approx(2.6e3, rel=0.01), True)
        assert said["flops"] == pytest.approx(said["factor"] * said["edge_flops"])


class TestRefusals:
    def test_runs_on_one_line_say_nothing_about_a_split(self) -> None:
        with pytest.raises(NotEnoughData) as raised:
            asked(on_a_line(), flops=1e21)
        said = raised.value.finding.data
        line = {"scales": 20, "low": pytest.approx(20), "high": pytest.approx(20)}
        assert said["why"] == {"code": "plan.one_line", "data": line}
        assert told(said["runs"]) == ["500M parameters on 160B tokens", "8B parameters on 10B tokens"]
        assert "all 20 scales lie on one line of parameters and tokens (20 tokens per parameter)" in str(raised.value)

    def test_with_a_size_the_rest_is_planned(self) -> None:
        document = asked(on_a_line(), flops=1e21, params=2e9)
        assert document["optimum"] is None
        assert code_of(document["missing"]["optimum"]) == "plan.one_line"
        assert document["plan"]["cost"] is None
        assert document["plan"]["tokens"] == pytest.approx(1e21 / 6 / 2e9, rel=1e-5)
        assert len(document["runs_that_would_help"]) == 2
        assert "plan.no_optimum" in map(code_of, document["warnings"])

    def test_a_line_that_bends_is_one_and_a_grid_is_none(self) -> None:
        params = np.geomspace(1e7, 1e10, 15)
        assert on_one_line(np.column_stack([params, 3 * params**1.1]))
        assert not on_one_line(np.column_stack(runs_of(CHINCHILLA, 0.0)[:2]))
        assert not on_one_line(np.column_stack([params, 1e20 / params]))  # one budget, all its splits

    def test_an_interval_that_says_nothing_is_refused(self) -> None:
        fit = loss_fit(*runs_of(CHINCHILLA, 0.05, sizes=5, ratios=(10.0, 30.0)))
        with pytest.raises(NotEnoughData) as caught:
            asked(fit, flops=1e24)
        assert caught.value.finding.code == "plan.no_optimal_size"
        assert caught.value.finding.data["runs"]

    def test_no_law_of_the_loss(self) -> None:
        why = finding("loss.few_scales", scales=3)
        with pytest.raises(NotEnoughData) as caught:
            plan(PlanQuestion(flops=1e21), RECIPE, {}, {"loss": why}, settings)
        assert caught.value.finding == finding("plan.no_loss_law", why=why)

    @pytest.mark.parametrize(
        ("question", "code"),
        [
            pytest.param({"loss": 1.2}, "plan.loss_out_of_reach", id="below the asymptote"),
            pytest.param({"loss": 2.2, "params": 1e7}, "plan.size_never_reaches", id="size too small"),
            pytest.param({"loss": 1.9, "tokens": 1e7}, "plan.tokens_never_reach", id="too few tokens"),
        ],
    )
    def test_a_loss_out_of_reach(self, question: dict[str, Any], code: str) -> None:
        with pytest.raises(FitError) as caught:
            asked(**question)
        assert caught.value.finding.code == code
        assert question.items() <= caught.value.finding.data.items()

    @pytest.mark.parametrize(
        ("question", "words"),
        [
            pytest.param({}, "a plan needs a budget", id="nothing"),
            pytest.param({"flops": 1e21, "loss": 2.0}, "leave nothing to plan", id="budget and loss"),
            pytest.param({"flops": 1e21, "params": 1e9, "tokens": 1e9}, "more than a run can be", id="three"),
            pytest.param({"flops": 1e21, "gpu_hours": 5, "flops_per_second": 1e14}, "given twice", id="two budgets"),
            pytest.param({"gpu_hours": 5}, "what one GPU sustains", id="no speed"),
            pytest.param({"days": 5, "flops_per_second": 1e14}, "with gpus, their number", id="no number"),
            pytest.param({"gpus": 5, "flops": 1e21}, "flops_per_second", id="idle GPUs"),
            pytest.param({"gpus": 5, "flops_per_second": 1e14}, "give days as well, how long they train", id="no time"),
            pytest.param({"params": 1e9, "inference_tokens": 1e9}, "inference_tokens", id="serving what"),
            pytest.param({"flops": -1.0}, "flops must be above 0, got -1", id="negative"),
            pytest.param({"flops": math.nan}, "flops must be a finite number, got nan", id="not a number"),
            pytest.param({"flops": 1e21, "level": 1.0}, "level must be 0.5 or more and below 1, got 1", id="level"),
            pytest.param({"params": 1e30}, "between 1 and 1e", id="too large"),
        ],
    )
    def test_a_question_that_contradicts_itself(self, question: dict[str, float], words: str) -> None:
        with pytest.raises(ValueError, match=words):
            PlanQuestion(**question)  # type: ignore[arg-type]

    def test_a_budget_that_buys_nothing(self) -> None:
        with pytest.raises(ValueError, match="leave no training tokens for 10B parameters"):
            asked(flops=1e9, params=1e10)


class TestRunsThatHelp:
    def test_a_named_run_narrows_the_best_size_about_as_promised(self) -> None:
        """The promise is linear: it is kept within a factor."""
        params, tokens, loss = runs_of(CHINCHILLA, 0.004, sizes=6, ratios=(20.0, 40.0))
        before = LossBelief.of(loss_fit(params, tokens, loss), 0.9)
        best = best_split(before, 1e22)
        (run, *_) = helpful_runs(before, best)
        assert run["flops"] <= 6 * float((params * tokens).max()) * 1.001
        there = CHINCHILLA.loss(run["params"], run["tokens"])
        more = np.append(params, run["params"]), np.append(tokens, run["tokens"]), np.append(loss, there)
        after = LossBelief.of(loss_fit(*more), 0.9)
        sds = [float(best_split(belief, 1e22).log_params_each.std()) for belief in (before, after)]
        assert sds[1] < 0.75 * sds[0]
        assert sds[1] < 2 * math.log(run["known"]) / 1.645

    def test_each_further_run_leaves_less_to_know(self) -> None:
        belief = LossBelief.of(chinchilla(0.02), 0.9)
        known = [run["known"] for run in judge(belief, best_split(belief, 1e23)).runs]
        assert len(known) > 1
        assert known == sorted(known, reverse=True)


def test_a_belief_holds_what_the_fit_says() -> None:
    fit = LossFit.from_json(chinchilla().payload["fit"])
    belief = LossBelief.of(chinchilla(), 0.9)
    assert np.exp(belief.centre([1e9], [2e10])) == pytest.approx([float(fit.loss(1e9, 2e10))], rel=1e-12)
    assert belief.each([1e9], [2e10])[:, 0] == pytest.approx(fit.log_draws(1e9, 2e10).ravel(), rel=1e-12)
    assert belief.worlds == len(fit.draws)


CALM = (0.8, -0.1, 0.0, -0.8, 0.0, 0.0, math.log(0.3), 0.0, 0.0)  # of Farseer's form, at the centre of the runs
RUNAWAY = {
    "rises without end with the size": (0.8, 0.2, 0.5, -0.8, 0.0, 0.0, math.log(0.3), 0.0, 0.0),
    "falls to nothing with the size": (0.8, -0.5, 1.0, -0.8, 0.0, 0.0, math.log(0.3), 0.0, 0.0),
    # as in a fit to our own sweep: a bend of the data exponent on its bound
    "falls off a cliff at small sizes": (0.8, -0.13, -0.08, -0.9, 0.17, -0.24, -0.58, -0.1, -1.0),
}


def running_away(draw: tuple[float, ...], middle: tuple[float, ...]) -> Fit:
    """The public law, and beside it a flexible form, of which every other draw runs away at one end of the budgets."""
    fit = chinchilla()
    additive = LossFit.from_json(fit.payload["fit"])
    loose = replace(additive, form="farseer", theta=np.array(middle), draws=np.array([CALM, draw] * 40), fitted=9)
    forms = LossEnsemble(
        fits=(additive, loose),
        backtests=tuple(
            FormBacktest(form=form, error=0.01, bias=0.0, weight=0.5, rejected=False, reason="")
            for form in ("additive", "farseer")
        ),
        drift=Drift(sd=0.001, freedom=4.0),
        level=0.9,
    )
    return replace(fit, payload={**fit.payload, "forms": forms.to_json()})


class TestFormsThatRunAway:
    @pytest.mark.parametrize("draw", RUNAWAY.values(), ids=RUNAWAY)
    @pytest.mark.parametrize("whole", [False, True], ids=["some draws", "the estimate too"])
    @pytest.mark.parametrize("question", [{"loss": 2.05}, {"loss": 2.6}, {"flops": 1e26}, {"params": 1e12}], ids=str)
    def test_an_answer_or_a_sentence(self, draw: tuple[float, ...], whole: bool, question: dict[str, float]) -> None:
        fit = running_away(draw, draw if whole else CALM)
        with suppress(LawfitError, ValueError):  # sentences: any other error fails here
            document = asked(fit, **question)
            json.dumps(document, allow_nan=False)
            if loss := question.get("loss"):
                planned = next(row for row in document["alternatives"] if row["planned"])
                assert planned["loss"] == pytest.approx(loss, rel=5e-4)

    def test_no_loss_is_believed_that_lies_far_beyond_those_of_the_runs(self) -> None:
        belief = LossBelief.of(running_away(RUNAWAY["falls off a cliff at small sizes"], CALM), 0.9)
        losses = belief.each(np.geomspace(1, 1e18, 60), np.geomspace(1e18, 1, 60))
        seen = np.log(CHINCHILLA.loss(*belief.points.T))
        assert seen.min() - math.log(101) < losses.min() < losses.max() < seen.max() + math.log(101)

    def test_of_several_budgets_with_a_loss_the_one_nearest_to_the_runs_is_meant(self) -> None:
        """Far below the runs a form may come down again: a look from there would stop at it."""
        budgets = np.arange(12.0)
        loss = np.array([[0.4, 0.2, 0.3, 0.9, 1.1, 1.0, 0.8, 0.6, 0.4, 0.2, 0.3, 0.5]])
        zeros = np.zeros_like(loss)
        for near in (5, 8, 9):
            path = OptimalPath(log_flops=budgets, log_params=zeros, log_tokens=zeros, log_loss=loss, near=near)
            assert path.at("loss", math.exp(0.5))[0] == pytest.approx(7.5)


@cache
def of_two_forms() -> tuple[LossEnsemble, LossBelief]:
    """Runs that two forms fit about equally well."""
    params, tokens, loss = runs_of(CHINCHILLA, 0.03, sizes=6)
    found = fit_ensemble(
        params, tokens, loss, forms=("additive", "power", "compute_only"), rng=np.random.default_rng(0), resamples=60
    )
    fit = loss_fit(params, tokens, loss, resamples=60)
    return found, LossBelief.of(replace(fit, payload={**fit.payload, "forms": found.to_json()}), 0.9)


class TestSeveralForms:
    def test_each_counts_as_its_backtest_says(self) -> None:
        found, belief = of_two_forms()
        assert set(belief.forms) == {"additive", "power"}  # the third knows of no split
        assert sum(belief.forms.values()) == pytest.approx(1)
        weight = {form: sum(each.weight for each in found.split if each.form == form) for form in belief.forms}
        assert belief.forms == pytest.approx(weight)
        assert belief.counts == tuple(round(400 * share) for share in belief.weights)
        assert np.isfinite(belief.each([1e8, 1e14], [1e9, 1e5])).all()

    def test_differences_along_a_budget_are_weighed_by_the_split_and_levels_are_those_of_predict(self) -> None:
        found, belief = of_two_forms()
        params = np.geomspace(1e8, 1e12, 2001)
        tokens = 1e21 / params
        each = np.array([np.log(fit.loss(params, tokens)) for fit in found.fits if fit.form != "compute_only"])
        centre = belief.centre(params, tokens)
        apart = centre - np.array(belief.weights) @ each
        assert np.ptp(apart) < 1e-9  # one level along the budget
        assert belief.weights != belief.loss_weights
        at = int(centre.argmin())
        stated = math.log(found.predict(float(params[at]), float(tokens[at])).expected.value)
        assert centre[at] == pytest.approx(stated, abs=1e-4)  # levels are read off a grid of computes
        worlds = belief.each(params[:3], tokens[:3])
        assert len(worlds) == belief.worlds

    def test_members_that_were_not_judged_by_the_split_count_as_by_the_loss(self) -> None:
        found, belief = of_two_forms()
        fit = loss_fit(*runs_of(CHINCHILLA, 0.03, sizes=6), resamples=60)
        unjudged = {**found.to_json(), "split": []}
        alike = LossBelief.of(replace(fit, payload={**fit.payload, "forms": unjudged}), 0.9)
        assert alike.weights == alike.loss_weights == belief.loss_weights
        assert np.isnan(alike.errors).all()

    def test_the_interval_holds_what_the_forms_disagree_about(self) -> None:
        _, belief = of_two_forms()
        best = best_split(belief, 1e24)
        ends = belief.bounds(best.log_params_each)
        assert ends is not None
        start = 0
        for count in belief.counts:
            assert ends[0] < np.median(best.log_params_each[start : start + count]) < ends[1]
            start += count

    def test_the_interval_is_of_the_mixture_of_forms(self) -> None:
        """Draws on a line from 0 to 1 by one form, and 10 higher by the other, each as often as it counts."""
        _, belief = of_two_forms()
        few = replace(belief, fits=belief.fits[:2], weights=(0.6, 0.4), loss_weights=(0.6, 0.4), counts=(301, 201))
        draws = np.append(np.linspace(0, 1, 301), 10 + np.linspace(0, 1, 201))
        ends = few.bounds(draws)
        assert ends is not None
        clusters = [(fit.certificate.clusters, fit.fitted) for fit in few.fits]
        low, high = (tail(1 - 2 * 0.05 / w, *c) for w, c in zip(few.weights, clusters, strict=True))
        assert ends == pytest.approx((low, 11 - high), abs=0.01)
        draws[-40:] = np.inf  # a share of the worlds beyond any end
        assert few.bounds(draws) == (pytest.approx(ends[0], abs=1e-9), np.inf)
        draws[-40:] = 11.0
        assert few.positive_bounds(np.exp(draws)) == pytest.approx(np.exp(few.bounds(draws)), rel=1e-12)


def profiles_of(law: AdditiveLaw) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Five budgets of nine sizes around the best of each."""
    flops = np.repeat(np.geomspace(1e19, 1e21, 5), 9)
    params = law.optimum(flops)[0] * np.tile(np.geomspace(1 / 6, 6, 9), 5)
    tokens = flops / 6 / params
    noise = np.exp(0.002 * np.random.default_rng(2).standard_normal(len(params)))
    return params, tokens, law.loss(params, tokens) * noise


class TestRoutes:
    def test_profiles_stand_beside_the_forms_and_agree(self) -> None:
        document = asked(loss_fit(*profiles_of(CHINCHILLA)), flops=1e22)
        part, truth = document["isoflop"], float(CHINCHILLA.optimum(1e22)[0])
        assert part["params"]["low"] < truth < part["params"]["high"]
        assert part["params_exponent"]["low"] < float(CHINCHILLA.params_exponent) < part["params_exponent"]["high"]
        assert [b["sizes"] >= 5 for b in part["budgets"]] == [True] * 5
        assert "plan.routes_disagree" not in map(code_of, document["warnings"])
        (alone,) = document["optimum"]["forms"]
        assert alone["params"] == pytest.approx(document["optimum"]["central_params"], rel=1e-3)

    def test_intervals_of_profiles_that_say_nothing_are_none(self) -> None:
        """Three budgets leave one degree of freedom: at 99.9 % Student's t is 637 sds wide, and at 90 % 6."""
        params, tokens, loss = profiles_of(CHINCHILLA)
        three = params * tokens < 1.1e20 / 6
        assert len(np.unique(np.round(np.log(params[three] * tokens[three]), 2))) == 3
        fit = loss_fit(params, tokens, loss)
        kept = [point for point, keep in zip(fit.payload["points"], three, strict=True) if keep]
        fit = replace(fit, payload={**fit.payload, "points": kept})
        said = {level: asked(fit, flops=1e21, level=level)["isoflop"] for level in (0.9, 0.999)}
        for name in ("params", "params_exponent"):
            assert said[0.9][name]["low"] < said[0.9][name]["value"] < said[0.9][name]["high"]
            assert said[0.999][name]["value"] == said[0.9][name]["value"]
            assert (said[0.999][name]["low"], said[0.999][name]["high"]) == (None, None)
        assert said[0.9]["wide"] == ""
        wide = finding("plan.wide_profiles", level=0.999, profiles=3, factor=100.0, exponent=1.0)
        assert said[0.999]["wide"] == wide.to_json()
        assert tell(wide).startswith("at a level of 99.9 % 3 profiles leave what has no interval here open")

    def test_routes_that_disagree_say_so(self) -> None:
        """A stored form whose sizes are ten times those of the profiles that are stored beside it."""
        fit = loss_fit(*profiles_of(CHINCHILLA))
        moved = [
            {"params": p["params"] / 10, "tokens": p["tokens"] * 10, "loss": p["loss"]} for p in fit.payload["points"]
        ]
        document = asked(replace(fit, payload={**fit.payload, "points": moved}), flops=1e21)
        (said,) = (each["data"] for each in document["warnings"] if code_of(each) == "plan.routes_disagree")
        assert said["profiles"] == 5
        assert said["by_profiles"]["high"] < said["by_forms"]["low"]

    def test_without_profiles_the_reason_is_said(self) -> None:
        document = asked(flops=1e21)
        assert document["isoflop"] is None
        assert "budgets have a lowest loss inside" in tell(document["missing"]["isoflop"])
        served = asked(flops=1e21, inference_tokens=1e12)
        assert code_of(served["missing"]["isoflop"]) == "plan.profiles_of_training"

    def test_other_sizes_pay_for_what_is_served(self) -> None:
        """6 FLOPs per parameter and training token, 2 per parameter and served one, of every size in the table."""
        served = 1e12
        document = asked(flops=1e22, inference_tokens=served)
        assert len(document["alternatives"]) > 2
        for row in document["alternatives"]:
            spent = row["params"] * (6 * row["tokens"] + 2 * served)
            assert spent == pytest.approx(1e22, rel=1e-4)
            if (needed := row["same_loss"]["tokens"]) is not None:
                total = row["params"] * (6 * needed + 2 * served)
                assert row["same_loss"]["flops"] == pytest.approx(total, rel=1e-4)
                assert row["same_loss"]["compute_ratio"] == pytest.approx(total / 1e22, rel=1e-4)

    def test_each_form_has_its_own_size(self) -> None:
        _, belief = of_two_forms()
        rows = each_form(belief, 1e22, 0.0)
        assert sum(row["share"] for row in rows) == pytest.approx(1, abs=1e-5)
        assert {row["form"] for row in rows} == {"additive", "power"}
        for row, fit in zip(rows, belief.fits, strict=True):
            if row["form"] == "additive":
                assert row["params"] == pytest.approx(float(fit.law.optimum(1e22)[0]), rel=2e-3)
                assert row["params_exponent"] == pytest.approx(float(fit.law.params_exponent), abs=2e-3)
