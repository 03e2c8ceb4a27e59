"""What a launch engine does: takes command lines, runs them where there is room, and tells how they are.

Results never come back through it: a job writes its logs into a folder, and whoever wants them reads that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import ClassVar, Protocol

from lawfit.launch.resources import Resources


@dataclass(frozen=True, kw_only=True)
class Job:
    """One command line, run in the launcher's working folder with its environment."""

    name: str  # no two jobs of a launcher have the same
    command: tuple[str, ...]
    folder: Path  # of what it writes; its own files lie there in `.launch`
    claims: frozenset[str] = frozenset()  # of two jobs on one folder that claim the same, one waits for the other
    watched: tuple[Path, ...] = ()  # files, and folders of files, of which one grows unless the job hangs


class JobStatus(StrEnum):
    """Where a job is in its life."""

    QUEUED = "queued"  # waits for room, or for another job's claim
    RUNNING = "running"
    ENDED = "ended"  # see the exit code


class Ending(StrEnum):
    """Why a job ended, where its exit code does not tell."""

    WALLTIME = "walltime"
    PREEMPTED = "preempted"
    NODE = "node"  # what it ran on is gone
    MEMORY = "memory"  # killed because it took too much
    HUNG = "hung"  # said nothing for too long
    CLAIMED = "claimed"  # another job holds what it claims


@dataclass(frozen=True, kw_only=True)
class JobState:
    """How a job is."""

    status: JobStatus
    place: str = ""  # "gpu 0", "cpu", "n7 gpu 2 (Slurm 812_3)"; where it runs or ran
    host: str = ""  # the machine's name
    exit_code: int | None = None  # once ended; -9 when killed by signal 9; None when cancelled before its start
    ending: Ending | None = None
    cancelled: bool = False  # somebody asked for its end
    waits_for: str = ""  # who holds what it claims


class Launcher(Protocol):
    """One way to run jobs. To add one: a module in `backends` with such a class, and its line there.

    Parameters
    ----------
    gpus : texts
        GPUs of this machine that may be used; empty: the CPU. Always empty where the backend brings its own machines.
    workers : int
        Jobs at a time on each GPU (or on the CPU).
    resources : Resources
        Of each job; without `gpus_per_job`, none where the backend brings its own machines.

    Raises
    ------
    LaunchError
        It cannot run anything here: a program or package is missing, or a cluster does not answer.
    """

    name: ClassVar[str]  # how `--backend` calls it
    honours: ClassVar[frozenset[str]]  # names of `Resources` that it has a say in
    elsewhere: ClassVar[bool]  # jobs run on machines of its own choice: GPUs of this one do not matter

    def __init__(self, gpus: Sequence[str] = (), *, workers: int = 1, resources: Resources = ...) -> None: ...

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
        """How the job of that name is.

        Raises
        ------
        LaunchError
            The first jobs were refused: nothing runs.
        """

    def cancel(self, name: str) -> None:
        """Ask a job to stop; one that does not in good time is ended without asking."""

    def logs(self, name: str) -> str:
        """The end of what the job said on stderr."""

    def close(self) -> None:
        """End what still runs, at once."""
