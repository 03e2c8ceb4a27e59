"""Texts that are code elsewhere, in every text that a request can hold: they are texts here."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import pytest

from lawfit import pipeline
from lawfit.records import Recipe
from lawfit.settings import Settings
from lawfit.storage import Store
from lawfit_api.app import create_app
from tests.api.test_resources import FIT, RECIPE, made_runs
from tests.client import TestClient

TEXTS: Final = (
    "'; DROP TABLE runs; -- \" OR 1=1",
    "<script>alert(1)</script>{{7*191}}${7*191}%n%s",
    "../../../../etc/passwd\r\nX-Injected: yes",
    "\x00\u202e\ud800" + "a" * 5000,
)
# What each POST takes where all is well; each text in it is put in turn.
BODIES: Final[Mapping[str, Any]] = {
    "/v1/predictions/bulk": {
        "targets": [{"params": "1B", "tokens": "2B"}], "recipe": "tiny", "fit": "f1", "at": ["beta2=0.9"],
    },
    "/v1/fits": {
        "recipe": "tiny", "at": ["beta2=0.9"], "without_law": ["step_law"], "critical_definition": "zhang",
    },
    "/v1/live/runs": {"project": "p", "run_key": "a", "config": {"optimizer": "adamw", "lr": "1e-3"}},
    "/v1/live/points": {"runs": [{"project": "p", "run_key": "a", "points": [["loss", 1, 2.5]]}]},
    "/v1/live/runs/finish": {
        "project": "p", "run_key": "a", "state": "finished", "summary": {"note": "x"},
        "answers": [{"option": "batch_unit", "value": "tokens"}],
    },
    "/v1/plans/next/{plan_id}/rehearsals": {"worlds": 2, "refit": False},
    "/v1/training-jobs": {
        "template": "tiny", "recipe": "tiny",
        "grid": {
            "base": {"seq_len": 8, "corpus": "corpus"}, "run": {"schedule": "linear"},
            "shapes": {"tiny": {"layers": 1, "width": 8, "heads": 1, "hidden": 8}},
            "blocks": [{"shape": "tiny", "tokens": [640], "batch_tokens": [32], "lr": [0.001], "optimizer": "adamw"}],
        },
    },
    "/v1/runs/exclude": {"recipe": "tiny", "run_keys": ["r001"], "reason": "bad node"},
    "/v1/runs/restore": {"recipe": "tiny", "run_keys": ["r001"]},
}  # fmt: skip


@pytest.fixture
def client(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.setattr("lawfit.jobs.runner.claim", lambda *_: None)
    with pipeline.open_store(database_url) as store:
        store.put_runs(RECIPE, made_runs()[:5])
        store.put_runs(Recipe(name="<script>alert(1)</script>'\"&"), made_runs()[:1])
        store.put_fit(FIT)
    (templates := tmp_path / "templates.toml").write_text('[tiny]\ncommand = "true {lr}"\ncpu = true\n')
    settings = Settings(database_url=database_url, training_templates=str(templates))
    with TestClient(create_app(settings), raise_server_exceptions=False) as served:
        yield served


def unharmed(client: TestClient, answer: Any, where: object) -> None:
    assert answer.status_code < 500, (where, answer.text[:500])
    assert "x-injected" not in answer.headers, where
    assert "1337" not in answer.text.replace("191", ""), where
    assert "root:" not in answer.text, where


def variants(value: Any, text: str) -> Iterator[Any]:
    """The value with each text in it, keys too, replaced in turn."""
    if isinstance(value, str):
        yield text
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            for other in variants(inner, text):
                yield [*value[:place], other, *value[place + 1 :]]
    elif isinstance(value, dict):
        for key, inner in value.items():
            for other in variants(inner, text):
                yield {**value, key: other}
            yield {**{name: each for name, each in value.items() if name != key}, text: copy.deepcopy(inner)}


@pytest.mark.parametrize("text", TEXTS, ids=["sql", "script", "path", "odd"])
def test_they_are_texts(client: TestClient, database_url: str, text: str) -> None:
    sent = quote(text, safe="", errors="replace")
    described = client.get("/openapi.json").json()["paths"]
    for template, verbs in described.items():
        for method, operation in verbs.items():
            parameters = operation.get("parameters", [])
            path = template
            for each in parameters:
                if each["in"] == "path":
                    path = path.replace(f"{{{each['name']}}}", sent)
            needed = {"params": "1B", "tokens": "2B", "lr": "1e-3", "a": "f1", "b": "f1", "fit": "f1"} | {
                "budget": "9runs"
            }
            base = {each["name"]: needed.get(each["name"], "x") for each in parameters if each.get("required")}
            base = {name: value for name, value in base.items() if f"{{{name}}}" not in template}
            content = b"a,b\n1,2\n" if template == "/v1/uploads" else None
            for name in [each["name"] for each in parameters if each["in"] == "query"] or [""]:
                query = "&".join(f"{key}={value}" for key, value in {**base, **({name: sent} if name else {})}.items())
                unharmed(client, client.request(method, f"{path}?{query}", content=content), (method, path[:80], name))
    assert {template for template, verbs in described.items() if "application/json" in str(
        verbs.get("post", {}).get("requestBody"))} == set(BODIES)  # fmt: skip
    for path, body in BODIES.items():
        for each in variants(body, text):
            headers = {"Content-Type": "application/json"}
            unharmed(client, client.post(path, content=json.dumps(each), headers=headers), (path, each))
    for name in ("X-Request-Id", "Idempotency-Key", "If-None-Match", "Origin", "Authorization", "User-Agent"):
        plain = text.encode("ascii", "replace").replace(b"\r\n", b" ").replace(b"\x00", b" ")
        unharmed(client, client.post("/v1/predictions", headers={name: plain}), name)
    for page in ("/", "/plan"):
        for name in ("params", "tokens", "recipe", "at", "flops"):
            shown = client.get(f"{page}?params=1B&tokens=2B&{name}={sent}")
            unharmed(client, shown, (page, name))
            assert "<script>alert" not in shown.text
    with Store.open(database_url) as store:
        assert sorted(run.run_key for run in store.runs(RECIPE.key)) == [f"r00{number}" for number in range(5)]


@pytest.mark.parametrize("text", TEXTS[:3], ids=["sql", "script", "path"])
def test_in_a_table_they_are_cells_and_names(client: TestClient, text: str) -> None:
    cell = text.replace("\r\n", " ").replace('"', '""')
    table = f'run_id,"{cell}",params,tokens,batch_tokens,lr,loss,node\n"{cell}",1,1e8,2e9,65536,1e-3,3.1,"{cell}"\n'
    answer = client.post(f"/v1/uploads?name=x.csv&recipe={quote(cell, safe='')}", content=table.encode())
    unharmed(client, answer, "upload")
    assert answer.status_code == 201, answer.text
    (name,) = answer.json()["files"][0]["recipes"]
    (run,) = client.get("/v1/runs", params={"recipe": name}).json()["runs"]
    assert run["run_key"] == text.replace("\r\n", " ")
    assert run["extra"]["node"] == text.replace("\r\n", " ")
    assert "<script>alert" not in client.get("/").text
