"""All numbers of the fits of eleven made recipes: none moves unnoticed."""

from __future__ import annotations

import pytest

from tests.golden_numbers import check
from tests.golden_stores import STORES, fitted


@pytest.mark.parametrize("name", STORES)
def test_no_number_moves(name: str, update_golden: bool) -> None:
    with fitted(name) as store:
        found = {fit.kind: {"status": fit.status.value, **fit.payload} for fit in store.fits()}
    check(f"fits_{name}", found, update=update_golden)
