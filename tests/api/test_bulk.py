"""Many targets in one request: each with its own answer or problem, and others get their turn in between."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from lawfit import pipeline
from lawfit.ask import Target
from lawfit.settings import Settings, data_folder
from lawfit_api.app import create_app
from tests.api.test_app import ASKED, problem_of
from tests.cli.samples import PREDICTION
from tests.client import TestClient

BULK = "/v1/predictions/bulk"


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bulk") / "lawfit.db"
    with pipeline.open_store(path) as store:
        pipeline.ingest(store, data_folder() / "proxy_held_back.csv")
        pipeline.refit(store)
    return path


@pytest.fixture
def client(database: Path) -> Iterator[TestClient]:
    with TestClient(create_app(Settings(database_url=str(database)))) as served:
        yield served


def test_each_has_its_own_answer_or_problem(client: TestClient) -> None:
    targets: list[dict[str, Any]] = [
        {"params": 5e7, "tokens": "500M"},
        {"params": 5e7, "tokens": -1},
        {"params": "many", "tokens": 5e8},
        {"params": 5e7, "tokens": 5e8, "batch_tokens": 1e9},
        {"params": "50M", "tokens": 5e8, "level": 0.5},
        {"params": 5e7, "tokens": 5e8, "seq_len": 1.5},
        {"params": 5e7, "tokens": 5e8, "epochs": 2, "unique_tokens": 1e8},
    ]
    answer = client.post(BULK, json={"targets": targets})
    assert answer.status_code == 200, answer.text
    found = answer.json()["answers"]
    assert [each["problem"] and each["problem"]["status"] for each in found] == [None, 422, 422, 422, None, 422, 422]
    assert [each["answer"] is None for each in found] == [False, True, True, True, False, True, True]
    named = [each["problem"]["errors"][0]["field"] for each in found if each["problem"]]
    assert named == ["tokens", "params", "question", "seq_len", "question"]
    alone = client.get("/v1/predictions?params=5e7&tokens=5e8").json()
    assert found[0]["answer"] == alone
    assert found[4]["answer"]["recommendation"]["lr"]["level"] == 0.5


def test_they_are_kept_where_that_is_asked(client: TestClient) -> None:
    target = {"params": 6e7, "tokens": 6e8}
    (first,) = client.post(BULK, json={"targets": [target]}).json()["answers"]
    problem_of(client.get(f"/v1/predictions/{first['answer']['id']}"), 404)
    client.post(BULK, json={"targets": [target], "keep": True})
    assert client.get(f"/v1/predictions/{first['answer']['id']}").json() == first["answer"]


def test_what_all_of_them_lack_is_told_once(client: TestClient) -> None:
    target = {"params": 5e7, "tokens": 5e8}
    problem_of(client.post(BULK, json={"targets": [target], "recipe": "none"}), 404)
    for wrong, field in (
        ({"targets": []}, "targets"), ({}, "targets"), ({"targets": [target] * 301}, "targets"),
        ({"targets": [target, {"params": 5e7}]}, "targets.1"), ({"targets": [{**target, "parms": 1}]}, "targets.0"),
        ({"targets": [target], "recipes": "x"}, "recipes"), ({"targets": [target], "keep": 1}, "keep"),
        ({"targets": [{**target, "level": True}]}, "targets.0.level.float"),
    ):  # fmt: skip
        told = problem_of(client.post(BULK, json=wrong), 422)
        assert field in {item["field"] for item in told["errors"]}, (wrong, told)
    odd = '{"targets": [{"params": 5e7, "tokens": 5e8, "seq_len": Infinity}, {"params": NaN, "tokens": 1}]}'
    answer = client.post(BULK, content=odd, headers={"Content-Type": "application/json"})
    assert [each["problem"]["errors"][0]["field"] for each in answer.json()["answers"]] == ["seq_len", "params"]
    (one,) = client.post(BULK, json={"targets": [target], "fit": "none"}).json()["answers"]
    assert (one["problem"]["type"], one["problem"]["status"]) == ("NoFit", 404)


def test_others_get_their_turn_in_between(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A question that comes while a long list is worked on is answered before the list is done."""
    asked: list[float] = []
    began, may_go = threading.Event(), threading.Semaphore(0)

    def recommend(_store: object, _recipe: object, target: Target, **_named: object) -> dict[str, Any]:
        asked.append(target.params)
        began.set()
        assert may_go.acquire(timeout=20)
        return dict(PREDICTION)

    monkeypatch.setattr(pipeline, "recommend", recommend)
    monkeypatch.setattr("os.cpu_count", lambda: 1)  # one turn at a time
    with (
        TestClient(create_app(Settings(database_url=str(database)))) as served,
        ThreadPoolExecutor(2) as threads,
    ):
        many = threads.submit(served.post, BULK, json={"targets": [{"params": n, "tokens": 1e9} for n in (1, 2, 3)]})
        assert began.wait(20)
        one = threads.submit(served.get, ASKED)
        waiting = served.app.state.counts.waiting  # type: ignore[attr-defined]
        while waiting._value.get() < 1:
            asyncio.run(asyncio.sleep(0.01))
        for _ in range(4):
            may_go.release()
        assert (one.result().status_code, many.result().status_code) == (200, 200)
    assert asked == [1, 7e9, 2, 3]
