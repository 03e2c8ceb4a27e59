"""What launches gave to a cluster from a folder of logs, in files: so that no run is given to it twice.

A batch is written before it is submitted, by one launch at a time, and is the claim on its runs until its jobs are
over. Launches may run on different machines that share the folder, over a file system that need not carry locks from
one to the other: exclusion is by making a file that must not exist, which every file system does for one alone.
A launch that died leaves its batches; the next one that wants their runs takes them over.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

BEAT_SECONDS: Final = 10.0  # between two signs of life of a launch
STALE_SECONDS: Final = 120.0  # without any: it is gone, on whatever machine it was
LOCK_SECONDS: Final = 30.0  # the longest that a batch takes to be written, by far


@dataclass
class Batch:
    """Jobs that were submitted at once."""

    path: Path
    shared: Mapping[str, Any]  # what holds for all of them; see `node.Node`
    jobs: Sequence[Mapping[str, Any]]  # name, command, claims, watched
    launcher: str
    host: str  # of the launcher
    process: int
    id: str = ""  # the scheduler's, once it has answered

    @property
    def token(self) -> str:
        """Tells it from every other."""
        return self.path.name.removesuffix(".batch")


class Ledger:
    """The batches of a folder, and this launch's place among the launches there.

    Parameters
    ----------
    folder : is made
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.launcher, self.host = folder, uuid.uuid4().hex[:12], socket.gethostname()
        folder.mkdir(parents=True, exist_ok=True)
        self._alive = self._alive_of(self.launcher).open("w")
        fcntl.flock(self._alive, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._beaten = time.monotonic()
        self._read: dict[Path, tuple[int, Batch]] = {}

    def beat(self) -> None:
        """Say, now and then, that this launch is alive."""
        if time.monotonic() - self._beaten > BEAT_SECONDS:
            self._beaten = time.monotonic()
            os.utime(self._alive_of(self.launcher))

    def new(self, shared: Mapping[str, Any], jobs: Sequence[Mapping[str, Any]]) -> Batch:
        path = self.folder / f"{uuid.uuid4().hex[:12]}.batch"
        batch = Batch(path, shared, jobs, self.launcher, self.host, os.getpid())
        self.save(batch)
        return batch

    def save(self, batch: Batch) -> None:
        content = {
            "shared": batch.shared, "jobs": batch.jobs, "launcher": batch.launcher, "host": batch.host,
            "process": batch.process, "id": batch.id,
        }  # fmt: skip
        part = batch.path.with_suffix(f".{self.launcher}.part")
        part.write_text(json.dumps(content))
        part.replace(batch.path)

    def take_over(self, batch: Batch) -> bool:
        """Make a dead launch's batch this one's, unless another was quicker."""
        with self.alone():
            try:
                now = json.loads(batch.path.read_bytes())
            except FileNotFoundError:
                return False
            if now["launcher"] != batch.launcher:
                return False
            self._alive_of(batch.launcher).unlink(missing_ok=True)  # whatever else it left is without a launch, too
            batch.launcher, batch.host, batch.process = self.launcher, self.host, os.getpid()
            self.save(batch)
        return True

    def others(self) -> list[Batch]:
        """The batches of other launches, dead or alive."""
        found = []
        for path in sorted(self.folder.glob("*.batch")):
            with contextlib.suppress(FileNotFoundError):  # its launch has just ended
                changed = path.stat().st_mtime_ns
                if self._read.get(path, (0, None))[0] != changed:
                    self._read[path] = changed, Batch(path, **json.loads(path.read_bytes()))
                found.append(self._read[path][1])
        return [batch for batch in found if batch.launcher != self.launcher]

    def lives(self, batch: Batch) -> bool:
        """Whether the launch of a batch still follows it."""
        path = self._alive_of(batch.launcher)
        try:
            with path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Nobody holds it as far as this machine can tell: true of its own processes, and perhaps of others'.
            return batch.host != self.host and self._age(path) < STALE_SECONDS
        except BlockingIOError:
            return True
        except FileNotFoundError:
            return False

    @contextmanager
    def alone(self) -> Iterator[None]:
        """No other launch, on whatever machine, writes or takes over batches meanwhile."""
        path = self.folder / "ledger.lock"
        while True:
            try:
                os.close(os.open(path, os.O_CREAT | os.O_EXCL))
                break
            except FileExistsError:
                with contextlib.suppress(FileNotFoundError):
                    if self._age(path) > LOCK_SECONDS:  # whoever made it died within these few lines
                        broken = path.with_name(f"{self.launcher}.broken")
                        path.rename(broken)  # one of those that notice gets it
                        broken.unlink()
                time.sleep(0.02)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)

    def forget(self, batch: Batch) -> None:
        """Remove a batch whose jobs are over."""
        for path in self.folder.glob(f"{batch.token}.*"):
            path.unlink(missing_ok=True)

    def close(self) -> None:
        self._alive_of(self.launcher).unlink(missing_ok=True)
        self._alive.close()

    def _alive_of(self, launcher: str) -> Path:
        return self.folder / f"{launcher}.alive"

    def _age(self, path: Path) -> float:
        """Seconds since a file changed, by the clock that stamps files."""
        mark = self.folder / f"{self.launcher}.now"
        mark.touch()
        now = mark.stat().st_mtime
        mark.unlink()
        return now - path.stat().st_mtime
