"""Which worker runs what, and when: long files first, so that no worker waits for another at the end."""

from __future__ import annotations

from typing import Any, Final

import pytest
from xdist.scheduler import LoadFileScheduling

TOGETHER: Final = "tests/dashboard"  # share servers, fits and a browser
LONG: Final = (  # files that take more than ten seconds, in few tests; campaigns first, of minutes
    "tests/launch/test_clusters.py",
    "tests/study/test_killed.py",
    "tests/ingest/formats/test_damage.py",
    "tests/api/test_service_page.py",
    "tests/faults/test_launches.py",
    "tests/launch/test_slurm.py",
    "tests/outside/test_hostile.py",
    TOGETHER,
    "tests/estimate/test_golden_fits.py",
    "tests/test_packaging.py",
    "tests/launch/test_launch.py",
    "tests/advise/test_third_input.py",
    "tests/estimate/lr_batch/test_withheld.py",
    "tests/estimate/lr_batch/test_analysis.py",
    "tests/advise/test_every_law.py",
    "tests/estimate/loss/test_third.py",
    "tests/estimate/schedules/test_study.py",
    "tests/api/test_jobs.py",
    "tests/storage/test_many_processes.py",
    "tests/advise/test_loss_alone.py",
    "tests/cli/test_schedules.py",
)


class ByFile(LoadFileScheduling):
    """A file goes to one worker, and so do the files that share most."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return TOGETHER if file.startswith(f"{TOGETHER}/") else file

    def schedule(self) -> None:
        self.config.option.loadscopereorder = False  # by how many tests they have
        super().schedule()


def sorted_by_turn(items: list[pytest.Item]) -> list[pytest.Item]:
    """Tests, those of long files first, else in the order they were in."""

    def turn(item: pytest.Item) -> int:
        return next((place for place, name in enumerate(LONG) if item.nodeid.startswith(name)), len(LONG))

    return sorted(items, key=turn)


def scheduler(config: pytest.Config, log: Any) -> ByFile | None:
    """What `--dist loadfile` means here; any other is xdist's own."""
    return ByFile(config, log) if config.getvalue("dist") == "loadfile" else None
