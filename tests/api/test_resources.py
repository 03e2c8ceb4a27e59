"""Runs, curves, fits, optima and laws, as a client reads them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest

from lawfit import pipeline
from lawfit.records import Optimum, OptimumStatus, Recipe, Run, RunStatus
from lawfit.settings import Settings
from lawfit.storage import Store
from lawfit_api.app import create_app
from tests.api.test_app import FIT, RECIPE, problem_of
from tests.client import TestClient

ODD_KEYS = ("a/b/curves", "exclude", "50%_[x]", "\u00fc \u2713", "A", "..x")


def made_runs() -> list[Run]:
    runs = [
        Run(
            run_key=f"r{number:03}",
            params=1e7 * (1 + number % 3),
            tokens=1e9,
            batch_tokens=2**14,
            lr=1e-4 * (number + 1),
            status=RunStatus.DIVERGED if number % 10 == 9 else RunStatus.FINISHED,
            loss=None if number % 10 == 9 else 3 + (number % 7) / 7,
            weight_decay=None if number % 4 else 0.1,
            steps=number + 1,
            extra={"node": f"n{number}"},
        )
        for number in range(100)
    ]
    return runs + [replace(runs[0], run_key=key) for key in ODD_KEYS]


@pytest.fixture
def client(database_url: str) -> Iterator[TestClient]:
    with pipeline.open_store(database_url) as store:
        store.put_runs(RECIPE, made_runs())
        store.exclude(RECIPE.key, ["r003"], "bad node")
        store.put_fit(FIT, [Optimum(params=1e7, tokens=1e9, estimator="e1", status=OptimumStatus.INSIDE, lr=1e-3)])
        store.append_curve(RECIPE.key, "a/b/curves", "train_loss", np.arange(1, 1001), np.linspace(5, 3, 1000))
    with TestClient(create_app(Settings(database_url=database_url)), raise_server_exceptions=False) as served:
        yield served


def keys_of(client: TestClient, query: str) -> list[str]:
    """All pages of a question."""
    found, cursor, total = list[str](), "", None
    while True:
        page = client.get(f"/v1/runs?limit=7&{query}{cursor}").json()
        found += [run["run_key"] for run in page["runs"]]
        assert total in (None, page["total"])
        total = page["total"]
        if page["next"] is None:
            assert len(found) == total
            return found
        assert len(page["runs"]) == 7
        cursor = f"&cursor={page['next']}"


class TestRuns:
    @pytest.mark.parametrize(
        "sort", ["params", "tokens", "batch_tokens", "lr", "loss", "weight_decay", "steps", "seed"]
    )
    @pytest.mark.parametrize("descending", ["false", "true"])
    def test_pages_are_whole_and_in_order(self, client: TestClient, sort: str, descending: str) -> None:
        runs = {run.run_key: run for run in made_runs()}
        found = keys_of(client, f"sort={sort}&descending={descending}")
        assert sorted(found) == sorted(runs)
        numbers = [getattr(runs[key], sort) for key in found]
        there = [number for number in numbers if number is not None]
        assert numbers == sorted(there, reverse=descending == "true") + [None] * (len(numbers) - len(there))

    def test_filters(self, client: TestClient) -> None:
        runs = made_runs()
        said = {
            "status=diverged": lambda run: run.loss is None,
            "excluded=true": lambda run: run.run_key == "r003",
            "excluded=false&status=finished": lambda run: run.run_key != "r003" and run.loss is not None,
            "params_from=20M&params_to=2e7": lambda run: run.params == 2e7,
            "lr_from=0.005&loss_to=3.2&batch_tokens_to=20k": lambda run: run.lr >= 5e-3 and (run.loss or 9) <= 3.2,
            "tokens_from=2B": lambda run: False,
            "run_key=r00%3F": lambda run: run.run_key.startswith("r00"),
            "run_key=50%25_[*": lambda run: run.run_key == "50%_[x]",
            "run_key=a": lambda run: False,  # upper and lower case differ
            "run_key=A": lambda run: run.run_key == "A",
            "run_key=%00": lambda run: False,
        }
        for query, meets in said.items():
            assert keys_of(client, query) == [run.run_key for run in runs if meets(run)], query

    def test_a_page_goes_on_though_runs_are_added(self, client: TestClient, database_url: str) -> None:
        first = client.get("/v1/runs?limit=50&sort=lr").json()
        with Store.open(database_url) as store:
            store.put_runs(RECIPE, [replace(made_runs()[0], run_key="new", lr=1e-9)])
        rest = client.get(f"/v1/runs?limit=1000&sort=lr&cursor={first['next']}").json()
        assert len(first["runs"]) + len(rest["runs"]) == len(made_runs())

    def test_what_is_not_understood_is_refused(self, client: TestClient) -> None:
        cursor = client.get("/v1/runs?limit=5&sort=lr").json()["next"]
        for query in (
            *("limit=0", "limit=1001", "sort=extra", "params_from=-1", "params_from=nan", "status=lost", "colour=1"),
            *(f"sort=loss&cursor={cursor}", f"cursor={cursor}", "cursor=x", "cursor=\u00fc", "limit=5&limit=6"),
        ):
            problem_of(client.get(f"/v1/runs?{query}"), 422)
        problem_of(client.get("/v1/runs?recipe=none"), 404)

    def test_one(self, client: TestClient) -> None:
        curve = {"metric": "train_loss", "points": 1000, "first_step": 1, "last_step": 1000}
        for key in (*ODD_KEYS, "r003"):
            found = client.get(f"/v1/runs/{RECIPE.key}/{quote(key, safe='/')}").json()
            assert (found["run_key"], found["recipe"]) == (key, "tiny")
            assert found["excluded"] == ("bad node" if key == "r003" else None)
            assert client.get(f"/v1/runs/tiny/{quote(key, safe='')}").json() == found
            assert found["curves"] == ([curve] if key == "a/b/curves" else [])

    def test_none(self, client: TestClient) -> None:
        for path in ("/v1/runs/tiny/no", "/v1/runs/no/r001", "/v1/curves/tiny/no", "/v1/runs/tiny/%00"):
            problem_of(client.get(path), 404)

    def test_curves(self, client: TestClient) -> None:
        path = "/v1/curves/tiny/a/b/curves"
        assert [curve["metric"] for curve in client.get(path).json()["curves"]] == ["train_loss"]
        whole = client.get(f"{path}?metric=train_loss").json()
        assert (whole["points"], whole["steps"], len(whole["values"])) == (1000, [*range(1, 1001)], 1000)
        few = client.get(f"{path}?metric=train_loss&most=3").json()
        assert (few["points"], few["steps"], few["values"]) == (1000, [1, 501, 1000], [5.0, few["values"][1], 3.0])
        assert "train_loss" in problem_of(client.get(f"{path}?metric=loss"), 422)["detail"]

    def test_excluded_and_restored(self, client: TestClient) -> None:
        said = {"recipe": "tiny", "run_keys": ["r00?", "r010"], "reason": "spike"}
        marked = client.post("/v1/runs/exclude", json=said).json()
        assert (len(marked["matched"]), marked["changed"]) == (11, 11)
        assert client.post("/v1/runs/exclude", json=said).json()["changed"] == 0
        assert client.post("/v1/runs/restore", json={"run_keys": ["r001"]}).json()["changed"] == 1
        assert client.post("/v1/runs/restore", json={}).json()["changed"] == 10
        for wrong in ({**said, "reason": " "}, {**said, "run_keys": []}, {**said, "keys": 1}, {"run_keys": ["a"]}):
            problem_of(client.post("/v1/runs/exclude", json=wrong), 422)
        problem_of(client.post("/v1/runs/exclude", json={**said, "run_keys": ["none*"]}), 404)


class TestFits:
    def test_pages(self, client: TestClient, database_url: str) -> None:
        other = Recipe(name="other")
        with Store.open(database_url) as store:
            store.put_runs(other, made_runs()[:1])
            for number in range(5):
                store.put_fit(replace(FIT, id=f"g{number}", kind="loss", payload={}, recipe_key=other.key))
            store.put_fit(FIT)  # made again: the last
        first = client.get("/v1/fits?limit=4").json()
        rest = client.get(f"/v1/fits?limit=4&cursor={first['next']}").json()
        assert [fit["id"] for fit in first["fits"] + rest["fits"]] == ["f1", "g4", "g3", "g2", "g1", "g0"]
        assert rest["next"] is None
        assert (first["fits"][0]["runs"], first["fits"][1]["runs"]) == (2, None)
        assert [fit["id"] for fit in client.get("/v1/fits?recipe=tiny").json()["fits"]] == ["f1"]
        assert len(client.get("/v1/fits?kind=loss").json()["fits"]) == 5
        problem_of(client.get(f"/v1/fits?kind=loss&cursor={first['next']}"), 422)

    def test_two_side_by_side(self, client: TestClient, database_url: str) -> None:
        law = {"level": 0.9, "lr": {"const": 1e-3, "params": -0.5}}
        payload = {"runs_used": 2, "law": law, "cells": [{"params": 1e7, "tokens": 1e9, "runs": 2}]}
        more = {**payload, "runs_used": 3, "law": {**law, "lr": {"const": 2e-3, "params": -0.5, "tokens": 0.1}}}
        more["cells"] = [{"params": 1e7, "tokens": 1e9, "runs": 3}]
        with Store.open(database_url) as store:
            store.put_fit(replace(FIT, id="p", payload=payload))
            store.put_fit(replace(FIT, id="q", payload=more, data_hash="d2", exclusions={}))
            store.put_fit(replace(FIT, id="loss", kind="loss"))
        found = client.get("/v1/fits/compare?a=p&b=q").json()
        assert {row["name"]: (row["a"], row["b"]) for row in found["numbers"]} == {
            "level": (0.9, 0.9), "lr.const": (1e-3, 2e-3), "lr.params": (-0.5, -0.5), "lr.tokens": (None, 0.1),
        }  # fmt: skip
        assert found["data"] == {
            "same": False, "runs": {"a": 2, "b": 3}, "scales": [{"name": "1e+07 x 1e+09", "a": 2, "b": 3}],
            "exclusions": [{"name": "r9", "a": "bad node", "b": None}], "options": [],
        }  # fmt: skip
        problem_of(client.get("/v1/fits/compare?a=p&b=loss"), 422)
        problem_of(client.get("/v1/fits/compare?a=p&b=no"), 404)
        problem_of(client.get("/v1/fits/compare?a=p"), 422)

    def test_optima(self, client: TestClient) -> None:
        (optimum,) = client.get("/v1/optima?fit=f1").json()["optima"]
        assert (optimum["status"], optimum["lr"], optimum["batch_tokens"]) == ("inside", 1e-3, None)
        problem_of(client.get("/v1/optima?fit=no"), 404)


class TestLaws:
    def test_the_catalogue_is_the_command_lines(self, client: TestClient) -> None:
        assert {law["id"] for law in client.get("/v1/laws").json()["laws"]} == {x["id"] for x in pipeline.list_laws()}

    def test_at_a_target(self, client: TestClient) -> None:
        law = client.get("/v1/laws/step_law?params=1e9&tokens=100B").json()
        assert law["values"]["lr"] == {"value": pytest.approx(1.79 * 1e9**-0.713 * 1e11**0.307, rel=1e-9), "needs": []}
        assert law["ranges"]["params"]["decades_outside"] == 0
        far = client.get("/v1/laws/step_law?params=1e12&tokens=100B").json()
        assert far["ranges"]["params"]["decades_outside"] > 2
        assert client.get("/v1/laws/step_law").json()["values"]["lr"] == {"value": None, "needs": ["params", "tokens"]}

    def test_every_law_at_some_target(self, client: TestClient) -> None:
        for law in pipeline.list_laws():
            found: dict[str, Any] = client.get(
                f"/v1/laws/{law['id']}?params=1e9&tokens=1e11&batch_tokens=1e6&width=2048&loss=2.5&steps=1e5"
                "&unique_tokens=1e11&active_fraction=0.1"
            ).json()
            assert all((value["value"] is None) or value["value"] > 0 for value in found["values"].values()), law["id"]

    @pytest.mark.one_database
    def test_every_law_at_the_ends_of_what_can_be_asked(self, client: TestClient) -> None:
        ends = {"least": {"params": 1, "tokens": 1}, "most": {"params": 1e18, "tokens": 1e18}}
        ends |= {"mixed": {"params": 1, "tokens": 1e18, "loss": 1e-9, "flops": 1, "active_fraction": 1e-9}}
        ends["least"] |= {"batch_tokens": 1, "loss": 1e-9, "width": 1, "steps": 1, "unique_tokens": 1}
        ends["most"] |= {"batch_tokens": 1e18, "loss": 1e6, "width": 1e18, "flops": 6e36, "steps": 1e18}
        for law in pipeline.list_laws():
            for name, at in ends.items():
                assert client.get(f"/v1/laws/{law['id']}", params=at).status_code == 200, (law["id"], name)
        for name, beyond in (("params", 1e19), ("tokens", 0.5), ("active_fraction", 1.5), ("flops", 1e38)):
            told = problem_of(client.get(f"/v1/laws/step_law?{name}={beyond}"), 422)
            assert [item["field"] for item in told["errors"]] == [name]

    def test_unknown(self, client: TestClient) -> None:
        problem_of(client.get("/v1/laws/none"), 404)
        problem_of(client.get("/v1/laws/step_law?params=big"), 422)
        problem_of(client.get("/v1/laws/step_law?parms=1"), 422)


@pytest.mark.one_database
def test_a_run_is_told_whole(client: TestClient) -> None:
    shown = client.get("/v1/runs?run_key=r000").json()["runs"][0]
    assert shown == {**dataclasses.asdict(made_runs()[0]), "status": "finished"}


def test_texts_that_no_database_holds_are_answers_all_the_same(client: TestClient) -> None:
    for status, paths in (
        (200, ("/v1/fits?kind=%00", "/v1/runs?run_key=%00", "/v1/live/runs?project=%00")),
        (404, ("/v1/runs?recipe=%00", "/v1/fits?recipe=%00", "/v1/optima?fit=%00", "/v1/fits/compare?a=%00&b=f1")),
        (404, ("/v1/jobs/%00", "/v1/laws/%00")),
        (422, ("/v1/curves/tiny/a/b/curves?metric=%00",)),
    ):
        assert [client.get(path).status_code for path in paths] == [status] * len(paths), paths
    as_json = {"Content-Type": "application/json"}
    for path, body, status in (
        ("/v1/runs/exclude", '{"run_keys": ["r001"], "reason": "a\\u0000"}', 422),
        ("/v1/runs/exclude", '{"run_keys": ["r001"], "reason": "\\ud800"}', 422),
        ("/v1/runs/exclude", '{"run_keys": ["r\\u0000"], "reason": "a"}', 422),
        ("/v1/fits", '{"at": ["a=\\u0000"]}', 422),
        ("/v1/fits", '{"recipe": "\\ud800"}', 422),
        ("/v1/uploads?name=x.csv&recipe=%00", "a,b\n1,2\n", 422),
        ("/v1/uploads?name=x.csv&metric=%00", "a,b\n1,2\n", 422),
        ("/v1/runs/exclude", '{"run_keys": ["r001"], "reason": ' + "[" * 100_000, 400),
    ):
        assert client.post(path, content=body, headers=as_json).status_code == status, (path, body[:60])
    line = '{"run_id": "a\\u0000b", "params": 1e8, "tokens": 2e9, "batch_tokens": 65536, "lr": 1e-3, "loss": 3'
    line += ', "n": "\\u0000", "m": "\\ud800"}'
    answer = client.post("/v1/uploads?name=x.jsonl", content=line)
    (rejection,) = answer.json()["files"][0]["rejections"]
    assert rejection["column"] == "run_id"
