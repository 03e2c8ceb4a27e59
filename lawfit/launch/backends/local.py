"""Jobs as processes of this machine, each with one GPU of its own (or a share of one, or the CPU)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from lawfit.launch import claims
from lawfit.launch.launcher import Job, JobState, JobStatus

GRACE_SECONDS: Final = 60.0  # from the request to stop to the end without asking: time for a checkpoint
TAIL_BYTES: Final = 4000
CHILD: Final = Path(__file__).with_name("child.py")

Process = subprocess.Popen[bytes]


@dataclass
class _Entry:
    job: Job
    slot: int | None = None
    state: JobState = field(default_factory=lambda: JobState(status=JobStatus.QUEUED))
    kill_at: float | None = None  # when the request to stop has been ignored for long enough


class LocalLauncher:
    """Runs jobs on this machine.

    Parameters
    ----------
    gpus : texts
        As CUDA_VISIBLE_DEVICES names them; empty: the CPU.
    workers : int
        Processes at a time on each GPU (or on the CPU).
    """

    name = "local"

    def __init__(
        self,
        gpus: Sequence[str] = (),
        *,
        workers: int = 1,
        grace_seconds: float = GRACE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if workers < 1:
            raise ValueError(f"one process or more per GPU, got {workers}")
        devices = list(gpus) or [""]
        self._slots = [device for _ in range(workers) for device in devices]  # every GPU gets one before any gets two
        self._workers, self._grace, self._clock = workers, grace_seconds, clock
        self._entries: dict[str, _Entry] = {}  # all there ever were
        self._waiting: dict[str, _Entry] = {}  # in the order of submission
        self._running: dict[str, tuple[_Entry, Process]] = {}

    @property
    def places(self) -> int:
        return len(self._slots)

    def submit(self, job: Job) -> None:
        before = self._entries.get(job.name)
        if before is not None and before.state.status is not JobStatus.ENDED:
            raise ValueError(f"job {job.name} is not over yet")
        self._entries[job.name] = self._waiting[job.name] = _Entry(job)
        self._tend()

    def state(self, name: str) -> JobState:
        self._tend()
        return self._entries[name].state

    def cancel(self, name: str) -> None:
        entry = self._entries[name]
        self._tend()
        if self._waiting.pop(name, None):
            entry.state = JobState(status=JobStatus.ENDED, cancelled=True)
        elif name in self._running and entry.kill_at is None:
            entry.kill_at = self._clock() + self._grace
            entry.state = JobState(status=JobStatus.RUNNING, place=entry.state.place, cancelled=True)
            self._running[name][1].terminate()

    def logs(self, name: str) -> str:
        path = _stderr(self._entries[name].job)
        if not path.exists():
            return ""
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL_BYTES))
            return file.read().decode("utf-8", "replace")

    def close(self) -> None:
        for entry in self._waiting.values():
            entry.state = JobState(status=JobStatus.ENDED, cancelled=True)
        self._waiting.clear()
        for _, process in self._running.values():
            _kill(process)
            process.wait()
        self._tend()
        for folder in {_own_folder(entry.job) for entry in self._entries.values()}:
            claims.clean(folder)

    def _tend(self) -> None:
        """Notice what has ended, end what was asked to and has not, start what there is room for."""
        for name, (entry, process) in list(self._running.items()):
            code = process.poll()
            if code is not None:
                del self._running[name]
                _kill(process)  # helpers that it left behind: compilers
                if not _stderr(entry.job).stat().st_size:
                    _stderr(entry.job).unlink()
                entry.state = JobState(
                    status=JobStatus.ENDED, place=entry.state.place, exit_code=code, cancelled=entry.state.cancelled
                )
            elif entry.kill_at is not None and self._clock() > entry.kill_at:
                _kill(process)
        taken = {entry.slot for entry, _ in self._running.values()}
        free = [slot for slot in range(len(self._slots)) if slot not in taken]
        for name, entry in list(self._waiting.items()) if free else ():
            if not free:
                break
            if (started := self._start(entry, free[0])) is not None:
                self._running[name] = (self._waiting.pop(name), started)
                free.pop(0)

    def _start(self, entry: _Entry, slot: int) -> Process | None:
        """Start a job, unless something that it claims is taken."""
        job = entry.job
        claim = claims.take(_own_folder(job), job.name, job.claims)
        if isinstance(claim, claims.Holder):
            who = f"job {claim.job} of process {claim.launcher}"
            entry.state = JobState(status=JobStatus.QUEUED, waits_for=who)
            return None
        device = self._slots[slot]
        try:
            with _stderr(job).open("wb") as errors:
                process = subprocess.Popen(
                    [sys.executable, "-IS", str(CHILD), str(os.getpid()), *job.command],
                    env={**os.environ, **self._environment(device)},
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=errors,
                    pass_fds=(claim,),
                    start_new_session=True,  # Ctrl-C goes to the launcher, which asks its jobs to stop
                )
        finally:
            os.close(claim)
        place = f"gpu {device}" if device else "cpu"
        entry.slot, entry.state = slot, JobState(status=JobStatus.RUNNING, place=place)
        return process

    def _environment(self, device: str) -> dict[str, str]:
        made = {"CUDA_VISIBLE_DEVICES": device}
        if not device and "OMP_NUM_THREADS" not in os.environ:
            made["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // self._workers))
        return made


def _own_folder(job: Job) -> Path:
    return job.folder / ".launch"


def _stderr(job: Job) -> Path:
    return _own_folder(job) / f"{job.name}.err"


def _kill(process: Process) -> None:
    """End a process with all that it started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):  # all gone
        return
