"""The page in a real Chromium, over a real server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.browser import watched_page
from tests.dashboard.looks import looks_right

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.slow


def test_a_target_typed_in_becomes_a_recommendation_with_figures(browser: Browser, site: str) -> None:
    with watched_page(browser) as seen:
        seen.page.goto(f"{site}/advisor")
        seen.page.get_by_label("Parameters").fill("1B")
        seen.page.get_by_label("Training tokens").fill("20B")
        seen.page.get_by_role("button", name="Recommend").click()
        seen.wait_for_charts()
        assert seen.page.get_by_role("heading", name="Recommendation").is_visible()
        assert seen.page.locator(".plot svg.main-svg:visible").count() >= 6
        assert "SIMULATED" in (seen.page.locator(".banner:visible").text_content() or "")
        assert seen.complaints == []
        assert all(url.startswith((site, "data:", "blob:")) for url in seen.requests)
        assert seen.page.locator("[data-title*=hare], [data-title*=loud]").count() == 0


def test_a_budget_typed_in_becomes_a_plan_or_a_reason(browser: Browser, site: str) -> None:
    with watched_page(browser) as seen:
        seen.page.goto(f"{site}/plan")
        seen.page.get_by_label("Compute (FLOPs)").fill("1e20")
        seen.page.get_by_role("button", name="Plan", exact=True).click()
        seen.wait_for_charts()
        assert seen.page.get_by_role("heading", name="What else the budget buys").is_visible()
        assert seen.page.locator(".plot svg.main-svg:visible").count() >= 2
        seen.page.get_by_label("Loss to reach").fill("2")
        seen.page.get_by_role("button", name="Plan", exact=True).click()
        assert "leave nothing to plan" in (seen.page.get_by_role("alert").text_content() or "")
        assert [c for c in seen.complaints if "422" not in c] == []


def test_works_without_javascript(browser: Browser, site: str) -> None:
    with watched_page(browser, javascript=False) as seen:
        seen.page.goto(f"{site}/advisor")
        seen.page.locator("#params").fill("1B")
        seen.page.locator("#tokens").fill("20B")
        seen.page.locator("#tokens").press("Enter")
        seen.page.wait_for_selector(".value strong")
        figures = seen.page.locator("figure.chart:visible")
        assert figures.count() > 10  # nothing hides behind a select
        figures.first.locator("summary").click()
        assert figures.first.locator("table").is_visible()


@pytest.mark.parametrize(
    "query",
    ["advisor", "advisor?params=1B&tokens=20B", "advisor?params=x", "plan?flops=1e20&params=1B"],
    ids=["form", "answer", "mistake", "plan"],
)
def test_fits_380_pixels(browser: Browser, site: str, query: str) -> None:
    with watched_page(browser, width=380) as seen:
        seen.page.goto(f"{site}/{query}")
        if "1B" in query:
            seen.wait_for_charts()
        assert seen.page.evaluate("document.documentElement.scrollWidth") <= 380


def test_dark_paper_gets_dark_figures(browser: Browser, site: str) -> None:
    with watched_page(browser, dark=True) as seen:
        seen.page.goto(f"{site}/advisor?params=1B&tokens=20B")
        seen.wait_for_charts()
        paper = seen.page.evaluate("document.querySelector('.plot').layout.paper_bgcolor")
        assert paper == "#161b22"


@pytest.mark.parametrize("path", ["advisor?params=1B&tokens=20B", "plan?flops=1e20", "nowhere"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_each_page_looks_right(browser: Browser, site: str, path: str, dark: bool) -> None:
    with watched_page(browser, dark=dark) as seen:
        seen.page.goto(f"{site}/{path}")
        seen.wait_for_charts()
        looks_right(seen, refused=path == "nowhere")


def test_every_input_has_a_label_and_mistakes_are_announced(browser: Browser, site: str) -> None:
    with watched_page(browser) as seen:
        seen.page.goto(f"{site}/advisor?params=x&tokens=20B")
        for name in ("params", "tokens", "batch_tokens", "seq_len", "recipe"):
            assert seen.page.locator(f"label[for={name}]").count() == 1
        wrong = seen.page.locator("[aria-invalid=true]")
        assert wrong.count() == 1
        described = wrong.get_attribute("aria-describedby")
        assert "not a number" in (seen.page.locator(f"#{described}").text_content() or "")
