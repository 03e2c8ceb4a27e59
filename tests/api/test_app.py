"""Routes, problems and headers of the HTTP edge."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest

from lawfit import __version__, errors, pipeline
from lawfit.ask import Target
from lawfit.records import Fit, FitStatus, Recipe, Run, RunStatus
from lawfit.settings import Settings
from lawfit.words import told
from lawfit_api.app import create_app
from lawfit_api.failures import STATUS_OF, status_of
from lawfit_api.schemas import ANSWER
from tests.cli.samples import PREDICTION
from tests.client import TestClient
from tests.golden_numbers import check
from tests.plots.further_samples import whole

ASKED = "/v1/predictions?params=7e9&tokens=1.4e12"
RECIPE = Recipe(name="tiny", optimizer="adamw", seq_len=1024)
FIT = Fit(
    id="f1",
    recipe_key=RECIPE.key,
    recipe_name="tiny",
    kind="lr_batch",
    status=FitStatus.OK,
    data_hash="d1",
    code_version="0.1.0",
    created_at="2026-11-22T00:00:00+00:00",
    options={"degree": 3},
    exclusions={"r9": "bad node"},
    payload={"runs_used": 2},
)


@pytest.fixture
def database(tmp_path: Path) -> str:
    """A database with one recipe, two runs (one diverged) and a fit."""
    url = str(tmp_path / "api.db")
    runs = [
        Run(run_key="a", params=1e8, tokens=2e9, batch_tokens=2**17, lr=1e-3, status=RunStatus.FINISHED, loss=3.1),
        Run(run_key="b", params=1e8, tokens=2e9, batch_tokens=2**17, lr=1e-1, status=RunStatus.DIVERGED, loss=None),
    ]
    with pipeline.open_store(url) as store:
        store.put_runs(RECIPE, runs)
        store.put_fit(FIT)
    return url


@pytest.fixture
def client(database: str) -> Iterator[TestClient]:
    with TestClient(create_app(Settings(database_url=database)), raise_server_exceptions=False) as test_client:
        yield test_client


def problem_of(response: Any, status: int) -> dict[str, Any]:
    """The problem+json document of a failed request."""
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    document = response.json()
    assert document["status"] == status
    assert document["detail"]
    return dict(document)


def test_health(client: TestClient) -> None:
    assert client.get("/healthz").json() == {"status": "ok", "version": __version__}
    assert client.get("/readyz").json() == {"status": "ready", "version": __version__}


def test_without_a_database_the_process_lives_and_is_not_ready(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url = str(tmp_path / "missing" / "x.db")
    with TestClient(create_app(Settings(database_url=url))) as client:
        assert client.get("/healthz").status_code == 200
        told = problem_of(client.get("/readyz", headers={"X-Request-Id": "asked-1"}), 503)["detail"]
        assert "database cannot be used" in told
        assert "asked-1" in told
        assert str(tmp_path) not in told  # a client learns nothing of this machine; its log says it
        assert f"{tmp_path / 'missing'} of the database x.db does not exist" in caplog.text
        (tmp_path / "missing").mkdir()
        assert client.get("/readyz").status_code == 200  # and it recovers


def test_recipes(client: TestClient) -> None:
    (recipe,) = client.get("/v1/recipes").json()["recipes"]
    assert (recipe["name"], recipe["key"], recipe["seq_len"]) == ("tiny", RECIPE.key, 1024)
    assert (recipe["runs"], recipe["diverged"], recipe["excluded"], recipe["fits"]) == (2, 1, 0, 1)


def test_fit(client: TestClient) -> None:
    assert client.get("/v1/fits/f1").json() == FIT.to_json()
    assert "no fit 'nope'" in problem_of(client.get("/v1/fits/nope"), 404)["detail"]


def test_a_nul_in_an_id_is_an_id_that_is_not_there(database_url: str) -> None:
    """On PostgreSQL too, whose driver refuses to ask for one."""
    with pipeline.open_store(database_url) as store:
        store.put_runs(RECIPE, [])
    with TestClient(create_app(Settings(database_url=database_url)), raise_server_exceptions=False) as client:
        for path in (
            *("/v1/fits/a%00b", "/v1/predictions/%00", f"{ASKED}&fit=a%00", f"{ASKED}&recipe=%00"),
            *("/v1/plans?flops=1e20&recipe=a%00", "/v1/plans?flops=1e20&fit=a%00", "/v1/transfer?recipe=a%00b"),
        ):
            problem_of(client.get(path), 404)


def test_a_body_that_is_no_question_does_not_come_back(client: TestClient) -> None:
    """Neither a name as long as a book, nor as many names as there are; the first ones are said, and how many more."""
    long, many = {"x" * 200_000: 1}, {f"field{k}": k for k in range(5000)}
    for body, first, more in (
        (long, f"{'x' * 100}...", "not permitted"),
        (many, "field0", "and 4,980 more such errors"),
    ):
        answer = client.post("/v1/fits", json={"recipe": "tiny", **body})
        assert len(answer.content) < 10_000
        problem = problem_of(answer, 422)
        assert problem["errors"][0]["field"] == first
        assert problem["detail"].endswith(more)


BEYOND = {"minimum": -1, "maximum": 1, "exclusiveMinimum": 0, "exclusiveMaximum": 0}  # steps from the bound to outside


def test_the_schema_states_real_bounds(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the words that JSON Schema has; a value beyond one is refused, and one inside is not."""
    for name in ("recommend", "cost_of_setting", "set_up", "plan", "plan_next", "transfer"):
        monkeypatch.setattr(pipeline, name, lambda *_args, **_named: {})
    stated, usual = set(), {"params": 7e9, "tokens": 1.4e12, "lr": 1e-3, "budget": "1e19flops"}
    for path, verbs in client.get("/openapi.json").json()["paths"].items():
        for parameter in verbs.get("get", {}).get("parameters", ()):
            for schema in parameter["schema"].get("anyOf", [parameter["schema"]]):
                words = {"type", "items", "title", "description", "default", "enum", "$ref"}
                assert set(schema) <= words | set(BEYOND), parameter
                for word in set(schema) & set(BEYOND):
                    stated.add((parameter["name"], word, schema[word]))
                    step = 1 if schema["type"] == "integer" else 1e-3 * max(1, abs(schema[word]))
                    inwards = step if "inimum" in word else -step
                    for value, refused in (
                        (schema[word] + BEYOND[word] * step, True),
                        (schema[word] + inwards, False),
                    ):
                        needed = [each["name"] for each in verbs["get"]["parameters"] if each["required"]]
                        query = {name: usual[name] for name in needed if name in usual}
                        answer = client.get(path, params={**query, parameter["name"]: value}).json()
                        named = {item["field"] for item in answer.get("errors", ())}
                        assert (parameter["name"] in named) == refused, (path, parameter["name"], value)
    assert {("params", "minimum", 1), ("tokens", "maximum", 1e18), ("flops", "exclusiveMinimum", 0)} <= stated


