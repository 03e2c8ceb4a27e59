"""Claims on runs: of all processes that train into one folder of logs, only one trains a given run at a time.

A claim is a locked file. The lock belongs to the training process itself, so it ends with it and with nothing else:
not when its launcher dies, and never later than itself.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lawfit.errors import LawfitError


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Who holds a claim."""

    job: str
    launcher: int  # process id


def take(folder: Path, job: str, names: frozenset[str]) -> int | Holder:
    """Claim all of `names` for a process that is to be started, or say who has one of them.

    Returns
    -------
    A file descriptor, to be handed to the process and closed here: the claim lasts while any process holds it open.
    """
    with _alone(folder):
        for path in sorted(folder.glob("*.claim")):
            holder = _holder(path, names)
            if holder is not None:
                return holder
        return _lock_new(folder / f"{job}.claim", {"launcher": os.getpid(), "claims": sorted(names)})


def clean(folder: Path) -> None:
    """Remove the claims that nobody holds any more."""
    with _alone(folder):
        for path in folder.glob("*.claim"):
            _holder(path, frozenset())


def _holder(path: Path, names: frozenset[str]) -> Holder | None:
    """Who holds one of the names by this file; a file that nobody holds is removed."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            content = json.loads(file.read())
            taken = not names.isdisjoint(content["claims"])
            return Holder(job=path.stem, launcher=content["launcher"]) if taken else None
        path.unlink()
    return None


def _lock_new(path: Path, content: object) -> int:
    # Whole and locked before it has its name: nobody can meet it otherwise.
    part = path.with_name(f"{path.name}.part")
    descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    os.write(descriptor, json.dumps(content).encode())
    part.replace(path)
    return descriptor


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """No other launcher looks at or makes claims meanwhile."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / "claims.lock").open("a")
    except OSError as error:
        raise LawfitError(f"{folder} cannot be written: {error.strerror}; choose another folder for the logs") from None
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
