"""Further inputs of the loss: tokens that repeat, experts and their active share, from a table to every surface."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import lawfit
from lawfit.advise.budget.belief import LossBelief
from lawfit.advise.budget.plan import plan
from lawfit.advise.budget.third import best_share
from lawfit.advise.prediction import recommend_without_settings
from lawfit.ask import PlanQuestion, Target
from lawfit.cli.main import ExitCode
from lawfit.errors import NotEnoughData
from lawfit.estimate.loss import law as loss_law_module
from lawfit.estimate.loss import third as loss_third
from lawfit.estimate.loss.law import loss_law
from lawfit.estimate.loss.result import LossFit
from lawfit.estimate.loss.third import fit_further_forms, ordinary_runs
from lawfit.findings import as_json, code_of, finding
from lawfit.kinds import LOSS
from lawfit.kinds.expected_loss import expected_loss
from lawfit.kinds.third_input import Asked, LossAtThird, loss_at_third, settings_note
from lawfit.laws.loss import DATA_CONSTRAINED
from lawfit.laws.published import published_law
from lawfit.records import Fit, FitStatus, Recipe, Run, RunStatus, SizedLoss
from lawfit.settings import Settings
from lawfit.words import tell, told
from lawfit_api.app import create_app
from tests.advise.test_loss_alone import cli, without_place
from tests.client import TestClient
from tests.estimate.further_runs import NOISE, experts, repeated, same_input, sized
from tests.estimate.loss.test_law import stored

UNIQUE = 2e10


BUDGET = 1e22


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss_law_module, "LOSS_RESAMPLES", 40)
    monkeypatch.setattr(loss_third, "FURTHER_RESAMPLES", 40)


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A database and a fit in memory of the same table."""
    folder = tmp_path_factory.mktemp("third")
    frame, url = repeated(1), str(folder / "lawfit.db")
    frame.to_csv(folder / "repeated.csv", index=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loss_law_module, "LOSS_RESAMPLES", 40)
        patch.setattr(loss_third, "FURTHER_RESAMPLES", 40)
        assert cli("ingest", str(folder / "repeated.csv"), "--database", url)[0] == ExitCode.OK
        assert cli("fit", "--database", url)[0] == ExitCode.OK
        fitted = lawfit.fit(lawfit.observe(frame, recipe="repeated"), backtest=False)
    return {"url": url, "fitted": fitted}


TARGET = {"params": 4e9, "tokens": 1.6e11}


def by_command(asked: dict[str, Any], verb: str, **question: float) -> tuple[int, dict[str, Any]]:
    words = [word for name, value in question.items() for word in (f"--{name.replace('_', '-')}", f"{value:g}")]
    code, said = cli(verb, *words, "--database", asked["url"], "--json")
    return code, json.loads(said)


def by_rest(asked: dict[str, Any], path: str, **question: float) -> tuple[int, dict[str, Any]]:
    with TestClient(create_app(Settings(database_url=asked["url"]))) as client:
        answer = client.get(path, params={name: f"{value:g}" for name, value in question.items()})
    return answer.status_code, answer.json()


