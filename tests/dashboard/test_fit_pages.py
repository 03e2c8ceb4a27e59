"""Pages of scales and laws as a server gives them: numbers are those of the stored fit."""

from __future__ import annotations

import re
from typing import Any

import pytest

from lawfit.launch.grid import packs
from lawfit.units import format_lr, format_quantity
from tests.client import TestClient
from tests.dashboard.views import is_light, nodes_of, sources_of


@pytest.fixture
def fit(client: TestClient) -> dict[str, Any]:
    """The stored fit of learning rate and batch, as the API gives it."""
    listed = client.get("/v1/fits", params={"kind": "lr_batch"}).json()["fits"]
    stored: dict[str, Any] = client.get(f"/v1/fits/{listed[0]['id']}").json()
    return stored


class TestScales:
    def test_every_scale_has_its_line_and_its_page(self, client: TestClient, fit: dict[str, Any]) -> None:
        page = client.get("/scales")
        assert is_light(page.content, nodes_of(page.text))
        addresses = re.findall(r'<td class="key"><a href="(/scales/one[^"]+)">', page.text)
        assert len(addresses) == len(fit["payload"]["cells"])
        for address, cell in zip(addresses, fit["payload"]["cells"], strict=True):
            assert format_lr(cell["optimum"]["lr"]) in page.text
            one = client.get(address.replace("&amp;", "&"))
            assert one.status_code == 200
            assert f"<strong>{format_quantity(cell['optimum']['batch_tokens'])}</strong>" in one.text
            assert f"loss {cell['best']['loss']:.4f}" in one.text
            assert is_light(one.content, nodes_of(one.text))

    def test_the_figure_of_all_names_every_run_of_the_fit(self, client: TestClient, fit: dict[str, Any]) -> None:
        wide, narrow = sources_of(client.get("/scales").text)
        known = {run["run_key"] for run in client.get("/v1/runs", params={"limit": 1000}).json()["runs"]}
        for source in (wide, narrow):
            drawn = client.get(source).json()
            keys = {key for trace in drawn["figure"]["data"] for key in trace.get("customdata") or [] if key}
            assert keys == known - set(fit["exclusions"])
            assert len(drawn["table"]["rows"]) == len(fit["payload"]["cells"])

    def test_a_scale_that_the_fit_has_not(self, client: TestClient) -> None:
        page = client.get("/scales/one", params={"params": "3M", "tokens": "1B"}, headers={"Accept": "text/html"})
        assert page.status_code == 404
        assert "the nearest is" in page.text
        assert client.get("/scales/one", params={"params": "x", "tokens": "1B"}).status_code == 422
        assert client.get("/scales/all.json", params={"fit": "none"}).status_code == 404

    def test_nothing_to_add_is_said(self, client: TestClient, fit: dict[str, Any]) -> None:
        """The simulated runs state no shape; of a sweep that brackets everything nothing is asked for."""
        answer = client.get("/scales/next-grid.json")
        assert answer.status_code == 409
        wanted = "states its own" if fit["payload"]["next_grid"] else "no further run"
        assert wanted in answer.json()["detail"]


