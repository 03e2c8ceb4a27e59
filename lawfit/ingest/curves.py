"""Tables of curves (`run_id, step, train_loss, ...`, a row per point) for runs that the store has.

A file is one when its columns name a run and a step (or tokens), and none of the settings that a run has once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from lawfit.errors import LogFormatError, NoRun
from lawfit.factors import normal
from lawfit.findings import finding
from lawfit.ingest.formats.wandb_chart import FORMAT as CHART
from lawfit.ingest.names import LOSSES, NAMES, is_training_loss
from lawfit.ingest.numbers import CellError, is_missing, is_number, not_negative, number, positive, positive_whole
from lawfit.ingest.table import Cell, Table
from lawfit.records import Curve, Rejection, Run

STEP_NAMES: Final = ("step", "steps", "iteration", "iter", "global_step", "train_step")
_TOKENS: Final = ("tokens", *NAMES["tokens"])
RUN_NAMES: Final = (*NAMES["run_id"], *NAMES["run_name"])
_NAMED: Final = 4  # runs that are not known
_ONCE_PER_RUN: Final = frozenset((*NAMES["params"], *NAMES["batch_tokens"], *NAMES["batch_sequences"]))


@dataclass(frozen=True, kw_only=True)
class CurveColumns:
    """Where a table of curves holds what, as places of columns."""

    run: int
    step: int | None
    tokens: int | None  # used where there are no steps
    metrics: Mapping[int, str]

    def shown(self, table: Table) -> dict[str, str]:
        """Field and column, for people."""
        places = {"run_id": self.run, "step": self.step, "tokens": self.tokens if self.step is None else None}
        fields = {name: table.columns[place] for name, place in places.items() if place is not None}
        if self.step is None:
            fields["tokens"] += " (step = tokens / batch size of the run)"
        return fields | {metric: table.columns[place] for place, metric in self.metrics.items()}


@dataclass(frozen=True, kw_only=True)
class ReadCurves:
    """What a table of curves says."""

    curves: tuple[Curve, ...]
    rejections: tuple[Rejection, ...]
    rows: Mapping[str, int]  # accepted, by run


def curve_columns(table: Table, *, told: bool = False) -> CurveColumns | None:
    """The columns of a table of curves; None for any other table.

    Parameters
    ----------
    told : its format says that it has curves, of whatever
    """
    names = [normal(column) for column in table.columns]
    run, step, tokens = (_first(names, wanted) for wanted in (RUN_NAMES, STEP_NAMES, _TOKENS))
    if run is None or (step is None and tokens is None) or not _ONCE_PER_RUN.isdisjoint(names):
        return None
    metrics = {
        place: _metric(name)
        for place, name in enumerate(names)
        if place not in (run, step, tokens) and _has_numbers(table, place)
    }
    if not told and not any(name.endswith("loss") for name in metrics.values()):
        return None
    return CurveColumns(run=run, step=step, tokens=tokens, metrics=metrics)


def has_rows_of_curves(table: Table, columns: CurveColumns) -> bool:
    """Whether runs stand in several rows: each once, under whatever names, they are a table of runs.

    One row alone is a curve where its step is no length that a run was set to.
    """
    runs = [str(cells[columns.run]).strip() for _, cells in table.rows]
    at = columns.step if columns.step is not None else columns.tokens
    assert at is not None
    if len({(run, cells[at]) for run, (_, cells) in zip(runs, table.rows, strict=True)}) > len(set(runs)):
        return True  # a run that stands at several steps; seeds under one name stand at the same
    rated = not {normal(column) for column in table.columns}.isdisjoint(NAMES["lr"])
    return len(runs) == 1 and not rated


def names_of(run: Run) -> set[str]:
    """How people call a run, as the columns of its table said."""
    return {str(value) for column, value in run.extra.items() if normal(column) in NAMES["run_name"]}


def with_keys(table: Table, columns: CurveColumns, keys: Mapping[str, str]) -> Table:
    """The table with the keys of runs in place of their names."""
    rows = []
    for line, cells in table.rows:
        name = str(cells[columns.run]).strip()
        rows.append((line, (*cells[: columns.run], keys.get(name, name), *cells[columns.run + 1 :])))
    return dataclasses.replace(table, rows=tuple(rows))


def read_curves(table: Table, columns: CurveColumns, batch_tokens: Mapping[str, float]) -> ReadCurves:
    """The curves of the runs that are known.

    Parameters
    ----------
    batch_tokens : tokens per step, by run; runs that are not in it are rejected

    Raises
    ------
    NoRun
        None of the runs is known.
    """
    rejections = list(table.rejections)
    points: dict[tuple[str, str], dict[int, float]] = {}
    line_of: dict[tuple[str, int], int] = {}
    rows: dict[str, int] = {}
    known = 0
    for line, cells in table.rows:
        run_key = str(cells[columns.run]).strip()
        try:
            if run_key not in batch_tokens:
                raise CellError(f"no run '{run_key}' in the store")
            known += 1
            step = _step(cells, columns, batch_tokens[run_key])
            if (before := line_of.setdefault((run_key, step), line)) != line:
                raise CellError(f"step {step} of run '{run_key}' stands in line {before} already")
            numbers = {m: number(cells[place]) for place, m in columns.metrics.items() if not is_missing(cells[place])}
        except CellError as error:
            rejections.append(Rejection(file=table.name, line=line, column=None, reason=str(error)))
            continue
        rows[run_key] = rows.get(run_key, 0) + 1
        for metric, value in numbers.items():
            points.setdefault((run_key, metric), {})[step] = value
    if table.rows and not known:
        if table.format == CHART:
            names = list(dict.fromkeys(str(cells[columns.run]).strip() for _, cells in table.rows))
            raise NoRun(finding("ingest.chart_alone", file=table.name, names=names[:_NAMED], runs=len(names)))
        raise NoRun(
            f"{table.name} is a table of curves, and none of its runs is in the store (or in the recipe that was "
            "named); ingest the table of the runs first"
        )
    curves = []
    for (run_key, metric), values in points.items():
        steps = tuple(sorted(values))
        curves.append(Curve(run_key=run_key, metric=metric, steps=steps, numbers=tuple(values[step] for step in steps)))
    return ReadCurves(curves=tuple(curves), rejections=tuple(rejections), rows=rows)


@dataclass(frozen=True, kw_only=True)
class RatedCurves:
    """Loss curves whose rows say the learning rate: run -> (steps, learning rates, losses), by ascending step."""

    runs: Mapping[str, tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]]
    rejections: tuple[Rejection, ...]
    loss_column: str


def read_rated_curves(table: Table) -> RatedCurves:
    """Curves that stand alone: the runs need not be in a store. Rows without a loss (of another metric) or of step 0
    are passed over.

    Raises
    ------
    LogFormatError
        No column of the run, the step, the learning rate or a loss.
    """
    names = [normal(column) for column in table.columns]
    places = {
        "run_id": _first(names, RUN_NAMES),
        "step": _first(names, STEP_NAMES),
        "learning_rate": _first(names, sorted(NAMES["lr"], key=lambda name: "peak" in name or "max" in name)),
        "loss": _first(names, ("loss", "train_loss", "training_loss", *LOSSES)),
    }
    if missing := [field for field, place in places.items() if place is None]:
        raise LogFormatError(
            f"{table.name} has no column {' or '.join(missing)}: loss curves under schedules need a row per logged "
            f"step with run_id, step, learning_rate and loss; its columns are {', '.join(table.columns)}"
        )
    run, step, lr, loss = (place for place in places.values() if place is not None)
    rejections = list(table.rejections)
    points: dict[str, dict[int, tuple[float, float]]] = {}
    for line, cells in table.rows:
        column = None
        if is_missing(cells[loss]) or (is_number(cells[step]) and number(cells[step]) == 0):
            continue
        try:
            key = str(cells[run]).strip()
            column = table.columns[run]
            if is_missing(cells[run]):
                raise CellError("no run is named")
            column = table.columns[step]
            at = positive_whole(cells[step])
            column = table.columns[lr]
            rate = not_negative(cells[lr])
            column = table.columns[loss]
            value = positive(cells[loss])
            column = None
            if at in points.get(key, {}):
                raise CellError(f"step {at} of run '{key}' is there already")
        except CellError as error:
            rejections.append(Rejection(file=table.name, line=line, column=column, reason=str(error)))
            continue
        points.setdefault(key, {})[at] = rate, value
    runs = {}
    for key, rows in points.items():
        steps = sorted(rows)
        rates, losses = zip(*(rows[s] for s in steps), strict=True)
        runs[key] = tuple(float(s) for s in steps), rates, losses
    return RatedCurves(runs=runs, rejections=tuple(rejections), loss_column=table.columns[loss])


def _step(cells: tuple[Cell, ...], columns: CurveColumns, batch_tokens: float) -> int:
    if columns.step is not None:
        return positive_whole(cells[columns.step])
    assert columns.tokens is not None
    return max(1, round(positive(cells[columns.tokens]) / batch_tokens))


def _first(names: list[str], wanted: Sequence[str]) -> int | None:
    return next((names.index(name) for name in wanted if name in names), None)


def _metric(name: str) -> str:
    """The store's word for a column: the losses are `train_loss` and `validation_loss`."""
    if name == "loss" or (name in LOSSES and is_training_loss(name)):
        return "train_loss"
    return "validation_loss" if name in LOSSES else name


def _has_numbers(table: Table, place: int) -> bool:
    for _, cells in table.rows[:100]:
        try:
            number(cells[place])
        except CellError:
            continue
        return True
    return False
