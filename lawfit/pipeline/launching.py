"""Packs of proxy runs, trained on this machine, each run stored as it ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lawfit.errors import LogFormatError, StoreError
from lawfit.records import Rejection, Sweep

if TYPE_CHECKING:
    from lawfit.launch import LaunchOptions, LaunchReport, Pack, Plan, Progress
    from lawfit.storage import Store


def launch(
    store: Store,
    sources: Sequence[str | Path | Pack],
    options: LaunchOptions | None = None,
    *,
    progress: Callable[[Progress], None] | None = None,
) -> LaunchReport:
    """Train packs (or the packs of grid files) on this machine, and store each run as it ends.

    Runs that the store has are left out, packs that were begun go on: after any interruption, the same call again.

    Parameters
    ----------
    sources : grid files, pack files or packs
    progress : called several times a second

    Raises
    ------
    PackError, LaunchError
        Nothing was begun: a file that cannot be trained, no corpus or another one than the sweep has, no GPU.
    """
    from lawfit.launch import LaunchOptions, LaunchReport, execute, make_plan

    options = options or LaunchOptions()
    paths = [Path(source) if isinstance(source, str) else source for source in sources]
    plan = make_plan(paths, store.stored_of, options)
    require_same_data(store, plan)
    arrivals = Arrivals(store, plan)
    result = None
    if not options.dry_run:
        result = execute(plan, ended=arrivals.take, report=progress or (lambda _: None))
        arrivals.take([])  # those that could not be stored when they came
    return LaunchReport(
        plan=plan,
        result=result,
        recipes=tuple(arrivals.recipes),
        new=arrivals.new,
        rejections=tuple(arrivals.rejections),
        notes=tuple(arrivals.notes),
        not_stored=arrivals.error,
    )


def require_same_data(store: Store, plan: Plan) -> None:
    """Recipes of the names that new ones would get, if there are any, were measured on this corpus."""
    from lawfit.launch import LaunchError

    wanted = set(plan.names.values())
    for found in store.recipes():
        name, data = found.recipe.name, found.recipe.data
        if name in wanted and data and not data.endswith(plan.corpus.hash):
            raise LaunchError(
                f"recipe '{name}' in the store was measured on '{data}', and these packs train on {plan.corpus.hash}; "
                "losses on different corpora cannot be compared. Begin a new sweep with --recipe NAME"
            )


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

    def take(self, logs: Sequence[Path]) -> None:
        from lawfit.ingest import interpret
        from lawfit.ingest.formats.trainer_log import TRAINER

        self._waiting += logs
        if not self._waiting:
            return
        table, _ = TRAINER.read_logs("logs", self._folder, self._waiting)
        try:
            found = interpret(table)
            changes = self._store.put_sweeps([self._named(sweep) for sweep in found.sweeps], found.curves)
        except (LogFormatError, StoreError) as error:
            self.error = str(error)
            return
        self._waiting, self.error = [], ""
        self.recipes.update((recipe.name, None) for recipe in changes.recipes)
        self.new += changes.inserted
        self.rejections += found.rejections
        self.notes.update(dict.fromkeys(changes.notes))

    def _named(self, sweep: Sweep) -> Sweep:
        return replace(sweep, recipe=replace(sweep.recipe, name=self._names[sweep.runs[0].run_key]))
