"""Files that several workers of one test run need, made by the first that asks."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

FOLDER: Final = "LAWFIT_TEST_MADE"  # names the run's folder to its workers (`tests.conftest` makes and removes it)


def made_once(name: str, make: Callable[[Path], object]) -> Path:
    """The file of that name; `make` writes it, at the path it is given, where no worker has yet."""
    folder = Path(os.environ[FOLDER])
    path = folder / name
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            unfinished = folder / f"{name}.unfinished"
            unfinished.unlink(missing_ok=True)
            make(unfinished)
            unfinished.rename(path)
    return path
