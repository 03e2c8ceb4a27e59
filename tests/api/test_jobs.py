"""Fits in the background: queued, claimed, beaten for, taken over, cancelled; with real processes where they matter."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from lawfit import pipeline
from lawfit.errors import NoJob
from lawfit.settings import Settings, data_folder
from lawfit.storage import Store, jobs
from lawfit.storage import tables as t
from lawfit_api.app import create_app
from tests.api.serving import Served, serving
from tests.api.test_app import problem_of
from tests.client import TestClient


def state_of(store: Store, job_id: str) -> str:
    return jobs.read_job(store, job_id).state


def age(store: Store, job_id: str) -> None:
    """As if its worker had not been heard of for long."""
    with store.writing() as connection:
        connection.execute(sa.update(t.jobs).where(t.jobs.c.id == job_id).values(beat_at=time.time() - 1e3))


class TestStored:
    def test_one_worker_has_a_job(self, store: Store) -> None:
        first = jobs.create_job(store, "fit", {"recipe": "a"}, who="me")
        assert jobs.create_job(store, "fit", {"recipe": "a"}, who="other").id == first.id  # it waits still
        second = jobs.create_job(store, "fit", {"recipe": "b"}, who="")
        claimed = [jobs.claim(store, "w1"), jobs.claim(store, "w2")]
        assert {job.id for job in claimed if job} == {first.id, second.id}
        assert jobs.claim(store, "w3") is None
        assert jobs.create_job(store, "fit", {"recipe": "a"}, who="me").id != first.id  # that one runs
        assert [job.who for job in jobs.list_jobs(store, "running")].count("me") == 1

    def test_beats_and_the_end(self, store: Store) -> None:
        job = jobs.create_job(store, "fit", {}, who="")
        jobs.claim(store, "w1")
        assert jobs.beat(store, job.id, "w1", 0.5, "searching") == "running"
        assert jobs.beat(store, job.id, "w2", 0.5, "searching") == "lost"
        assert (jobs.read_job(store, job.id).progress, jobs.read_job(store, job.id).doing) == (0.5, "searching")
        assert not jobs.end_job(store, job.id, "w2", result={})
        assert jobs.end_job(store, job.id, "w1", result={"fit": "f"})
        assert not jobs.end_job(store, job.id, "w1", problem="late")
        ended = jobs.read_job(store, job.id)
        assert (ended.state, ended.result, ended.progress, ended.ended) == ("done", {"fit": "f"}, 1.0, True)

    def test_a_worker_that_is_gone_loses_its_job(self, store: Store) -> None:
        job = jobs.create_job(store, "fit", {}, who="")
        for attempt in range(jobs.MOST_ATTEMPTS):
            taken = jobs.claim(store, f"w{attempt}")
            assert taken is not None
            assert taken.attempts == attempt + 1
            assert jobs.claim(store, "another") is None
            age(store, job.id)
        assert jobs.claim(store, "last") is None
        assert state_of(store, job.id) == "failed"
        assert jobs.beat(store, job.id, "w2", 0.1, "") == "lost"

    def test_cancelled(self, store: Store) -> None:
        job = jobs.create_job(store, "fit", {}, who="")
        assert jobs.cancel_job(store, job.id).state == "cancelled"
        assert jobs.claim(store, "w1") is None
        job = jobs.create_job(store, "fit", {}, who="")
        jobs.claim(store, "w1")
        assert jobs.cancel_job(store, job.id).state == "cancelling"
        assert jobs.beat(store, job.id, "w1", 0.1, "") == "cancelling"
        age(store, job.id)
        assert jobs.claim(store, "w2") is None
        assert state_of(store, job.id) == "cancelled"
        assert jobs.cancel_job(store, job.id).state == "cancelled"
        for missing in ("no", "a\x00"):
            with pytest.raises(NoJob):
                jobs.cancel_job(store, missing)

    def test_put_back(self, store: Store) -> None:
        job = jobs.create_job(store, "fit", {}, who="")
        for _ in range(2 * jobs.MOST_ATTEMPTS):  # a service that restarts often is no fault of the job
            assert jobs.claim(store, "w1") is not None
            jobs.put_back(store, job.id, "w1")
        assert state_of(store, job.id) == "queued"
        jobs.claim(store, "w1")
        jobs.cancel_job(store, job.id)
        jobs.put_back(store, job.id, "w1")
        assert state_of(store, job.id) == "cancelled"


@pytest.fixture
def swept(tmp_path: Path) -> Path:
    """A folder with a database of one sweep."""
    with pipeline.open_store(tmp_path / "lawfit.db") as store:
        pipeline.ingest(store, data_folder() / "proxy_held_back.csv")
    return tmp_path


def wait_for(served: Served, job_id: str, *states: str, seconds: float = 120) -> dict[str, Any]:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        job: dict[str, Any] = served.http.get(f"/v1/jobs/{job_id}").json()
        if job["state"] in states:
            return job
        time.sleep(0.05)
    pytest.fail(f"it is {job} still")


def begin(served: Served, **asked: Any) -> dict[str, Any]:
    answer = served.http.post("/v1/fits", json=asked)
    assert (answer.status_code, answer.headers["location"]) == (202, f"/v1/jobs/{answer.json()['id']}")
    return dict(answer.json())


class TestServed:
    def test_it_is_the_fit_of_the_command_line(self, swept: Path) -> None:
        (swept / "other").mkdir()
        shutil.copy(swept / "lawfit.db", swept / "other" / "lawfit.db")
        with Store.open(swept / "other" / "lawfit.db") as store:
            wanted = pipeline.refit(store, without_laws=["step_law"], critical_definition="zhang")
        with serving(swept) as served:
            job = begin(served, recipe="proxy_held_back", without_law=["step_law"])
            done = wait_for(served, job["id"], "done", "failed")
            assert done["state"] == "done", done
            assert done["result"]["fit"] == wanted.id
            assert (done["progress"], done["attempts"], done["problem"]) == (1.0, 1, None)
            (fit,) = served.http.get("/v1/fits").json()["fits"]
            assert fit["id"] == wanted.id
            failed = wait_for(served, begin(served, at=["unique_tokens=none"])["id"], "done", "failed")
            assert failed["state"] == "failed"
            assert "unique_tokens" in failed["problem"]
            assert "--" not in failed["problem"]

    @pytest.mark.soak
    def test_killed_in_the_middle_and_started_again(self, swept: Path) -> None:
        with serving(swept) as served:
            job = begin(served)
            wait_for(served, job["id"], "running")
            served.process.send_signal(signal.SIGKILL)
            served.process.wait()
        with Store.open(swept / "lawfit.db") as store:
            assert state_of(store, job["id"]) == "running"
            age(store, job["id"])
        with serving(swept) as served:
            done = wait_for(served, job["id"], "done", "failed")
            assert (done["state"], done["attempts"]) == ("done", 2)
            assert len(served.http.get("/v1/fits").json()["fits"]) == 1

    def test_stopped_it_waits_and_cancelled_it_leaves_nothing(self, swept: Path) -> None:
        with pipeline.open_store(swept / "lawfit.db") as store:  # which takes long enough to be stopped
            pipeline.ingest(store, data_folder() / "proxy_sweep.csv")
        with serving(swept) as served:
            job = begin(served, recipe="proxy_sweep")
            wait_for(served, job["id"], "running")
            served.process.send_signal(signal.SIGTERM)
            served.process.wait(60)
        with Store.open(swept / "lawfit.db") as store:
            stopped = jobs.read_job(store, job["id"])
            assert (stopped.state, stopped.attempts) == ("queued", 0)
        with serving(swept) as served:
            wait_for(served, job["id"], "running")
            assert served.http.post(f"/v1/jobs/{job['id']}/cancel").status_code == 200
            assert wait_for(served, job["id"], "cancelled", "done")["state"] == "cancelled"
            assert served.http.get("/v1/fits").json()["fits"] == []


class TestRoutes:
    @pytest.fixture
    def client(self, swept: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
        monkeypatch.setattr("lawfit.jobs.runner.claim", lambda *_: None)
        with TestClient(create_app(Settings(database_url=str(swept / "lawfit.db")))) as served:
            yield served

    def test_what_cannot_be_asked(self, client: TestClient) -> None:
        for asked, status in (
            ({"recipe": "none"}, 404), ({"without_law": ["none"]}, 404), ({"at": ["beta2"]}, 422),
            ({"critical_definition": "x"}, 422), ({"law": 1}, 422), ([], 422),
        ):  # fmt: skip
            problem_of(client.post("/v1/fits", json=asked), status)
        problem_of(client.post("/v1/fits"), 422)
        problem_of(client.get("/v1/jobs/none"), 404)
        problem_of(client.post("/v1/jobs/none/cancel"), 404)
        problem_of(client.get("/v1/jobs?state=lost"), 422)
        assert client.get("/v1/jobs").json() == {"jobs": []}

    def test_listed(self, client: TestClient) -> None:
        job = client.post("/v1/fits", json={}).json()
        assert client.post("/v1/fits", json={}).json() == job
        assert (job["state"], "worker" in job) == ("queued", False)
        assert client.get("/v1/jobs?state=queued").json()["jobs"] == [job]
        assert client.post(f"/v1/jobs/{job['id']}/cancel").json()["state"] == "cancelled"

    def test_not_of_a_database_in_memory(self) -> None:
        with TestClient(create_app(Settings(database_url=":memory:"))) as client:
            problem_of(client.post("/v1/fits", json={}), 422)
