"""What a launch engine does: takes command lines, runs them where there is room, and tells how they are.

Results never come back through it: a job writes its logs into a folder, and whoever wants them reads that.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, kw_only=True)
class Job:
    """One command line that wants one GPU (or a share of one)."""

    name: str  # no two jobs of a launcher have the same
    command: tuple[str, ...]
    folder: Path  # of what it writes; its own files lie there in `.launch`
    claims: frozenset[str] = frozenset()  # of two jobs on one folder that claim the same, one waits for the other


class JobStatus(StrEnum):
    """Where a job is in its life."""

    QUEUED = "queued"  # waits for room, or for another job's claim
    RUNNING = "running"
    ENDED = "ended"  # see the exit code


@dataclass(frozen=True, kw_only=True)
class JobState:
    """How a job is."""

    status: JobStatus
    place: str = ""  # "gpu 0", "cpu"; where it runs or ran
    exit_code: int | None = None  # once ended; -9 when killed by signal 9; None when cancelled before its start
    cancelled: bool = False  # somebody asked for its end
    waits_for: str = ""  # who holds what it claims


class Launcher(Protocol):
    """One way to run jobs. To add one: a module in `backends` with such a class, and its line there."""

    @property
    def name(self) -> str:
        """How `--backend` calls it."""

    @property
    def places(self) -> int:
        """How many jobs can run at a time."""

    def submit(self, job: Job) -> None:
        """Queue a job; jobs start in the order in which they were submitted.

        Raises
        ------
        ValueError
            A job of that name is not over yet.
        """

    def state(self, name: str) -> JobState:
        """How the job of that name is."""

    def cancel(self, name: str) -> None:
        """Ask a job to stop; one that does not in good time is ended without asking."""

    def logs(self, name: str) -> str:
        """The end of what the job said on stderr."""

    def close(self) -> None:
        """End what still runs, at once."""
