"""Threads of the service that claim jobs, have each done by a process of its own, and beat while that works.

Launches, which may go on for days, have places of their own; all else is done one at a time.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Final

from lawfit.errors import LawfitError, StoreError
from lawfit.findings import finding
from lawfit.pipeline import launch_places
from lawfit.records import Json
from lawfit.storage import Store
from lawfit.storage.jobs import LAUNCH, Job, Lane, beat, claim, end_job, launches_without, put_back, worker_name
from lawfit.words import tell

log = logging.getLogger("lawfit.api")

LOOK_SECONDS: Final = 1.0  # between looks for a job that another process queued
WAITING_SECONDS: Final = 60.0  # between looks for launches that nobody here can begin
BEAT_SECONDS: Final = 1.0
_END_SECONDS: Final = 5.0  # for a killed process to be gone
_GRACE_SECONDS: Final = 90.0  # for a launch whose end was asked for: its trainers have 60 s for a checkpoint
_NOTICE_SECONDS: Final = 5.0  # for the service to notice a signal that was sent to all of its processes
# The same when the service stops, which whoever stops it kills sooner or later: as docs/own-trainer.md says.
_STOP_LAUNCH_SECONDS: Final = 80.0
_STOP_SECONDS: Final = 15.0


class Runner:
    """Works on jobs until it is stopped; what it was working on then waits for another one.

    Parameters
    ----------
    store : gives the store, and raises `StoreError` while the database is away
    templates : of launches, by name; none: launches are not for this service
    """

    def __init__(
        self, store: Callable[[], Store], database_url: str, templates: Mapping[str, Json] | None = None
    ) -> None:
        lanes = [Lane(), *_lanes(launch_places(templates) if templates else {})]
        self._workers = [_Worker(store, database_url, lane, templates or {}) for lane in lanes]
        self._workers[0].looks = _Waiting(templates or ()).look

    def start(self) -> None:
        for worker in self._workers:
            worker.start()

    def wake(self) -> None:
        """Something was queued here: look at once."""
        for worker in self._workers:
            worker.look.set()

    def stop(self) -> None:
        """End the processes that work, and put their jobs back."""
        for worker in self._workers:
            worker.ask_to_stop()
        for worker in self._workers:
            worker.join()


def _lanes(places: Mapping[str, int | None]) -> Iterator[Lane]:
    """Of launches: one for each template that has places of its own, and one for all that share the machine."""
    own = {name: count for name, count in places.items() if count is not None}
    for name, count in own.items():
        yield Lane(launches=True, templates=frozenset({name}), at_a_time=count)
    if sharing := places.keys() - own.keys():
        yield Lane(launches=True, templates=frozenset(sharing), beside=frozenset(own))


class _Waiting:
    """Says in the log, once of each, which launches wait for a template that this service does not have."""

    def __init__(self, templates: Collection[str]) -> None:
        self._templates, self._said, self._next = frozenset(templates), set[str](), 0.0

    def look(self, store: Store) -> None:
        if time.monotonic() < self._next:
            return
        waiting = {job.id: job for job in launches_without(store, self._templates)}
        for job_id in waiting.keys() - self._said:
            found = finding("launch.no_template", template=waiting[job_id].asked["template"], job=job_id)
            log.warning("job %s (launch): %s", job_id, tell(found))
        self._said = set(waiting)
        self._next = time.monotonic() + WAITING_SECONDS


class _Worker:
    """The jobs of one lane: one thread claims them, and each is worked on by a thread of its own."""

    def __init__(
        self, store: Callable[[], Store], database_url: str, lane: Lane, templates: Mapping[str, Json]
    ) -> None:
        self._store, self._url, self._lane, self._templates = store, database_url, lane, templates
        self._name = worker_name()
        self._stopping, self.look = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="lawfit-jobs", daemon=True)
        self._working: set[threading.Thread] = set()
        self.start, self.join = self._thread.start, self._thread.join
        self.looks: Callable[[Store], None] = lambda _: None

    def ask_to_stop(self) -> None:
        self._stopping.set()
        self.look.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.looks(self._store())
                job = None
                if len(self._working) < self._lane.at_a_time:
                    job = claim(self._store(), self._name, self._lane)
                if job is not None:
                    self._begin(job)
                    continue
            except LawfitError as error:  # the database is away: its requests say so, too
                log.debug("no job can be claimed: %s", error)
            except Exception:
                log.exception("the thread that runs jobs failed, and goes on")
            self.look.wait(LOOK_SECONDS)
            self.look.clear()
        for thread in [*self._working]:
            thread.join()

    def _begin(self, job: Job) -> None:
        thread = threading.Thread(target=self._work, args=[job], name=f"lawfit-job-{job.id}", daemon=True)
        self._working.add(thread)
        try:
            thread.start()
        except RuntimeError:  # no more threads: the job is claimed again once its beat is missed
            self._working.discard(thread)
            raise

    def _work(self, job: Job) -> None:
        try:
            self._work_on(job)
        except StoreError as error:  # its beat stops, and it is claimed again
            log.warning("job %s: its end could not be written down: %s", job.id, error)
        except Exception:
            log.exception("the thread of job %s failed", job.id)
        finally:
            self._working.discard(threading.current_thread())
            self.look.set()

    def _work_on(self, job: Job) -> None:
        child = _Child(job, self._url, self._templates)
        cancelled = False
        try:
            while not child.ended.wait(BEAT_SECONDS):
                if self._stopping.is_set():
                    self._stop(job, child)
                    return
                try:
                    state = beat(self._store(), job.id, self._name, child.progress, child.doing)
                except StoreError as error:
                    log.warning("job %s: no beat: %s", job.id, error)
                    continue
                if state == "cancelling":
                    cancelled = True
                    child.ask()
                elif state != "running":
                    return
            if child.interrupted and not cancelled:
                whole = self._stopping.wait(_NOTICE_SECONDS)
                put_back(self._store(), job.id, self._name, own_fault=not whole)
                return
            problem = None if cancelled else child.problem
            end_job(self._store(), job.id, self._name, result=child.result, problem=problem)
        finally:
            child.kill()

    def _stop(self, job: Job, child: _Child) -> None:
        """The service stops."""
        until = time.monotonic() + (_STOP_LAUNCH_SECONDS if job.kind == LAUNCH else _STOP_SECONDS)
        child.ask()
        while time.monotonic() < until and not child.ended.wait(BEAT_SECONDS):
            try:
                beat(self._store(), job.id, self._name, child.progress, child.doing)
            except StoreError as error:
                log.warning("job %s: no beat: %s", job.id, error)
        child.kill()
        if child.result is not None:
            end_job(self._store(), job.id, self._name, result=child.result)
        else:
            put_back(self._store(), job.id, self._name)


class _Child:
    """The process that does one job. It ends with us: its input is a pipe that closes when we are gone."""

    def __init__(self, job: Job, database_url: str, templates: Mapping[str, Json]) -> None:
        self.progress, self.doing = 0.0, "starting"
        self._gently, self._asked = job.kind == LAUNCH, 0.0
        said: dict[str, Json] = {"database_url": database_url, "kind": job.kind, "asked": dict(job.asked)}
        if job.kind == LAUNCH:  # as the service read them when it started
            said["templates"] = dict(templates)
        self.result: dict[str, Any] | None = None
        self._told: str | None = None
        self._stopped = False
        self.ended = threading.Event()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "lawfit.jobs"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8",
            # a trainer inherits it, and what a trainer prints is shown: it gets no way into the database
            env={name: value for name, value in os.environ.items() if name != "LAWFIT_DATABASE_URL"},
            start_new_session=True,  # a Ctrl-C is for the service, which ends its jobs itself
        )  # fmt: skip
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(said) + "\n")
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

    @property
    def interrupted(self) -> bool:
        """Whether a signal asked it to end, which is no word on its work."""
        asked = self._stopped or self._process.returncode == -signal.SIGTERM
        return asked and self.result is None and self._told is None

    def ask(self) -> None:
        """Ask it to end: a launch, which may leave checkpoints, in good time; all else at once."""
        if self._gently and not self._asked:
            self._asked = time.monotonic()
            self._hang_up()
        elif not self._gently or time.monotonic() - self._asked > _GRACE_SECONDS:
            self.kill()

    def kill(self) -> None:
        self._process.kill()
        self.ended.wait(_END_SECONDS)
        self._hang_up()

    def _hang_up(self) -> None:
        if self._process.stdin is not None and not self._process.stdin.closed:
            self._process.stdin.close()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                said = json.loads(line)
                self.progress, self.doing = said.get("progress", self.progress), said.get("doing", self.doing)
                self.result, self._told = said.get("result", self.result), said.get("problem", self._told)
                self._stopped = said.get("stopped", self._stopped)
        self._process.wait()
        self.ended.set()
