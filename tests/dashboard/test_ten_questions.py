"""Questions of a stranger (`docs/pages.md`), answered from the first page by the clicks that stand there."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import httpx2 as httpx
import pytest
from playwright.sync_api import expect

from lawfit.units import format_lr
from tests.browser import watched_page

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.slow

PATIENT = 60.0  # s, where other tests run beside
TARGET = {"params": "200M", "tokens": "4B"}


def rest(site: str, path: str, **asked: Any) -> Any:
    answer = httpx.get(f"{site}/v1/{path}", params=asked, timeout=PATIENT)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_which_run_diverged(browser: Browser, site: str) -> None:
    with watched_page(browser) as seen:
        page = seen.page
        page.goto(site)
        page.get_by_role("link", name=re.compile(r"^\d+ diverged")).click()
        assert set(page.locator("td[data-label=loss]").all_text_contents()) == {"diverged"}
        page.locator("td.key a").first.click()
        assert page.get_by_role("heading", name="Diverged").is_visible()


def test_what_did_the_answer_say_last_week(browser: Browser, own_site: str) -> None:
    asked = {"params": "1B", "tokens": "20B"}
    then = httpx.post(f"{own_site}/v1/predictions", params=asked, timeout=PATIENT).json()["recommendation"]["lr"][
        "value"
    ]
    recipe = rest(own_site, "recipes")["recipes"][0]["name"]
    run = rest(own_site, "runs", sort="loss", limit=1)["runs"][0]["run_key"]
    excluded = {"run_keys": [run], "reason": "node failure"}
    httpx.post(f"{own_site}/v1/runs/exclude", json=excluded, timeout=PATIENT).raise_for_status()
    fitted_again(own_site, recipe)
    now = rest(own_site, "predictions", **asked)["recommendation"]["lr"]["value"]
    assert format_lr(now) != format_lr(then)
    with watched_page(browser) as seen:
        page = seen.page
        page.goto(own_site)
        page.get_by_role("link", name="1B parameters, 20B tokens").click()
        expect(page.locator("[data-quantity=lr] .use")).to_have_text(format_lr(then))
        expect(page.locator("section.answer")).to_contain_text("from the fit of ")
        page.get_by_role("link", name="Home").click()
        page.get_by_role("link", name="fitted again: ask now").click()
        expect(page.locator("[data-quantity=lr] .use")).to_have_text(format_lr(now))
        assert seen.complaints == []
    httpx.post(f"{own_site}/v1/runs/restore", json={"run_keys": [run]}, timeout=PATIENT).raise_for_status()


def fitted_again(site: str, recipe: str) -> None:
    job = httpx.post(f"{site}/v1/fits", json={"recipe": recipe}, timeout=PATIENT).json()["id"]
    for _ in range(600):
        state = rest(site, f"jobs/{job}")["state"]
        if state not in ("queued", "running"):
            assert state == "done"
            return
        time.sleep(0.2)
    pytest.fail("the fit goes on and on")


def which_size_bends_the_law(page: Page) -> None:
    page.get_by_role("link", name="Laws of").click()
    page.get_by_role("link", name="Residuals").click()
    expect(page.locator("section", has=page.locator("#residuals"))).to_contain_text("bends the law")


def what_is_the_valley(page: Page) -> None:
    page.get_by_role("link", name="Scales of").click()
    page.get_by_role("link", name="3.21M on 120M").click()
    expect(page.get_by_role("heading", name="3.21M parameters, 120M tokens")).to_be_visible()
    expect(page.get_by_role("heading", name="Loss over learning rate and batch")).to_be_visible()


def what_did_the_best_at_the_largest_size_use(page: Page) -> None:
    page.get_by_role("link", name="Runs of").click()
    page.get_by_label("Parameters, least").fill("6M")
    page.get_by_role("button", name="Filter").click()
    expect(page.get_by_role("heading", name="runs found")).to_be_visible()
    page.get_by_role("link", name="loss", exact=True).click()
    losses = [float(words) for words in page.locator("td[data-label=loss]").all_text_contents()]
    assert losses == sorted(losses)
    assert set(page.locator("td[data-label=parameters]").all_text_contents()) == {"6.04M"}


def which_runs_were_left_out(page: Page) -> None:
    page.get_by_role("link", name="Laws of").click()
    page.get_by_role("link", name="left out").click()
    expect(page.locator("#left-out li").first).to_contain_text("weight decay is")
    assert page.locator("#left-out li").first.is_visible()


@pytest.mark.parametrize(
    "clicked",
    [
        which_size_bends_the_law,
        what_is_the_valley,
        what_did_the_best_at_the_largest_size_use,
        which_runs_were_left_out,
    ],
)
def test_from_the_first_page(browser: Browser, shipped_site: str, clicked: Callable[[Page], None]) -> None:
    with watched_page(browser) as seen:
        seen.page.goto(shipped_site)
        clicked(seen.page)
        assert seen.complaints == []


def test_what_would_4e_4_cost_and_is_weight_decay_worth_tuning(browser: Browser, shipped_site: str) -> None:
    with watched_page(browser) as seen:
        page = seen.page
        page.goto(shipped_site)
        page.get_by_role("link", name="Ask the advisor").click()
        for name, text in TARGET.items():
            page.fill(f"#{name}", text)
        page.keyboard.press("Enter")
        expect(page).to_have_title("200M parameters, 4B tokens · lawfit")
        expect(page.get_by_label("Your learning rate")).not_to_have_value("")
        expect(page.locator("#more")).not_to_have_class(re.compile("stale"))
        batch = page.get_by_label("Your batch (tokens)").input_value()
        page.get_by_label("Your learning rate").fill("4e-4")
        page.keyboard.press("Tab")
        told = rest(shipped_site, "settings/cost", **TARGET, lr="4e-4", batch_tokens=batch)
        share = 100 * told["regret"]["loss_fraction"]
        expect(page.locator("#your-cost")).to_contain_text(f"{share:.2f} %")
        page.get_by_label("Your weight decay").fill("0.03")
        page.keyboard.press("Tab")
        expect(page.locator("#your-cost")).to_contain_text("by the weight decay")
        assert seen.complaints == []
