"""Runs one job of a batch on a machine of a cluster, and writes down how it went: `python node.py BATCH INDEX`.

A script of its own, on the standard library alone: whatever the cluster, a job is this command line. It takes the
job's claims, starts the command, passes a request to stop on to it with time for a checkpoint, ends it shortly before
its walltime or when it hangs, and leaves nothing running behind it. What it knows stands in `BATCH`.INDEX.start.json
and `.end.json` beside the batch, each in one piece or not at all: whoever shares the folder needs to ask no scheduler.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType, ModuleType
from typing import Final

PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h
CHILD: Final = Path(__file__).with_name("child.py")
CLAIMS: Final = Path(__file__).parent.with_name("claims.py")
LOOK_SECONDS: Final = 0.1
CLAIM_SECONDS: Final = 300.0  # to wait for what another process still holds: one that was told to end, mostly
_MOST_FILES: Final = 1000  # of a folder that is watched
CLAIMED: Final = 75  # exit code: the other process goes on
STOPS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)  # the last: Slurm says that the walltime is near


class Pulse:
    """Whether any of some files, or of those in some folders, grew within a time."""

    def __init__(self, files: Sequence[Path], seconds: float | None) -> None:
        self._files, self._seconds = files, seconds
        self._seen: object = None
        self._since = time.monotonic()

    @property
    def stopped(self) -> bool:
        if self._seconds is None or not self._files:
            return False
        files = [each for file in self._files for each in _within(file)]
        seen = [(found.st_size, found.st_mtime_ns) for file in files if (found := _stat(file)) is not None]
        if seen != self._seen:
            self._seen, self._since = seen, time.monotonic()
        return time.monotonic() - self._since > self._seconds


def _within(place: Path) -> list[Path]:
    """The files of a folder, as far as the first `_MOST_FILES`; a file is itself."""
    found: list[Path] = []
    for folder, _, names in os.walk(place):
        found += [Path(folder, name) for name in sorted(names)]
        if len(found) >= _MOST_FILES:
            break
    return found or [place]


def _stat(file: Path) -> os.stat_result | None:
    with contextlib.suppress(OSError):
        return file.stat()
    return None


def record_of(batch: Path, index: int, what: str) -> Path:
    """Where a job of a batch writes down its "start" and its "end"."""
    return batch.with_suffix(f".{index}.{what}.json")


class Node:
    """One job on the machine that it was given.

    Parameters
    ----------
    batch : file of jobs, with what holds for all of them; see `backends.ledger`
    index : of the job
    """

    def __init__(self, batch: Path, index: int) -> None:
        content = json.loads(batch.read_bytes())
        self.batch, self.index, self.shared, self.job = batch, index, content["shared"], content["jobs"][index]
        self.folder = Path(self.shared["folder"])
        self.errors = self.folder / f"{self.job['name']}.err"
        self.asked: int | None = None  # the first signal to stop

    def stop(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self.asked = self.asked or number

    def run(self) -> int:
        """To the end of the command; its exit code, negative for a signal."""
        for number in STOPS:
            signal.signal(number, self.stop)
        os.chdir(self.shared["cwd"])
        record_of(self.batch, self.index, "end").unlink(missing_ok=True)  # begun again by the scheduler
        claim = self._claim()
        if claim is None:
            self.write("end", exit_code=CLAIMED, ending=None if self.asked else "claimed", signalled=bool(self.asked))
            return CLAIMED
        gpus = os.environ.get("CUDA_VISIBLE_DEVICES", "") if self.shared["gpus"] else ""
        self.write("start", host=os.environ.get("SLURMD_NODENAME") or socket.gethostname(), gpus=gpus)
        process = self._start(claim)
        code, ending = self._follow(process)
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)  # helpers that it left behind
        with contextlib.suppress(OSError):
            if not self.errors.stat().st_size:
                self.errors.unlink()
        self.write("end", exit_code=code, ending=ending, signalled=self.asked is not None and ending is None)
        return code

    def _claim(self) -> int | None:
        """A lock on all runs of the job; None where another process keeps one of them, or this one is to stop."""
        claims = _load(CLAIMS)
        end = time.monotonic() + CLAIM_SECONDS
        while self.asked is None:
            found = claims.take(self.folder, self.job["name"], frozenset(self.job["claims"]))
            if isinstance(found, int):
                return found
            if time.monotonic() > end:
                self.errors.write_text(f"its runs are being trained by {found}\n")
                break
            time.sleep(LOOK_SECONDS)
        return None

    def _start(self, claim: int) -> subprocess.Popen[bytes]:
        environment = dict(os.environ)
        if not self.shared["gpus"]:
            environment["CUDA_VISIBLE_DEVICES"] = ""
        if self.shared["cpus"] is not None or "OMP_NUM_THREADS" not in environment:
            environment["OMP_NUM_THREADS"] = str(self.shared["cpus"] or 1)
        with self.errors.open("wb") as errors:
            try:
                return subprocess.Popen(
                    [sys.executable, "-IS", str(CHILD), str(os.getpid()), *self.job["command"]],
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=errors,
                    pass_fds=(claim,),
                    start_new_session=True,
                )
            finally:
                os.close(claim)

    def _follow(self, process: subprocess.Popen[bytes]) -> tuple[int, str | None]:
        """The command's exit code, and why it was ended, where this process knows."""
        began, kill_at, ending = time.monotonic(), None, None
        pulse = Pulse([*map(Path, self.job["watched"]), self.errors], self.shared["hung_after"])
        limit = self.shared["stop_after"]
        while (code := process.poll()) is None:
            now = time.monotonic()
            if kill_at is None:
                late = self.asked == signal.SIGUSR2 or (limit is not None and now - began > limit)
                hangs = pulse.stopped
                if self.asked is not None or late or hangs:
                    ending = "walltime" if late else "hung" if hangs and self.asked is None else None
                    kill_at = now + self.shared["grace"]
                    process.terminate()
            elif now > kill_at:
                os.killpg(process.pid, signal.SIGKILL)
            time.sleep(LOOK_SECONDS)
        return code, ending

    def write(self, what: str, **record: object) -> None:
        """Write down the start or the end of the job."""
        path = record_of(self.batch, self.index, what)
        part = path.with_suffix(f".{os.getpid()}.part")
        part.write_text(json.dumps(record))
        part.replace(path)


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # where dataclasses look for the names of their types
    spec.loader.exec_module(module)
    return module


def main() -> int:
    if sys.platform == "linux":  # what started this may be killed in a way that it cannot pass on
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    batch, index = Path(sys.argv[1]), int(sys.argv[2])
    code = Node(batch, index).run()
    said = batch.with_suffix(f".{index}.out")  # of this script itself, if it failed
    if (found := _stat(said)) is not None and not found.st_size:
        with contextlib.suppress(OSError):
            said.unlink()
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
