"""Grid files and packs -> trained runs. To add a launch engine: one module and one line in `backends`."""

from __future__ import annotations

from lawfit.launch.backends import BACKENDS
from lawfit.launch.backends.local import LocalLauncher
from lawfit.launch.book import Book, Claim
from lawfit.launch.campaign import Failure, Progress, Result, Running
from lawfit.launch.launcher import Ending, Job, JobState, JobStatus, Launcher
from lawfit.launch.options import LaunchOptions
from lawfit.launch.plan import MAX_RUNS, LaunchError
from lawfit.launch.resources import Resources
from lawfit.launch.run import LaunchReport, Plan, execute, make_plan, try_out
from lawfit.launch.template import Template, read_template
from lawfit.proxy.pack import Pack

__all__ = [
    "BACKENDS", "MAX_RUNS", "Book", "Claim", "Ending", "Failure", "Job", "JobState", "JobStatus", "LaunchError",
    "LaunchOptions", "LaunchReport", "Launcher", "LocalLauncher", "Pack", "Plan", "Progress", "Resources", "Result",
    "Running", "Template", "execute", "make_plan", "read_template", "try_out",
]  # fmt: skip