@pytest.mark.usefixtures("one_voice")
class TestEverySurface:
    @pytest.mark.parametrize("third", [{"unique_tokens": UNIQUE}, {"epochs": 8.0}], ids=["unique tokens", "epochs"])
    def test_predicts_the_same_and_the_truth(self, asked: dict[str, Any], third: dict[str, float]) -> None:
        code, document = by_command(asked, "predict", **TARGET, **third)
        assert code == ExitCode.OK
        assert by_rest(asked, "/v1/predictions", **TARGET, **third) == (200, document)
        answer = lawfit.predict(asked["fitted"], **TARGET, **third)
        assert without_place(dict(answer.document)) == without_place(document)
        said = document["expected_loss"]
        assert said["low"] < float(DATA_CONSTRAINED.loss(4e9, 1.6e11, UNIQUE)) < said["high"]
        assert said["high"] / said["low"] < 1.02
        assert said["third"]["at"] == pytest.approx(8.0)
        assert document["target"] | third == document["target"]
        (name,) = third
        words = "20B unique tokens" if name == "unique_tokens" else "8 epochs"
        assert any(f"with {words}" in line for line in said["lines"])

    def test_plans_the_same_and_the_best_epochs(self, asked: dict[str, Any]) -> None:
        question = {"flops": BUDGET, "unique_tokens": UNIQUE}
        code, document = by_command(asked, "plan", **question)
        assert code == ExitCode.OK
        assert by_rest(asked, "/v1/plans", **question) == (200, document)
        plan = lawfit.plan(asked["fitted"], **question)
        assert without_place(dict(plan.document)) == without_place(document)
        sizes = np.geomspace(1e8, 1e11, 20_001)
        tokens = BUDGET / 6 / sizes
        best = int(DATA_CONSTRAINED.loss(sizes, tokens, UNIQUE).argmin())
        epochs = document["third"]["epochs"]
        assert epochs["low"] < tokens[best] / UNIQUE < epochs["high"]
        size = document["optimum"]["params"]
        assert size["low"] < sizes[best] < size["high"]
        low, high = document["third"]["cheap_zone"]["0.001"]
        assert low < epochs["value"] < high
        fresh = by_command(asked, "plan", flops=BUDGET)[1]
        assert fresh["third"] is None
        assert fresh["optimum"]["loss"]["value"] < document["optimum"]["loss"]["value"]

    def test_as_many_unique_tokens_as_tokens_or_more_are_fresh(self, asked: dict[str, Any]) -> None:
        losses = [
            by_command(asked, "predict", **TARGET, unique_tokens=unique)[1]["expected_loss"]["value"]
            for unique in (TARGET["tokens"], 3 * TARGET["tokens"])
        ]
        assert losses[0] == losses[1] == by_command(asked, "predict", **TARGET, epochs=1)[1]["expected_loss"]["value"]

    @pytest.mark.parametrize("third", [{"epochs": 1.0}, {"unique_tokens": 1e13}], ids=["epochs", "unique tokens"])
    def test_what_ordinary_runs_have_is_answered_as_they_are(
        self, asked: dict[str, Any], third: dict[str, float]
    ) -> None:
        """The level is that of all forms of ordinary runs, and the form with the input moves it by nothing."""
        ordinary, same = (by_command(asked, "predict", **TARGET, **each)[1]["expected_loss"] for each in ({}, third))
        told = ("value", "low", "high", "run_low", "run_high", "status", "forms", "asymptote", "choice", "notes")
        assert {name: same[name] for name in told} == {name: ordinary[name] for name in told}
        plans = [by_command(asked, "plan", flops=BUDGET, **each)[1] for each in ({}, third)]
        assert plans[1]["plan"] == plans[0]["plan"]
        assert plans[1]["optimum"] == plans[0]["optimum"]

    def test_the_effect_is_that_of_the_form_and_the_level_that_of_ordinary_runs(self, asked: dict[str, Any]) -> None:
        ordinary, there = (by_command(asked, "predict", **TARGET, **e)[1]["expected_loss"] for e in ({}, {"epochs": 8}))
        form = LossFit.from_json(asked["fitted"].laws["loss"].payload["further_forms"]["data_constrained"]["fit"])
        ratio = float(form.loss(4e9, 1.6e11, 8.0) / form.loss(4e9, 1.6e11, 1.0))
        assert there["value"] == pytest.approx(ordinary["value"] * ratio, rel=1e-5)  # six digits
        assert there["third"]["effect"] == pytest.approx(ratio - 1, rel=1e-4)
        assert there["third"]["loss_at_usual"] == pytest.approx(ordinary["value"], rel=1e-5)
        assert there["third"]["alone"] is False
        (said,) = (line for line in there["lines"] if "8 epochs" in line)
        assert "above the loss of ordinary runs (fresh tokens), by the data-constrained form" in said
        shares = [(form["share"], form["value"]) for form in there["forms"] if form["value"] is not None]
        logs = [share * np.log(value) for share, value in shares]
        assert np.exp(sum(logs) / sum(share for share, _ in shares)) == pytest.approx(there["value"], rel=1e-3)
        assert there["further_forms"] == []
        (offered,) = ordinary["further_forms"]
        assert offered["value"][0] == ordinary["value"]

    def test_without_it_fresh_tokens_are_said(self, asked: dict[str, Any]) -> None:
        said = by_command(asked, "predict", **TARGET)[1]["expected_loss"]
        assert said["third"] is None
        assert said["given"] == ["for fresh tokens, each seen once; unique_tokens or epochs ask for others"]
        assert said["low"] < float(DATA_CONSTRAINED.loss(4e9, 1.6e11, 1.6e11)) < said["high"]

    def test_more_epochs_than_any_run_are_said_and_wider(self, asked: dict[str, Any]) -> None:
        inside, beyond = (by_command(asked, "predict", **TARGET, epochs=e)[1]["expected_loss"] for e in (60, 300))
        assert beyond["extrapolation_decades"]["epochs"] == pytest.approx(np.log10(5), abs=1e-3)
        assert beyond["status"] == "extrapolated"
        assert any("the runs cover 1 to 60 times" in line for line in beyond["lines"])
        assert np.log(beyond["high"] / beyond["low"]) > 3 * np.log(inside["high"] / inside["low"])

    @pytest.mark.parametrize(
        ("verb", "path", "scale"),
        [("predict", "/v1/predictions", TARGET), ("plan", "/v1/plans", {"flops": BUDGET})],
    )
    @pytest.mark.parametrize(
        ("third", "code", "status", "words"),
        [
            (
                {"active_share": 0.5},
                ExitCode.NOT_ENOUGH,
                409,
                "does not know an active share of 0.5: sparsity of experts: ",
            ),
            (
                {"experts": 8},
                ExitCode.NOT_ENOUGH,
                409,
                "does not know 8 experts: number of experts: the runs do not say",
            ),
            ({"epochs": 0.5}, ExitCode.USAGE, 422, "epochs"),
            ({"active_share": 1.5}, ExitCode.USAGE, 422, "must be above 0 and at most 1, got 1.5"),
            ({"epochs": 2, "unique_tokens": 1e9}, ExitCode.USAGE, 422, "takes one of them; give one"),
        ],
    )
    def test_what_cannot_be_is_refused_alike(
        self,
        asked: dict[str, Any],
        verb: str,
        path: str,
        scale: dict[str, float],
        third: dict[str, float],
        code: int,
        status: int,
        words: str,
    ) -> None:
        found = by_command(asked, verb, **scale, **third)
        assert found[0] == code
        assert words in found[1]["error"]["message"]  # options are written with a hyphen there
        rest = by_rest(asked, path, **scale, **third)
        assert rest[0] == status
        assert words in rest[1]["detail"]
        ask = lawfit.predict if verb == "predict" else lawfit.plan
        with pytest.raises(NotEnoughData if status == 409 else ValueError, match=words):
            ask(asked["fitted"], **scale, **third)

    def test_the_pages_ask_for_it(self, asked: dict[str, Any]) -> None:
        document = by_command(asked, "predict", **TARGET, unique_tokens=UNIQUE)[1]
        with TestClient(create_app(Settings(database_url=asked["url"]))) as client:
            home = client.get("/", params={"params": "4B", "tokens": "160B", "unique_tokens": "20B"})
            plan = client.get("/plan", params={"flops": "1e22", "unique_tokens": "20B"})
        assert f"{document['expected_loss']['value']:.4g}" in home.text
        assert "each of 20B unique tokens 1" in plan.text


