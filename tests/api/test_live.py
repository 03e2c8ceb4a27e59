"""Runs that are logged as they go, over HTTP and through `lawfit.client`."""

from __future__ import annotations

import json
import logging
import math
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from lawfit import client as lawfit_client
from lawfit import pipeline
from lawfit.errors import RunEnded
from lawfit.settings import Settings
from lawfit.storage import Store
from lawfit.storage import live as stored
from lawfit_api.app import create_app
from lawfit_api.routes import live as live_routes
from tests.api.serving import serving
from tests.api.test_app import problem_of
from tests.client import TestClient

CONFIG = {"params": 1.2e7, "tokens": 1e8, "batch_tokens": 65536, "lr": 1e-3, "seq_len": 256, "optimizer": "adamw"}
STEPS = range(1, 1527, 25)


def points_of(last: float, rate: float = 1e-3) -> list[list[Any]]:
    return [[name, step, value] for step in STEPS for name, value in (("loss", last + 3 / step), ("lr", rate))]


@pytest.fixture
def client(database_url: str) -> Iterator[TestClient]:
    with TestClient(create_app(Settings(database_url=database_url)), raise_server_exceptions=False) as served:
        yield served


def begin(client: TestClient, key: str, project: str = "p", **config: Any) -> dict[str, Any]:
    answer = client.post("/v1/live/runs", json={"project": project, "run_key": key, "config": config})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def log(client: TestClient, key: str, points: list[list[Any]], project: str = "p") -> Any:
    return client.post("/v1/live/points", json={"runs": [{"project": project, "run_key": key, "points": points}]})


def finish(client: TestClient, key: str, project: str = "p", **said: Any) -> Any:
    return client.post("/v1/live/runs/finish", json={"project": project, "run_key": key, **said})


