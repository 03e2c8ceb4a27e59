"""The advisor in Chromium: its numbers are REST's, sliders move them, a setting is dragged over the valley."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2 as httpx
import pytest
from playwright.sync_api import expect

from lawfit.units import format_lr, format_percent, format_quantity
from lawfit_api.dashboard.advice import advice_of
from tests.browser import Watched, watched_page
from tests.client import TestClient
from tests.dashboard.looks import looks_right
from tests.plots.samples import sample

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ASKED = {"params": "1B", "tokens": "20B"}
QUERY = "params=1B&tokens=20B"


def rest(site: str, path: str, **query: str) -> Any:
    answer = httpx.get(f"{site}/v1/{path}", params=query, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.json()


def shown(seen: Watched, quantity: str) -> str:
    return seen.page.locator(f"[data-quantity={quantity}]").inner_text()


@pytest.mark.slow
class TestInChromium:
    def test_numbers_are_those_of_rest(self, browser: Browser, site: str) -> None:
        said = rest(site, "predictions", **ASKED)
        with watched_page(browser) as seen:
            seen.page.goto(f"{site}/advisor?{QUERY}")
            for name, write in (("lr", format_lr), ("batch_tokens", format_quantity)):
                part = said["recommendation"][name]
                words = shown(seen, name)
                assert f"{write(part['low'])} to {write(part['high'])}" in words
                assert (format_lr(part["value"]) if name == "lr" else f"{part['value']:,.0f}") in words
            assert f"{said['expected_loss']['value']:.4g}" in shown(seen, "expected_loss")
            regret = format_percent(said["expected_regret"]["loss_fraction"])
            expect(seen.page.locator(".cost")).to_contain_text(f"expected to cost {regret} of the loss")
            assert seen.page.locator(".trust.beyond").count() == 1
            # beyond the runs the interval leads: it is the large text, and the value the small one
            assert "to" in seen.page.locator("[data-quantity=lr] .big").inner_text()

    def test_a_slider_moves_the_answer_and_the_address(self, browser: Browser, site: str) -> None:
        with watched_page(browser) as seen:
            page = seen.page
            page.goto(f"{site}/advisor?{QUERY}")
            page.locator("#params-slider").focus()
            for _ in range(10):  # a tenth of a power of ten
                page.keyboard.press("ArrowRight")
            expect(page.locator("#params")).to_have_value("1.26B")
            value = rest(site, "predictions", params="1.26B", tokens="20B")["recommendation"]["lr"]["value"]
            expect(page.locator("[data-quantity=lr] .use")).to_have_text(format_lr(value))
            expect(page).to_have_url(f"{site}/advisor?params=1.26B&tokens=20B&recipe={rest_recipe(site)}")
            expect(page.locator("#params-slider")).to_be_focused()
            expect(page.locator("#more.stale")).to_have_count(0)
            page.locator("#tokens").fill("40B")
            page.locator("#tokens").press("Enter")
            value = rest(site, "predictions", params="1.26B", tokens="40B")["recommendation"]["lr"]["value"]
            expect(page.locator("[data-quantity=lr] .use")).to_have_text(format_lr(value))
            assert page.locator("#tokens-slider").input_value() == "10.6"
            page.locator("#tokens").fill("many")
            page.locator("#tokens").press("Enter")
            expect(page.get_by_role("alert")).to_contain_text("'many' is not a number")
            assert [words for words in seen.complaints if "422" not in words] == []

    def test_a_setting_is_dragged_and_its_cost_is_that_of_rest(self, browser: Browser, site: str) -> None:
        with watched_page(browser) as seen:
            page = seen.page
            page.goto(f"{site}/advisor?{QUERY}")
            seen.wait_for_charts()
            ring = page.get_by_role("button", name="Your setting")
            ring.scroll_into_view_if_needed()
            box = ring.bounding_box()
            assert box is not None
            before = page.locator("#your-lr").input_value()
            page.mouse.move(box["x"] + 13, box["y"] + 13)
            page.mouse.down()
            page.mouse.move(box["x"] + 90, box["y"] - 40, steps=4)
            page.mouse.up()
            assert page.locator("#your-lr").input_value() != before
            for _ in range(2):
                query = {
                    "lr": page.locator("#your-lr").input_value(),
                    "batch_tokens": page.locator("#your-batch").input_value(),
                }
                cost = rest(site, "settings/cost", **ASKED, **query)["regret"]["loss_fraction"]
                expect(page.locator("#your-cost")).to_contain_text(f"{format_percent(cost)} (90 %")
                ring.press("ArrowLeft")
                assert page.locator("#your-lr").input_value() != query["lr"]
            page.locator("#your-lr").fill("1e-3")
            page.locator("#your-lr").press("Tab")
            batch = page.locator("#your-batch").input_value()
            cost = rest(site, "settings/cost", **ASKED, lr="1e-3", batch_tokens=batch)["regret"]["loss_fraction"]
            expect(page.locator("#your-cost")).to_contain_text(f"{format_percent(cost)} (90 %")
            assert seen.complaints == []

    def test_axes_switch_and_figures_are_saved(self, browser: Browser, site: str, tmp_path: Path) -> None:
        with watched_page(browser) as seen:
            page = seen.page
            page.goto(f"{site}/advisor?{QUERY}")
            seen.wait_for_charts()
            plot = page.locator("#valley .plot")
            axis = "place => { const { type, range } = place._fullLayout.xaxis; return [type, [...range]]; }"
            first = plot.evaluate(axis)
            switch = page.get_by_role("button", name="Logarithmic x axis")
            switch.click()
            expect(switch).to_have_attribute("aria-pressed", "false")
            kind, ends = plot.evaluate(axis)
            assert (kind, ends) == ("linear", pytest.approx([10**end for end in first[1]], rel=1e-5))  # six digits
            switch.click()
            expect(switch).to_have_attribute("aria-pressed", "true")
            kind, ends = plot.evaluate(axis)
            assert (kind, ends) == (first[0], pytest.approx(first[1]))
            for format_, begins in (("PNG", b"\x89PNG"), ("SVG", b"<svg"), ("CSV", b"series,Peak learning rate")):
                with page.expect_download() as saved:
                    page.locator("#valley .tools").get_by_role("button", name=format_).click()
                saved.value.save_as(tmp_path / "figure")
                assert (tmp_path / "figure").read_bytes().startswith(begins)
            page.locator("#valley summary").click()
            assert page.locator("#valley details tr").nth(1).inner_text().startswith("recommended")
            assert seen.complaints == []

    def test_settings_to_paste_come_when_they_are_seen(self, browser: Browser, site: str) -> None:
        with watched_page(browser) as seen:
            page = seen.page
            page.goto(f"{site}/advisor?{QUERY}")
            expect(page.locator("#config-text")).to_contain_text("give a sequence length under Options")
            page.goto(f"{site}/advisor?{QUERY}&seq_len=1024")
            page.locator("#config").scroll_into_view_if_needed()
            text = rest(site, "configs/hf", **ASKED, seq_len="1024", world_size="8")["text"]
            expect(page.locator("#config-text")).to_have_text(text)
            page.locator("#program").select_option("torchtitan")
            page.locator("#world_size").fill("16")
            page.locator("#world_size").press("Tab")
            text = rest(site, "configs/torchtitan", **ASKED, seq_len="1024", world_size="16")["text"]
            expect(page.locator("#config-text")).to_have_text(text)

    def test_two_targets_side_by_side(self, browser: Browser, site: str) -> None:
        with watched_page(browser) as seen:
            page = seen.page
            page.goto(f"{site}/advisor?{QUERY}&params_2=100M")
            seen.wait_for_charts()
            assert page.locator("section.answer").count() == 2
            values = [
                rest(site, "predictions", params=n, tokens="20B")["recommendation"]["lr"]["value"]
                for n in ("1B", "100M")
            ]
            expect(page.locator("[data-quantity=lr] .use")).to_have_text([format_lr(value) for value in values])
            row = page.get_by_role("row", name="Peak learning rate")
            expect(row).to_contain_text(f"{values[1] / values[0]:.3g}x")
            assert page.locator(".valley svg.main-svg").count() >= 2
            looks_right(seen)

    @pytest.mark.soak
    @pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)], ids=["wide and light", "narrow and dark"])
    @pytest.mark.parametrize(
        "path", ["", f"advisor?{QUERY}&seq_len=1000", "advisor?params=x&tokens=20B", "plan?flops=1e20"]
    )
    def test_each_page_looks_right(self, browser: Browser, site: str, path: str, dark: bool, width: int) -> None:
        with watched_page(browser, width=width, dark=dark) as seen:
            seen.page.goto(f"{site}/{path}")
            seen.wait_for_charts()
            looks_right(seen, refused="=x" in path)
            if dark and "1B" in path:
                assert seen.page.evaluate("document.querySelector('.plot').layout.paper_bgcolor") == "#161b22"

    def test_a_page_is_light(self, browser: Browser, site: str) -> None:
        with watched_page(browser) as seen:
            seen.page.goto(f"{site}/advisor?{QUERY}")
            assert seen.page.locator("*").count() <= 1500
            loaded = seen.page.evaluate(
                "performance.getEntries().filter(e => !e.name.includes('plotly')).map(e => e.transferSize || 0)"
            )
            assert 10_000 < sum(loaded) < 300_000  # bytes, compressed


def rest_recipe(site: str) -> str:
    return str(rest(site, "recipes")["recipes"][0]["name"])


class TestWithoutABrowser:
    def test_without_a_target_it_begins_beyond_the_largest_run(self, client: TestClient) -> None:
        page = client.get("/advisor").text
        assert 'value="900M"' in page  # five times 180M
        assert 'value="36B"' in page
        assert "900M parameters, 36B tokens" in page

    def test_the_report_is_a_file(self, client: TestClient) -> None:
        report = client.get("/advisor/report", params=ASKED)
        assert report.status_code == 200
        assert rest_id(client) in report.text

    @pytest.mark.parametrize(
        ("part", "more", "status", "sentence"),
        [
            pytest.param("answer", {"params": "x"}, 422, "is not a number", id="no number"),
            pytest.param("answer", {"recipe": "nowhere"}, 404, "nowhere", id="no recipe"),
            pytest.param("setting", {"lr": "fast"}, 422, "fast", id="no rate"),
            pytest.param("setting", {}, 422, "missing", id="a rate is missing"),
            pytest.param(
                "setting", {"lr": "1e-3", "batch_tokens": "1e15"}, 422, "larger than the whole run", id="no batch"
            ),
            pytest.param("valley", {"tokens": ""}, 422, "a number is needed", id="half a target"),
            pytest.param("report", {"fit": "nothing"}, 404, "nothing", id="no fit"),
        ],
    )
    def test_what_cannot_be_is_a_sentence(
        self, client: TestClient, part: str, more: dict[str, str], status: int, sentence: str
    ) -> None:
        headers = {"Accept": "text/html", "X-Fragment": "yes"}
        answer = client.get(f"/advisor/{part}", params={**ASKED, **more}, headers=headers)
        assert (answer.status_code, "<html" in answer.text) == (status, False)
        assert sentence in answer.text

    def test_a_figure_is_data(self, client: TestClient) -> None:
        told = json.loads(client.get("/advisor/valley", params=ASKED).text)
        assert told["figure"]["data"][0]["type"] == "contour"
        assert told["table"]["rows"][0][0] == "recommended"


def rest_id(client: TestClient) -> str:
    return str(client.get("/v1/predictions", params=ASKED).json()["id"])


class TestAdvice:
    def test_bars_have_one_scale_and_hold_their_marks(self) -> None:
        advice = advice_of(sample().document, sample().fit.payload["cells"])
        bars = {row.name: row.bar for row in advice.rows if row.bar is not None}
        assert {"lr", "batch_tokens", "expected_loss"} <= bars.keys()
        widths = {}
        for name, bar in bars.items():
            assert 0 <= bar.low <= bar.value <= bar.high <= 100
            part = sample().document["recommendation"].get(name) or sample().document[name]
            widths[name] = (bar.high - bar.low) / (part["high"] / part["low"] - 1)
        lr, batch = (sample().document["recommendation"][name] for name in ("lr", "batch_tokens"))
        wider = "lr" if lr["high"] / lr["low"] > batch["high"] / batch["low"] else "batch_tokens"
        narrower = "batch_tokens" if wider == "lr" else "lr"
        assert bars[wider].high - bars[wider].low > bars[narrower].high - bars[narrower].low

    def test_the_target_beyond_the_runs_is_said_once(self) -> None:
        advice = advice_of(sample().document, sample().fit.payload["cells"])
        assert advice.trust.startswith("Beyond your runs, ")
        assert not any("beyond the runs in parameters" in words for words in advice.warnings)
        assert any("beyond the runs in parameters" in words for words in told_warnings())


def told_warnings() -> list[str]:
    from lawfit.words import told

    return list(told(sample().document["warnings"]))
