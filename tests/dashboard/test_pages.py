"""Pages as a server gives them, without a browser."""

from __future__ import annotations

import dataclasses
import gzip
import re
from pathlib import Path

import pytest

from lawfit.records import RecipeSummary, Sweep
from lawfit.settings import Settings
from lawfit.storage import Store
from lawfit.units import format_lr
from lawfit_api.app import create_app
from lawfit_api.dashboard.common import only_recipe
from tests.client import TestClient
from tests.plots.samples import sweep

ASKED = {"params": "1B", "tokens": "20B"}


def addresses(page: str) -> list[str]:
    """Everything that a browser fetches for the page at once."""
    return re.findall(r'<(?:script|link|img)[^>]* (?:src|href)="([^"]+)"', page)


@pytest.mark.parametrize("path", ["/advisor", "/plan"])
def test_an_empty_database_leads_to_the_first_page(empty: TestClient, path: str) -> None:
    page = empty.get(path)
    assert page.status_code == 200
    assert "There are no runs yet" in page.text
    assert "<form" not in page.text


def test_a_target_at_the_old_address_is_sent_to_the_advisor(client: TestClient) -> None:
    moved = client.get("/", params={**ASKED, "recipe": "a b"}, follow_redirects=False)
    assert moved.status_code == 307
    assert moved.headers["location"] == "/advisor?params=1B&tokens=20B&recipe=a+b"


HTML = {"Accept": "text/html"}


@pytest.mark.parametrize(
    ("path", "status", "sentence"),
    [
        pytest.param("/nothing", 404, "There is no such page", id="no such page"),
        pytest.param("/advisor?recipe=" + "x" * 300, 422, "at most 200 characters", id="a name too long"),
    ],
)
def test_a_failure_is_a_page_for_people_and_a_problem_for_programs(
    client: TestClient, path: str, status: int, sentence: str
) -> None:
    page = client.get(path, headers=HTML)
    assert (page.status_code, page.headers["content-type"]) == (status, "text/html; charset=utf-8")
    assert sentence in page.text
    assert 'aria-label="Pages"' in page.text
    plain = client.get(path)
    assert (plain.status_code, plain.headers["content-type"]) == (status, "application/problem+json")


def test_a_database_that_is_away_is_a_page_that_names_no_file(tmp_path: Path) -> None:
    (tmp_path / "broken.db").write_text("no database at all, but long enough to be looked at" * 100)
    with TestClient(create_app(Settings(database_url=str(tmp_path / "broken.db")))) as client:
        page = client.get("/advisor", headers=HTML)
    assert page.status_code == 503
    assert "The database cannot be used at the moment" in page.text
    assert "broken.db" not in page.text


def test_below_a_proxy_every_address_has_its_path(tmp_path: Path) -> None:
    with TestClient(create_app(Settings(database_url=str(tmp_path / "x.db"), root_path="/lawfit"))) as client:
        page = client.get("/advisor").text
    own = re.findall(r'(?:href|src|action|data-plotly)="(/[^"]*)"', page)
    assert len(own) > 8
    assert [address for address in own if not address.startswith("/lawfit/")] == []


def test_shows_what_the_api_says(client: TestClient) -> None:
    page = client.get("/advisor", params=ASKED)
    said = client.get("/v1/predictions", params=ASKED).json()
    lr, batch = said["recommendation"]["lr"], said["recommendation"]["batch_tokens"]
    assert page.status_code == 200
    assert format_lr(lr["value"]) in page.text
    assert f"{batch['value']:,.0f}" in page.text
    assert said["id"] in page.text
    assert 'value="1B"' in page.text
    assert "SIMULATED" in page.text


def test_a_given_batch_and_sequence_length_are_used(client: TestClient) -> None:
    page = client.get("/advisor", params={**ASKED, "batch_tokens": "512k", "seq_len": "1000"})
    assert "512,000" in page.text
    assert "512 of 1,000 tokens" in page.text
    assert "given by you" in page.text
    assert "best batch: " in page.text


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        pytest.param({"params": "seven", "tokens": "20B"}, "seven&#39; is not a number", id="words"),
        pytest.param({"params": "1B", "tokens": ""}, "Training tokens: a number is needed", id="missing"),
        pytest.param({"params": "0", "tokens": "20B"}, "0 is not between 1 and 1e18", id="zero"),
        pytest.param({"params": "-3B", "tokens": "20B"}, "-3B is not between 1 and 1e18", id="negative"),
        pytest.param({"params": "nan", "tokens": "20B"}, "is not a number", id="nan"),
        pytest.param({"params": "1e999", "tokens": "20B"}, "too large", id="infinite"),
        pytest.param({**ASKED, "seq_len": "10.5"}, "must be a whole number, got 10.5", id="half a token"),
        pytest.param({**ASKED, "batch_tokens": "100B"}, "larger than the whole run", id="batch above the run"),
    ],
)
def test_bad_input_is_answered_in_a_sentence_beside_what_was_typed(
    client: TestClient, said: dict[str, str], sentence: str
) -> None:
    page = client.get("/advisor", params=said)
    assert page.status_code == 422
    assert page.headers["content-type"].startswith("text/html")
    assert sentence in page.text
    assert all(f'value="{value}"' in page.text for value in said.values())


@pytest.mark.parametrize(("params", "tokens"), [("1", "1"), ("1e15", "1e15"), ("1e-3", "1e30"), ("2e7", "2e8")])
def test_any_target_is_drawn_or_refused_in_a_sentence(client: TestClient, params: str, tokens: str) -> None:
    page = client.get("/advisor", params={"params": params, "tokens": tokens})
    assert page.status_code == 200 or (
        page.status_code == 422 and ('role="alert"' in page.text or "is not between" in page.text)
    )


