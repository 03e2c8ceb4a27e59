"""One job at a time, its command line and all that it says shown: to see why a pack fails."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from lawfit.launch.backends.local import LocalLauncher
from lawfit.launch.launcher import Job, JobState, JobStatus
from lawfit.launch.resources import Resources


class DebugLauncher(LocalLauncher):
    """On the first of the GPUs, whatever the workers that were asked for."""

    name: ClassVar[str] = "debug"

    def __init__(
        self,
        gpus: Sequence[str] = (),
        *,
        workers: int = 1,
        resources: Resources = Resources(),  # noqa: B008 - frozen
    ) -> None:
        if workers < 1:
            raise ValueError(f"one process or more per GPU, got {workers}")
        super().__init__(gpus[: resources.gpus_per_job or 1], resources=replace(resources, jobs_at_a_time=1))
        self._shown: set[str] = set()  # of jobs whose end was told

    def submit(self, job: Job) -> None:
        print(f"+ {shlex.join(job.command)}", file=sys.stderr)
        self._shown.discard(job.name)
        super().submit(job)

    def state(self, name: str) -> JobState:
        found = super().state(name)
        if found.status is JobStatus.ENDED and name not in self._shown:
            self._shown.add(name)
            print(f"{self.logs(name)}- {name}: exit code {found.exit_code}", file=sys.stderr)
        return found