class TestRuns:
    def test_a_sweep_is_stored_as_its_runs_end(self, client: TestClient, database_url: str) -> None:
        for number in range(1, 4):
            rate = number * 1e-3
            assert begin(client, f"r{number}", **{**CONFIG, "lr": rate})["state"] == "running"
            assert log(client, f"r{number}", points_of(2 + number / 10, rate)).json() == {"kept": 2 * len(STEPS)}
            (listed,) = client.get("/v1/live/runs?state=running").json()["runs"]
            assert (listed["points"], listed["last_step"]) == (2 * len(STEPS), STEPS[-1])
            ended = finish(client, f"r{number}").json()
            assert (ended["stored"], ended["report"]["inserted"], ended["report"]["unchanged"]) == (True, 1, number - 1)
            assert ended["report"]["rejections"] == []
        with Store.open(database_url) as store:
            (recipe,) = [summary.recipe for summary in store.recipes()]
            runs = store.runs(recipe.key)
            assert (recipe.name, recipe.optimizer, recipe.schedule) == ("p", "adamw", "constant")
            assert [(run.run_key, run.lr, run.steps) for run in runs] == [
                (f"r{number}", number * 1e-3, STEPS[-1]) for number in (1, 2, 3)
            ]
            steps, numbers = store.curve(recipe.key, "r2", "train_loss")
            assert (steps.tolist(), numbers.tolist()) == ([*STEPS], [2.2 + 3 / step for step in STEPS])
            assert all(run.points == 0 and run.stored_at for run in stored.list_live_runs(store, limit=10))
        assert client.get("/v1/runs/p/r2").json()["curves"][0]["points"] == len(STEPS)

    def test_the_same_again_changes_nothing(self, client: TestClient) -> None:
        begin(client, "a", **CONFIG)
        assert begin(client, "a", warmup=10)["config"] == {**CONFIG, "warmup": 10}
        log(client, "a", points_of(2))
        log(client, "a", points_of(2))
        assert client.get("/v1/live/runs?project=p").json()["runs"][0]["points"] == 2 * len(STEPS)
        log(client, "a", [["loss", STEPS[-1], 1.5]])
        first, again = finish(client, "a").json(), finish(client, "a").json()
        assert (first["report"]["inserted"], again["report"]["inserted"], again["report"]["unchanged"]) == (1, 0, 1)
        assert begin(client, "a", lr=9)["stored_at"] is not None
        assert problem_of(log(client, "a", points_of(2)), 409)["type"] == "RunEnded"
        assert client.get("/v1/curves/p/a?metric=train_loss").json()["values"][-1] == 1.5

    def test_numbers_that_are_none(self, client: TestClient) -> None:
        begin(client, "a", **CONFIG, schedule="constant")
        odd = [["loss", step, value] for step, value in enumerate(("NaN", "Infinity", "-inf", "2.5", 3), start=1)]
        assert log(client, "a", odd).json() == {"kept": 5}
        for wrong in ([["loss", -1, 1]], [["loss", 2**63, 1]], [["loss", 1]], [["", 1, 1]], [["a\x00", 1, 1]], "x"):
            problem_of(log(client, "a", wrong), 422)  # type: ignore[arg-type]
        problem_of(log(client, "none", odd), 404)
        problem_of(finish(client, "none"), 404)
        for name in ("", "a\nb", "\ud800", "x" * 201):
            content = json.dumps({"project": "p", "run_key": name})
            problem_of(client.post("/v1/live/runs", content=content, headers={"Content-Type": "application/json"}), 422)
        alone = problem_of(finish(client, "a", state="diverged"), 422)  # no run of the project has a loss yet
        assert alone["type"] == "LogFormatError"
        begin(client, "b", **CONFIG, schedule="constant")
        log(client, "b", points_of(2))
        report = finish(client, "b").json()["report"]
        assert (report["inserted"], report["diverged"]) == (2, 1)

    def test_settings_that_no_database_holds_are_made_plain(self, client: TestClient) -> None:
        odd = '{"x\\u0000": NaN, "y": {"\\ud800": ["\\ud800\\u0000", Infinity]}}'
        content = f'{{"project": "p", "run_key": "a", "config": {odd}}}'
        answer = client.post("/v1/live/runs", content=content, headers={"Content-Type": "application/json"})
        assert answer.json()["config"] == {"x": "nan", "y": {"?": ["?", "inf"]}}
        problem_of(
            client.post("/v1/live/runs", json={"project": "p", "run_key": "b", "config": {"x": "y" * 300_000}}), 422
        )

    def test_questions_are_answered_and_answers_kept(self, client: TestClient) -> None:
        config = {**CONFIG, "batch_size": 256}
        del config["batch_tokens"], config["params"]
        begin(client, "a", **config)
        log(client, "a", points_of(2))
        doubted = problem_of(finish(client, "a"), 422)
        assert doubted["type"] == "Doubted"
        assert {question["code"] for question in doubted["questions"]} == {
            "ingest.batch_unit",
            "ingest.missing_columns",
        }
        assert [{"option": "batch_unit", "value": "sequences"}] in doubted["questions"][0]["choices"]
        assert "--" not in json.dumps(doubted)
        assert client.get("/v1/live/runs").json()["runs"][0]["points"] == 2 * len(STEPS)  # it waits
        for wrong in ([{"option": "no", "value": "x"}], [{"option": "map", "value": "x"}]):
            problem_of(finish(client, "a", answers=wrong), 422)
        given = [{"option": "batch_unit", "value": "sequences"}, {"option": "set", "value": "params=12M"}]
        assert finish(client, "a", answers=given).json()["stored"]
        begin(client, "b", **{**config, "lr": 2e-3})
        log(client, "b", points_of(2, 2e-3))
        assert finish(client, "b").json()["stored"]
        (run, _) = client.get("/v1/runs").json()["runs"]
        assert (run["params"], run["batch_tokens"]) == (12e6, 65536)

    def test_a_crashed_run_goes_on(self, client: TestClient) -> None:
        begin(client, "a", **CONFIG)
        log(client, "a", points_of(2)[:20])
        assert finish(client, "a", state="crashed").json() == {"state": "crashed", "stored": False, "report": None}
        assert begin(client, "a")["state"] == "running"
        log(client, "a", points_of(2)[20:])
        assert finish(client, "a", summary={"loss": 1.9}).json()["stored"]
        (run,) = client.get("/v1/runs").json()["runs"]
        assert run["loss"] == 1.9

    def test_a_run_that_cannot_be_taken_says_why_and_waits(self, client: TestClient) -> None:
        for key in ("a", "b"):
            begin(client, key, **CONFIG)
        log(client, "a", points_of(2))
        assert finish(client, "a").json()["stored"]
        assert "no loss" in problem_of(finish(client, "b"), 422)["detail"]
        log(client, "b", points_of(2))
        begin(client, "b")
        assert finish(client, "b").json()["stored"]

    def test_a_run_has_an_end_to_its_points(self, client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(live_routes, "MOST_POINTS", 10)
        begin(client, "a", **CONFIG)
        problem_of(log(client, "a", points_of(2)), 409)
        assert client.get("/v1/live/runs").json()["runs"][0]["points"] == 0


@pytest.fixture
def spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What cannot be sent goes here; and nobody waits long."""
    monkeypatch.setenv("LAWFIT_SPOOL", str(tmp_path / "spool"))
    monkeypatch.setattr(lawfit_client, "SEND_SECONDS", 0.05)
    monkeypatch.setattr(lawfit_client, "_BACK_OFF_SECONDS", (0.1,))
    return tmp_path / "spool"


def left_in(folder: Path) -> int:
    return sum(len(path.read_text().splitlines()) for path in folder.glob("*")) if folder.exists() else 0


def train(run: lawfit_client.Run, steps: int = 1000) -> None:
    for step in range(1, steps + 1):
        run.log(step, loss=2 + 3 / step, lr=1e-3)


class TestClientModule:
    def test_it_needs_the_standard_library_alone(self) -> None:
        heavy = {"numpy", "sqlalchemy", "pydantic", "pandas", "scipy", "fastapi", "httpx2", "yaml", "rich", "typer"}
        code = f"import sys, lawfit.client; print(sorted({heavy!r} & set(sys.modules)))"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "[]"

    def test_three_lines(self, tmp_path: Path, spool: Path) -> None:
        with serving(tmp_path) as served:
            run = lawfit_client.start("p", CONFIG, run_key="a", url=served.address)
            train(run)
            assert run.finish(loss=2.5)
            (found,) = served.http.get("/v1/runs").json()["runs"]
            assert (found["run_key"], found["loss"], found["lr"]) == ("a", 2.5, 1e-3)
            curve = served.http.get("/v1/curves/p/a?metric=train_loss").json()
            assert curve["points"] == 1000
            with pytest.raises(lawfit_client.ClientError, match="no usable fit") as caught:
                lawfit_client.ask(params=1e9, tokens="20B", url=served.address)
            assert caught.value.status == 404
        assert left_in(spool) == 0

    def test_nobody_there_then_sent_by_the_next(self, tmp_path: Path, spool: Path) -> None:
        began = time.monotonic()
        with lawfit_client.start("p", CONFIG, run_key="away", url="http://127.0.0.1:9") as run:
            train(run)
            assert time.monotonic() - began < 5
            assert not run.finish(loss=2.5, timeout=0.3)
        assert left_in(spool) >= 3
        with serving(tmp_path) as served:
            with pytest.raises(lawfit_client.ClientError):
                lawfit_client.flush(url="http://127.0.0.1:9")
            assert lawfit_client.flush(url=served.address) >= 3
            assert served.http.get("/v1/curves/p/away?metric=train_loss").json()["points"] == 1000
            assert lawfit_client.flush(url=served.address) == 0
        assert left_in(spool) == 0

    @pytest.mark.soak
    def test_a_service_that_is_killed_and_comes_back_loses_nothing(self, tmp_path: Path, spool: Path) -> None:
        with serving(tmp_path) as served:
            port = int(served.address.rpartition(":")[2])
            run = lawfit_client.start("p", CONFIG, run_key="a", url=served.address)
            train(run, 300)
            while not served.http.get("/v1/live/runs").json()["runs"]:
                time.sleep(0.05)
            served.process.send_signal(signal.SIGKILL)
            served.process.wait()
        for step in range(301, 700):
            run.log(step, loss=2 + 3 / step, lr=1e-3)
        time.sleep(0.5)
        with serving(tmp_path, port=port) as served:
            for step in range(700, 1001):
                run.log(step, loss=2 + 3 / step, lr=1e-3)
            assert run.finish(loss=2.5)
            curve = served.http.get("/v1/curves/p/a?metric=train_loss").json()
            assert curve["steps"] == [*range(1, 1001)]
        assert left_in(spool) == 0

    def test_nothing_that_is_logged_breaks_the_loop(self, spool: Path, caplog: pytest.LogCaptureFixture) -> None:
        run = lawfit_client.start("p", {"lr": object(), "nested": {"a": (1, math.nan)}}, url="http://127.0.0.1:9")
        with caplog.at_level(logging.WARNING, logger="lawfit.client"):
            for _ in range(3):
                run.log(1, loss="two", other=object(), fine=1)
                run.log("first", loss=1)  # type: ignore[arg-type]
            assert not run.finish(timeout=0.1, note=object())
        assert sum("cannot be logged" in record.message for record in caplog.records) == 2
        run.log(2, loss=1)
        assert run.finish()
        with pytest.raises(ValueError, match="http://"):
            lawfit_client.start("p", url="ftp://x")

    def test_a_loss_with_gradients_is_logged_without_a_warning(self, spool: Path) -> None:
        torch = pytest.importorskip("torch")
        run = lawfit_client.start("p", CONFIG, url="http://127.0.0.1:9")
        run.log(1, loss=torch.tensor(2.5, requires_grad=True))
        assert not run.finish(timeout=0.5, loss=torch.tensor([2.5], requires_grad=True))
        assert left_in(spool) >= 2

    def test_logging_takes_microseconds(self, spool: Path) -> None:
        run = lawfit_client.start("p", CONFIG, url="http://127.0.0.1:9")
        began = time.process_time()
        for step in range(20_000):
            run.log(step, loss=1.0, lr=1e-3)
        assert (time.process_time() - began) / 20_000 < 100e-6
        run.finish(timeout=0.1)

    @pytest.mark.soak
    def test_a_program_that_ends_or_is_killed_leaves_what_it_logged(self, tmp_path: Path, spool: Path) -> None:
        program = (
            "import lawfit.client, os, sys, time\n"
            "run = lawfit.client.start('p', {'lr': 1e-3}, run_key=sys.argv[1], url='http://127.0.0.1:9')\n"
            "for step in range(1, 101): run.log(step, loss=1.0)\n"
            "if sys.argv[1] == 'killed': time.sleep(3); os.kill(os.getpid(), 9)\n"
        )
        for key in ("ended", "killed"):
            subprocess.run([sys.executable, "-c", program, key], check=False, timeout=60)
        with serving(tmp_path) as served:
            lawfit_client.flush(url=served.address)
            runs = served.http.get("/v1/live/runs").json()["runs"]
        assert {run["run_key"]: run["points"] for run in runs} == {"ended": 100, "killed": 100}

    def test_a_file_of_a_run_that_lives_is_left_to_it(self, tmp_path: Path, spool: Path) -> None:
        run = lawfit_client.start("p", CONFIG, run_key="a", url="http://127.0.0.1:9")
        train(run, 10)
        until = time.monotonic() + 10
        while left_in(spool) < 2 and time.monotonic() < until:
            time.sleep(0.05)
        with serving(tmp_path) as served:
            assert lawfit_client.flush(url=served.address) == 0
        assert left_in(spool) >= 2
        run.finish(timeout=0.1)


def test_acknowledged_is_committed(tmp_path: Path) -> None:
    """Whatever was answered with `kept` is there after the service was killed at any moment."""
    kept = 0
    with serving(tmp_path) as served:
        served.http.post("/v1/live/runs", json={"project": "p", "run_key": "a"})
        threading.Timer(1.0, served.process.kill).start()
        try:
            while True:
                points = [["loss", step, 1.0] for step in range(kept, kept + 50)]
                answer = served.http.post(
                    "/v1/live/points", json={"runs": [{"project": "p", "run_key": "a", "points": points}]}
                )
                kept += int(answer.json()["kept"])
        except Exception:
            assert kept
    with pipeline.open_store(tmp_path / "lawfit.db") as store:
        (run,) = stored.list_live_runs(store, limit=10)
    assert run.points in (kept, kept + 50)  # the last may have been committed, and not answered


def test_runs_that_end_at_once(database_url: str) -> None:
    """Each of them is stored once, whoever stores it."""
    with TestClient(create_app(Settings(database_url=database_url))) as client:
        for number in range(8):
            begin(client, f"r{number}", **{**CONFIG, "lr": 1e-3 * (number + 1)})
            log(client, f"r{number}", points_of(2, 1e-3 * (number + 1)))
        with ThreadPoolExecutor(8) as threads:
            ended = list(threads.map(lambda number: finish(client, f"r{number}"), range(8)))
        assert [answer.status_code for answer in ended] == [200] * 8
        assert client.get("/v1/runs").json()["total"] == 8
        assert {run["points"] for run in client.get("/v1/live/runs").json()["runs"]} == {0}
        for number in range(8):
            assert client.get(f"/v1/curves/p/r{number}?metric=train_loss").json()["points"] == len(STEPS)


def test_a_point_that_comes_while_its_run_is_stored_waits(store: Store) -> None:
    stored.begin_live_run(store, "p", "a", {})
    stored.put_points(store, {("p", "a"): [("loss", 1, 1.0), ("loss", 2, 1.0)]}, most_unstored=10)
    stored.mark_stored(store, "p", {"a": (1, {})})
    (run,) = stored.list_live_runs(store, limit=1)
    assert (run.points, run.stored_at) == (2, None)
    stored.mark_stored(store, "p", {"a": (2, {})})
    (run,) = stored.list_live_runs(store, limit=1)
    assert (run.points, run.stored_at is None) == (0, False)


def test_points_are_counted_where_a_run_could_be_full_not_each_time(store: Store) -> None:
    counted: list[str] = []

    @sa.event.listens_for(store._engine, "before_cursor_execute")
    def _(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        counted.extend([statement] if "count(" in statement else [])

    def log_at(first: int, number: int) -> None:
        points = {("p", "a"): [("loss", step, 1.0) for step in range(first, first + number)]}
        stored.put_points(store, points, most_unstored=100)

    stored.begin_live_run(store, "p", "a", {})
    for first in range(0, 80, 10):
        log_at(first, 10)
    assert len(counted) == 1
    log_at(0, 20)  # again: none of them is new
    log_at(80, 20)
    with pytest.raises(RunEnded, match="more than 100 points"):
        log_at(100, 1)
    (run,) = stored.list_live_runs(store, limit=1)
    assert run.points == 100
