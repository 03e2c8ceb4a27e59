"""A law of the loss on its own feet: without a usable learning rate, and for a recipe that has none at all."""

from __future__ import annotations

import html
import io
import json
import re
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

import lawfit
from lawfit import pipeline
from lawfit.ask import PlanQuestion, Target
from lawfit.cli.main import ExitCode, run
from lawfit.errors import FitError, NotEnoughData, Unanswerable
from lawfit.estimate.evidence import Evidence, evidence_hash
from lawfit.estimate.loss import law as loss_law
from lawfit.estimate.lr_batch import analysis
from lawfit.estimate.lr_batch.analysis import FitOptions
from lawfit.findings import finding
from lawfit.laws.loss import CHINCHILLA
from lawfit.pipeline.fitting import LOSS, FittedRecipe, fit_evidence
from lawfit.records import FitStatus, Recipe, SizedLoss, Sweep
from lawfit.settings import Settings
from lawfit.storage import Store
from lawfit.words import over_http, tell
from lawfit_api.app import create_app
from tests.client import TestClient
from tests.estimate.loss.test_law import grid
from tests.estimate.loss.test_law import run as one_run

RECIPE = Recipe(name="table", loss_kind="cross entropy, nats per token", data="text")
TARGET = Target(params=1e10, tokens=2e11)


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss_law, "LOSS_RESAMPLES", 40)


def table(seed: int, **changes: float) -> list[SizedLoss]:
    """Parameters, tokens and losses of the rounded Chinchilla law, and nothing else, in a shuffled order."""
    rng = np.random.default_rng(seed)
    rows = [
        SizedLoss(run_key=f"row {i}", params=one.params, tokens=one.tokens, loss=one.loss or 0.0)
        for i, one in enumerate(grid(rng))
    ]
    return [replace(rows[i], **changes) for i in rng.permutation(len(rows))]


def stored(store: Store, fitted: FittedRecipe) -> None:
    store.put_sweeps([Sweep(recipe=RECIPE, runs=())], named=True)
    for law in fitted.laws:
        store.put_fit(law)


@pytest.mark.soak
def test_a_recipe_without_learning_rates_has_a_loss_a_plan_and_no_settings(store: Store) -> None:
    fitted = fit_evidence(RECIPE, Evidence(runs=(), losses=table(5)))
    assert fitted.fit is None
    (law,) = fitted.laws
    assert (law.kind, law.status, len(law.payload["points"])) == (LOSS, FitStatus.OK, 24)
    stored(store, fitted)
    plan = pipeline.plan(store, RECIPE.name, PlanQuestion(flops=1e22))
    low, high = (plan["optimum"]["params"][end] for end in ("low", "high"))
    assert low < float(CHINCHILLA.optimum(1e22)[0]) < high
    assert plan["settings"]["recommendation"] == {"lr": None, "batch_tokens": None}
    assert finding("advice.no_settings", why=finding("pipeline.no_rates")).to_json() in plan["warnings"]
    answer = pipeline.recommend(store, RECIPE.name, TARGET)
    json.dumps([plan, answer], allow_nan=False)
    said = answer["expected_loss"]
    assert said["low"] < float(CHINCHILLA.loss(1e10, 2e11)) < said["high"]
    assert set(answer["missing"]) == {"lr", "batch_tokens", "weight_decay", "critical_batch"}


def test_a_scale_counts_once_with_its_lowest_loss_whoever_measured_it() -> None:
    rows = table(6)
    again = [
        replace(row, run_key=f"{row.run_key} again", params=row.params * 1.0001, loss=1.1 * row.loss) for row in rows
    ]
    alone, _ = loss_law._best_of_scales((), rows)
    both, _ = loss_law._best_of_scales([one_run(r.params, r.tokens, r.loss) for r in rows], again)
    assert len(alone[2]) == len(both[2]) == 24
    assert sorted(both[2]) == pytest.approx(sorted(alone[2]), rel=1e-9)


def test_losses_are_part_of_the_evidence() -> None:
    rows = table(7)
    one, same, other = (
        evidence_hash(Evidence(runs=(), losses=losses)) for losses in (rows, rows[::-1], [*rows[:-1], table(8)[-1]])
    )
    assert one == same != other


def test_too_few_sizes_are_refused_with_their_number() -> None:
    with pytest.raises(NotEnoughData, match="these runs have 5"):
        loss_law.loss_law((), np.random.default_rng(0), losses=table(1)[:5])


@pytest.mark.parametrize("factor", [0.2, 0.6, 0.9], ids=["all far below", "below, as bits per byte", "around"])
def test_losses_around_and_below_a_lent_asymptote_give_a_law_or_a_sentence(factor: float) -> None:
    """What published laws would lend (1.8) may lie above some of the losses, or above all of them."""
    rng = np.random.default_rng(3)
    rows = [replace(row, loss=factor * row.loss * float(np.exp(0.003 * rng.standard_normal()))) for row in table(2)[:9]]
    with suppress(NotEnoughData):  # a sentence: any other error fails here
        assert loss_law.loss_law((), rng, losses=rows).payload["words"]


