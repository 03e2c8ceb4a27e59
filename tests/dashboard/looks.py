"""What holds of every page in a browser: it fits, fetches nothing from elsewhere, has no complaint, pleases axe."""

from __future__ import annotations

from urllib.parse import urlsplit

from axe_playwright_python.sync_playwright import Axe

from tests.browser import Watched


def looks_right(seen: Watched, *, refused: bool = False) -> None:
    """Asserts it of the page as it is now.

    Parameters
    ----------
    refused : a request was meant to be refused, which a browser tells on its console
    """
    page = seen.page
    origin = "{0.scheme}://{0.netloc}/".format(urlsplit(page.url))
    assert [url for url in seen.requests if not url.startswith((origin, "data:", "blob:"))] == []
    complaints = [words for words in seen.complaints if not (refused and "Failed to load resource" in words)]
    assert complaints == []
    width = (page.viewport_size or {"width": 0})["width"]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    found = Axe().run(page).response["violations"]
    assert [(each["id"], each["help"], [node["html"][:200] for node in each["nodes"]]) for each in found] == []
