"""Pages of runs, scales and laws in a real Chromium: clicked through, by keyboard, narrow and dark."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.browser import Watched, watched_page
from tests.dashboard.looks import looks_right

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.slow

SCALE = "/scales/one?params=804224&tokens=31997952"
NEXT = "/next?params=1B&tokens=20B&budget=1e17flops"
PAGES = ["/runs", "/runs/curves?sort=loss&params_to=500k", "/scales", SCALE, "/laws", NEXT]


def keys(page: Page) -> list[str]:
    """Runs of the table, in its order."""
    return page.locator("td.key a").all_text_contents()


def drawn(seen: Watched) -> None:
    """Every figure comes, fits, and nothing is complained about."""
    seen.wait_for_charts()
    assert seen.page.locator(".plot[data-state=failed]").count() == 0
    assert seen.page.locator(".plot[data-state=drawn]:visible").count() >= 1
    assert seen.complaints == []
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= seen.page.viewport_size["width"]  # type: ignore[index]


@pytest.mark.soak
@pytest.mark.parametrize("path", PAGES)
def test_looks_right_wide_and_narrow_light_and_dark(browser: Browser, shipped_site: str, path: str) -> None:
    for width, dark in ((1280, False), (390, True)):
        with watched_page(browser, width=width, dark=dark) as seen:
            seen.page.goto(shipped_site + path)
            looks_right(seen)  # before most figures are drawn: axe reads each of their thousands of nodes
            drawn(seen)
            paper = seen.page.evaluate("document.querySelector('.plot[data-state=drawn]').layout.paper_bgcolor")
            assert (paper == "#161b22") is dark


@pytest.mark.soak
def test_the_step_law_grid_is_drawn(browser: Browser, step_law_site: str) -> None:
    for path in ("/runs?sort=loss", "/scales", "/laws"):
        with watched_page(browser) as seen:
            seen.page.goto(step_law_site + path)
            drawn(seen)


def test_sort_filter_next_page_and_curves(browser: Browser, shipped_site: str) -> None:
    with watched_page(browser) as seen:
        page = seen.page
        page.goto(f"{shipped_site}/runs")
        page.get_by_role("link", name="loss", exact=True).click()
        losses = [float(words) for words in page.locator("td[data-label=loss]").all_text_contents()]
        assert losses == sorted(losses)
        first = keys(page)
        page.get_by_role("link", name="Next page").click()
        page.wait_for_url(re.compile("cursor="))
        assert not set(first) & set(keys(page))
        page.get_by_label("Parameters, least").fill("5M")
        page.get_by_role("button", name="Filter").click()
        page.wait_for_url(re.compile("params_from=5M"))
        assert set(page.locator("td[data-label=parameters]").all_text_contents()) == {"6.04M"}
        assert page.evaluate("document.activeElement.id") == "filter"  # the focus stays on what was pressed
        for box in page.locator("input[name=run]").all()[:3]:
            box.check()
        page.get_by_role("button", name="Curves of the chosen").click()
        seen.wait_for_charts()
        assert page.get_by_role("heading", name="Curves of 3 runs", level=1).is_visible()
        assert page.evaluate("document.querySelector('.plot').data.length") == 3
        assert "that were logged" in (page.locator("figcaption p").text_content() or "")


def test_nothing_chosen_is_said(browser: Browser, shipped_site: str) -> None:
    with watched_page(browser) as seen:
        seen.page.goto(f"{shipped_site}/runs")
        seen.page.get_by_role("button", name="Curves of the chosen").click()
        assert "Choose one run or more" in (seen.page.locator("#done").text_content() or "")
        seen.page.locator("input[name=run]").first.check()
        seen.page.get_by_role("button", name="Exclude the chosen").click()
        assert "needs a reason" in (seen.page.locator("#done").text_content() or "")


def test_a_dot_of_a_scale_leads_to_its_run(browser: Browser, shipped_site: str) -> None:
    with watched_page(browser) as seen:
        seen.page.goto(f"{shipped_site}{SCALE}")
        seen.wait_for_charts()
        run = seen.page.evaluate(
            """() => {
              const place = document.querySelector('#surface .plot');
              const i = place.data.findIndex((trace) => trace.name === 'run');
              const last = place.data[i].customdata.length - 1;
              place.emit('plotly_click', { points: [{ customdata: place.data[i].customdata[last] }] });
              return place.data[i].customdata[last];
            }"""
        )
        seen.page.wait_for_url(re.compile(f"/runs/proxy_sweep/{run}"))
        assert seen.page.get_by_role("heading", name=f"Run {run}").is_visible()
        looks_right(seen)


def test_a_switch_changes_every_panel_and_back(browser: Browser, shipped_site: str) -> None:
    with watched_page(browser) as seen:
        seen.page.goto(f"{shipped_site}/scales")
        seen.wait_for_charts()
        types = "[...new Set(Object.entries(document.querySelector('.wide-only .plot')._fullLayout)"
        types += ".filter(([name]) => /^xaxis/.test(name)).map(([, axis]) => axis.type))]"
        assert seen.page.evaluate(types) == ["log"]
        switch = seen.page.locator(".wide-only").get_by_role("button", name="Logarithmic x axis")
        switch.click()
        assert seen.page.evaluate(types) == ["linear"]
        switch.click()
        assert seen.page.evaluate(types) == ["log"]


def test_exclude_with_a_reason_fit_again_and_see_what_changed(browser: Browser, own_site: str) -> None:
    with watched_page(browser) as seen:
        page = seen.page
        page.goto(f"{own_site}/runs?sort=loss")
        run = keys(page)[0]
        page.get_by_label(f"Choose {run}").check()
        page.get_by_label("Reason to exclude").fill("node failure")
        page.get_by_role("button", name="Exclude the chosen").click()
        page.wait_for_selector("#refit")
        assert "1 of 1 excluded" in (page.locator("#done").text_content() or "")
        assert page.get_by_text("excluded: node failure").count() == 1
        page.locator("#refit").click()
        page.get_by_role("link", name="what changed").click(timeout=120_000)
        page.get_by_role("button", name="What changed").click()
        page.get_by_text("1 run not as before").wait_for()
        page.locator("#compared summary", has_text="which").click()
        assert page.locator("#compared li").text_content() == f"{run}: used then, excluded by hand: node failure now"
        page.goto(f"{own_site}/runs?state=excluded")
        page.get_by_label(f"Choose {run}").check()
        page.get_by_role("button", name="Restore the chosen").click()
        page.get_by_text("1 of 1 restored").wait_for()


def test_a_plan_is_rehearsed_with_progress_and_says_what_the_job_says(browser: Browser, own_site: str) -> None:
    with watched_page(browser) as seen:
        page = seen.page
        page.goto(f"{own_site}/next?params=1B&tokens=20B&budget=40runs")
        page.locator("#rehearse").click()
        assert page.locator("#rehearse").is_disabled()
        page.locator("#rehearsed", has_text=re.compile(r"^playing the plan .*: \d+ %$")).wait_for()
        page.get_by_text("Played in 100 worlds drawn from what is known").wait_for(timeout=120_000)
        jobs = page.evaluate("fetch('/v1/jobs').then((said) => said.json())")["jobs"]
        (job,) = [job for job in jobs if job["kind"] == "rehearse"]
        words = job["result"]["words"]
        assert page.locator("#rehearsed").text_content() == f"{words[:1].upper()}{words[1:]}."
        assert page.locator("#rehearse").is_enabled()
        assert page.locator("#stop-rehearsal").is_hidden()
        page.locator("#rehearse-fits").click()
        page.locator("#stop-rehearsal").click()
        page.get_by_text("It was not rehearsed: the rehearsal was cancelled").wait_for(timeout=60_000)
        assert seen.complaints == []


def test_by_keyboard_alone_from_the_menu_to_the_lowest_loss(browser: Browser, shipped_site: str) -> None:
    with watched_page(browser) as seen:
        page = seen.page
        page.goto(f"{shipped_site}/scales")

        def tab_to(words: str, most: int = 80) -> None:
            for _ in range(most):
                page.keyboard.press("Tab")
                if (page.evaluate("document.activeElement.textContent") or "").strip() == words:
                    return
            pytest.fail(f"'{words}' is not reached by the keyboard")

        tab_to("Runs")
        page.keyboard.press("Enter")
        page.wait_for_url(re.compile("/runs"))
        tab_to("loss")
        page.keyboard.press("Enter")
        page.wait_for_url(re.compile("sort=loss"))
        best = keys(page)[0]
        tab_to(best)
        page.keyboard.press("Enter")
        page.wait_for_url(re.compile(f"/runs/proxy_sweep/{best}"))
        assert "The lowest loss of" in (page.locator("main").text_content() or "")


def test_pages_work_without_javascript(browser: Browser, shipped_site: str, tmp_path: Path) -> None:
    with watched_page(browser, javascript=False) as seen:
        page = seen.page
        page.goto(f"{shipped_site}/runs")
        page.locator("#state").select_option("finished")
        page.locator("#filter").click()
        assert len(keys(page)) == 50
        page.goto(f"{shipped_site}/scales")
        with page.expect_download() as begun:
            page.locator("#grid").click()
        begun.value.save_as(tmp_path / "grid.json")
        assert "blocks" in (tmp_path / "grid.json").read_text()


def test_what_to_run_next_is_asked_on_the_page(browser: Browser, shipped_site: str) -> None:
    with watched_page(browser, width=390) as seen:
        page = seen.page
        page.goto(shipped_site)
        page.get_by_role("link", name="Next", exact=True).click()
        for name, text in (("params", "1B"), ("tokens", "20B"), ("budget", "64runs")):
            page.fill(f"#{name}", text)
        page.click("#go")
        page.wait_for_selector("#next-title")
        drawn(seen)
        with page.expect_download() as found:
            page.click("#grid")
        assert json.loads(Path(found.value.path()).read_text())["blocks"]
        page.fill("#budget", "$5")
        page.click("#go")
        assert "needs 'FLOP/s of one GPU'" in page.inner_text(".failure")