def test_the_epochs_of_a_loss_are_those_of_the_tokens_that_reach_it(asked: dict[str, Any]) -> None:
    """Each world has its own budget to reach a loss, and its own tokens."""
    code, document = by_command(asked, "plan", loss=2.3, unique_tokens=UNIQUE)
    assert code == ExitCode.OK
    epochs, tokens = document["third"]["epochs"], document["optimum"]["tokens"]
    assert tokens["low"] > UNIQUE
    for end in ("low", "value", "high"):
        assert epochs[end] == pytest.approx(tokens[end] / UNIQUE, rel=1e-4), end


def test_a_plan_with_a_further_input_knows_the_scales_of_its_form(asked: dict[str, Any]) -> None:
    """Fresh runs at 10 to 40 tokens per parameter alone would leave the repeated ones at 80 out."""
    fit = asked["fitted"].laws["loss"]
    kept = [point for point in fit.payload["points"] if point["tokens"] < 60 * point["params"]]
    fit = replace(fit, payload={**fit.payload, "points": kept})
    form = fit.payload["further_forms"]["data_constrained"]
    rows = asked["fitted"].laws["loss"].payload["points"]
    ratios = {
        third: np.divide(*LossBelief.of(fit, 0.9, third).points.T[::-1]).max()
        for third in (None, Asked(name="unique_tokens", value=UNIQUE))
    }
    assert list(ratios.values()) == pytest.approx([40.0, 80.0], rel=0.01)
    assert len(form["points"]) == len(rows)  # scales seen fresh and repeated count once
    older = {**form}
    del older["points"]
    fit = replace(fit, payload={**fit.payload, "further_forms": {"data_constrained": older}})
    assert len(LossBelief.of(fit, 0.9, Asked(name="epochs", value=4.0)).points) == len(kept)


