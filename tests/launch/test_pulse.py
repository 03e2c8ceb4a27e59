"""When a job is taken for hung."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from lawfit.launch.backends.node import Pulse


@pytest.mark.parametrize("inside", ["log.csv", "deeper/metrics.jsonl"])
def test_a_file_that_grows_anywhere_in_a_folder_is_a_pulse(tmp_path: Path, inside: str) -> None:
    file = tmp_path / "run" / inside
    pulse = Pulse([tmp_path / "run", tmp_path / "not there"], 0.2)
    assert not pulse.stopped
    file.parent.mkdir(parents=True)
    for number in range(4):
        file.write_text("x" * (number + 1))
        assert not pulse.stopped
        time.sleep(0.1)
    time.sleep(0.25)
    assert pulse.stopped


def test_nobody_who_is_not_watched_hangs(tmp_path: Path) -> None:
    assert not Pulse([], 0.0).stopped
    assert not Pulse([tmp_path], None).stopped
