"""Jobs of launches over HTTP: listed, read, cancelled."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lawfit.records import Attempt
from lawfit.settings import Settings
from lawfit.storage import Store
from lawfit.storage.training_jobs import beat, claim_runs, training_job
from lawfit_api.app import create_app
from tests.api.test_app import problem_of
from tests.client import TestClient
from tests.storage.test_training_jobs import BEGAN, a_job, a_launch


@pytest.fixture
def client(store: Store, database_url: str) -> Iterator[TestClient]:
    claim_runs(store, a_launch(), [["a", "b"]])
    attempt = Attempt(launch_id="l1", host="node7", place="gpu 0", began_at=BEGAN, seconds=3600.0, gpus=0.5)
    running = a_job("j1", attempts=(attempt,), dollars_per_gpu_hour=3.0, tail="step 3")
    beat(store, a_launch(), [running, a_job("j2", state="failed", problem="no text", runs=("c",))])
    with TestClient(create_app(Settings(database_url=database_url))) as served:
        yield served


def test_they_are_listed_and_read(client: TestClient) -> None:
    listed = client.get("/v1/training-jobs").json()["jobs"]
    assert [(job["id"], job["state"]) for job in listed] == [("j1", "running"), ("j2", "failed")]
    assert [job["id"] for job in client.get("/v1/training-jobs?state=failed&limit=1").json()["jobs"]] == ["j2"]
    assert client.get("/v1/training-jobs?state=asleep").status_code == 422
    job = client.get("/v1/training-jobs/j1").json()
    assert (job["runs"], job["gpu_hours"], job["dollars"], job["kwh"]) == (["a", "b"], 0.5, 1.5, None)
    assert (job["attempts"][0]["place"], job["tail"], "logs" in job) == ("gpu 0", "step 3", False)
    problem = problem_of(client.get("/v1/training-jobs/nothing"), 404)
    assert problem["detail"] == "there is no training job 'nothing'; GET /v1/training-jobs lists them"


def test_they_are_cancelled(client: TestClient, store: Store) -> None:
    assert client.post("/v1/training-jobs/j1/cancel").json()["state"] == "cancelling"
    assert training_job(store, "j1").state == "cancelling"
    assert client.post("/v1/training-jobs/j2/cancel").json()["state"] == "failed"
    assert client.post("/v1/training-jobs/nothing/cancel").status_code == 404
