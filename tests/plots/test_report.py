"""The report: one file, complete, offline; looked at in a real browser."""

from __future__ import annotations

import base64
import gzip
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lawfit import __version__
from lawfit.errors import LawfitError
from lawfit.report.answer import simulated_banner
from lawfit.report.html import json_block
from lawfit.report.page import report_html, write_report
from lawfit.units import format_lr
from lawfit.words import told
from tests.browser import chromium, watched_page
from tests.plots.samples import sample

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def page() -> str:
    return report_html(sample().fit, sample().document, sample().runs)


def without_scripts(page: str) -> str:
    return re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)


def test_holds_the_recommendation_and_its_evidence(page: str) -> None:
    document = sample().document
    lr, batch = document["recommendation"]["lr"], document["recommendation"]["batch_tokens"]
    words = without_scripts(page)
    for text in (
        format_lr(lr["value"]),
        f"{format_lr(lr['low'])} to {format_lr(lr['high'])}",
        f"{batch['value']:,.0f}",
        f"{batch['sequences']:,.0f} of 1,024 tokens",
        document["evidence"]["fit_id"],
        document["evidence"]["data_hash"],
        document["id"],
    ):
        assert text in words


def test_says_that_simulated_runs_are(page: str) -> None:
    assert "SIMULATED" in page
    assert simulated_banner({"optimizer": "adamw", "data": "c4"}) == ""


@pytest.mark.parametrize("section", ["answer", "why", "others", "backtest", "evidence", "words"])
def test_has_every_section(page: str, section: str) -> None:
    assert page.count(f'id="{section}-title"') == 1


def test_every_warning_and_every_law_is_there(page: str) -> None:
    words = without_scripts(page).replace("&#x27;", "'").replace("&lt;", "<").replace("&gt;", ">")
    for warning in told(sample().document["warnings"]):
        assert warning[1:] in words
    for law in sample().document["published"]:
        assert law["label"] in words


def test_every_chart_has_its_numbers_as_a_table(page: str) -> None:
    charts = re.findall(r'<figure class="chart".*?</figure>', page, flags=re.DOTALL)
    assert len(charts) >= 4 + 2 + 6 + 1  # scaling, costs, six cells, backtest
    assert all("<table>" in chart for chart in charts)
    drawn = re.findall(r'data-figure="([^"]+)"', page)
    assert len(drawn) == len(charts)
    assert set(drawn) == packed_figures(page).keys()


def packed_figures(page: str) -> dict[str, Any]:
    """The data of the figures of a report, by id."""
    block = re.findall(r'<script type="text/plain" id="packed-figures">(.*?)</script>', page)[0]
    return dict(json.loads(gzip.decompress(base64.b64decode(block))))


def test_its_head_says_what_it_is_and_it_is_small(page: str) -> None:
    named = report_html(sample().fit, sample().document, sample().runs, project="my <runs>")
    today = datetime.now(UTC).date().isoformat()
    facts = f"project my &lt;runs&gt; · recipe simulated · {today} · lawfit {__version__}"
    assert f"<title>Settings for a run of 1B parameters, 20B tokens · {facts}</title>" in named
    assert f'<p class="facts">{facts}</p>' in named
    assert "project" not in re.findall("<title>(.*?)</title>", page)[0]
    assert 1_500_000 < len(page.encode()) < 2_500_000  # bytes, plotly.js among them


def test_ids_are_unique(page: str) -> None:
    ids = re.findall(r' id="([^"]+)"', without_scripts(page))
    assert len(ids) == len(set(ids))


def test_text_of_the_data_cannot_become_markup() -> None:
    document = {**sample().document, "warnings": ["<img src=x onerror=alert(1)>", "</script><script>alert(2)</script>"]}
    document["recipe"] = {**document["recipe"], "name": "<b>mine</b>"}
    label = "</script><script>alert(3)</script>"  # goes into the data of a figure too
    document["published"] = [{**document["published"][0], "label": label}]
    page = report_html(sample().fit, document, sample().runs)
    assert "<img" not in without_scripts(page)
    assert "<b>mine" not in page
    assert "alert(2)</script>" not in page
    assert "alert(3)</script>" not in page
    assert label in json.dumps(packed_figures(page))  # there it is data


def test_a_data_block_cannot_end_its_script() -> None:
    assert json.loads(json_block(json.dumps("</script>&<!--"))) == "</script>&<!--"
    assert not set("<>&") & set(json_block(json.dumps("</script>&<!--")))


def test_says_when_the_runs_have_changed_since_the_fit() -> None:
    said = "the runs in the database have changed since this fit"
    assert said not in report_html(sample().fit, sample().document, sample().runs)
    assert said in report_html(sample().fit, sample().document, sample().runs[1:])


def test_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    blocked = tmp_path / "folder"
    blocked.mkdir()
    with pytest.raises(LawfitError, match="cannot be written"):
        write_report(blocked, sample().fit, sample().document, sample().runs)
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
    written = write_report(tmp_path / "new" / "r.html", sample().fit, sample().document, sample().runs)
    assert [path.name for path in written.parent.iterdir()] == ["r.html"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("report") / "report.html"
    return write_report(path, sample().fit, sample().document, sample().runs).as_uri()


@pytest.mark.slow
class TestInChromium:
    def test_draws_offline_and_fetches_nothing(self, browser: Browser, address: str) -> None:
        with watched_page(browser, offline=True) as seen:
            seen.page.goto(address)
            seen.wait_for_charts()
            assert seen.complaints == []
            assert seen.requests == [address]
            assert seen.page.locator(".plot svg.main-svg:visible").count() >= 6
            assert seen.page.locator("[data-attr=cloud], [data-title*=hare]").count() == 0  # nothing offers an upload

    def test_fits_a_phone(self, browser: Browser, address: str) -> None:
        with watched_page(browser, width=380) as seen:
            seen.page.goto(address)
            seen.wait_for_charts()
            assert seen.page.evaluate("document.documentElement.scrollWidth") <= 380

    def test_another_cell_is_drawn_when_it_is_chosen(self, browser: Browser, address: str) -> None:
        with watched_page(browser) as seen:
            seen.page.goto(address)
            seen.wait_for_charts()
            select = seen.page.locator("#cells-select")
            chosen = select.locator("option").nth(1).get_attribute("value")
            assert chosen is not None
            assert seen.page.locator(f"#{chosen} svg").count() == 0
            select.select_option(chosen)
            seen.page.wait_for_selector(f"#{chosen} svg.main-svg")
            assert seen.page.locator('[data-choice="cells"] .chart:visible').count() == 1
            assert seen.complaints == []
