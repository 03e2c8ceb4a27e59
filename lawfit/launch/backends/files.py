"""Where the files of a job lie, for every backend."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from lawfit.launch.launcher import Job

GRACE_SECONDS: Final = 60.0  # from the request to stop to the end without asking: time for a checkpoint
TAIL_BYTES: Final = 4000


def own_folder(logs: Path) -> Path:
    """The launchers' own, in a folder of logs."""
    return logs / ".launch"


def stderr_of(job: Job) -> Path:
    return own_folder(job.folder) / f"{job.name}.err"


def tail(path: Path) -> str:
    """The end of what was said; nothing where nothing was."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL_BYTES))
            return file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
