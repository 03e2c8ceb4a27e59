"""Runs of a launch, into the store as they end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lawfit.errors import LogFormatError, StoreError
from lawfit.pipeline.ingesting import put_curves
from lawfit.records import (
    Rejection,
    Sweep,
)

if TYPE_CHECKING:
    from lawfit.launch import Plan
    from lawfit.storage import Store


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
            changes = self._store.put_sweeps([self._named(sweep) for sweep in found.sweeps])
            put_curves(self._store, found, changes)
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
