"""Pages look as they did when somebody looked at them: small grey references in tests/golden/looks.json."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.browser import watched_page
from tests.dashboard.looks import apart, blocks_of

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.slow

REFERENCES = Path(__file__).parent.parent / "golden" / "looks.json"
TOLERANCE = 0.3  # letters of another font, a line that breaks elsewhere; two pages are further apart
PAGES = {
    "home": ("", 1280, False),
    "home, narrow and dark": ("", 390, True),
    "advisor": ("advisor?params=1B&tokens=20B", 1280, False),
    "advisor, narrow and dark": ("advisor?params=1B&tokens=20B", 390, True),
    "scales": ("scales", 1280, False),
    "laws": ("laws", 1280, False),
    "runs": ("runs?sort=loss", 1280, False),
}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_looks_as_it_did(browser: Browser, site: str, name: str, update_golden: bool) -> None:
    path, width, dark = PAGES[name]
    with watched_page(browser, width=width, dark=dark) as seen:
        seen.page.goto(f"{site}/{path}")
        seen.page.wait_for_selector("html[data-charts=drawn]", state="attached")
        found = blocks_of(seen)
    kept = json.loads(REFERENCES.read_text())
    if update_golden:
        kept[name] = found
        REFERENCES.write_text(json.dumps(kept, separators=(",", ":")).replace("],", "],\n") + "\n")
    assert apart(found, kept[name]) <= TOLERANCE


def test_references_tell_pages_apart() -> None:
    kept = json.loads(REFERENCES.read_text())
    assert kept.keys() == PAGES.keys()
    for one, other in itertools.combinations(kept, 2):
        assert apart(kept[one], kept[other]) > 1.3 * TOLERANCE, (one, other)
        assert apart(kept[one], [kept[one][0]] * len(kept[one])) > 2 * TOLERANCE, one  # an empty page
