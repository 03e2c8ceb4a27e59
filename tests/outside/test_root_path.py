"""Below a path of a proxy: whatever a page points at is below it, too, and is there."""

from __future__ import annotations

import html
import re
from urllib.parse import urljoin, urlsplit

import pytest

from lawfit import pipeline
from lawfit.settings import Settings, data_folder
from lawfit_api.app import create_app
from tests.client import TestClient

FILLED = "?params=50M&tokens=500M"


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("below") / "lawfit.db"
    with pipeline.open_store(path) as store:
        pipeline.ingest(store, data_folder() / "proxy_held_back.csv")
        pipeline.refit(store)
    return str(path)


@pytest.mark.parametrize("root", ["", "/lawfit", "/team/lawfit"])
@pytest.mark.parametrize("page", ["/", f"/advisor{FILLED}", "/plan", "/runs", "/laws"])
def test_pages_point_at_what_is_there(database: str, root: str, page: str) -> None:
    with TestClient(create_app(Settings(database_url=database, root_path=root))) as client:
        here = f"http://lawfit.example{root}{page}"
        said = client.get(page).text
        links = re.findall(r'(?:href|src|action)="([^"#]*)"', said)
        ours = [urljoin(here, link) for link in links if not link.startswith(("data:", "https:"))]
        assert len(ours) > (6 if page.endswith(FILLED) else 3)
        for link in ours:
            assert link.startswith(f"http://lawfit.example{root}/"), link
            asked = urlsplit(html.unescape(link))
            path = asked.path.removeprefix(root)  # as the proxy asks for it
            assert client.get(f"{path}?{asked.query}").status_code == 200, link


def test_answers_point_below_it(database: str) -> None:
    with TestClient(create_app(Settings(database_url=database, root_path="/lawfit"))) as client:
        begun = client.post("/v1/fits", json={})
        assert begun.headers["location"] == f"/lawfit/v1/jobs/{begun.json()['id']}"
        assert client.get("/openapi.json").json()["servers"] == [{"url": "/lawfit"}]
