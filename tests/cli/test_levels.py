"""The level of a varying setting, from the table to the answer: `fit --at`, `predict --at`, REST and notebook alike."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import lawfit
from lawfit.cli.main import ExitCode
from lawfit.errors import UnknownLevel
from lawfit.factors import levels_typed
from lawfit.settings import Settings
from lawfit_api.app import create_app
from lawfit_api.schemas import ANSWER
from tests.cli.conftest import Call
from tests.client import TestClient
from tests.estimate.made_levels import SCALES, TRUTH, Level, made

GQA, MLA = Level(value="gqa"), Level(value="mla", lr_factor=0.8, excess=0.004)
PARAMS, TOKENS = SCALES[1]
TARGET = ("--params", f"{PARAMS:g}", "--tokens", f"{TOKENS:g}")
ASKED = f"/v1/predictions?params={PARAMS:.0f}&tokens={TOKENS:.0f}"


def table() -> pd.DataFrame:
    """Two kinds of attention at three scales, as a table of runs."""
    runs = made([MLA, GQA], column="attention", scales=SCALES[:3])
    names = ("params", "tokens", "batch_tokens", "lr", "loss", "seed")
    rows = [{name: getattr(run, name) for name in names} | dict(run.extra) for run in runs]
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with those runs and a fit that chose its level itself."""
    from lawfit import pipeline
    from lawfit.estimate.lr_batch.analysis import FitOptions

    folder = tmp_path_factory.mktemp("levels")
    table().to_csv(folder / "attention.csv", index=False)
    with pipeline.open_store(folder / "lawfit.db") as store:
        pipeline.ingest(store, folder / "attention.csv")
        pipeline.refit(store, options=FitOptions(backtest=False))
    return folder


@pytest.fixture
def database(fitted: Path, away: Path) -> Path:
    return Path(shutil.copy(fitted / "lawfit.db", away / "lawfit.db"))


def near(document: Any, level: Level) -> bool:
    """Whether the learning rate is that of the level: 12 % off at most, where levels lie 25 % apart."""
    best = TRUTH.optimum(PARAMS, TOKENS)[0] * level.lr_factor
    return bool(abs(document["recommendation"]["lr"]["value"] / best - 1) < 0.12)


def test_the_better_level_is_held_and_said(database: Path, call: Call, text: Call) -> None:
    document = call("predict", *TARGET)
    assert near(document, GQA)
    (setting,) = document["settings"]
    assert (setting["name"], setting["level"], setting["levels"]) == ("attention", "gqa", ["gqa", "mla"])
    assert document["evidence"]["runs_used"] == 120
    (left_out,) = document["evidence"]["rejected"]
    assert left_out["count"] == 120
    assert left_out["reason"].startswith("attention is mla; this fit uses the runs with gqa: of gqa and mla its losses")
    out, _ = text("predict", *TARGET)
    assert "Holds at      attention gqa" in out
    ANSWER.validate_python(document)


def test_a_level_that_is_asked_for_is_fitted_and_then_answers(database: Path, call: Call, text: Call) -> None:
    refused = call("predict", *TARGET, "--at", "attention=mla", code=ExitCode.NOT_ENOUGH)["error"]
    assert refused["type"] == "NoFit"
    assert "run lawfit fit --recipe attention --at attention=mla" in refused["message"]
    fit = call("fit", "--at", "attention=mla")
    assert fit["options"]["at"] == ["attention=mla"]
    assert near(call("predict", *TARGET, "--at", "attention=MLA"), MLA)
    assert near(call("predict", *TARGET, "--at", "attention=gqa"), GQA)  # the older fit holds there
    wrong = call("predict", *TARGET, "--fit", fit["id"], "--at", "attention=gqa", code=ExitCode.NOT_ENOUGH)["error"]
    assert "does not hold at attention gqa" in wrong["message"]
    out, _ = text("predict", *TARGET, "--at", "attention=mla", "--verbose")
    assert "this answer holds at attention mla, as asked for" in out
    with TestClient(create_app(Settings(database_url=str(database)))) as client:
        answer = client.get(f"{ASKED}&at=attention=mla").json()
    assert answer["recommendation"] == call("predict", *TARGET, "--at", "attention=mla")["recommendation"]


