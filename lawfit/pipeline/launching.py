"""Packs of proxy runs, trained on this machine, each run stored as it ends."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lawfit.errors import LogFormatError, StoreError, Unavailable
from lawfit.findings import finding
from lawfit.records import Curve, Rejection, Sweep

if TYPE_CHECKING:
    from lawfit.launch import LaunchOptions, LaunchReport, Pack, Plan, Progress, Result
    from lawfit.storage import Store

log = logging.getLogger("lawfit")

AGAIN_SECONDS: Final = 5.0  # between two tries, while the store is away
PATIENCE_SECONDS: Final = 90.0  # for a store that is away when the last run has ended


def launch(
    store: Store,
    sources: Sequence[str | Path | Pack],
    options: LaunchOptions | None = None,
    *,
    progress: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> LaunchReport:
    """Train packs (or the packs of grid files) on this machine or a cluster, and store each run as it ends.

    Runs that the store has are left out, packs that were begun go on: after any interruption, the same call again.

    Parameters
    ----------
    sources : grid files, pack files or packs
    progress : called several times a second
    stop : asks for an end with checkpoints, as a signal does

    Raises
    ------
    PackError, LaunchError
        Nothing was begun: a file that cannot be trained, no corpus or another one than the sweep has, no GPU.
    """
    from lawfit.launch import LaunchOptions, LaunchReport, make_plan

    options = options or LaunchOptions()
    paths = [Path(source) if isinstance(source, str) else source for source in sources]
    plan = make_plan(paths, store.stored_of, options)
    arrivals = arrivals_of(store, plan)
    result = None
    if not options.dry_run:
        result = _train(store, plan, arrivals, progress or (lambda _: None), stop)
    return LaunchReport(
        plan=plan,
        result=result,
        recipes=tuple(arrivals.recipes),
        new=arrivals.new,
        rejections=tuple(arrivals.rejections),
        notes=tuple(arrivals.notes),
        not_stored=arrivals.error,
    )


def arrivals_of(store: Store, plan: Plan) -> Arrivals:
    """Who puts runs into the store, once they may be: of these names there are no others.

    Raises
    ------
    LaunchError
    """
    template = plan.options.template
    if template is None:
        require_same_data(store, plan)
        return Arrivals(store, plan)
    from lawfit.pipeline.own_logs import OwnArrivals, require_format, require_same_command

    require_format(template)
    require_same_command(store, plan, template)
    return OwnArrivals(store, plan, template)


def _tried(plan: Plan) -> list[str]:
    """What a trial says, where one is wished for.

    Raises
    ------
    LaunchError
        It did not go well.
    """
    template = plan.options.template
    if not plan.options.trial or template is None:
        return []
    from lawfit.launch import LaunchError, try_out
    from lawfit.pipeline.own_logs import require_good

    trial = try_out(plan)
    if trial is not None and trial.stopped:
        raise LaunchError("the trial was stopped; nothing was submitted")
    return [] if trial is None else [require_good(trial, template)]


def _train(
    store: Store,
    plan: Plan,
    arrivals: Arrivals,
    progress: Callable[[Progress], None],
    stop: Callable[[], bool],
) -> Result:
    """What is planned, with its jobs as rows of the store."""
    from lawfit.launch import execute
    from lawfit.launch.campaign import SIGNAL
    from lawfit.pipeline.book import StoreBook

    options = plan.options
    news = _tried(plan)
    command = "" if options.template is None else options.template.text
    book = StoreBook(
        store, backend=options.backend, logs=options.logs, command=command, first=arrivals.store,
        waiting=arrivals.waiting,
    )  # fmt: skip
    arrivals.arrived = book.arrived
    patience = 0.0

    def why_stop() -> str:
        return SIGNAL if stop() else arrivals.why_stop()

    try:
        book.take_up({*plan.known, *plan.in_logs}, plan.tasks)
        result = execute(
            plan, ended=arrivals.take, report=progress, book=book, stop=why_stop, news=news,
            steps=arrivals.steps,
        )  # fmt: skip
        patience = 0.0 if result.stopped_by == SIGNAL else PATIENCE_SECONDS
        arrivals.settle(patience)
    finally:
        if problem := book.close(patience):
            log.warning("what became of the jobs is not in the store: %s", problem)
    return arrivals.judged(result)


def require_same_data(store: Store, plan: Plan) -> None:
    """Recipes of the names that new ones would get, if there are any, were measured on this corpus."""
    from lawfit.launch import LaunchError

    wanted = set(plan.names.values())
    for found in store.recipes():
        name, data = found.recipe.name, found.recipe.data
        if name in wanted and data and not data.endswith(plan.corpus.hash):
            raise LaunchError(finding("launch.other_data", recipe=name, data=data, corpus=plan.corpus.hash))


class Arrivals:
    """Puts logs into the store as their runs end; what a busy database refuses is kept for the next time."""

    def __init__(self, store: Store, plan: Plan) -> None:
        self._store, self._names, self._folder = store, plan.names, plan.options.logs
        self._waiting: list[Path] = []
        self.recipes: dict[str, None] = {}
        self.new = 0
        self.rejections: list[Rejection] = []
        self.notes: dict[str, None] = {}
        self.error = ""
        self._away = False
        self._storing = threading.Lock()
        self.arrived: Callable[[], None] = self.store  # or somebody is told who will store them
        self.steps: Callable[[str], int | None] | None = None  # of a run, where its log alone does not say it

    def waiting(self) -> set[str]:
        """Runs that have ended and are not stored."""
        return {path.stem for path in list(self._waiting)}

    def settle(self, patience: float) -> None:
        """Put what could not be stored when it came; a store that is away is waited for so many seconds."""
        until = time.monotonic() + patience
        self.store()
        while self._waiting and self._away and time.monotonic() < until:
            time.sleep(AGAIN_SECONDS)
            self.store()

    def take(self, logs: Sequence[Path]) -> None:
        """Logs of runs that have ended."""
        self._waiting += logs
        self.arrived()

    def store(self) -> None:
        """Store the runs of the logs that wait for it; any thread may, one at a time does."""
        with self._storing:
            if not (logs := list(self._waiting)):
                return
            try:
                sweeps, curves, rejections = self._read(logs)
                changes = self._store.put_sweeps([self._named(each) for each in sweeps], curves) if sweeps else None
            except (LogFormatError, StoreError) as error:
                self.error, self._away = str(error), isinstance(error, Unavailable)
                return
            del self._waiting[: len(logs)]
            self.error = ""
            self.rejections += rejections
            if changes is not None:
                self.recipes.update((recipe.name, None) for recipe in changes.recipes)
                self.new += changes.inserted
                self.notes.update(dict.fromkeys(changes.notes))

    def judged(self, result: Result) -> Result:
        """A result in which runs diverged that their logs say so of: as it is."""
        return result

    def why_stop(self) -> str:
        """Why a launch is to stop before its end: nothing."""
        return ""

    def _read(self, logs: Sequence[Path]) -> tuple[Sequence[Sweep], Sequence[Curve], Sequence[Rejection]]:
        """Runs with their curves, and what could not be understood."""
        from lawfit.ingest import interpret
        from lawfit.ingest.formats.trainer_log import TRAINER

        table, _ = TRAINER.read_logs("logs", self._folder, logs)
        found = interpret(table)
        return found.sweeps, found.curves, found.rejections

    def _named(self, sweep: Sweep) -> Sweep:
        return replace(sweep, recipe=replace(sweep.recipe, name=self._names[sweep.runs[0].run_key]))
