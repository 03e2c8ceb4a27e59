"""Each kind of token at each route of the application: whom it opens to is written out here, and none is forgotten."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from fastapi import FastAPI

from lawfit.settings import Settings
from lawfit.storage import Store
from lawfit.storage.tokens import SCOPES, create_token, revoke_token
from lawfit_api.app import create_app
from tests.client import TestClient

READ: Final = (
    "/", "/advisor", "/advisor/answer", "/advisor/more", "/advisor/report", "/advisor/setting", "/advisor/valley",
    "/assets/{folder}/{name}", "/home/cards", "/laws", "/laws/figure.json", "/metrics",
    "/next", "/next/grid.json", "/next/runs.csv", "/openapi.json", "/plan",
    "/runs", "/runs/curves", "/runs/curves.json", "/runs/parallel.json", "/runs/{recipe}/{run_key}", "/scales",
    "/scales/all.json", "/scales/next-grid.json", "/scales/one", "/studies", "/studies/{study_id}",
    "/v1/configs/{program}", "/v1/curves/{recipe}/{run_key}", "/v1/fits", "/v1/fits/compare", "/v1/fits/{fit_id}",
    "/v1/jobs", "/v1/jobs/{job_id}", "/v1/laws", "/v1/laws/{law}", "/v1/live/runs", "/v1/optima", "/v1/plans",
    "/v1/plans/next", "/v1/plans/next/{plan_id}",
    "/v1/predictions", "/v1/predictions/{prediction_id}", "/v1/recipes", "/v1/runs", "/v1/runs/{recipe}/{run_key}",
    "/v1/settings/cost", "/v1/studies", "/v1/studies/{study_id}", "/v1/training-jobs", "/v1/training-jobs/{job_id}",
    "/v1/transfer",
)  # fmt: skip
# Method and path -> the scopes that open it, beside admin; "" is open to everybody.
OPENS: Final = {
    ("GET", "/healthz"): "",
    ("GET", "/readyz"): "",
    **{("GET", path): "read" for path in READ},
    ("POST", "/v1/predictions"): "read",
    ("POST", "/v1/predictions/bulk"): "read",
    ("POST", "/v1/plans/next"): "read",
    ("POST", "/v1/plans/next/jobs"): "fit",
    ("POST", "/v1/plans/next/{plan_id}/rehearsals"): "fit",
    ("POST", "/v1/fits"): "fit",
    ("POST", "/v1/jobs/{job_id}/cancel"): "fit launch",  # one of them, as the job is one
    ("POST", "/v1/live/points"): "ingest",
    ("POST", "/v1/live/runs"): "ingest",
    ("POST", "/v1/live/runs/finish"): "ingest",
    ("POST", "/v1/runs/exclude"): "ingest",
    ("POST", "/v1/runs/restore"): "ingest",
    ("POST", "/v1/training-jobs"): "launch",
    ("POST", "/v1/training-jobs/{job_id}/cancel"): "launch",
    ("POST", "/v1/uploads"): "ingest",
    ("POST", "/v1/uploads/shipped"): "ingest",
}


def routes_of(app: FastAPI) -> set[tuple[str, str]]:
    """Method and path of all that the application answers, as it holds them: what is in no description, too."""
    found = set()
    for route in app.routes:
        inner = getattr(route, "effective_route_contexts", None)  # of routers that were included
        for each in [route] if inner is None else inner():
            path = each.path.replace("{run_key:path}", "{run_key}")
            found |= {(method, path) for method in each.methods - {"HEAD", "OPTIONS"}}
    return found


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TestClient, dict[str, str]]]:
    """An application beyond this machine, and a token of each kind."""
    url: Path = tmp_path_factory.mktemp("matrix") / "lawfit.db"
    with Store.open(url) as store:
        tokens = {scope: create_token(store, scope, [scope]) for scope in SCOPES}
        tokens["two"] = create_token(store, "two", ["ingest", "fit"])
        tokens["expired"] = create_token(store, "expired", ["admin"], days=1e-9)
        tokens["revoked"] = create_token(store, "revoked", ["admin"])
        revoke_token(store, "revoked")
    tokens |= {"none": "", "guessed": "lawfit_" + "A" * 43, "of a part": tokens["admin"][:-1]}
    (templates := url.with_name("templates.toml")).write_text('[tiny]\ncommand = "true {lr}"\ncpu = true\n')
    settings = Settings(database_url=str(url), host="0.0.0.0", training_templates=str(templates))
    with TestClient(create_app(settings)) as client:
        yield client, tokens


def test_the_table_has_every_route(service: tuple[TestClient, dict[str, str]]) -> None:
    assert routes_of(service[0].app) == set(OPENS)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [*SCOPES, "two", "none", "guessed", "of a part", "expired", "revoked"])
def test_who_gets_where(service: tuple[TestClient, dict[str, str]], kind: str) -> None:
    client, tokens = service
    headers = {"Authorization": f"Bearer {tokens[kind]}"} if tokens[kind] else {}
    holds = {"admin": set(SCOPES), "two": {"read", "ingest", "fit"}, **{s: {"read", s} for s in SCOPES[:-1]}}
    wanted, found = {}, {}
    for (method, template), scopes in OPENS.items():
        refusal = 401 if kind not in holds else 403 if holds[kind].isdisjoint(scopes.split()) else None
        wanted[method, template] = refusal if scopes else None
        status = client.request(method, re.sub(r"{\w+}", "none", template), headers=headers).status_code
        assert status < 500, (method, template)
        found[method, template] = status if status in (401, 403) else None
    assert found == wanted


@pytest.mark.parametrize("path", ["/v1/recipes", "/v1/nowhere", "/openapi.json", "/"])
@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "POST"])
def test_changes_that_nobody_described_take_an_administrator(
    service: tuple[TestClient, dict[str, str]], method: str, path: str
) -> None:
    client, tokens = service
    for kind in SCOPES:
        status = client.request(method, path, headers={"Authorization": f"Bearer {tokens[kind]}"}).status_code
        assert status in ((404, 405) if kind == "admin" else (403,)), kind


def test_a_path_that_is_written_otherwise_opens_no_other_scope(service: tuple[TestClient, dict[str, str]]) -> None:
    """What the scope is looked up for is what the router goes by."""
    client, tokens = service
    odd = ("/v1//uploads", "/v1/uploads/", "/V1/uploads", "/v1/./uploads", "/v1/%75ploads", "/v1/uploads;x")
    for path in (*odd, "/v1/predictions/../uploads", "/v1/predictions%2f..%2fuploads", "/v1/predictions/bulk/"):
        headers = {"Authorization": f"Bearer {tokens['read']}"}
        answer = client.request("POST", f"{path}?name=x.csv", headers=headers, content=b"a,b\n1,2\n")
        assert answer.status_code in (403, 404, 405), (path, answer.status_code)
