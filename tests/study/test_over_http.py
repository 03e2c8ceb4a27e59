"""Studies over HTTP: read alone, and nothing of the server's folders."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lawfit.settings import Settings
from lawfit.storage import Store
from lawfit.storage.studies import add_time, begin_round, end_phase, unstored
from lawfit_api.app import create_app
from tests.client import TestClient

KNOWN = {"expected_regret": 0.009, "floor": 0.001, "lr_factor": 3.0, "batch_factor": 4.0}
BETTER = {"expected_regret": 0.004, "floor": 0.001, "lr_factor": 2.0, "batch_factor": 2.5}
ANSWER = {
    "prediction_id": "p", "fit_id": "f", "lr": 0.002, "lr_low": 0.001, "lr_high": 0.004, "lr_factor": 2.0,
    "lr_status": "extrapolated", "batch_tokens": 4096.0, "batch_low": 2048.0, "batch_high": 8192.0,
    "batch_factor": 2.0, "batch_status": "extrapolated", "expected_regret": 0.0042,
}  # fmt: skip
MADE = {
    "runs": 9, "finished": 8, "diverged": 1, "missing": 0, "flops": 1e12, "seconds": 60.0, "gpu_hours": 0.02,
    "cost": 1e12, "failures": ["/home/somebody/logs cannot be written"],
}  # fmt: skip
ROUND = {
    "kind": "planned", "plan_id": "n", "plan": {"runs": 9, "flops": 1.1e12, "cost": 1.1e12, "share": 2e12},
    "scales": [
        {"params": 1e6, "tokens": 2e7, "runs": 9, "lr": [1e-3, 2e-3, 4e-3], "batch_tokens": [4096.0], "seeds": [0]},
    ],
    "run_ids": ["a"], "before": KNOWN, "promised": BETTER, "got": BETTER, "answer": ANSWER, "refused": "", "made": MADE,
}  # fmt: skip


ASKED = {"params": 1e8, "tokens": 2e9, "budget": "1e13flops", "until": "regret=0.1%"}


def keep(store: Store, one: dict[str, Any] = ROUND, asked: dict[str, Any] = ASKED) -> None:
    """A study of one round that is over."""
    study = unstored("abc", "study", asked, {"logs": "/home/somebody/logs"})
    begin_round(store, study, 1, document=one, grid={})
    add_time(store, "abc", 1, 60.0, 60.0)
    end_phase(store, "abc", 1, "planned", "trained", one)
    end_phase(store, "abc", 1, "trained", "fitted", one)


@pytest.fixture
def client(database_url: str) -> Iterator[TestClient]:
    with Store.open(database_url) as store:
        keep(store)
    with TestClient(create_app(Settings(database_url=database_url))) as served:
        yield served


def test_a_study_is_listed_and_shown(client: TestClient) -> None:
    (line,) = client.get("/v1/studies").json()["studies"]
    assert (line["id"], line["rounds"], line["expected_regret"]) == ("abc", 1, ANSWER["expected_regret"])
    document = client.get("/v1/studies/abc").json()
    assert document["rounds"][0]["got"] == BETTER
    assert document["budget"]["left"] == 9e12
    missing = client.get("/v1/studies/nobody")
    assert (missing.status_code, "no study 'nobody'" in missing.json()["detail"]) == (404, True)


@pytest.mark.parametrize("path", ["/v1/studies", "/v1/studies/abc", "/studies", "/studies/abc"])
def test_no_place_of_the_server_is_said(client: TestClient, path: str) -> None:
    answer = client.get(path, headers={"Accept": "text/html"} if path.startswith("/studies") else {})
    assert answer.status_code == 200
    assert "/home/somebody" not in answer.text


def test_the_pages(client: TestClient) -> None:
    assert 'href="/studies/abc"' in client.get("/studies").text
    page = client.get("/studies/abc").text
    assert "A study for 100M parameters, 2B tokens" in page
    assert "x2.00, x2.00" in page  # promised and got
    assert "regret=0.1%" in page
    assert "what each round cost and taught" in client.get("/next").text
    assert client.get("/studies/nobody", headers={"Accept": "text/html"}).status_code == 404


def test_no_study_yet(tmp_path: Path) -> None:
    with TestClient(create_app(Settings(database_url=str(tmp_path / "none.db")))) as served:
        assert served.get("/v1/studies").json()["studies"] == []
        assert "There is no study yet" in served.get("/studies").text
