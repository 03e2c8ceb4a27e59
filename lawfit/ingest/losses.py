"""Tables of (parameters, tokens, loss): evidence for laws of the loss, of runs whose learning rate nobody says."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from lawfit.ingest.column_map import ColumnMap
from lawfit.ingest.table import Table
from lawfit.packed import Column
from lawfit.records import LossSweep, SizedLoss, Sweep

_STAND_INS = ("lr", "batch_tokens")


def with_stand_ins(table: Table, columns: ColumnMap) -> tuple[Table, ColumnMap]:
    """Runs have a learning rate and a batch, and these rows do not: ones keep their places while rows are read."""
    said = {name: place for name, place in columns.places.items() if name != "steps"}  # of a batch that is not read
    places = {**said, **{name: len(table.columns) + k for k, name in enumerate(_STAND_INS)}}
    ones = Column.same(1.0, len(table.rows))
    table = table.with_columns({}, [(name, ones) for name in _STAND_INS])
    return table, dataclasses.replace(columns, names=table.columns, places=places)


def as_losses(sweeps: Sequence[Sweep]) -> tuple[LossSweep, ...]:
    """The finished rows as losses of sizes."""
    return tuple(
        LossSweep(
            recipe=sweep.recipe,
            rows=tuple(
                SizedLoss(
                    run_key=run.run_key,
                    params=run.params,
                    tokens=run.tokens,
                    loss=run.loss,
                    extra=run.extra,
                    source=run.source,
                )
                for run in sweep.runs
                if run.loss is not None
            ),
        )
        for sweep in sweeps
    )