def made_table(seed: int = 5) -> pd.DataFrame:
    """Tables of sizes with one made learning rate and batch in every row: nothing was swept."""
    rows = grid(np.random.default_rng(seed))
    return pd.DataFrame(
        {"params": r.params, "tokens": r.tokens, "batch_tokens": 65536, "lr": 1e-3, "loss": r.loss} for r in rows
    )


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What each surface says of one target and one budget: surface -> prediction and plan."""
    folder = tmp_path_factory.mktemp("alone")
    frame, url = made_table(), str(folder / "lawfit.db")
    frame.to_csv(folder / "one rate.csv", index=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loss_law, "LOSS_RESAMPLES", 40)
        assert cli("ingest", str(folder / "one rate.csv"), "--database", url)[0] == ExitCode.OK
        code, words = cli("fit", "--database", url)
        assert code == ExitCode.OK
        assert "its law of the loss answers: lawfit plan" in words
        fitted = lawfit.fit(lawfit.observe(frame, recipe="one rate"), backtest=False)
    asked = {"params": "1e10", "tokens": "2e11"}
    command = [word for name, value in asked.items() for word in (f"--{name}", value)]
    with TestClient(create_app(Settings(database_url=url))) as client:
        rest = [client.get("/v1/predictions", params=asked), client.get("/v1/plans", params={"flops": "1e22"})]
        page = client.get("/", params=asked)
    assert [found.status_code for found in (*rest, page)] == [200, 200, 200]
    with over_http():  # where all surfaces say the same
        printed = [
            cli(*words, "--database", url, "--json") for words in (["predict", *command], ["plan", "--flops", "1e22"])
        ]
        assert [code for code, _ in printed] == [ExitCode.OK, ExitCode.OK]
        target = {"params": 1e10, "tokens": 2e11}
        notebook = lawfit.predict(fitted, **target), lawfit.plan(fitted, flops=1e22)
        found = {
            "command": dict(zip(("prediction", "plan"), (json.loads(words) for _, words in printed), strict=True)),
            "rest": dict(zip(("prediction", "plan"), (answer.json() for answer in rest), strict=True)),
            "notebook": dict(zip(("prediction", "plan"), (dict(answer.document) for answer in notebook), strict=True)),
        }
    return {
        **found,
        "page": {"text": html.unescape(page.text)},
        "answer": {"it": notebook[0], "fit": fitted},
        "url": {"it": url},
    }


class TestWithoutAUsableLearningRate:
    def test_the_loss_is_answered_and_what_is_missing_is_said(self, answers: dict[str, dict[str, Any]]) -> None:
        document = answers["command"]["prediction"]
        assert document["recommendation"] == {"lr": None, "batch_tokens": None}
        said = document["expected_loss"]
        assert said["low"] < float(CHINCHILLA.loss(1e10, 2e11)) < said["high"]
        assert "all runs have one learning rate (1.00e-3)" in document["missing"]["lr"]
        assert "states its weight decay" in document["missing"]["weight_decay"]
        assert [lack["code"] for lack in document["lacking"]] == ["one_rate"]
        assert any("no learning rate and no batch size" in words for words in document["warnings"])
        assert any("that their learning rates were the best, nothing shows" in words for words in document["warnings"])
        shown = cli("predictions", "show", document["id"], "--again", "--database", answers["url"]["it"])
        assert shown[0] == ExitCode.OK
        assert "computed again from its fit: the same" in shown[1]

    def test_the_loss_still_plans(self, answers: dict[str, dict[str, Any]]) -> None:
        plan = answers["command"]["plan"]
        size = plan["optimum"]["params"]
        assert size["low"] < float(CHINCHILLA.optimum(1e22)[0]) < size["high"]
        assert plan["settings"]["recommendation"]["lr"] is None
        shown = cli("predictions", "show", plan["settings"]["prediction_id"], "--database", answers["url"]["it"])
        assert shown[0] == ExitCode.OK  # the plan names it

    @pytest.mark.parametrize("surface", ["rest", "notebook"])
    @pytest.mark.parametrize("what", ["prediction", "plan"])
    def test_every_surface_says_the_same(self, answers: dict[str, dict[str, Any]], surface: str, what: str) -> None:
        one, other = (without_place(answers[name][what]) for name in ("command", surface))
        assert one == other

    def test_the_page_shows_it(self, answers: dict[str, dict[str, Any]]) -> None:
        document = answers["command"]["prediction"]
        assert f"{document['expected_loss']['value']:.4g}" in answers["page"]["text"]
        assert "all runs have one learning rate (1.00e-3)" in answers["page"]["text"]

    def test_a_learning_rate_that_is_read_in_a_notebook_is_refused(self, answers: dict[str, dict[str, Any]]) -> None:
        answer = answers["answer"]["it"]
        with pytest.raises(Unanswerable, match="all runs have one learning rate") as error:
            _ = answer.lr
        assert error.value.lacking[0]["code"] == "one_rate"
        assert str(answer).startswith("expected loss ")
        for kind in ("lr", "batch_tokens", "cost_lr"):
            with pytest.raises(Unanswerable, match="all runs have one learning rate"):
                lawfit.plot(answers["answer"]["fit"], answer, kind)


def without_place(document: dict[str, Any]) -> dict[str, Any]:
    """Less what names the moment and the store: ids of fits, of answers, and when they were made."""
    if isinstance(document, dict):
        left_out = ("created_at", "id", "fit_id", "loss_fit_id", "prediction_fit_id", "prediction_id", "source")
        left_out += ("runs_changed",)  # that needs a store
        return {name: without_place(value) for name, value in document.items() if name not in left_out}
    if isinstance(document, str):
        return re.sub(r"\b[0-9a-f]{16}\b", "ID", document)
    return [without_place(each) for each in document] if isinstance(document, list) else document


def cli(*arguments: str) -> tuple[int, str]:
    """Exit code and all that was printed."""
    out = io.StringIO()
    with redirect_stdout(out), redirect_stderr(out if "--json" not in arguments else io.StringIO()):
        code = run(list(arguments))
    return code, out.getvalue()


@pytest.mark.one_database
@pytest.mark.soak
def test_losses_that_look_like_a_score_are_no_law_of_a_loss(store: Store) -> None:
    runs = [
        replace(
            one,
            run_key=f"{one.run_key} {lr} {batch}",
            lr=lr,
            batch_tokens=batch,
            loss=(one.loss or 0.0) * (1.2 - 0.1 * k * k),
        )
        for one in grid(np.random.default_rng(5))[::2]
        for k, lr in ((-1, 3e-4), (-0.5, 6e-4), (0, 1e-3), (0.5, 2e-3), (1, 3e-3))
        for batch in (32768.0, 65536.0)
    ]
    store.put_runs(replace(RECIPE, name="score"), runs)
    fit = pipeline.refit(store, "score", options=FitOptions(backtest=False))
    assert [lack["code"] for lack in fit.payload["lacking"]][:1] == ["hill"]
    for ask in (
        lambda: pipeline.recommend(store, "score", TARGET),
        lambda: pipeline.plan(store, "score", PlanQuestion(flops=1e22)),
    ):
        with pytest.raises(Unanswerable, match="as a score is"):
            ask()


@pytest.mark.parametrize("error", [FitError, NotEnoughData])
@pytest.mark.one_database
@pytest.mark.soak
def test_no_fit_of_the_learning_rate_loses_no_law_of_the_loss(
    store: Store, monkeypatch: pytest.MonkeyPatch, error: type[FitError]
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error("no joint surface could be fitted")

    monkeypatch.setattr(analysis, "analyse", fails)
    store.put_runs(replace(RECIPE, name="one rate"), grid(np.random.default_rng(5)))
    fit = pipeline.refit(store, "one rate", options=FitOptions(backtest=False))
    assert fit.kind == LOSS
    answer = pipeline.recommend(store, "one rate", TARGET)
    assert "no joint surface could be fitted" in tell(answer["missing"]["lr"])
    assert "states its weight decay" in tell(answer["missing"]["weight_decay"])
    said = answer["expected_loss"]
    assert said["low"] < float(CHINCHILLA.loss(1e10, 2e11)) < said["high"]


def test_a_notebook_plans_without_a_fit_of_the_learning_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise FitError("no joint surface could be fitted")

    monkeypatch.setattr(analysis, "analyse", fails)
    fitted = lawfit.fit(lawfit.observe(made_table()), backtest=False)
    assert "no law of the learning rate: " in str(fitted)
    assert lawfit.plan(fitted, flops=1e22).params > 1e9


@pytest.mark.soak
def test_a_squared_error_with_a_tenth_of_noise_has_a_law(rng: np.random.Generator) -> None:
    """Losses far below what laws of text lend, scattered by 14 %: the runs alone carry it, and two searches agree."""
    rows = [
        SizedLoss(
            run_key=f"{n:.4g} {d:.4g}", params=n, tokens=d, loss=float(loss * np.exp(0.14 * rng.standard_normal()))
        )
        for n in np.geomspace(3e2, 3e5, 8)
        for d in np.geomspace(1e3, 1.6e7, 15)
        for loss in [0.01 + 20 * n**-0.9 + 200 * d**-0.8]
    ]
    law = loss_law.loss_law((), rng, losses=rows)
    floor = law.payload["fit"]["parameters"]["E"]
    assert law.status is FitStatus.OK, law.missing
    assert floor["low"] < 0.01 < floor["high"]
