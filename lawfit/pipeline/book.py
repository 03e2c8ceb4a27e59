"""The jobs of a launch as rows of the store: a thread writes what has changed, and the launch never waits for it.

It stores the runs that have ended, too, before it lets go of them. A store that is away for a while loses nothing:
what changed meanwhile is written when it is back.
"""

from __future__ import annotations

import logging
import secrets
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Final

from lawfit.errors import StoreError, Unavailable
from lawfit.launch import Claim
from lawfit.launch.book import job_id
from lawfit.launch.folder import Task, adopt, written_at
from lawfit.launch.follow import ended_runs
from lawfit.records import Launch, TrainingJob
from lawfit.storage import Store
from lawfit.storage.database import Location, now
from lawfit.storage.processes import this_process
from lawfit.storage.training_jobs import Claimed, beat, claim_runs, end_launch, take_up, training_jobs_of

log = logging.getLogger("lawfit")

BEAT_SECONDS: Final = 3.0  # between two writes where nothing changes; also how soon a cancelled job hears of it
QUIET_SECONDS: Final = 30.0  # without a line in its log: what a killed launch left behind has ended too
PACE_SECONDS: Final = 0.7  # between two writes where much does
AGAIN_SECONDS: Final = 2.0  # between two tries at the end, while the store is away
LATER_SECONDS: Final = 3600.0  # for which the end is tried after it was given up, as long as the process lives


