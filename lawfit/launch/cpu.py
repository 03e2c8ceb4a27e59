"""How many threads a process that trains on the CPU may take, by what else runs here.

Threads that wait for each other at every operation do so for the slowest: beside two busy processes on two cores, two
threads train at a small part of the speed of one.
"""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SAMPLE_SECONDS: Final = 0.3
_STAT: Final = Path("/proc/stat")
_QUOTAS: Final = (Path("/sys/fs/cgroup/cpu.max"), Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"))
_PERIOD: Final = Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us")
_ROUND: Final = 0.25  # of a core: so much more than is idle is taken for idle, as sampling is rough


@dataclass(frozen=True, kw_only=True)
class Cores:
    """The cores that this process may use."""

    count: float  # by affinity and quota
    busy: float  # of these, with what runs here already

    def threads(self, processes: int) -> int:
        """For each of so many processes: those that are idle, shared out; one at least."""
        return max(1, math.floor((self.count - self.busy + _ROUND) / processes))

    def words(self, processes: int) -> str:
        """``2 threads``; where others are busy, also with how many cores."""
        threads = self.threads(processes)
        said = f"{threads} thread{'s' * (threads != 1)}"
        if self.busy < _ROUND:
            return said
        return f"{said}, as {self.busy:.1f} of {self.count:.3g} cores are busy"


def look(seconds: float = SAMPLE_SECONDS) -> Cores:
    """Look at the cores for a moment."""
    own = _own_cores()
    busy = _busy(own, seconds)
    quota = _quota()
    count = float(len(own)) if quota is None else min(quota, float(len(own)))
    return Cores(count=max(1.0, count), busy=min(busy, count))


def _own_cores() -> frozenset[int]:
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def _quota() -> float | None:
    """Cores that the container's share amounts to; None where there is no limit."""
    try:
        words = _QUOTAS[0].read_text(encoding="ascii").split()
    except OSError:
        try:
            words = [_QUOTAS[1].read_text(encoding="ascii").strip(), _PERIOD.read_text(encoding="ascii").strip()]
        except OSError:
            return None
    try:
        quota, period = float(words[0]), float(words[1])
    except (ValueError, IndexError):  # "max": no limit
        return None
    return quota / period if quota > 0 and period > 0 else None


def _busy(own: frozenset[int], seconds: float) -> float:
    """Of some cores, how many were at work."""
    before = _times(own)
    if before is None:
        try:
            return os.getloadavg()[0]
        except OSError:
            return 0.0
    time.sleep(seconds)
    after = _times(own)
    if after is None or after[1] <= before[1]:
        return 0.0
    return len(own) * (after[0] - before[0]) / (after[1] - before[1])


def _times(own: frozenset[int]) -> tuple[float, float] | None:
    """Ticks that cores were at work, and all of their ticks (proc(5)); None where the system does not say."""
    work, total = 0.0, 0.0
    try:
        lines = _STAT.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    for name, *ticks in (line.split() for line in lines):
        if name.startswith("cpu") and name[3:].isdigit() and int(name[3:]) in own:
            numbers = [float(each) for each in ticks[:8]]  # what follows is counted in these already
            total += sum(numbers)
            work += sum(numbers) - numbers[3] - numbers[4]  # idle, and waiting for disks
    return (work, total) if total else None
