"""How quick the dashboard's pages are in Chromium, with 10,000 runs: python -m tests.benchmarks.dashboard [RUNS]

On loopback, each page with a cold cache: first paint, first figure, nodes, bytes that came (compressed; without
plotly.js, which is kept for good). The next page, with what the browser kept. A slider's move until the answer stands.
"""

from __future__ import annotations

import random
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lawfit import pipeline
from lawfit.records import Recipe
from lawfit.settings import data_folder
from lawfit.storage import Store
from tests.benchmarks.run_pages import made
from tests.browser import Watched, chromium, watched_page
from tests.cli.serving import served

RUNS = 10_000  # in the store, if not said otherwise
SHIPPED = 709  # of them, in the shipped sweep
TIMES = 5
ADVISOR = "advisor?params=50M&tokens=500M&recipe=proxy_sweep"
SCALE = "scales/one?recipe=proxy_sweep&params=804224&tokens=31997952"
PAGES = (
    "", ADVISOR, "plan?flops=1e17&recipe=proxy_sweep", "scales?recipe=proxy_sweep", SCALE, "laws?recipe=proxy_sweep",
    "runs?recipe=others", "runs?recipe=others&sort=loss&params_from=1e8",
)  # fmt: skip
PAINT = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? null"
SENT = """performance.getEntries().filter(each => !each.name.includes("plotly"))
  .reduce((sum, each) => sum + (each.transferSize || 0), 0)"""
MOVED = """value => new Promise(done => {
  const slider = document.getElementById("params-slider"), began = performance.now();
  new MutationObserver((_, watcher) => {
    watcher.disconnect();
    requestAnimationFrame(() => done(performance.now() - began));
  }).observe(document.getElementById("answer"), { childList: true });
  slider.value = value;
  slider.dispatchEvent(new Event("input"));
})"""


def first_paint(seen: Watched) -> float:
    """ms, once the browser tells."""
    while (told := seen.page.evaluate(PAINT)) is None:
        time.sleep(0.01)
    return float(told)


def first_figure(seen: Watched) -> float | None:
    """ms from the start until a figure is drawn, where the page has one."""
    if not seen.page.locator(".plot").count():
        return None
    seen.page.locator(".plot").first.scroll_into_view_if_needed()
    seen.page.locator(".plot svg.main-svg").first.wait_for()
    return float(seen.page.evaluate("performance.now()"))


def middle(values: Sequence[Any]) -> str:
    found = [value for value in values if value is not None]
    return f"{statistics.median(found):6.0f}" if found else "     -"


def main(runs: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with Store.open(str(folder / "lawfit.db")) as store:
            recipe = pipeline.ingest(store, data_folder() / "proxy_sweep.csv").recipes[0]
            pipeline.refit(store, recipe)
            rng = random.Random(1)
            store.put_runs(Recipe(name="others"), [made(number, rng) for number in range(runs - SHIPPED)])
        with served([sys.executable, "-m", "lawfit"], folder) as site, chromium() as browser:
            for path in PAGES:
                rows = []
                for _ in range(TIMES):
                    with watched_page(browser) as seen:
                        seen.page.goto(f"{site}/{path}")
                        nodes = seen.page.locator("*").count()
                        rows.append((first_paint(seen), first_figure(seen), nodes, seen.page.evaluate(SENT) / 1000))
                        seen.page.goto(f"{site}/{path}")
                        rows[-1] += (first_paint(seen),)
                paint, figure, nodes_, sent, again = zip(*rows, strict=True)
                print(
                    f"/{path:50} first paint {middle(paint)} ms, first figure {middle(figure)} ms, "
                    f"again {middle(again)} ms, {middle(nodes_)} nodes, {middle(sent)} kB"
                )
            with watched_page(browser) as seen:
                seen.page.goto(f"{site}/{ADVISOR}")
                moved = []
                for step in range(20):
                    moved.append(seen.page.evaluate(MOVED, f"{7.5 + step / 10:.2f}"))
                    time.sleep(0.1)
            print(f"slider to new answer {middle(moved)} ms, slowest of 20 {max(moved):.0f} ms")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else RUNS)