class StoreBook:
    """Keeps the rows of one launch in a store. Use as a context manager.

    Parameters
    ----------
    first : work to be done before each write: to store the runs that have ended
    waiting : runs that have ended and are not stored yet: they are not let go of, lest another launch trains them
    """

    def __init__(
        self,
        store: Store,
        *,
        backend: str,
        logs: Path,
        command: str = "",
        first: Callable[[], None] = lambda: None,
        waiting: Callable[[], Collection[str]] = tuple,
    ) -> None:
        self._store, self._first, self._waiting = store, first, waiting
        self.launch = Launch(
            id=secrets.token_hex(6), backend=backend, host=socket.gethostname(), process=this_process(),
            logs=str(logs.absolute()), command=command, began_at=now(),
        )  # fmt: skip
        self._lock = threading.Lock()
        self._changed: dict[str, TrainingJob] = {}
        self._released: set[str] = set()
        self._held: set[str] = set()  # claimed, as far as this launch knows
        self._cancelled: frozenset[str] = frozenset()
        self._taken: set[str] = set()
        self._heirs_of: dict[str, Launch] = {}  # by run: the launch that was killed with it
        self._ending, self._wake = threading.Event(), threading.Event()
        shared = not (store.location.is_sqlite and store.location.path is None)  # one connection serves one thread
        self._thread = threading.Thread(target=self._work, name="lawfit-book", daemon=True) if shared else None
        if self._thread is not None:
            self._thread.start()

    def take_up(self, over: Collection[str], tasks: Sequence[Task]) -> None:
        """Settle what launches that were killed left open and this one goes on with."""
        take_up(self._store, over, [i for task in tasks for i in task.ids], [job_id(task) for task in tasks])

    # What a campaign asks and says.

    def claim(self, wanted: Sequence[Sequence[str]]) -> list[Claim]:
        try:
            found = claim_runs(self._store, self.launch, wanted)
        except Unavailable:
            if not self._held:  # nothing was begun
                raise
            return [Claim(held_by="another launch, as far as is known: the database cannot be reached") for _ in wanted]
        return [self._settled(run_ids, claimed) for run_ids, claimed in zip(wanted, found, strict=True)]

    def _settled(self, run_ids: Sequence[str], claimed: Claimed) -> Claim:
        """What a claim comes to, once it is known what launches that were killed have left of these runs."""
        if claimed.holder is not None:
            holder = claimed.holder
            who = f"launch {holder.id} on {holder.host} (logs in {holder.logs})"
            return Claim(elsewhere=claimed.stored, held_by=who)
        with self._lock:
            self._held.update(run_ids)
            self._released.difference_update(run_ids)
        self._heirs_of.update(claimed.heirs_of)
        adopted = set[str]()
        for run_id in run_ids:
            dead = self._heirs_of.get(run_id)
            if dead is None or Path(dead.logs) == Path(self.launch.logs) or run_id in claimed.stored:
                continue  # in one folder of logs, jobs themselves see to it that they do not meet
            theirs = Path(dead.logs)
            if ended_runs([run_id], theirs):
                adopt(run_id, theirs, Path(self.launch.logs))
                adopted.add(run_id)
            elif time.time() - written_at(run_id, theirs) < QUIET_SECONDS:
                who = f"a job that launch {dead.id} left behind ({theirs} is still being written to)"
                return Claim(elsewhere=claimed.stored, adopted=frozenset(adopted), held_by=who)
        return Claim(elsewhere=claimed.stored, adopted=frozenset(adopted))

    def before(self, job_ids: Sequence[str]) -> dict[str, TrainingJob]:
        try:
            return training_jobs_of(self._store, job_ids)
        except Unavailable:
            return {}

    def put(self, job: TrainingJob) -> None:
        with self._lock:
            self._changed[job.id] = job
        self._wake.set()

    def release(self, run_ids: Iterable[str]) -> None:
        with self._lock:
            self._released.update(run_ids)

    def cancelled(self) -> frozenset[str]:
        return self._cancelled

    def taken(self) -> frozenset[str]:
        with self._lock:
            return frozenset(self._taken)

    # How it is kept.

    def arrived(self) -> None:
        """There is work to be done before the next write: soon, or now where there is no thread for it."""
        self._wake.set()
        if self._thread is None:
            self._first()

    def _work(self) -> None:
        while not self._ending.is_set():
            self._wake.clear()
            self._first()
            self.tell()
            self._ending.wait(PACE_SECONDS)
            self._wake.wait(max(0.0, BEAT_SECONDS - PACE_SECONDS))

    def tell(self) -> bool:
        """Write what has changed, and hear what others want; False where the store is away."""
        with self._lock:
            changed, self._changed = self._changed, {}
            released = self._released.difference(self._waiting())
            held = set(self._held)
        try:
            told = beat(self._store, self.launch, changed.values(), released)
        except StoreError as error:
            log.debug("%s", error)
            with self._lock:
                self._changed = changed | self._changed
            return False
        with self._lock:
            self._released -= released
            self._held -= released
            self._taken |= held - released - told.claims
            self._held -= self._taken
            self._cancelled = told.cancel
        return True

    def close(self, patience: float = 0.0) -> str:
        """The launch is over; why its rows could not be written, if so.

        They are then written later, should the store come back while this process lives: others are not to wait for
        what nobody trains any more.

        Parameters
        ----------
        patience : seconds for which a store that is away is waited for
        """
        self._ending.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
        until = time.monotonic() + patience
        while True:
            try:
                end_launch(self._store, self.launch, self._changed.values(), self._waiting())
            except Unavailable as error:
                if time.monotonic() >= until:
                    self._end_later()
                    return str(error)
                time.sleep(AGAIN_SECONDS)
            except StoreError as error:
                return str(error)
            else:
                return ""

    def _end_later(self) -> None:
        if self._thread is None:
            return
        said = (self._store.location, self.launch, tuple(self._changed.values()), frozenset(self._waiting()))
        threading.Thread(target=_end_once_it_is_back, args=said, name="lawfit-book-end", daemon=True).start()


def _end_once_it_is_back(
    location: Location, launch: Launch, changed: Collection[TrainingJob], unstored: Collection[str]
) -> None:
    """By a connection of its own, as whoever gave the store may have closed it."""
    until = time.monotonic() + LATER_SECONDS
    where = location.path or location.url.render_as_string(hide_password=False)
    while time.monotonic() < until:
        time.sleep(AGAIN_SECONDS)
        try:
            with Store.open(where, create=False, migrate=False) as store:
                end_launch(store, launch, changed, unstored)
        except StoreError as error:
            log.debug("the end of launch %s is not in the store yet: %s", launch.id, error)
        else:
            return
