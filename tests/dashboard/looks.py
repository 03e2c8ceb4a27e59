"""What holds of every page in a browser: it fits, fetches nothing from elsewhere, has no complaint, pleases axe."""

from __future__ import annotations

import base64
import statistics
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


BLOCKS = (32, 24)  # across and down, of what is seen without scrolling
GREY = """async ([address, across, down]) => {
  const image = new Image();
  image.src = address;
  await image.decode();
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [across, down];
  const paper = canvas.getContext("2d");
  paper.imageSmoothingQuality = "high";
  paper.drawImage(image, 0, 0, across, down);
  const bytes = paper.getImageData(0, 0, across, down).data;
  const grey = (i) => Math.round((bytes[4 * i] + bytes[4 * i + 1] + bytes[4 * i + 2]) / 3);
  return Array.from({ length: across * down }, (_, i) => grey(i));
}"""


def blocks_of(seen: Watched) -> list[int]:
    """What is seen now, as a few grey blocks: where things lie, not how letters are drawn."""
    picture = base64.b64encode(seen.page.screenshot(animations="disabled")).decode()
    blank = seen.page.context.new_page()
    found: list[int] = blank.evaluate(GREY, [f"data:image/png;base64,{picture}", *BLOCKS])
    blank.close()
    return found


def apart(one: list[int], other: list[int]) -> float:
    """How far two looks are from each other: 0 the same, 1 where what is ink in one is paper in the other."""
    ink = sum(abs(block - statistics.median(look)) for look in (one, other) for block in look)
    return sum(abs(a - b) for a, b in zip(one, other, strict=True)) / ink