@pytest.mark.parametrize(
    ("said", "status", "sentence"),
    [
        pytest.param({"flops": "1e20"}, 200, "", id="a budget"),
        pytest.param({"flops": "many"}, 422, "is not a number", id="words"),
        pytest.param({"flops": "1e20", "at": "beta2"}, 422, "beta2", id="a level of nothing"),
        pytest.param({"days": "3"}, 422, "GPUs", id="half a question"),
        pytest.param({"flops": "1e20", "epochs": "2", "experts": "4"}, 422, "one", id="a contradiction"),
        pytest.param({"flops": "1e20", "recipe": "nowhere"}, 404, "nowhere", id="no such recipe"),
    ],
)
def test_a_plan_is_drawn_or_refused_with_the_right_code(
    client: TestClient, said: dict[str, str], status: int, sentence: str
) -> None:
    page = client.get("/plan", params=said)
    assert page.status_code == status
    assert sentence in page.text


def test_an_unknown_recipe_is_a_sentence_and_a_404(client: TestClient) -> None:
    page = client.get("/advisor", params={**ASKED, "recipe": "nowhere"})
    assert page.status_code == 404
    assert "nowhere" in page.text
    assert 'role="alert"' in page.text


def test_without_a_fit_it_says_what_to_run(tmp_path: Path) -> None:
    with Store.open(str(tmp_path / "x.db")) as store:
        store.put_sweeps([Sweep(recipe=sweep().recipe, runs=sweep().runs)])
    with TestClient(create_app(Settings(database_url=str(tmp_path / "x.db")))) as client:
        page = client.get("/advisor", params=ASKED)
    assert page.status_code == 404
    assert "yet; fit it on the first page" in page.text
    assert "no fit yet" in page.text


def test_with_several_recipes_one_has_to_be_chosen(tmp_path: Path) -> None:
    evil = dataclasses.replace(sweep().recipe, name="<script>alert(1)</script>", schedule="wsd")
    with Store.open(str(tmp_path / "x.db")) as store:
        store.put_sweeps([Sweep(recipe=recipe, runs=sweep().runs) for recipe in (sweep().recipe, evil)])
    with TestClient(create_app(Settings(database_url=str(tmp_path / "x.db")))) as client:
        page = client.get("/advisor", params=ASKED)
    assert page.status_code == 404
    assert "choose one" in page.text
    assert "<script>alert" not in page.text  # names are shown, never run


def test_everything_comes_from_here_and_stays_in_the_browser(client: TestClient) -> None:
    page = client.get("/advisor", params=ASKED)
    found = [address for address in addresses(page.text) if not address.startswith("data:")]
    assert len(found) == 6
    assert re.findall('data-plotly="([^"]+)"', page.text)[0] in found
    for address in found:
        assert address.startswith("/assets/")
        answer = client.get(address)
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]
        assert answer.headers["content-encoding"] == "gzip"
        plain = client.get(address, headers={"Accept-Encoding": "identity"})
        assert plain.content == answer.content
        assert gzip.compress(b"") != plain.content
    assert client.get("/assets/0000000000/plotly.js").status_code == 404


def test_no_inline_script_runs_and_the_policy_forbids_it(client: TestClient) -> None:
    page = client.get("/advisor", params=ASKED)
    policy = page.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "script-src" not in policy or "unsafe" not in policy.split("script-src")[1].split(";")[0]
    scripts = re.findall(r"<script[^>]*>", page.text)
    assert all("src=" in script or 'type="application/json"' in script for script in scripts)
    assert not re.search(r"<[^>]+ on[a-z]+=", page.text)


def test_a_recipe_without_a_fit_is_said_to_have_none(tmp_path: Path) -> None:
    with Store.open(str(tmp_path / "x.db")) as store:
        store.put_sweeps([Sweep(recipe=sweep().recipe, runs=sweep().runs)])
    name = sweep().recipe.name
    with TestClient(create_app(Settings(database_url=str(tmp_path / "x.db")))) as client:
        page = client.get("/advisor", params={"recipe": name})
        home = client.get("/").text
    assert page.status_code == 200
    assert f"{name} has no fit yet, and so no answers" in page.text
    assert f'href="/runs?recipe={name}"' in home
    assert 'href="/scales?' not in home.split("</nav>")[1]  # nothing to see there yet


def test_ways_from_a_card_lead_to_what_they_count(client: TestClient) -> None:
    home = client.get("/").text
    address, number = re.findall(r'href="(/runs[^"]+state=diverged)">(\d+) diverged', home)[0]
    assert f"{number} runs found" in client.get(address.replace("&amp;", "&")).text
    for path in ("scales", "laws"):
        assert re.search(rf'<a href="/{path}\?recipe=[^"]+">{path.capitalize()}<', home)


def test_sentences_on_a_page_name_no_route(client: TestClient) -> None:
    page = client.get("/laws", params={"fit": "nowhere"}, headers={"Accept": "text/html"})
    assert page.status_code == 404
    assert "the page of laws lists them" in page.text
    assert "/v1/" not in page.text
    assert "GET /v1/fits lists them" in client.get("/v1/fits/nowhere").json()["detail"]


def test_the_only_recipe_with_a_fit_needs_no_choosing() -> None:
    fitted, waiting = (
        RecipeSummary(recipe=dataclasses.replace(sweep().recipe, name=name), runs=9, diverged=0, excluded=0, fits=fits)
        for name, fits in (("fitted", 3), ("waiting", 0))
    )
    assert only_recipe([fitted, waiting]) == only_recipe([fitted]) == "fitted"
    assert only_recipe([waiting]) == "waiting"
    assert only_recipe([waiting, waiting]) == only_recipe([fitted, fitted]) == ""