class TestLaws:
    def test_says_the_exponents_and_the_certificate_of_the_fit(self, client: TestClient, fit: dict[str, Any]) -> None:
        page = client.get("/laws")
        assert is_light(page.content, nodes_of(page.text))
        for quantity in ("lr", "batch_tokens"):
            row = fit["payload"]["law"][quantity]
            for name in ("params", "tokens"):
                assert f'{row[name]:+.2f} <span class="ends">{row[f"{name}_low"]:+.2f}' in page.text
        words = fit["payload"]["certificate"]["words"]
        assert words[1:40] in page.text

    def test_every_figure_comes(self, client: TestClient, fit: dict[str, Any]) -> None:
        sources = sources_of(client.get("/laws").text)
        names = {re.search(r"name=([a-z_.0-9]+)", source)[1] for source in sources}  # type: ignore[index]
        assert {"scaling.lr.tokens", "residuals.batch_tokens.params", "backtest.0.", "promises.."} <= names
        for source in sources:
            answer = client.get(source)
            assert answer.status_code == 200, source
            assert answer.json()["figure"]["data"]
            assert answer.json()["table"]["rows"]
        lost = client.get("/laws/figure.json", params={"fit": fit["id"], "name": "beauty"})
        assert lost.status_code == 404

    def test_the_target_of_the_figures_is_the_one_that_is_typed(self, client: TestClient) -> None:
        page = client.get("/laws", params={"params": "7B", "tokens": "1.4T"}).text
        assert 'value="7B"' in page
        source = next(each for each in sources_of(page) if "scaling.lr.tokens" in each)
        said = client.get("/v1/predictions", params={"params": "7B", "tokens": "1.4T"}).json()["recommendation"]["lr"]
        data = client.get(source).json()["figure"]["data"]
        diamond = next(trace for trace in data if trace.get("name", "").startswith("recommended"))
        assert (diamond["x"], diamond["y"]) == ([1.4e12], [pytest.approx(said["value"])])

    def test_one_fit_compared_with_itself_is_the_same(self, client: TestClient, fit: dict[str, Any]) -> None:
        page = client.get("/laws", params={"a": fit["id"], "b": fit["id"]}).text
        assert "the same data" in page
        assert client.get("/laws", params={"a": fit["id"], "b": "zz"}).status_code == 404

    def test_a_fit_of_another_law_is_none_for_this_page(self, client: TestClient) -> None:
        other = next(f for f in client.get("/v1/fits").json()["fits"] if f["kind"] != "lr_batch")
        page = client.get("/laws", params={"fit": other["id"]}, headers={"Accept": "text/html"})
        assert page.status_code == 404
        assert "of another law" in page.text


def test_plotly_comes_with_a_page_that_has_figures(client: TestClient) -> None:
    """Asked for in its head, as early as may be; a page without figures does not ask for it."""
    (address,) = re.findall(
        r'<script defer id="plotly" src="([^"]+)">', client.get("/laws").text.partition("</head>")[0]
    )
    assert client.get(address).text.startswith("//# allFunctionsCalledOnLoad\n")
    assert 'id="plotly"' not in client.get("/laws/none").text


def test_the_next_grid_of_the_shipped_sweep_is_one_that_can_be_trained(shipped: TestClient) -> None:
    grid = shipped.get("/scales/next-grid.json", params={"recipe": "proxy_sweep"})
    assert grid.headers["content-disposition"] == 'attachment; filename="next-grid.json"'
    trained = list(packs(grid.json(), vocab=4096))
    fit = shipped.get("/v1/fits", params={"kind": "lr_batch", "recipe": "proxy_sweep"}).json()["fits"][0]
    asked = shipped.get(f"/v1/fits/{fit['id']}").json()["payload"]["next_grid"]
    assert sum(len(pack.runs) for pack in trained) == sum(len(row["lr"]) * len(row["batch_tokens"]) for row in asked)
    one = {"recipe": "proxy_sweep", "params": asked[0]["params"], "tokens": asked[0]["tokens"]}
    assert len(shipped.get("/scales/next-grid.json", params=one).json()["blocks"]) == 1


def test_what_the_fit_left_out_is_said_with_the_reason(shipped: TestClient) -> None:
    fit = shipped.get("/v1/fits", params={"recipe": "proxy_sweep", "kind": "lr_batch"}).json()["fits"][0]["id"]
    left_out = shipped.get(f"/v1/fits/{fit}").json()["payload"]["rejected"]
    page = shipped.get("/laws").text
    assert sum(item["count"] for item in left_out) > 0
    for item in left_out:
        assert f"<li>{item['count']:,}: {item['reason']}</li>" in page
    assert 'href="#left-out"' in page


def test_every_size_of_the_runs_is_named_in_the_legend(shipped: TestClient) -> None:
    fit = shipped.get("/v1/fits", params={"recipe": "proxy_sweep", "kind": "lr_batch"}).json()["fits"][0]["id"]
    for name in ("scaling.lr.tokens", "law.expected_loss."):
        figure = shipped.get("/laws/figure.json", params={"fit": fit, "name": name}).json()
        named = {trace.get("name") for trace in figure["figure"]["data"] if trace.get("showlegend", True)}
        assert {f"{size} parameters" for size in ("202k", "443k", "804k", "1.77M", "3.21M", "6.04M")} <= named


def test_the_nearest_scale_is_near_in_parameters_as_well(shipped: TestClient) -> None:
    asked = {"params": "7M", "tokens": "1B"}  # as far in tokens from every size's longest
    page = shipped.get("/scales/one", params=asked, headers={"Accept": "text/html"})
    assert page.status_code == 404
    assert "the nearest is 6.04M parameters, 120M tokens" in page.text
