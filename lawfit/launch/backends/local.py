"""Jobs as processes of this machine, each with one GPU of its own (or a share of one, or the CPU)."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Final

from lawfit.launch import claims, cpu
from lawfit.launch.backends.files import GRACE_SECONDS, own_folder, stderr_of, tail
from lawfit.launch.backends.node import Pulse
from lawfit.launch.launcher import Ending, Job, JobState, JobStatus
from lawfit.launch.plan import LaunchError
from lawfit.launch.resources import Resources

CHILD: Final = Path(__file__).with_name("child.py")

Process = subprocess.Popen[bytes]


@dataclass
class _Entry:
    job: Job
    slot: int | None = None
    state: JobState = field(default_factory=lambda: JobState(status=JobStatus.QUEUED))
    kill_at: float | None = None  # when the request to stop has been ignored for long enough
    stop_at: float | None = None  # shortly before its walltime
    pulse: Pulse | None = None


class LocalLauncher:
    """Runs jobs on this machine.

    Parameters
    ----------
    gpus : texts
        As CUDA_VISIBLE_DEVICES names them; empty: the CPU.
    workers : int
        Processes at a time on each GPU (or on the CPU).
    """

    name: ClassVar[str] = "local"
    honours: ClassVar[frozenset[str]] = frozenset(
        {"workers", "gpus_per_job", "cpus_per_job", "walltime_minutes", "jobs_at_a_time"}
    )
    elsewhere: ClassVar[bool] = False

    def __init__(
        self,
        gpus: Sequence[str] = (),
        *,
        workers: int = 1,
        resources: Resources = Resources(),  # noqa: B008 - frozen
        grace_seconds: float = GRACE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if workers < 1:
            raise ValueError(f"one process or more per GPU, got {workers}")
        each = resources.gpus_per_job or 1
        devices = [",".join(gpus[at : at + each]) for at in range(0, len(gpus) - each + 1, each)]
        if gpus and not devices:
            raise LaunchError(f"a job asks for {each} GPUs, and this machine has {len(gpus)} for it; ask for fewer")
        slots = [device for _ in range(workers) for device in devices or [""]]  # every GPU gets one before any gets two
        self._slots = slots[: resources.jobs_at_a_time]
        self._workers, self._resources, self._grace, self._clock = workers, resources, grace_seconds, clock
        self._cores: cpu.Cores | None = None  # as they were before the first job on the CPU
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
            self._ask(entry, self._running[name][1])
            entry.state = replace(entry.state, cancelled=True)

    def logs(self, name: str) -> str:
        return tail(stderr_of(self._entries[name].job))

    def close(self) -> None:
        for entry in self._waiting.values():
            entry.state = JobState(status=JobStatus.ENDED, cancelled=True)
        self._waiting.clear()
        for _, process in self._running.values():
            _kill(process)
            process.wait()
        self._tend()
        for folder in {own_folder(entry.job.folder) for entry in self._entries.values()}:
            claims.clean(folder)

    def _tend(self) -> None:
        """Notice what has ended, end what was asked to and has not, start what there is room for."""
        for name, (entry, process) in list(self._running.items()):
            code = process.poll()
            if code is not None:
                del self._running[name]
                _kill(process)  # helpers that it left behind: compilers
                _tidy(stderr_of(entry.job))
                entry.state = replace(entry.state, status=JobStatus.ENDED, exit_code=code)
            elif entry.kill_at is not None:
                if self._clock() > entry.kill_at:
                    _kill(process)
            elif (why := self._overdue(entry)) is not None:
                self._ask(entry, process)
                entry.state = replace(entry.state, ending=why)
        taken = {entry.slot for entry, _ in self._running.values()}
        free = [slot for slot in range(len(self._slots)) if slot not in taken]
        for name, entry in list(self._waiting.items()) if free else ():
            if not free:
                break
            if (started := self._start(entry, free[0])) is not None:
                self._running[name] = (self._waiting.pop(name), started)
                free.pop(0)

    def _ask(self, entry: _Entry, process: Process) -> None:
        """Ask a job to stop, in good time."""
        entry.kill_at = self._clock() + self._grace
        process.terminate()

    def _overdue(self, entry: _Entry) -> Ending | None:
        """Why a job is to end now, if it is."""
        if entry.stop_at is not None and self._clock() > entry.stop_at:
            return Ending.WALLTIME
        return Ending.HUNG if entry.pulse is not None and entry.pulse.stopped else None

    def _start(self, entry: _Entry, slot: int) -> Process | None:
        """Start a job, unless something that it claims is taken."""
        job = entry.job
        claim = claims.take(own_folder(job.folder), job.name, job.claims)
        if isinstance(claim, claims.Holder):
            entry.state = JobState(status=JobStatus.QUEUED, waits_for=str(claim))
            return None
        device = self._slots[slot]
        try:
            with stderr_of(job).open("wb") as errors:
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
        place = f"gpu {device}" if device else self._cpu_words()
        entry.slot = slot
        entry.state = JobState(status=JobStatus.RUNNING, place=place, host=socket.gethostname())
        if (seconds := self._resources.stop_after_seconds) is not None:
            entry.stop_at = self._clock() + seconds
        entry.pulse = Pulse([*job.watched, stderr_of(job)], self._resources.hung_after_seconds) if job.watched else None
        return process

    def _environment(self, device: str) -> dict[str, str]:
        made = {"CUDA_VISIBLE_DEVICES": device}
        if self._resources.cpus_per_job is not None:
            made["OMP_NUM_THREADS"] = str(self._resources.cpus_per_job)
        elif not device and "OMP_NUM_THREADS" not in os.environ:
            made["OMP_NUM_THREADS"] = str(self._idle().threads(self._workers))
        return made

    def _cpu_words(self) -> str:
        if self._resources.cpus_per_job is not None or "OMP_NUM_THREADS" in os.environ:
            return "cpu"
        return f"cpu ({self._idle().words(self._workers)})"

    def _idle(self) -> cpu.Cores:
        """Looked at once: later our own jobs are at work, and all of a launch's runs have as many threads."""
        if self._cores is None:
            self._cores = cpu.look()
        return self._cores


def _tidy(errors: Path) -> None:
    """Forget a file of stderr that holds nothing.

    Raises
    ------
    FileNotFoundError
        Its folder is gone, and with it all that the launch wrote.
    """
    try:
        if not errors.stat().st_size:
            errors.unlink()
    except FileNotFoundError:  # another launcher had a job of that name, and was first
        if not errors.parent.is_dir():
            raise


def _kill(process: Process) -> None:
    """End a process with all that it started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):  # all gone
        return
