"""What the OpenAPI document promises, asked by a program that reads it: few requests here, more with `campaign`."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("schemathesis")

from tests.outside.campaign import Found, each_operation, linked, swept_service


@pytest.mark.soak
def test_answers_are_as_described(database_url: str, tmp_path: Path) -> None:
    found = Found()
    with swept_service(tmp_path, database_url) as (address, known):
        each_operation(address, known, found, examples=12)
        linked(address, found, walks=10)
    assert not found.failures, found.told()
    reached = {name for (name, status) in found.answers if status < 300}
    assert len(reached) > 25, found.told()  # of 30: requests that are all refused try nothing
