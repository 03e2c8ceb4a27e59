"""Claims on runs: of all processes that train into one folder of logs, only one trains a given run at a time.

A claim is a locked file. The lock belongs to the training process itself, so it ends with it and with nothing else:
not when its launcher dies, and never later than itself. Between machines it holds where the file system they share
carries locks from one to the other, as NFS and most parallel ones do; `backends.ledger` does not count on that.

Jobs on machines of a cluster load this file by its path (see `backends.node`): it imports the standard library alone.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Who holds a claim."""

    job: str
    launcher: int  # process id
    host: str

    def __str__(self) -> str:
        on = "" if self.host == socket.gethostname() else f" on {self.host}"
        return f"job {self.job} of process {self.launcher}{on}"


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
        content = {"launcher": os.getpid(), "host": socket.gethostname(), "claims": sorted(names)}
        return _lock_new(folder / f"{job}.claim", content)


def taken(folder: Path) -> dict[str, Holder]:
    """Who holds what, of all that is claimed now."""
    with _alone(folder):
        found: dict[str, Holder] = {}
        for path in folder.glob("*.claim"):
            if (content := _content(path)) is not None:
                found |= dict.fromkeys(content["claims"], _of(path, content))
        return found


def clean(folder: Path) -> None:
    """Remove the claims that nobody holds any more."""
    with _alone(folder):
        for path in folder.glob("*.claim"):
            _holder(path, frozenset())


def _holder(path: Path, names: frozenset[str]) -> Holder | None:
    """Who holds one of the names by this file; a file that nobody holds is removed."""
    content = _content(path)
    return None if content is None or names.isdisjoint(content["claims"]) else _of(path, content)


def _of(path: Path, content: dict[str, Any]) -> Holder:
    return Holder(job=path.stem, launcher=content["launcher"], host=content["host"])


def _content(path: Path) -> dict[str, Any] | None:
    """Of a claim that is held; a file that nobody holds is removed."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            content: dict[str, Any] = json.loads(file.read())
            return content
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
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "claims.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
