"""Grid files and packs -> trained runs. To add a launch engine: one module and one line in `backends`."""

from __future__ import annotations

from lawfit.launch.backends import BACKENDS
from lawfit.launch.backends.local import LocalLauncher
from lawfit.launch.campaign import Failure, Progress, Result, Running
from lawfit.launch.launcher import Job, JobState, JobStatus, Launcher
from lawfit.launch.options import LaunchOptions
from lawfit.launch.plan import LaunchError
from lawfit.launch.run import LaunchReport, Plan, execute, make_plan
from lawfit.proxy.pack import Pack

__all__ = [
    "BACKENDS", "Failure", "Job", "JobState", "JobStatus", "LaunchError", "LaunchOptions", "LaunchReport", "Launcher",
    "LocalLauncher", "Pack", "Plan", "Progress", "Result", "Running", "execute", "make_plan",
]  # fmt: skip
