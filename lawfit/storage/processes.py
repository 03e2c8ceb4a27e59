"""Which process of which machine one is: so that another can tell at once that it is gone."""

from __future__ import annotations

import os
from pathlib import Path


def this_process() -> str:
    """Boot of the machine, space of process ids, id and start of this process; "" where the system does not say."""
    here = _space()
    began = _began(os.getpid())
    return f"{here} {os.getpid()} {began}" if here and began else ""


def is_gone(process: str) -> bool:
    """Whether a process has ended; False of one that cannot be seen from here."""
    space, _, rest = process.rpartition(" ")
    space, _, number = space.rpartition(" ")
    return bool(space) and space == _space() and _began(int(number)) != rest


def _space() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _began(number: int) -> str:
    """When a process began, in ticks since the boot; "" of none, or of one that has ended and is not yet buried."""
    try:
        words = Path(f"/proc/{number}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if words[0] in ("Z", "X") else words[19]