class TestWhereTheLevelComesFrom:
    def law(self, asked: dict[str, Any], **changes: Any) -> LossAtThird:
        fit = replace(asked["fitted"].laws["loss"], **changes)
        return loss_at_third(fit, Asked(name="epochs", value=8.0), 0.9)

    def test_a_law_of_ordinary_runs_that_may_not_answer_gives_no_level(self, asked: dict[str, Any]) -> None:
        law = self.law(asked, status=FitStatus.UNCERTIFIED)
        assert law.ordinary is None
        assert float(law.loss(4e9, 1.6e11)) == float(law.fit.loss(4e9, 1.6e11, 8.0))

    def test_errors_of_the_level_and_of_the_effect_add_up_as_independent_ones(self, asked: dict[str, Any]) -> None:
        law = self.law(asked)
        assert law.ordinary is not None
        level, _ = law.ordinary.mixed_log_draws(2e9, 8e10)
        effect = law.fit.widened(law.effect_draws(2e9, 8e10)[:, 0])
        both, run = law.mixed_log_draws(2e9, 8e10)
        assert both.var() == pytest.approx(level.var() + effect.var(), rel=0.1)  # 40 resamples, 4,000 draws
        assert run.var() == pytest.approx(both.var() + law.fit.residuals.var(), rel=0.1)

    def test_without_resamples_of_the_form_there_is_a_value_and_no_interval(self, asked: dict[str, Any]) -> None:
        law = self.law(asked)
        said = replace(law, fit=replace(law.fit, draws=law.fit.draws[:0])).predict(2e9, 8e10)
        assert said.expected.value == pytest.approx(law.predict(2e9, 8e10).expected.value)
        assert said.expected.low is None

    def test_usual_is_what_the_runs_of_the_ordinary_law_have(self) -> None:
        """Most scales have four experts, most runs of the recipe that is fitted one: the level is that of one."""
        rows = [row for row in experts(5) if row.extra["num_experts"] in (1, 4) or row.params > 3e8]
        held = [run_of(row) for row in rows if row.extra["num_experts"] == 4]
        for some, usual in (((), 1.0), (held, 4.0)):
            assert fit_further_forms(rows, np.random.default_rng(0), held=some)[0]["experts"]["usual"] == usual
            assert {row.extra["num_experts"] for row in ordinary_runs(rows, some)[0]} == {usual}


def run_of(row: SizedLoss) -> Run:
    return Run(
        run_key=row.run_key, params=row.params, tokens=row.tokens, batch_tokens=65536.0, lr=1e-3,
        status=RunStatus.FINISHED, loss=row.loss, extra=row.extra,
    )  # fmt: skip


