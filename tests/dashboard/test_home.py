"""The first page in Chromium: from nothing, or from a file with an open question, to a fit and an answer."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2 as httpx
import pytest
from playwright.sync_api import TimeoutError as PlaywrightTimeout
from playwright.sync_api import expect

from lawfit.settings import data_folder
from lawfit.units import format_lr
from tests.browser import Watched, watched_page
from tests.cli.serving import served
from tests.client import TestClient
from tests.dashboard.looks import looks_right

if TYPE_CHECKING:
    from playwright.sync_api import Browser, FileChooser, Page

pytestmark = pytest.mark.slow

LONG = 120_000  # ms that a fit may take where other tests run beside
SEQUENCES = b"n_params,n_tokens,lr,batch_size,loss\n" + b"".join(
    b"%d,%d,%g,%d,%.4f\n" % (size, size * 20, lr, batch, 3 + 1e8 / size * 1e-1 + (lr - 2e-3) ** 2 * 1e4 + batch * 1e-4)
    for size in (10**8, 2 * 10**8)
    for lr in (1e-3, 2e-3, 4e-3)
    for batch in (256, 512)
)


@pytest.fixture
def empty_site(tmp_path: Path) -> Iterator[str]:
    with served([sys.executable, "-m", "lawfit"], tmp_path) as url:
        yield url


@pytest.mark.soak
def test_the_shipped_sweep_is_loaded_fitted_and_asked(browser: Browser, empty_site: str) -> None:
    with watched_page(browser) as seen:
        page = seen.page
        page.goto(empty_site)
        looks_right(seen)
        page.get_by_role("button", name="Load the shipped sweep").click()
        expect(page.get_by_role("heading", name="709 runs stored")).to_be_visible(timeout=LONG)
        expect(page.locator(".card h2")).to_have_text("proxy_sweep")
        page.locator("#reading").get_by_role("button", name="Fit it").click()
        expect(page.get_by_role("progressbar", name="Fit of proxy_sweep")).to_be_visible()
        page.reload()  # nor does it stop being shown
        expect(page.get_by_role("progressbar", name="Fit of proxy_sweep")).to_be_visible()
        page.locator("#to-advisor").click(timeout=LONG)
        expect(page.locator("[data-quantity=lr] .use")).to_have_text(answer(empty_site, "30.2M", "600M"))
        assert seen.complaints == []
        page.get_by_role("button", name="Keep this answer").click()
        expect(page.get_by_role("button", name="Kept as")).to_be_visible()
        page.get_by_role("link", name="Home").click()
        expect(page.locator(".card")).to_contain_text("no run has changed")
        expect(page.get_by_role("link", name="30.2M parameters, 600M tokens")).to_be_visible()
        looks_right(seen)


def answer(site: str, params: str, tokens: str) -> str:
    """The learning rate that REST recommends."""
    said = httpx.get(f"{site}/v1/predictions", params={"params": params, "tokens": tokens}).json()
    return format_lr(said["recommendation"]["lr"]["value"])


def chooser_by_keyboard(page: Page) -> FileChooser:
    """A Chromium without a window does not open one each time: of Enter every other time, of Space now and then."""
    for _ in range(4):
        with suppress(PlaywrightTimeout), page.expect_file_chooser(timeout=8000) as chooser:
            page.keyboard.press("Space")
            return chooser.value
    pytest.fail("no key opens the choice of a file")


def test_a_file_with_an_open_question_by_keyboard_alone(browser: Browser, empty_site: str, tmp_path: Path) -> None:
    file = tmp_path / "open.csv"
    file.write_bytes(SEQUENCES)
    with watched_page(browser) as seen:
        page = seen.page
        page.goto(empty_site)
        reach(seen, "#file")
        chooser_by_keyboard(page).set_files(file)
        expect(page.get_by_role("heading", name="1 question about open.csv")).to_be_focused()
        looks_right(seen, refused=True)
        reach(seen, "#question-0-1, #question-0-0")
        page.keyboard.press("ArrowDown")
        expect(page.get_by_label("the batch counts sequences")).to_be_checked()
        reach(seen, ".fill")
        page.keyboard.type("2048")
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="open.csv, as it was read")).to_be_focused()
        expect(page.locator("#reading")).to_contain_text("12 rows: 12 new runs")
        assert httpx.get(f"{empty_site}/v1/recipes").json() == {"recipes": []}  # nothing is stored before one says so
        looks_right(seen, refused=True)
        reach(seen, "#store")
        page.keyboard.press("Enter")
        expect(page.locator("#reading").get_by_role("button", name="Fit it")).to_be_focused()
        run = httpx.get(f"{empty_site}/v1/runs", params={"recipe": "open"}).json()["runs"][0]
        assert run["batch_tokens"] == 256 * 2048
        page.keyboard.press("Enter")
        expect(page.locator("#to-advisor, .job .failure")).to_be_visible(timeout=LONG)
        expect(page.locator("#to-advisor")).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.locator("[data-quantity=lr] .use")).to_have_text(answer(empty_site, "1B", "20B"))


def reach(seen: Watched, selector: str, most: int = 40) -> None:
    """Press Tab until the focus is there."""
    for _ in range(most):
        if seen.page.locator(f":is({selector}):focus").count():
            return
        seen.page.keyboard.press("Tab")
    raise AssertionError(f"{selector} is not reached by Tab")


def test_a_file_that_cannot_be_taken_is_a_sentence(browser: Browser, empty_site: str, tmp_path: Path) -> None:
    file = tmp_path / "letter.csv"
    file.write_text("dear,all\n1,2\n")
    with watched_page(browser, width=390, dark=True) as seen:
        seen.page.goto(empty_site)
        seen.page.set_input_files("#file", file)
        expect(seen.page.locator("#reading")).to_contain_text("letter.csv")
        expect(seen.page.locator("#reading [role=alert], #reading fieldset").first).to_be_visible()
        looks_right(seen, refused=True)
        seen.page.set_input_files("#file", data_folder() / "proxy_held_back.csv")
        expect(seen.page.locator("#store")).to_be_visible()
        looks_right(seen, refused=True)


class TestWithoutABrowser:
    def test_the_page_says_what_is_stored(self, client: TestClient) -> None:
        (recipe,) = client.get("/v1/recipes").json()["recipes"]
        page = client.get("/").text
        for words in (
            recipe["name"],
            "at 6 scales left out it cost",
            "SIMULATED",
            "no run has changed",
            "3, from 20M to 180M",
        ):
            assert words in page

    def test_the_shipped_sweep_by_rest(self, empty: TestClient) -> None:
        first = empty.post("/v1/uploads/shipped")
        assert (first.status_code, first.json()["files"][0]["inserted"]) == (201, 709)
        again = empty.post("/v1/uploads/shipped")
        assert (again.status_code, again.json()["files"][0]["unchanged"]) == (200, 709)
        assert "Fit it" in empty.get("/").text
