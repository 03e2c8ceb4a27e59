"""Pages in a real Chromium, over a real server: without scripts, and the plan."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.browser import watched_page

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.slow


def test_a_budget_typed_in_becomes_a_plan_or_a_reason(browser: Browser, site: str) -> None:
    with watched_page(browser) as seen:
        seen.page.goto(f"{site}/plan")
        seen.page.get_by_label("Compute (FLOPs)").fill("1e20")
        seen.page.get_by_role("button", name="Plan", exact=True).click()
        seen.wait_for_charts()
        assert seen.page.get_by_role("heading", name="What else the budget buys").is_visible()
        assert seen.page.locator(".plot svg.main-svg:visible").count() >= 2
        expect(seen.page.get_by_role("button", name="Plan", exact=True)).to_be_focused()
        seen.page.get_by_label("Loss to reach").fill("2")
        seen.page.get_by_role("button", name="Plan", exact=True).click()
        assert "leave nothing to plan" in (seen.page.get_by_role("alert").text_content() or "")
        assert [c for c in seen.complaints if "422" not in c] == []


def test_works_without_javascript(browser: Browser, site: str) -> None:
    with watched_page(browser, javascript=False) as seen:
        seen.page.goto(f"{site}/advisor")
        seen.page.locator("#params").fill("1B")
        seen.page.locator("#tokens").fill("20B")
        seen.page.get_by_role("button", name="Recommend").click()
        assert seen.page.locator("#answer-title").inner_text() == "1B parameters, 20B tokens"
        assert seen.page.get_by_role("link", name="TorchTitan").is_visible()
        seen.page.goto(site)
        assert seen.page.locator(".card").is_visible()
        assert "lawfit ingest" in seen.page.locator("#intake").inner_text()


def test_every_input_has_a_label_and_mistakes_are_announced(browser: Browser, site: str) -> None:
    with watched_page(browser) as seen:
        seen.page.goto(f"{site}/advisor?params=x&tokens=20B")
        for name in ("params", "tokens", "batch_tokens", "seq_len", "recipe"):
            assert seen.page.locator(f"label[for={name}]").count() == 1
        wrong = seen.page.locator("[aria-invalid=true]")
        assert wrong.count() == 1
        described = wrong.get_attribute("aria-describedby")
        assert "not a number" in (seen.page.locator(f"#{described}").text_content() or "")


def test_a_page_that_is_not_there_is_a_page(browser: Browser, site: str) -> None:
    with watched_page(browser) as seen:
        seen.page.goto(f"{site}/nowhere")
        expect(seen.page.get_by_role("alert")).to_contain_text("There is no such page")
        seen.page.get_by_role("link", name="To the first page").click()
        expect(seen.page.get_by_role("heading", name="Your sweeps")).to_be_visible()