class TestTheFormThatAnswersSaysHowWellItIsKnown:
    @pytest.mark.parametrize(
        ("law", "form", "lent", "said"),
        [
            pytest.param(FitStatus.OK, "sparse", [], "ok", id="single numbers of the form are open, nothing is lent"),
            pytest.param(FitStatus.OK, "sparse", ["params_scale"], "borrowed", id="one is lent"),
            pytest.param(FitStatus.SPARSE, "ok", [], "borrowed", id="the asymptote of ordinary runs is lent"),
        ],
    )
    def test_predicted_and_planned(
        self, asked: dict[str, Any], law: FitStatus, form: str, lent: list[str], said: str
    ) -> None:
        fit = asked["fitted"].laws["loss"]
        stored_form = fit.payload["further_forms"]["data_constrained"]
        reasons = ["the data do not determine A"] if form == "sparse" and not lent else []
        certificate = {**stored_form["fit"]["certificate"], "reasons": reasons, "warnings": ["of the form"]}
        stored_form = {
            **stored_form,
            "status": form,
            "lent": lent,
            "fit": {**stored_form["fit"], "certificate": certificate},
        }
        payload = {**fit.payload, "further_forms": {"data_constrained": stored_form}, "sentences": ["of ordinary runs"]}
        fit = replace(fit, status=law, payload=payload)
        target = Target(params=1e9, tokens=4e10, unique_tokens=UNIQUE)  # among the runs
        part = LOSS.answer(fit, target)
        planned = plan(
            PlanQuestion(flops=BUDGET, unique_tokens=UNIQUE),
            Recipe(name="r"),
            {"loss": fit},
            {},
            lambda at: recommend_without_settings({"loss": fit}, Recipe(name="r"), at, "not asked for", missing={}),
        )["evidence"]
        assert (part["status"], planned["status"]) == (said, said)
        assert as_json(part["notes"]) == planned["notes"]
        assert part["notes"][-1] == "of the form"
        assert part["notes"][0] == "of ordinary runs"
        doubt = reasons[0] if reasons else finding("advice.numbers_lent", names=lent)
        open_form = finding("advice.open_form", form="data_constrained", why=doubt)
        assert as_json(part["notes"][1:-1]) == ([open_form.to_json()] if form == "sparse" else [])

    def test_without_a_further_input_the_law_of_ordinary_runs_does(self, asked: dict[str, Any]) -> None:
        fit = asked["fitted"].laws["loss"]
        fit = replace(fit, status=FitStatus.SPARSE, payload={**fit.payload, "sentences": ["of ordinary runs"]})
        part = LOSS.answer(fit, Target(**TARGET))
        assert (part["status"], part["notes"]) == ("borrowed", ["of ordinary runs"])


class TestAnInputThatNoRunVaries:
    def test_is_answered_there_and_refused_elsewhere(self) -> None:
        fit = stored(loss_law((), np.random.default_rng(0), losses=same_input("tokens")).payload)
        said, _ = expected_loss(fit, Target(params=2e10, tokens=2e10))
        assert said["low"] < 2.3 + 400 * 2e10**-0.34 < said["high"]
        with pytest.raises(NotEnoughData) as caught:
            expected_loss(fit, Target(params=2e10, tokens=4e10))
        about = pytest.approx(2e10, rel=0.01)
        assert caught.value.finding.code == "advice.one_amount"
        assert caught.value.finding.data == {"input": "tokens", "value": about, "wanted": 4e10}

    @pytest.mark.usefixtures("one_voice")
    def test_every_surface_says_so(self, tmp_path: Path) -> None:
        frame = pd.DataFrame(
            {"params": r.params, "tokens": r.tokens, "batch_tokens": 65536, "lr": 1e-3, "loss": r.loss}
            for r in same_input("tokens")
        )
        frame.to_csv(tmp_path / "one horizon.csv", index=False)
        here = {"url": str(tmp_path / "lawfit.db")}
        assert cli("ingest", str(tmp_path / "one horizon.csv"), "--database", here["url"])[0] == ExitCode.OK
        assert cli("fit", "--database", here["url"])[0] == ExitCode.OK
        code, document = by_command(here, "predict", params=2e10, tokens=2e10)
        assert code == ExitCode.OK
        assert document["expected_loss"]["value"] == pytest.approx(2.3 + 400 * 2e10**-0.34, rel=0.01)
        assert by_rest(here, "/v1/predictions", params=2e10, tokens=2e10) == (200, document)
        for verb, path, question in (
            ("predict", "/v1/predictions", {"params": 2e10, "tokens": 4e10}),
            ("plan", "/v1/plans", {"flops": 1e21}),
        ):
            code, failure = by_command(here, verb, **question)
            assert code == ExitCode.NOT_ENOUGH
            assert "all runs have about 20B tokens" in failure["error"]["message"]
            status, problem = by_rest(here, path, **question)
            assert (status, problem["detail"]) == (409, failure["error"]["message"])


