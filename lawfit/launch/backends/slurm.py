"""Jobs as tasks of Slurm arrays: plain scripts for sbatch, whose command is `node`.

Nothing of this launch need stay alive: jobs go on without it, and the same launch finds them (`ledger`). How a job
ended is read from what it wrote down; Slurm is asked for the rest, all jobs at once and seldom, as other people's jobs
wait for its answers, too. Its database of accounts is asked only for what it has forgotten, and may be absent.
"""

from __future__ import annotations

import getpass
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Final

from lawfit.launch.backends.cluster import QUEUED, RUNNING, ClusterLauncher, Entry, is_over, node_command, of_json
from lawfit.launch.backends.ledger import Batch, Ledger
from lawfit.launch.backends.node import record_of
from lawfit.launch.launcher import Ending
from lawfit.launch.plan import LaunchError
from lawfit.records import content_hash

QUERY_SECONDS: Final = 30.0  # between two questions about states, whatever the number of jobs
COMMAND_SECONDS: Final = 120.0  # a busy controller may take a minute
ARRAY_SIZE: Final = 1000  # Slurm's own limit unless its settings say another
IDS_AT_ONCE: Final = 500  # of a command line
MISSED: Final = 2  # answers without a job that was submitted, until it is taken for lost
PENDING: Final = {"PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD"}
ENDINGS: Final[Mapping[str, Ending]] = {
    "TIMEOUT": Ending.WALLTIME, "DEADLINE": Ending.WALLTIME, "PREEMPTED": Ending.PREEMPTED,
    "NODE_FAIL": Ending.NODE, "BOOT_FAIL": Ending.NODE, "OUT_OF_MEMORY": Ending.MEMORY,
}  # fmt: skip
OVER: Final = {"COMPLETED", "FAILED", "CANCELLED", *ENDINGS}
TOO_MANY: Final = re.compile(r"submit limit|maxsubmit|invalid job array", re.I)
NO_ANSWER: Final = re.compile(r"unable to contact|timed out|temporarily unable|try again|connection refused", re.I)


@dataclass(frozen=True)
class Told:
    """What Slurm says of a task."""

    id: str  # "812_3"
    state: str
    nodes: str
    reason: str


