"""Grid files and packs -> trained runs. To add a launch engine: one module, and one line in `BACKENDS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from lawfit.launch.campaign import Failure, Progress, Result, Running
from lawfit.launch.launcher import Job, JobState, JobStatus, Launcher
from lawfit.launch.local import LocalLauncher
from lawfit.launch.options import LaunchOptions
from lawfit.launch.plan import LaunchError
from lawfit.launch.run import LaunchReport, Plan, execute, make_plan
from lawfit.train.pack import Pack

BACKENDS: Final[Mapping[str, Callable[[], Launcher]]] = MappingProxyType({LocalLauncher.name: LocalLauncher})

__all__ = [
    "BACKENDS", "Failure", "Job", "JobState", "JobStatus", "LaunchError", "LaunchOptions", "LaunchReport", "Launcher",
    "LocalLauncher", "Pack", "Plan", "Progress", "Result", "Running", "execute", "make_plan",
]  # fmt: skip