def test_more_experts_than_any_run_and_as_many_as_most() -> None:
    law = loss_law((), np.random.default_rng(0), losses=experts(6))
    fit = stored(law.payload)
    said, decades = expected_loss(fit, Target(params=2e10, tokens=4e11, experts=128))
    true = 1.8 + 300 * 2e10**-0.33 * 128**-0.12 + 400 * 4e11**-0.3
    assert said["low"] < true < said["high"]
    assert decades["experts"] == pytest.approx(np.log10(2), abs=1e-3)
    usual, _ = expected_loss(fit, Target(params=2e10, tokens=4e11))
    assert usual["given"] == [finding("advice.ordinary", form="experts", usual=1.0, usable=True)]
    assert told(usual["given"]) == ["for the number of experts of most runs, 1 (dense); experts asks for another"]
    assert usual["low"] < 1.8 + 300 * 2e10**-0.33 + 400 * 4e11**-0.3 < usual["high"]


@pytest.fixture(scope="module")
def sparse() -> dict[str, Any]:
    """The payload of a law through dense runs and sparse ones of a published law, in shuffled order."""
    law, rng = published_law("moe_sparsity"), np.random.default_rng(7)
    rows = []
    for n, ratio, share in itertools.product(np.geomspace(1e8, 1e10, 6), (10.0, 40.0, 160.0), (1.0, 0.5, 0.25, 0.1)):
        loss = float(law.evaluate("loss", params=n, tokens=n * ratio, active_fraction=share))
        noisy = loss * float(np.exp(NOISE * rng.standard_normal()))
        extra = {"sparsity": 1 - share} if share < 0.4 else {"active_fraction": share}
        rows.append(SizedLoss(run_key=f"{n}{ratio}{share}", params=n, tokens=n * ratio, loss=noisy, extra=extra))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loss_law_module, "LOSS_RESAMPLES", 40)
        patch.setattr(loss_third, "FURTHER_RESAMPLES", 40)
        return dict(loss_law((), rng, losses=[rows[i] for i in rng.permutation(len(rows))]).payload)


def test_an_active_share_answers_though_single_numbers_are_open(sparse: dict[str, Any]) -> None:
    law = published_law("moe_sparsity")
    for share in (1.0, 0.25, 0.1):
        said, _ = expected_loss(stored(sparse), Target(params=2e10, tokens=4e11, active_share=share))
        true = float(law.evaluate("loss", params=2e10, tokens=4e11, active_fraction=share))
        slack = (said["high"] / said["low"]) ** 0.5  # the form alone, far beyond its runs
        assert said["low"] / slack < true < said["high"] * slack, share


@pytest.mark.parametrize("counted", ["total", "active"])
def test_the_best_share_of_a_budget_is_that_of_the_truth(sparse: dict[str, Any], counted: str) -> None:
    """Compute goes with active parameters, whichever are counted."""
    flops, law = 3e18, published_law("moe_sparsity")
    shares, sizes = np.geomspace(0.1, 1.0, 60), np.geomspace(1e7, 1e11, 400)
    cost = np.ones_like(shares) if counted == "active" else shares
    tokens = flops / 6 / sizes[None, :] / cost[:, None]
    losses = np.asarray(law.evaluate("loss", params=sizes[None, :], tokens=tokens, active_fraction=shares[:, None]))
    true = losses.min(axis=1)
    found = best_share(stored(sparse), Recipe(name="r", params_convention=counted), PlanQuestion(flops=flops), flops)
    assert found is not None
    assert found["low"] <= shares[true.argmin()] * 1.001
    assert found["high"] >= shares[true.argmin()] * 0.999
    assert found["loss"] == pytest.approx(float(true.min()), rel=0.01)
    assert found["at_edge"] == (true.argmin() in (0, len(true) - 1))
    low, high = found["cheap_zone"]["0.001"]
    assert low <= found["value"] <= high


def test_no_best_share_without_a_law_of_it_or_where_one_is_given(sparse: dict[str, Any]) -> None:
    recipe, asked = Recipe(name="r"), PlanQuestion(flops=1e20)
    assert best_share(stored(sparse), recipe, replace(asked, active_share=0.5), 1e20) is None
    assert best_share(stored({**sparse, "further_forms": {}}), recipe, asked, 1e20) is None


@pytest.fixture(scope="module")
def plain() -> Fit:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loss_law_module, "LOSS_RESAMPLES", 40)
        rows = sized(repeated(1).query("unique_tokens == tokens"))
        return stored(loss_law((), np.random.default_rng(0), losses=rows).payload)


