"""Tables of steps to a target loss: a kind of input of its own, with a target where other tables have a final loss.

A row says how many steps a batch size took to reach `target_loss` at one model size, mostly as the best of a small
sweep; the critical batch is fitted on such rows. A file is one when it has a column of steps to a target and one of the
target. Columns, units and conventions are recognised as in tables of runs.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Final

from lawfit.factors import normal
from lawfit.ingest.names import NAMES
from lawfit.ingest.options import IngestOptions
from lawfit.ingest.read import Ingested, interpret
from lawfit.ingest.table import Table
from lawfit.packed import Column
from lawfit.records import Rejection, Run, StepsToTarget, TargetSweep

_STEPS: Final = ("steps_to_target", "steps_to_goal", "steps_to_loss", "steps_to_target_loss")
_TARGET: Final = ("target_loss", "goal_loss", "loss_target", "target", "goal")
_NO_RATE: Final = "learning_rate"  # stands in a table that has none, while its rows are read


@dataclass(frozen=True, kw_only=True)
class ReadTargets:
    """What a table of steps to a target says."""

    found: Ingested  # rows, rejections, columns and notes; its sweeps hold no runs
    sweeps: tuple[TargetSweep, ...]


def is_target_table(table: Table) -> bool:
    """Whether a table counts steps to a target."""
    names = {normal(column) for column in table.columns}
    return not names.isdisjoint(_STEPS) and not names.isdisjoint(_TARGET)


def read_targets(table: Table, options: IngestOptions) -> ReadTargets:
    """The rows by recipe.

    Raises
    ------
    LogFormatError
        A field that every row needs has no column, or one whose unit is not known.
    """
    names = [normal(column) for column in table.columns]
    taken = {"steps": _first(names, _STEPS), "loss": _first(names, _TARGET)}
    mapping = {table.columns[place]: field for field, place in taken.items()}
    for column, name in zip(table.columns, names, strict=True):
        # Tokens are steps x batch here: a column of tokens may be that, or the budget that the target stands for.
        if column not in mapping and name in (*NAMES["steps"], *NAMES["tokens"]):
            mapping[column] = "extra"
    mapping |= options.column_map
    rated = "lr" in mapping.values() or not set(names).isdisjoint(NAMES["lr"])
    read = table if rated else _with_a_rate(table)
    found = interpret(read, dataclasses.replace(options, column_map=mapping), whole_steps=False)
    unreached = [run for sweep in found.sweeps for run in sweep.runs if run.loss is None]
    rejections = [
        Rejection(file=table.name, line=int(run.source.rpartition(":")[2]), column=None, reason=_UNREACHED)
        for run in unreached
    ]
    sweeps = tuple(
        TargetSweep(recipe=sweep.recipe, rows=tuple(_row(run, rated=rated) for run in sweep.runs if run.loss))
        for sweep in found.sweeps
    )
    steps, target = (table.columns[taken[field]] for field in ("steps", "loss"))
    skipped = ("loss", "steps", "tokens", "diverged") if rated else ("loss", "steps", "tokens", "diverged", "lr")
    columns = {field: column for field, column in found.columns.items() if field not in skipped}
    notes = [note for note in found.notes if not note.startswith(("tokens are", "inside a recipe"))]
    notes.append("a table of steps to a target loss: the critical batch size is fitted on such rows")
    found = dataclasses.replace(
        found,
        sweeps=(),
        rejections=tuple(sorted((*found.rejections, *rejections), key=lambda r: r.line or 0)),
        columns={"steps_to_target": steps, "target_loss": target, **columns},
        notes=tuple(notes),
    )
    return ReadTargets(found=found, sweeps=tuple(sweep for sweep in sweeps if sweep.rows))


_UNREACHED: Final = "marked as diverged: it reached no target, and there is no number of steps to store"


def _row(run: Run, *, rated: bool) -> StepsToTarget:
    assert run.loss is not None
    return StepsToTarget(
        run_key=run.run_key,
        params=run.params,
        batch_tokens=run.batch_tokens,
        steps=run.steps or float(f"{run.tokens / run.batch_tokens:.12g}"),  # the fraction, out of their product again
        target_loss=run.loss,
        lr=run.lr if rated else None,
        weight_decay=run.weight_decay,
        extra=run.extra,
        source=run.source,
    )


def _with_a_rate(table: Table) -> Table:
    """Runs have a learning rate, and rows of such a table may not: any positive number keeps the place."""
    return table.with_columns({}, [(_NO_RATE, Column.same(1.0, len(table.rows)))])


def _first(names: list[str], wanted: tuple[str, ...]) -> int:
    return next(names.index(name) for name in wanted if name in names)
