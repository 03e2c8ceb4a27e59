"""A thread of the service that claims jobs, has each done by a process of its own, and beats while that works."""

from __future__ import annotations

import json
import logging
import os
import secrets
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any, Final

from lawfit.errors import LawfitError, StoreError
from lawfit.storage import Store
from lawfit.storage.jobs import Job, beat, claim, end_job, put_back

log = logging.getLogger("lawfit.api")

LOOK_SECONDS: Final = 1.0  # between looks for a job that another process queued
BEAT_SECONDS: Final = 1.0
_END_SECONDS: Final = 5.0  # for a killed process to be gone


class Runner:
    """Works on one job at a time until it is stopped; what it was working on then waits for another one.

    Parameters
    ----------
    store : gives the store, and raises `StoreError` while the database is away
    """

    def __init__(self, store: Callable[[], Store], database_url: str) -> None:
        self._store, self._url = store, database_url
        self.worker = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._stopping, self._look = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="lawfit-jobs", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """Something was queued here: look at once."""
        self._look.set()

    def stop(self) -> None:
        """End the process that works, and put its job back."""
        self._stopping.set()
        self._look.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                job = claim(self._store(), self.worker)
                if job is not None:
                    self._work_on(job)
                    continue
            except LawfitError as error:  # the database is away: its requests say so, too
                log.debug("no job can be claimed: %s", error)
            except Exception:
                log.exception("the thread that runs jobs failed, and goes on")
            self._look.wait(LOOK_SECONDS)
            self._look.clear()

    def _work_on(self, job: Job) -> None:
        child = _Child(job, self._url)
        try:
            while not child.ended.wait(BEAT_SECONDS):
                if self._stopping.is_set():
                    child.kill()
                    put_back(self._store(), job.id, self.worker)
                    return
                try:
                    state = beat(self._store(), job.id, self.worker, child.progress, child.doing)
                except StoreError as error:
                    log.warning("job %s: no beat: %s", job.id, error)
                    continue
                if state != "running":
                    child.kill()
                    if state == "cancelling":
                        end_job(self._store(), job.id, self.worker, result=child.result)
                    return
            end_job(self._store(), job.id, self.worker, result=child.result, problem=child.problem)
        finally:
            child.kill()


class _Child:
    """The process that does one job. It ends with us: its input is a pipe that closes when we are gone."""

    def __init__(self, job: Job, database_url: str) -> None:
        self.progress, self.doing = 0.0, "starting"
        self.result: dict[str, Any] | None = None
        self._told: str | None = None
        self.ended = threading.Event()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "lawfit.jobs"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8",
            start_new_session=True,  # a Ctrl-C is for the service, which ends its jobs itself
        )  # fmt: skip
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"database_url": database_url, "asked": dict(job.asked)}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it ended already, and its code says so
        threading.Thread(target=self._listen, name="lawfit-job-output", daemon=True).start()

    @property
    def problem(self) -> str | None:
        """Why there is no result."""
        if self.result is not None:
            return None
        code = self._process.returncode
        how = f"by signal {-code}; the machine may have run out of memory" if code and code < 0 else f"with code {code}"
        return self._told or f"its process ended {how}; the server's log may say more"

    def kill(self) -> None:
        self._process.kill()
        self.ended.wait(_END_SECONDS)
        if self._process.stdin is not None and not self._process.stdin.closed:
            self._process.stdin.close()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                said = json.loads(line)
                self.progress, self.doing = said.get("progress", self.progress), said.get("doing", self.doing)
                self.result, self._told = said.get("result", self.result), said.get("problem", self._told)
        self._process.wait()
        self.ended.set()
