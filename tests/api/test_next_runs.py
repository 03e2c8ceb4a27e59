"""What to run next over HTTP: planned, kept, given back, refused."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from lawfit import client as lawfit_client
from lawfit import pipeline
from lawfit.ask import NextQuestion
from lawfit.records import Recipe, Run, RunStatus
from lawfit.settings import Settings
from lawfit.storage import Store
from lawfit.words import told
from lawfit_api.app import create_app
from tests.api.serving import serving
from tests.api.test_app import problem_of
from tests.api.test_jobs import wait_for
from tests.client import TestClient
from tests.golden_stores import watched_fit

ASKED = {"params": "2B", "tokens": "60B", "budget": "1e20flops"}
NEXT = "/v1/plans/next"


@pytest.fixture
def database(tmp_path: Path) -> str:
    path = tmp_path / "lawfit.db"
    shutil.copy(watched_fit("five_sizes")[0], path)
    return str(path)


@pytest.fixture
def client(database: str) -> Iterator[TestClient]:
    with TestClient(create_app(Settings(database_url=database))) as served:
        yield served


def test_a_plan_is_kept_and_the_same_again(client: TestClient, database: str) -> None:
    seen = client.get(NEXT, params=ASKED).json()
    assert problem_of(client.get(f"{NEXT}/{seen['id']}"), 404)["type"] == "NoFit"  # asked, and not kept
    kept = client.post(NEXT, params=ASKED)
    assert not seen["kept"]
    seen["kept"] = True
    assert (kept.status_code, kept.json()) == (201, seen)
    with Store.open(database) as store:
        question = NextQuestion(params=2e9, tokens=6e10, budget="1e20flops")
        assert {**told(pipeline.plan_next(store, None, question, keep=False)), "kept": True} == seen
        store.exclude(store.recipe().key, [run.run_key for run in store.runs(store.recipe().key)[:3]], "bad node")
    assert client.get(f"{NEXT}/{seen['id']}").json() == seen
    assert client.post(NEXT, params=ASKED).json()["id"] == seen["id"]
    assert client.post(NEXT, params={**ASKED, "budget": "2e20flops"}).json()["id"] != seen["id"]
    assert seen["asked"] == {"params": 2e9, "tokens": 6e10, "budget": "1e20flops", "level": 0.9}


@pytest.mark.parametrize(
    ("more", "status", "words"),
    [
        ({"budget": "a lot"}, 422, "write 1e19flops, 20gpu-hours, 64runs or $200"),
        ({"budget": "5runs"}, 409, "5 runs buys no grid of nine runs"),
        ({"budget": "3gpu-hours"}, 422, "a budget in gpu-hours needs flops_per_second"),
        ({"budget": "$200", "flops_per_second": "4e14"}, 422, "a budget in dollars needs"),
        ({"price": "2"}, 422, "a price for each GPU-hour needs flops_per_second"),
        ({"max_params": "10"}, 409, "no run can be made within these limits"),
        ({"params": "0"}, 422, "params: must be between 1 and 1e18"),
        ({"level": "1"}, 422, "level: must be 0.5 or more and below 1"),
        ({"seqlen": "1"}, 422, "there is no such parameter; did you mean 'seq_len'?"),
        ({"params": "40M", "tokens": "500M"}, 409, "nothing worth running"),
        ({"fit": "none"}, 404, "no fit"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_bad_input_is_a_sentence(client: TestClient, more: dict[str, str], status: int, words: str) -> None:
    assert words in problem_of(client.get(NEXT, params={**ASKED, **more}), status)["detail"]


def test_a_store_of_diverged_runs_gets_a_first_sweep_and_is_told_why(tmp_path: Path) -> None:
    url = str(tmp_path / "diverged.db")
    recipe = Recipe(name="boom", optimizer="adamw", seq_len=512)
    runs = [
        Run(
            run_key=f"{k}", params=1e7, tokens=1e9, batch_tokens=2**14, lr=10.0**k, status=RunStatus.DIVERGED, loss=None
        )
        for k in range(4)
    ]
    with Store.open(url) as store:
        store.put_runs(recipe, runs)
    with TestClient(create_app(Settings(database_url=url))) as client:
        found = client.get(NEXT, params={"params": "1B", "tokens": "20B", "budget": "1e18flops"}).json()
    assert (found["fit_id"], found["recipe"], found["grid_file"]) == (None, "boom", None)
    assert any("recipe 'boom' has runs, and no fit of them may be used" in words for words in found["warnings"])
    assert "no run of recipe 'boom' states these" in found["missing"]["grid_file"]
    assert all(batch % 512 == 0 for grid in found["grids"] for batch in grid["batch_tokens"])


def test_a_training_loop_asks_in_one_line(database: str, tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        found = lawfit_client.plan_next(**ASKED, url=served.address)
        assert served.http.get(f"{NEXT}/{found['id']}").json() == found
        with pytest.raises(lawfit_client.ClientError, match="write 1e19flops"):
            lawfit_client.plan_next(**{**ASKED, "budget": "x"}, url=served.address)


def test_a_plan_is_made_and_rehearsed_in_the_background(database: str, tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        begun = served.http.post(f"{NEXT}/jobs", params=ASKED)
        assert (begun.status_code, begun.headers["location"]) == (202, f"/v1/jobs/{begun.json()['id']}")
        made = wait_for(served, begun.json()["id"], "done", "failed")
        plan = served.http.get(f"{NEXT}/{made['result']['plan']}").json()
        assert plan == {**served.http.get(NEXT, params=ASKED).json(), "kept": True}
        refused = served.http.post(f"{NEXT}/jobs", params={**ASKED, "budget": "5runs"})
        failed = wait_for(served, refused.json()["id"], "done", "failed")
        assert (failed["state"], failed["result"]) == ("failed", None)
        assert "5 runs buys no grid" in failed["problem"]
        asked = served.http.post(f"{NEXT}/{plan['id']}/rehearsals", json={"worlds": 5})
        assert (asked.status_code, asked.headers["location"]) == (202, f"/v1/jobs/{asked.json()['id']}")
        job = wait_for(served, asked.json()["id"], "done", "failed")
        assert job["state"] == "done", job["problem"]
        assert job["result"]["plan"] == plan["id"]
        assert job["result"]["promised"] == plan["after"]["expected_regret"]
        assert job["result"]["words"].startswith("played in 5 worlds drawn from what is known")
        assert served.http.post(f"{NEXT}/none/rehearsals", json={}).status_code == 404
        assert served.http.post(f"{NEXT}/{plan['id']}/rehearsals", json={"worlds": 1}).status_code == 422


@pytest.mark.parametrize(
    ("more", "status", "words"),
    [
        ({"budget": "a lot"}, 422, "write 1e19flops"),
        ({"budget": "1" + " " * 2000}, 422, "write 1e19flops"),
        ({"recipe": "nobody"}, 404, "nobody"),
        ({"fit": "none"}, 404, "no fit"),
    ],
)
def test_a_job_that_cannot_be_done_is_refused_at_once(
    client: TestClient, more: dict[str, str], status: int, words: str
) -> None:
    answer = client.post(f"{NEXT}/jobs", params={**ASKED, **more})
    assert answer.status_code == status
    assert words in answer.text