def test_the_document_goes_out_as_it_is(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str | None, Target, str | None]] = []

    def recommend(
        _store: object,
        recipe: str | None,
        target: Target,
        *,
        fit_id: str | None = None,
        at: Sequence[str] = (),
        keep: bool = True,
    ) -> dict[str, Any]:
        assert not keep
        asked.append((recipe, target, fit_id, at))
        return {**copy.deepcopy(PREDICTION), "later": {"weight_decay": 0.1}}

    monkeypatch.setattr(pipeline, "recommend", recommend)
    more = "&recipe=tiny&batch_tokens=1M&seq_len=1024&batch_multiple=8&max_batch_tokens=2e6&level=0.8&fit=f1"
    more += "&at=beta2=0.9&at=wd=0"
    assert client.get(ASKED.replace("7e9", "7B") + more).json() == {**PREDICTION, "later": {"weight_decay": 0.1}}
    target = Target(
        params=7e9, tokens=1.4e12, batch_tokens=1e6, seq_len=1024, batch_multiple=8, max_batch_tokens=2e6, level=0.8
    )
    assert asked == [("tiny", target, "f1", ["beta2=0.9", "wd=0"])]


def test_an_answer_comes_back_by_its_id(client: TestClient, database: str) -> None:
    with pipeline.open_store(database) as store:
        store.put_prediction("p1", FIT.id, {"params": 7e9}, PREDICTION)
    assert client.get("/v1/predictions/p1").json() == PREDICTION
    assert "no prediction 'nope'" in problem_of(client.get("/v1/predictions/nope"), 404)["detail"]


def test_the_described_model_fits_an_answer_of_every_law() -> None:
    document = told(whole()[2])
    assert document["weight_decay"] is not None
    assert ANSWER.validate_python(document) == document


def test_the_described_model_fits_the_document() -> None:
    assert ANSWER.validate_python(PREDICTION) == PREDICTION


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("tokens=1e12", "params"),
        ("params=nan&tokens=1e12", "params"),
        ("params=inf&tokens=1e12", "params"),
        ("params=1e999&tokens=1e12", "params"),
        ("params=-7e9&tokens=1e12", "params"),
        ("params=0&tokens=1e12", "params"),
        ("params=seven&tokens=1e12", "params"),
        ("params=7e9&tokens=", "tokens"),
        ("params=7e9&tokens=1e12&seq_len=0", "seq_len"),
        ("params=7e9&tokens=1e12&seq_len=1.5", "seq_len"),
        ("params=7e9&tokens=1e12&batch_tokens=nan", "batch_tokens"),
        ("params=1e300&tokens=1e12", "params"),
        ("params=7e9&tokens=1e12&level=1", "level"),
        ("params=7e9&tokens=1e12&level=nan", "level"),
    ],
)
def test_bad_numbers_are_named(query: str, field: str, client: TestClient) -> None:
    problem = problem_of(client.get(f"/v1/predictions?{query}"), 422)
    assert [item["field"] for item in problem["errors"]] == [field]
    assert problem["detail"].startswith(f"{field}: ")


