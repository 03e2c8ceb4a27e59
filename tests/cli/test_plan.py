"""`lawfit plan`, and the same document over HTTP and on the page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lawfit import pipeline
from lawfit.cli.main import ExitCode
from lawfit.records import Recipe
from lawfit.settings import Settings
from lawfit_api.app import create_app
from lawfit_api.schemas import PLAN
from tests.cli.conftest import Call
from tests.client import TestClient
from tests.plots.further_samples import whole


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with a fit of every law; copied by each test."""
    fit, runs, answer, laws = whole()
    path = tmp_path_factory.mktemp("plan") / "lawfit.db"
    recipe = Recipe(**{name: value for name, value in answer["recipe"].items() if name != "key"})
    with pipeline.open_store(str(path)) as store:
        store.put_runs(recipe, runs)
        for law in laws.values():
            store.put_fit(law)
        store.put_fit(fit)
    return path


@pytest.fixture
def database(filled: Path, away: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    url = str(away / "lawfit.db")
    Path(url).write_bytes(filled.read_bytes())
    monkeypatch.setenv("LAWFIT_DATABASE_URL", url)
    return url


@pytest.fixture
def client(database: str) -> TestClient:
    return TestClient(create_app(Settings(database_url=database)))


def test_prints_a_plan_that_can_be_acted_on(database: str, text: Call, call: Call) -> None:
    document = call("plan", "--flops", "1e20")
    PLAN.validate_python(document)
    assert document["time"] is not None
    out, _ = text("plan", "--flops", "1e20")
    for words in (
        "1e20 FLOPs = 6 x parameters x tokens",
        "90 % interval",
        "Costs below 0.1 %",
        "Learning rate",
        "Weight decay",
        "The same budget on other sizes",
        "The best size by each route",
        "no route by IsoFLOP profiles",
        "The same loss in less time",
        "Size and batch together",
        f"lawfit predictions show {document['settings']['prediction_id']}",
    ):
        assert words in out
    assert call("predictions", "show", document["settings"]["prediction_id"])["target"]["params"] == pytest.approx(
        document["plan"]["params"], rel=1e-5
    )


def test_settings_are_those_of_predict(database: str, call: Call) -> None:
    plan = call("plan", "--params", "4e8", "--tokens", "2e10")
    said = call("predict", "--params", "4e8", "--tokens", "2e10")
    for name in ("recommendation", "weight_decay", "critical_batch", "expected_loss"):
        assert plan["settings"][name] == said[name]
    assert plan["plan"]["cost"] > 0


@pytest.mark.parametrize(
    ("words", "query"),
    [
        pytest.param(("--flops", "1e20"), "flops=1e20", id="compute"),
        pytest.param(
            ("--gpus", "64", "--days", "2", "--flops-per-second", "4e14", "--step-seconds", "0.4"),
            "gpus=64&days=2&flops_per_second=4e14&step_seconds=0.4",
            id="machines",
        ),
        pytest.param(
            ("--loss", "2.5", "--inference-tokens", "1e12", "--level", "0.8"),
            "loss=2.5&inference_tokens=1e12&level=0.8",
            id="loss",
        ),
        pytest.param(("--flops", "1e20", "--params", "1B"), "flops=1e20&params=1e9", id="size"),
    ],
)
@pytest.mark.usefixtures("one_voice")
def test_http_answers_what_the_command_prints(
    words: tuple[str, ...], query: str, client: TestClient, call: Call
) -> None:
    printed: Any = call("plan", *words)
    response = client.get(f"/v1/plans?{query}")
    assert response.status_code == 200, response.text
    assert json.dumps(response.json()) == json.dumps(printed)
    assert PLAN.validate_python(printed) == printed


def test_a_plan_at_a_level_is_that_of_the_fit_which_holds_there(database: str, client: TestClient, call: Call) -> None:
    plain, asked = call("plan", "--flops", "1e20"), call("plan", "--flops", "1e20", "--at", "weight_decay=.10")
    over_http = client.get("/v1/plans", params={"flops": 1e20, "at": "wd=0.1"}).json()
    for name in ("plan", "optimum", "evidence"):
        assert plain[name] == asked[name] == over_http[name]
    fit = asked["evidence"]["prediction_fit_id"]
    assert call("plan", "--flops", "1e20", "--fit", fit, "--at", "weight_decay=0.1")["plan"] == plain["plan"]
    elsewhere = call("plan", "--flops", "1e20", "--at", "weight_decay=7", code=ExitCode.NOT_ENOUGH)["error"]
    assert elsewhere["message"].startswith("no run has weight decay 7; ")


@pytest.mark.parametrize(
    ("words", "query", "said", "code", "status"),
    [
        pytest.param((), "", "a plan needs a budget", ExitCode.USAGE, 422, id="nothing asked"),
        pytest.param(
            ("--flops", "1e20", "--loss", "2"), "flops=1e20&loss=2", "leave nothing to plan", ExitCode.USAGE, 422,
            id="contradiction",
        ),
        pytest.param(("--flops", "x"), "flops=x", "is not a number", ExitCode.USAGE, 422, id="no number"),
        pytest.param(("--loss", "0.5"), "loss=0.5", "no budget reaches", ExitCode.FAILED, 409, id="out of reach"),
    ],
)  # fmt: skip
def test_what_cannot_be_planned_says_why(
    words: tuple[str, ...], query: str, said: str, code: int, status: int, client: TestClient, call: Call
) -> None:
    assert said in call("plan", *words, code=code)["error"]["message"]
    response = client.get(f"/v1/plans?{query}")
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert said in response.json()["detail"]


def test_a_recipe_or_a_fit_that_is_not_there(client: TestClient, call: Call) -> None:
    assert call("plan", "--flops", "1e20", "--recipe", "nope", code=ExitCode.FAILED)["error"]["type"] == "NoRecipe"
    assert client.get("/v1/plans?flops=1e20&recipe=nope").status_code == 404
    laws = whole()[3]
    refused = call("plan", "--flops", "1e20", "--fit", laws["critical_batch"].id, code=ExitCode.NOT_ENOUGH)
    assert "the critical_batch law alone" in refused["error"]["message"]
    alone = call("plan", "--flops", "1e20", "--fit", laws["loss"].id)
    assert alone["plan"]["params"] > 0
    assert alone["settings"]["recommendation"]["lr"] is None


def test_a_report_beside_the_plan(database: str, away: Path, text: Call) -> None:
    _, err = text("plan", "--flops", "1e20", "--report", away / "plan.html")
    assert err.startswith("report: ")
    page = (away / "plan.html").read_text(encoding="utf-8")
    assert page.count('<figure class="chart" id=') == 4
    assert "How to spend a training budget" in page


class TestPage:
    def test_shows_what_the_api_says(self, client: TestClient) -> None:
        document = client.get("/v1/plans?flops=1e20").json()
        page = client.get("/plan?flops=1e20")
        assert page.status_code == 200
        for words in ("valley", "plane", "routes", "time"):
            assert f'id="plan-{words}"' in page.text
        for words in ("What else the budget buys", "SIMULATED"):
            assert words in page.text
        assert f"{document['settings']['expected_loss']['value']:.4g}" in page.text

    @pytest.mark.parametrize(
        ("query", "status", "words"),
        [
            pytest.param("flops=x", 422, "is not a number", id="no number"),
            pytest.param("gpus=2.5", 422, "must be a whole number, got 2.5", id="half a GPU"),
            pytest.param("gpus=8&days=2", 422, "what one GPU sustains", id="no speed"),
            pytest.param("loss=0.5", 409, "No budget reaches a loss", id="out of reach"),
        ],
    )
    def test_mistakes_are_said_on_the_page(self, query: str, status: int, words: str, client: TestClient) -> None:
        page = client.get(f"/plan?{query}")
        assert page.status_code == status
        assert words in page.text
        assert "<form" in page.text