class SlurmLauncher(ClusterLauncher):
    """Runs jobs through Slurm; see `ClusterLauncher`.

    Parameters
    ----------
    query_seconds : between two questions about states; QUERY_SECONDS when None
    """

    name: ClassVar[str] = "slurm"
    honours: ClassVar[frozenset[str]] = frozenset({
        "gpus_per_job", "cpus_per_job", "memory_gb", "walltime_minutes", "jobs_at_a_time", "partition", "account",
        "qos", "slurm",
    })  # fmt: skip

    def __init__(self, gpus: Sequence[str] = (), *, query_seconds: float | None = None, **own: Any) -> None:
        super().__init__(gpus, **own)
        self.require_here()
        self._every = QUERY_SECONDS if query_seconds is None else query_seconds
        self._asked_at: float | None = None  # when states were asked for
        self._accounts = True  # until it turns out that there are none
        self._missed: dict[tuple[str, int], int] = {}  # by task: answers in a row that did not have it
        self._accepted = False  # whether Slurm ever took anything of this launch
        self._retry_at = 0.0  # after no answer
        self._array_size = 0

    @classmethod
    def require_here(cls) -> None:
        absent = [name for name in ("sbatch", "squeue", "scancel") if shutil.which(name) is None]
        if absent:
            raise LaunchError(
                f"Slurm is not here: {', '.join(absent)} not found on PATH; launch where jobs are submitted from, a "
                "login node mostly"
            )

    def called(self, entry: Entry) -> str:
        return f" (Slurm {self._id(entry)})" if entry.batch is not None and entry.batch.id else ""

    def room(self, live: int) -> int:
        """All where the array itself keeps to the number at a time: there must be no other beside it."""
        if self._clock() < self._retry_at:
            return 0
        if self._resources.jobs_at_a_time is not None and not live:
            return self._largest_array()
        return super().room(live)

    def hand_on(self, ready: Sequence[Entry]) -> None:
        size = self._largest_array()
        for folder in dict.fromkeys(entry.job.folder for entry in ready):
            own = [entry for entry in ready if entry.job.folder == folder]
            for at in range(0, len(own), size):
                self._submit(own[at : at + size])

    def _submit(self, entries: Sequence[Entry]) -> None:
        batch = self.new_batch(entries)
        if batch is None:
            return
        ledger = self._ledger_of(entries[0].job)
        entries = [entry for entry in entries if entry.batch is batch]
        script = f'#!/bin/sh\nexec {node_command(sys.executable, batch)} "$SLURM_ARRAY_TASK_ID"\n'
        done = _run(self._sbatch(batch), script)
        if done.returncode == 0:
            batch.id = done.stdout.strip().partition(";")[0]
            ledger.save(batch)
            self._accepted = True
            return
        words = "; ".join(re.sub(r"^sbatch: (error: )?", "", line) for line in done.stderr.splitlines() if line.strip())
        if NO_ANSWER.search(words) and self._accepted:
            self._retry_at = self._clock() + self._every  # it may have it nonetheless: the next answer tells
            return
        for entry in entries:
            entry.batch = None
        ledger.forget(batch)
        del self._batches[batch.token]
        self._refused(entries, words or f"sbatch ended with {done.returncode}")

    def _refused(self, entries: Sequence[Entry], words: str) -> None:
        """What Slurm did not take: tried in smaller arrays, or once others have ended, or given up."""
        if TOO_MANY.search(words) and len(entries) > 1:
            self._array_size = len(entries) // 2
        elif self.live():
            self._retry_at = self._clock() + self._every
        elif self._accepted:
            for entry in entries:
                entry.said = f"error: Slurm does not take the job again: {words}"
                entry.ended(1)
        else:
            raise LaunchError(
                f"Slurm does not take the jobs: {words}. sinfo shows what there is; ask for it with --partition, "
                "--account, --qos, --gpus-per-job, --cpus-per-job, --memory-gb"
            )

    def _sbatch(self, batch: Batch) -> list[str]:
        asked, count = self._resources, len(batch.jobs)
        bound = f"%{asked.jobs_at_a_time}" if asked.jobs_at_a_time else ""
        said = batch.path.with_suffix(".%a.out").resolve()
        words = ["sbatch", "--parsable", f"--job-name={self._name(batch)}", f"--comment={batch.token}"]
        words += [f"--array=0-{count - 1}{bound}", f"--output={said}", "--requeue", "--open-mode=truncate"]
        words += ["--nodes=1", "--ntasks=1", f"--cpus-per-task={asked.cpus_per_job or 1}"]
        words += [f"--gres=gpu:{asked.gpus_per_job}"] if asked.gpus_per_job else []
        words += [f"--mem={max(1, round(1024 * asked.memory_gb))}M"] if asked.memory_gb else []
        if asked.walltime_minutes is not None and asked.stop_after_seconds is not None:
            seconds = round(60 * asked.walltime_minutes)
            words += [f"--time={seconds // 60}:{seconds % 60:02}"]
            words += [f"--signal=B:USR2@{round(seconds - asked.stop_after_seconds)}"]
        for option in ("partition", "account", "qos"):
            words += [f"--{option}={value}"] if (value := getattr(asked, option)) else []
        return words + [f"--{option}" for option in asked.slurm]

    def look(self) -> None:
        now = self._clock()
        open_entries = [entry for entry in self.live() if entry.end is None or entry.end["signalled"]]
        if not open_entries or (self._asked_at is not None and now - self._asked_at < self._every):
            return
        self._asked_at = now
        told = self._states({batch.token: batch for entry in open_entries if (batch := entry.batch) is not None})
        if told is None:  # no answer; another time
            return
        for entry in open_entries:
            assert entry.batch is not None
            key = (entry.batch.token, entry.index)
            if (found := told.get(key)) is None:
                self._missed[key] = self._missed.get(key, 0) + 1
                if self._missed[key] >= MISSED or (entry.taken_over and entry.batch.id):
                    self._lost(entry)
            else:
                self._missed.pop(key, None)
                entry.batch.id = entry.batch.id or found.id.partition("_")[0]
                self._take(entry, found)

    def _take(self, entry: Entry, told: Told) -> None:
        """What Slurm says of a job that has not written down its end."""
        assert entry.batch is not None
        if told.state in OVER and entry.taken_over and entry.job.name not in self._others:
            self.again(entry)  # it ended while nobody followed it, and did not get to write that down
        elif told.state in PENDING:
            if "launch failed" in told.reason.lower():  # held for ever
                self.drop([entry])
                entry.ended(1, Ending.NODE)
            elif entry.start is not None or entry.state.status is RUNNING:  # its machine is gone, or others go first
                record_of(entry.batch.path, entry.index, "start").unlink(missing_ok=True)
                entry.start = None
                entry.state = replace(entry.state, status=QUEUED, place="", host="")
            entry.taken_over = False
        elif told.state not in OVER:
            entry.taken_over = False
            if entry.state.status is QUEUED and told.state in ("RUNNING", "COMPLETING", "SUSPENDED", "STOPPED"):
                place = f"{told.nodes}{self.called(entry)}"
                entry.state = replace(entry.state, status=RUNNING, place=place, host=told.nodes)
        elif entry.end is None and told.state in ("COMPLETED", "FAILED") and self._missing_once(entry):
            return  # the end that it wrote down may take a moment to be seen here
        elif told.state == "CANCELLED":
            entry.state = replace(entry.state, cancelled=True)
            entry.ended(entry.end["exit_code"] if entry.end else None)
        else:
            code = entry.end["exit_code"] if entry.end else 0 if told.state == "COMPLETED" else 1
            entry.ended(code, ENDINGS.get(told.state))

    def _missing_once(self, entry: Entry) -> bool:
        assert entry.batch is not None
        key = (entry.batch.token, entry.index)
        self._missed[key] = self._missed.get(key, 0) + 1
        return self._missed[key] < MISSED

    def _lost(self, entry: Entry) -> None:
        """Slurm knows nothing of a job: it never arrived there, or was forgotten after its end."""
        assert entry.batch is not None
        if entry.job.name in self._others:
            entry.ended(None)
        elif entry.taken_over or not entry.batch.id:
            self.again(entry)
        else:
            told = self._accounted(entry)
            if told is not None and told.state in OVER:
                self._take(entry, told)
            if entry.live:
                entry.ended(entry.end["exit_code"] if entry.end else None, Ending.NODE)

    def _states(self, batches: Mapping[str, Batch]) -> dict[tuple[str, int], Told] | None:
        """Of all tasks of some batches, by token and index; None without an answer."""
        names = ",".join(sorted({self._name(batch) for batch in batches.values()}))
        words = ["squeue", "--noheader", "--array", "--states=all", f"--user={getpass.getuser()}", f"--name={names}"]
        done = _run([*words, "--format=%k|%K|%F|%T|%N|%r"])
        if done.returncode:
            return None
        found = {}
        for line in done.stdout.splitlines():
            token, index, job, state, nodes, reason = [*line.split("|", 5), *[""] * 5][:6]
            if token in batches and index.isdigit():
                found[token, int(index)] = Told(f"{job}_{index}", state, nodes, reason)
        return found

    def _accounted(self, entry: Entry) -> Told | None:
        """What the database of accounts says of a task, if there is one."""
        if not self._accounts:
            return None
        words = ["sacct", "--noheader", "--parsable2", "--allocations", "--format=State,NodeList"]
        done = _run([*words, f"--jobs={self._id(entry)}"])
        self._accounts = done.returncode == 0
        state, _, nodes = done.stdout.strip().partition("|")
        return Told(self._id(entry), state.partition(" ")[0], nodes, "") if self._accounts and state else None

    def inherit(self, ledger: Ledger, batch: Batch, folder: Path) -> None:
        """Follow what it submitted: jobs of this launch where they are the same, others' where they overlap."""
        left = [index for index in range(len(batch.jobs)) if not is_over(batch, index)]
        if not left:
            ledger.forget(batch)
        elif ledger.take_over(batch):
            self._follow(batch, left, folder)

    def _follow(self, batch: Batch, left: Sequence[int], folder: Path) -> None:
        self._batches[batch.token] = batch
        self._accepted = self._accepted or bool(batch.id)
        for index in left:
            job = of_json(batch.jobs[index], folder)
            entry = self._waiting.get(job.name)
            if entry is None or entry.batch is not None:
                entry = self._others[job.name] = Entry(job)
            entry.batch, entry.index, entry.taken_over = batch, index, True

    def ask(self, entries: Sequence[Entry]) -> None:
        self._scancel(entries, "--signal=TERM", "--batch")

    def drop(self, entries: Sequence[Entry]) -> None:
        self._scancel(entries)

    def kill(self, entries: Sequence[Entry]) -> None:
        self._scancel([entry for entry in entries if entry.state.status is RUNNING], "--signal=KILL", "--full")
        self._scancel(entries)

    def let_go(self, entries: Iterable[Entry]) -> None:
        running = [entry for entry in entries if entry.live and entry.state.status is RUNNING]
        self.ask(running)
        self.drop([entry for entry in entries if entry.live and entry not in running])

    def _scancel(self, entries: Sequence[Entry], *how: str) -> None:
        ids = [self._id(entry) for entry in entries if entry.batch is not None and entry.batch.id]
        for at in range(0, len(ids), IDS_AT_ONCE):
            _run(["scancel", "--quiet", *how, *ids[at : at + IDS_AT_ONCE]])

    def _id(self, entry: Entry) -> str:
        assert entry.batch is not None
        return f"{entry.batch.id}_{entry.index}"

    def _name(self, batch: Batch) -> str:
        """Of all jobs on a folder of logs, whichever launch they are of."""
        return f"lawfit-{content_hash(str(batch.path.parent.resolve()), length=8)}"

    def _largest_array(self) -> int:
        if not self._array_size:
            found = re.search(r"MaxArraySize\s*=\s*(\d+)", _run(["scontrol", "show", "config"]).stdout)
            self._array_size = max(1, int(found[1]) - 1) if found else ARRAY_SIZE
        return self._array_size


def _run(words: Sequence[str], text: str = "") -> subprocess.CompletedProcess[str]:
    """A command of Slurm; one that is absent or gives no answer in time fails like any other."""
    # Of the allocation that this launch may itself run in, nothing holds for its jobs.
    inner = {name for name in os.environ if name.startswith("SLURM_") and name not in ("SLURM_CONF", "SLURM_CLUSTERS")}
    environment = {k: v for k, v in os.environ.items() if k not in inner and k != "CUDA_VISIBLE_DEVICES"}
    try:
        return subprocess.run(
            words, input=text, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False, env=environment
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(words, 1, "", f"timed out or absent: {error}")