class TestRunsThatDoNotSay:
    """They read their tokens once and are dense: asked for as such they are answered, and refused otherwise."""

    @pytest.mark.parametrize(
        "third",
        [{"epochs": 1.0}, {"active_share": 1.0}, {"experts": 1.0}, {"unique_tokens": 1e12}],
        ids=lambda third: next(iter(third)),
    )
    def test_fresh_and_dense_is_what_they_are(self, plain: Fit, third: dict[str, float]) -> None:
        ordinary, same = (LOSS.answer(plain, Target(**TARGET, **each)) for each in ({}, third))
        assert code_of(same["given"][0]) == "advice.as_ordinary"
        assert {**same, "given": [], "lines": []} == {**ordinary, "given": [], "lines": []}
        if "unique_tokens" in third:
            return
        plans = [
            plan(
                PlanQuestion(flops=BUDGET, **each),
                Recipe(name="r"),
                {"loss": plain},
                {},
                lambda at: recommend_without_settings({"loss": plain}, Recipe(name="r"), at, "not asked", missing={}),
            )
            for each in ({}, third)
        ]
        assert plans[0]["optimum"] == plans[1]["optimum"]

    @pytest.mark.parametrize(
        "third", [{"epochs": 2.0}, {"active_share": 0.5}, {"experts": 8.0}, {"unique_tokens": 1e10}], ids=str
    )
    def test_what_they_are_not_is_refused(self, plain: Fit, third: dict[str, float]) -> None:
        with pytest.raises(NotEnoughData, match="the runs do not say"):
            expected_loss(plain, Target(**TARGET, **third))

    def test_runs_with_experts_are_not_dense(self) -> None:
        """All with eight experts: 8 is what they have, and 1 is what no run shows."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(loss_law_module, "LOSS_RESAMPLES", 40)
            rows = sized(repeated(1).query("unique_tokens == tokens"), num_experts=lambda _: 8)
            fit = stored(loss_law((), np.random.default_rng(0), losses=rows).payload)
        eight, ordinary = (expected_loss(fit, Target(**TARGET, **each))[0] for each in ({"experts": 8.0}, {}))
        assert eight["value"] == ordinary["value"]
        with pytest.raises(NotEnoughData, match="fewer than 3 scales have another number of experts"):
            expected_loss(fit, Target(**TARGET, experts=1.0))


def test_a_recipe_without_a_law_of_the_loss_refuses_a_further_input() -> None:
    fit = replace(stored({}), kind="critical_batch")
    asked = Target(params=1e9, tokens=2e10, epochs=2)
    with pytest.raises(NotEnoughData) as caught:
        recommend_without_settings(
            {"critical_batch": fit}, Recipe(name="r"), asked, "why", missing={"loss": "too few scales"}
        )
    epochs = finding("advice.third", input="epochs", value=2.0)
    assert caught.value.finding == finding("advice.third_without_law", third=epochs, why="too few scales")
    assert str(caught.value) == "2 epochs: it takes a law of the loss, and there is none: too few scales"


def test_settings_are_said_to_be_of_ordinary_runs() -> None:
    """The learning rate of text that is read again is another, and no law of these tells it."""
    fresh = [Target(params=1e9, tokens=2e10), Target(params=1e9, tokens=2e10, epochs=1.0)]
    fresh += [Target(params=1e9, tokens=2e10, unique_tokens=unique) for unique in (2e10, 1e12)]
    assert [settings_note(target, target.tokens) for target in fresh] == [[]] * 4
    for asked, words in (({"unique_tokens": 5e9}, "5B unique tokens"), ({"epochs": 4.0}, "4 epochs")):
        (said,) = settings_note(Target(params=1e9, tokens=2e10, **asked), 2e10)
        assert said.code == "advice.settings_of_repeats"
        assert f"only the loss is for {words}" in tell(said)
        assert "higher rate" in tell(said)
    (said,) = settings_note(Target(params=1e9, tokens=2e10, experts=64), 2e10)
    assert said.code == "advice.ordinary_settings"
    assert tell(said).startswith("learning rate, batch and weight decay are those of ordinary runs")
    assert "read again" not in tell(said)
