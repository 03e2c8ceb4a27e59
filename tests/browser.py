"""A real Chromium for tests of pages: watches the console and everything that is asked for over the network."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser; without one the test is skipped, or fails where CI is set."""
    path = os.environ.get("LAWFIT_TEST_CHROMIUM") or next((p for name in NAMES if (p := shutil.which(name))), None)
    if path is None:
        message = "no Chromium found (apt-get install chromium, or name one in LAWFIT_TEST_CHROMIUM)"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Watched:
    """A page, what it asked for and what it complained about."""

    page: Page
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def wait_for_charts(self) -> None:
        """Until every figure is drawn, those below the fold as well."""
        self.page.wait_for_selector("html[data-charts]", state="attached", timeout=30_000)
        self.page.evaluate("window.dispatchEvent(new Event('lawfit:draw-all'))")
        self.page.wait_for_selector("html[data-charts=drawn]", state="attached", timeout=30_000)


@contextmanager
def watched_page(
    browser: Browser, *, width: int = 1280, javascript: bool = True, dark: bool = False, offline: bool = False
) -> Iterator[Watched]:
    """A fresh page of that width."""
    context = browser.new_context(
        viewport={"width": width, "height": 900},
        java_script_enabled=javascript,
        color_scheme="dark" if dark else "light",
        offline=offline,
    )
    page = context.new_page()
    found = Watched(page=page)
    page.on("request", lambda request: found.requests.append(request.url))
    page.on("console", lambda message: found.complaints.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: found.complaints.append(str(error)))
    try:
        yield found
    finally:
        context.close()
