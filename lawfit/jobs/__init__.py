"""Jobs of the service: one at a time is claimed by each of its processes, and done by a process of its own."""

from __future__ import annotations

from lawfit.jobs.runner import Runner

__all__ = ["Runner"]