@pytest.mark.parametrize(
    "command", [("fit",), ("predict", *TARGET), ("plan", "--flops", "1e19")], ids=["fit", "predict", "plan"]
)
@pytest.mark.parametrize(
    ("at", "code", "words"),
    [
        (["attention=mha"], ExitCode.NOT_ENOUGH, "no run has attention mha; there is gqa and mla"),
        (["beta2=0.9"], ExitCode.NOT_ENOUGH, "no run says its 'beta2'"),
        (["attention=gqa", "attention=mla"], ExitCode.USAGE, "asked for at two levels, gqa and mla"),
        (["attention"], ExitCode.USAGE, "NAME=VALUE"),
    ],
    ids=["no such level", "no such setting", "contradiction", "no level"],
)
def test_what_cannot_be_held_is_refused(
    database: Path, call: Call, command: tuple[str, ...], at: list[str], code: int, words: str
) -> None:
    said = call(*command, *(word for level in at for word in ("--at", level)), code=code)
    assert words in said["error"]["message"]


@pytest.mark.parametrize(
    ("at", "status"), [("attention=mha", 409), ("attention", 422), ("attention=gqa&at=attention=mla", 422)]
)
def test_over_http_too(database: Path, at: str, status: int) -> None:
    with TestClient(create_app(Settings(database_url=str(database)))) as client:
        response = client.get(f"{ASKED}&at={at}")
    assert response.status_code == status
    assert "attention" in response.text


@pytest.mark.parametrize(
    ("at", "status", "words"),
    [
        ("attention=gqa", 200, "this answer holds at attention gqa"),
        ("attention = GQA", 200, "this answer holds at attention gqa"),
        ("attention=mla", 404, "holds at attention mla; POST /v1/fits"),
        ("attention=mha", 409, "no run has attention mha; there is gqa and mla"),
        ("beta2=0.9", 409, "no run says its 'beta2'"),
        ("attention", 422, "Level of a setting: a level is asked for as NAME=VALUE"),
        ("attention=gqa, attention=mla", 422, "asked for at two levels, gqa and mla"),
    ],
)
@pytest.mark.parametrize("page", ["/", "/plan"])
def test_on_the_pages(database: Path, page: str, at: str, status: int, words: str) -> None:
    asked = {"params": f"{PARAMS:g}", "tokens": f"{TOKENS:g}"} if page == "/" else {"flops": "1e19"}
    with TestClient(create_app(Settings(database_url=str(database)))) as client:
        response = client.get(page, params={**asked, "at": at})
    said = unescape(response.text)
    assert f'name="at" value="{at}"' in said  # what was typed stays
    if page == "/plan" and status == 200:  # three scales carry no law of the loss: refused for that, not for the level
        assert response.status_code == 409
        assert "law of the loss" in said
        return
    assert response.status_code == status
    assert words[0].lower() + words[1:] in said or words[0].upper() + words[1:] in said


def test_a_plan_over_http_is_refused_for_the_level_alone(database: Path) -> None:
    with TestClient(create_app(Settings(database_url=str(database)))) as client:
        unknown = client.get("/v1/plans", params={"flops": 1e19, "at": "attention=mha"})
        unfitted = client.get("/v1/plans", params={"flops": 1e19, "at": "attention=mla"})
    assert (unknown.status_code, unfitted.status_code) == (409, 404)
    assert "there is gqa and mla" in unknown.json()["detail"]
    assert "no fit of recipe 'attention' holds at attention mla" in unfitted.json()["detail"]


def test_several_levels_in_one_field_are_parted_by_commas() -> None:
    assert levels_typed("beta2=0.95, betas=(0.9, 0.95),attention=gqa") == [
        "beta2=0.95",
        "betas=(0.9, 0.95)",
        "attention=gqa",
    ]
    assert levels_typed(" ") == []


def test_in_a_notebook() -> None:
    sweep = lawfit.observe(table(), recipe="attention")
    fit = lawfit.fit(sweep, at={"attention": "mla"}, backtest=False)
    answer = lawfit.predict(fit, params=PARAMS, tokens=TOKENS)
    assert near(answer.document, MLA)
    assert "this answer holds at attention mla, as asked for" in str(answer)
    assert lawfit.plot(fit, kind="surface").data  # of the runs at that level
    with pytest.raises(UnknownLevel, match="there is gqa and mla"):
        lawfit.fit(sweep, at={"attention": "mha"}, backtest=False)


@pytest.mark.parametrize("make", [lambda frame: frame, lambda frame: frame.iloc[::-1]], ids=["rows", "reversed"])
def test_the_order_of_rows_makes_no_other_answer(make: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    sweep = lawfit.observe(make(table()), recipe="attention")
    fit = lawfit.fit(sweep, backtest=False)
    assert fit.fit.payload["settings"][0]["level"] == "gqa"
    assert near(lawfit.predict(fit, params=PARAMS, tokens=TOKENS).document, GQA)
