"""Pages of runs as a server gives them: the same runs as the API, whatever is asked."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest

from lawfit.records import Recipe, Run, RunStatus, Sweep
from lawfit.settings import Settings
from lawfit.storage import Store
from lawfit_api.app import create_app
from tests.client import TestClient
from tests.dashboard.views import is_light, nodes_of, sources_of

EVIL = "a/b?c&<script>alert(1)</script>"


def keys_of(page: str) -> list[str]:
    """Keys of the table, in its order."""
    return [unquote(key) for key in re.findall(r'<td class="key"><a href="/runs/[^/]+/([^"]+)">', page)]


def said(client: TestClient, **asked: object) -> list[str]:
    """Keys of the runs that the API finds."""
    answer = client.get("/v1/runs", params={"limit": 1000, **asked})  # type: ignore[dict-item]
    assert answer.status_code == 200, answer.text
    return [run["run_key"] for run in answer.json()["runs"]]


class TestTable:
    @pytest.mark.parametrize(
        "asked",
        [
            pytest.param({}, id="as stored"),
            pytest.param({"sort": "loss"}, id="lowest loss"),
            pytest.param({"sort": "lr", "descending": "true"}, id="largest rate"),
            pytest.param({"descending": "true"}, id="stored last first"),
            pytest.param({"sort": "loss", "descending": "true"}, id="largest loss, those without one last"),
            pytest.param({"params_from": "50M", "params_to": "1e8"}, id="of a size"),
            pytest.param({"loss_to": "3.2", "sort": "batch_tokens"}, id="low losses by batch"),
        ],
    )
    def test_pages_together_are_what_the_api_finds(self, client: TestClient, asked: dict[str, str]) -> None:
        address, pages = "/runs", list[list[str]]()
        page = client.get(address, params=asked)
        while True:
            assert page.status_code == 200
            assert is_light(page.content, nodes_of(page.text))
            pages.append(keys_of(page.text))
            before = re.search(r'id="before" rel="prev" href="([^"]+)"', page.text)
            assert (before is None) == (len(pages) == 1)
            if before is not None:
                back = client.get(before[1].replace("&amp;", "&"))
                assert keys_of(back.text) == pages[-2]
            following = re.search(r'id="following" rel="next" href="([^"]+)"', page.text)
            if following is None:
                break
            page = client.get(following[1].replace("&amp;", "&"))
        found = [key for keys in pages for key in keys]
        assert found == said(client, **asked)
        assert f"{len(found):,} run" in page.text

    def test_states_part_the_runs(self, client: TestClient) -> None:
        diverged = keys_of(client.get("/runs", params={"state": "diverged"}).text)
        assert diverged == said(client, status="diverged")[: len(diverged)] != []
        assert "No run is left" in client.get("/runs", params={"state": "excluded"}).text

    def test_heads_say_how_it_is_sorted_and_turn_round(self, client: TestClient) -> None:
        page = client.get("/runs", params={"sort": "loss", "lr_from": "1e-3"}).text
        head = re.search(r'aria-sort="ascending"><a href="([^"]+)">loss', page)
        assert head
        turned = client.get(head[1].replace("&amp;", "&")).text
        assert re.search(r'aria-sort="descending"><a [^>]+>loss', turned)
        assert 'value="1e-3"' in turned

    @pytest.mark.parametrize(
        ("asked", "sentence"),
        [
            pytest.param({"lr_from": "fast"}, "&#39;fast&#39; is not a number", id="words"),
            pytest.param({"sort": "beauty"}, "Sort cannot be &#39;beauty&#39;: it should be", id="no such column"),
            pytest.param({"state": "asleep"}, "State cannot be &#39;asleep&#39;: it should be", id="no such state"),
        ],
    )
    def test_a_filter_that_cannot_be_is_a_sentence(
        self, client: TestClient, asked: dict[str, str], sentence: str
    ) -> None:
        page = client.get("/runs", params=asked)
        assert page.status_code == 422
        assert sentence in page.text

    def test_a_cursor_of_another_question_is_refused(self, client: TestClient) -> None:
        page = client.get("/runs", params={"cursor": "abc"}, headers={"Accept": "text/html"})
        assert page.status_code == 422
        assert "from another question" in page.text

    def test_settings_in_parallel_are_those_of_the_filter(self, client: TestClient) -> None:
        page = client.get("/runs", params={"state": "diverged"}).text
        (source,) = [each for each in sources_of(page) if "parallel" in each]
        figure = client.get(source).json()["figure"]
        assert [trace["name"] for trace in figure["data"]] == ["diverged"]
        keys = {key for key in figure["data"][0]["customdata"] if key}
        assert keys == set(said(client, status="diverged"))
        assert client.get("/runs/parallel.json", params={"loss_to": "0.001"}).status_code == 404


class TestOneRun:
    def test_says_what_the_api_says(self, client: TestClient) -> None:
        key = said(client, sort="loss")[0]
        run = client.get(f"/v1/runs/{client.get('/v1/recipes').json()['recipes'][0]['name']}/{key}").json()
        page = client.get(f"/runs/{run['recipe']}/{key}").text
        assert f"Loss {run['loss']:.5g}" in page
        assert f"{run['batch_tokens']:,.0f} tokens per step" in page
        assert "The lowest loss of" in page
        assert "No curve is stored" in page

    def test_that_is_not_there(self, client: TestClient) -> None:
        page = client.get("/runs/simulated/zz", headers={"Accept": "text/html"})
        assert page.status_code == 404
        assert "<h1>Not found" in page.text


@pytest.fixture
def odd(tmp_path: Path) -> Iterator[TestClient]:
    """One recipe with a run whose key is all that addresses dislike, and no fit."""
    with Store.open(str(tmp_path / "odd.db")) as store:
        common = {"params": 1e6, "tokens": 1e8, "batch_tokens": 1e4, "status": RunStatus.FINISHED, "loss": 3.0}
        runs = (Run(run_key=EVIL, lr=1e-3, **common), Run(run_key="plain", lr=2e-3, **common))  # type: ignore[arg-type]
        store.put_sweeps([Sweep(recipe=Recipe(name="odd", seq_len=100), runs=runs)])
    with TestClient(create_app(Settings(database_url=str(tmp_path / "odd.db")))) as opened:
        yield opened


class TestOddRuns:
    def test_any_key_has_a_page_and_is_shown_never_run(self, odd: TestClient) -> None:
        table = odd.get("/runs").text
        assert "<script>alert" not in table
        assert keys_of(table) == [EVIL, "plain"]
        address = re.findall(r'<td class="key"><a href="([^"]+)">', table)[0]
        page = odd.get(address)
        assert page.status_code == 200
        assert "<script>alert" not in page.text

    def test_excluded_and_restored_it_says_why_and_keeps_it(self, odd: TestClient) -> None:
        answer = odd.post("/v1/runs/exclude", json={"run_keys": ["plain"], "reason": "spike <b>"})
        assert answer.json()["changed"] == 1
        assert "excluded: spike &lt;b&gt;" in odd.get("/runs").text
        assert keys_of(odd.get("/runs", params={"state": "excluded"}).text) == ["plain"]
        odd.post("/v1/runs/restore", json={"run_keys": ["plain"]})
        page = odd.get("/runs/odd/plain").text
        assert "Changed by hand" in page
        assert "because restored" in page

    def test_without_a_fit_the_other_pages_say_where_to_make_one(self, odd: TestClient) -> None:
        for path in ("/scales", "/laws"):
            page = odd.get(path)
            assert page.status_code == 200
            assert "No fit yet" in page.text
        assert "no fit rests on it" in odd.get("/runs/odd/plain").text.lower()
        assert odd.get("/scales/one", params={"params": "1e6", "tokens": "1e8"}).status_code == 404

    def test_runs_without_curves_say_so(self, odd: TestClient) -> None:
        assert "None of these runs has a curve" in odd.get("/runs/curves", params={"run": "plain"}).text
        said = odd.get("/runs/curves.json", params={"run": "plain", "metric": "loss"})
        assert said.status_code == 404


@pytest.mark.parametrize("path", ["/runs", "/scales", "/laws"])
def test_an_empty_store_says_where_to_begin(empty: TestClient, path: str) -> None:
    page = empty.get(path)
    assert page.status_code == 200
    assert "There are no runs yet" in page.text


@pytest.mark.parametrize("path", ["/runs", "/scales", "/laws"])
def test_a_recipe_that_is_not_there_is_a_page_with_a_sentence(client: TestClient, path: str) -> None:
    page = client.get(path, params={"recipe": "nowhere"}, headers={"Accept": "text/html"})
    assert page.status_code == 404
    assert "nowhere" in page.text
    assert 'role="alert"' in page.text