def test_unknown_recipe_and_missing_fit_are_404_with_a_sentence(client: TestClient) -> None:
    assert "no recipe 'tyni'" in problem_of(client.get(f"{ASKED}&recipe=tyni"), 404)["detail"]
    assert problem_of(client.get(f"{ASKED}&fit=nope"), 404)["type"] == "NoFit"


def test_unknown_path_and_method(client: TestClient) -> None:
    problem_of(client.get("/v2/predictions"), 404)
    problem_of(client.post("/v1/plans"), 405)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.NoRecipe("x"), 404),
        (errors.NoFit("x"), 404),
        (errors.NotEnoughData("x"), 409),
        (errors.FitError("x"), 409),
        (errors.StoreError("x"), 503),
        (errors.SchemaOutOfDate("x"), 503),
        (errors.LawfitError("x"), 500),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_failure_is_a_problem(
    error: Exception, status: int, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: object, **_kwargs: object) -> None:
        raise error

    monkeypatch.setattr(pipeline, "recommend", fail)
    problem = problem_of(client.get(ASKED), status)
    assert problem["type"] == type(error).__name__
    assert (problem["detail"] == "x") != isinstance(error, errors.StoreError)  # which names places on this machine


def test_the_table_covers_every_error() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.LawfitError)]
    assert all(status_of(kind("x")) >= 400 for kind in kinds)
    assert set(STATUS_OF) <= set(kinds)


def test_an_unexpected_failure_tells_nothing_about_the_inside(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: object, **_kwargs: object) -> None:
        raise RuntimeError("secret path")

    monkeypatch.setattr(pipeline, "recommend", fail)
    response = client.get(ASKED)
    assert "secret" not in response.text
    problem_of(response, 500)
    assert {name: response.headers.get_list(name) for name in SECURITY} == {k: [v] for k, v in SECURITY.items()}


# Written out, not taken from the code: a word that goes missing there must be missed here.
SECURITY = {
    "content-security-policy": "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "connect-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
}


@pytest.mark.parametrize(
    ("method", "path", "status", "content"),
    [
        ("GET", "/", 200, "text/html; charset=utf-8"),
        ("GET", "/healthz", 200, "application/json"),
        ("GET", "/v1/recipes", 200, "application/json"),
        ("GET", "/openapi.json", 200, "application/json"),
        ("GET", "/nowhere", 404, "application/problem+json"),
        ("GET", "/v1/predictions", 422, "application/problem+json"),
        ("POST", "/v1/plans", 405, "application/problem+json"),
    ],
)
def test_headers_of_every_answer(method: str, path: str, status: int, content: str, client: TestClient) -> None:
    response = client.request(method, path)
    assert (response.status_code, response.headers["content-type"]) == (status, content)
    assert {name: response.headers.get_list(name) for name in SECURITY} == {k: [v] for k, v in SECURITY.items()}
    assert response.headers.get("allow") == ("GET" if status == 405 else None)


def test_openapi_describes_answers_and_problems(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    assert {
        "/v1/predictions",
        "/v1/predictions/{prediction_id}",
        "/v1/recipes",
        "/v1/fits/{fit_id}",
        "/healthz",
        "/readyz",
    } <= set(document["paths"])
    predict = document["paths"]["/v1/predictions"]["get"]
    assert predict["responses"]["200"]["content"]["application/json"]["schema"]["$ref"].endswith("/Answer")
    for status in ("404", "409", "422", "503"):
        assert set(predict["responses"][status]["content"]) == {"application/problem+json"}
    assert {parameter["name"] for parameter in predict["parameters"] if parameter["required"]} == {"params", "tokens"}
    assert all(parameter.get("description") for parameter in predict["parameters"])


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", ASKED, None),
        ("POST", "/v1/live/points", {"runs": []}),
    ],
    ids=["question", "points"],
)
def test_threads_that_a_request_waits_for(
    method: str, path: str, body: Any, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One for its work, one for the version of what it rests on or for the audit: beside answers that are worked out
    each waits for its turn."""
    client.get("/v1/recipes")
    monkeypatch.setattr(pipeline, "recommend", lambda *_, **__: PREDICTION)
    handed: list[Any] = []
    run_sync = anyio.to_thread.run_sync

    async def counted(work: Any, *words: Any, **more: Any) -> Any:
        handed.append(work)
        return await run_sync(work, *words, **more)

    monkeypatch.setattr(anyio.to_thread, "run_sync", counted)
    client.request(method, path, json=body)
    assert 1 <= len(handed) <= 2


def test_every_operation_says_how_it_may_fail(client: TestClient) -> None:
    """A body that is no JSON, a token that lacks a scope, a host that is foreign: problems of any route."""
    for path, verbs in client.get("/openapi.json").json()["paths"].items():
        for method, operation in verbs.items():
            failures = {status: said for status, said in operation["responses"].items() if not status.startswith("2")}
            assert "default" in failures, (method, path)
            assert all(set(said["content"]) == {"application/problem+json"} for said in failures.values()), (
                method,
                path,
            )


def test_what_the_routes_are_said_to_take_and_give_does_not_move(client: TestClient, update_golden: bool) -> None:
    check("openapi", client.get("/openapi.json").json(), update=update_golden)
