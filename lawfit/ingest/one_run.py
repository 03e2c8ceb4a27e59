"""The folder of one run whose settings are known: what its log says of its loss, in whatever format it is.

So little is asked of the log that a table of `step,loss` is enough.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lawfit.errors import LogFormatError
from lawfit.ingest import curve_facts
from lawfit.ingest.formats import find_sources, read_source_tables
from lawfit.ingest.run_log import LoggedRun, tables_of, whole_step
from lawfit.ingest.source import Source
from lawfit.ingest.table import Cell, Table
from lawfit.records import Curve
from lawfit.units import counted

_AXES: Final = ("step", "global_step", "train_step", "iteration", "iter", "it", "_step", "steps")
_NOT_MEASURED: Final = frozenset(
    {*_AXES, "epoch", "time", "timestamp", "_timestamp", "_runtime", "wall_time", "tokens"}
)
_FACTS: Final = (("final_val_loss", "validation loss"), ("final_train_loss", "training loss"))
_LOSSES: Final = frozenset({"train_loss", "validation_loss"})  # as curves are called
_MOST_SAID: Final = 3


@dataclass(frozen=True, kw_only=True)
class OneRun:
    """What the log of a run says."""

    file: str
    format: str
    loss: float | None  # None: it diverged
    loss_column: str  # "final_val_loss", or "final_train_loss" where nothing was validated
    loss_kind: str  # in words
    last_step: int  # that was logged; 0 where the log has no steps
    interval: int  # steps between the last two lines
    curves: tuple[Curve, ...]
    notes: tuple[str, ...]


def read_one_run(folder: Path, run_key: str, *, format_name: str | None = None, output: str = "") -> OneRun:
    """The log of the one run in a folder.

    Parameters
    ----------
    format_name : of the log, where the folder holds other files that look like logs
    output : name of a file with all that the run printed: it is looked at where nothing else is a log

    Raises
    ------
    LogFormatError
        There is no log, none with a loss, or those of several runs.
    """
    if not folder.is_dir() or all(path.name == output and not path.stat().st_size for path in folder.iterdir()):
        raise LogFormatError(f"{folder} holds no log: the command wrote none there, and printed nothing")
    try:
        sources = find_sources(folder, format_name)
    except LogFormatError as error:
        raise LogFormatError(f"no log of a run was found in {folder}: {error}") from None
    printed = folder / output
    first, second = list[Source](), list[Source]()
    for source in sources:
        own = tuple(path for path in source.paths if path != printed)
        first += [dataclasses.replace(source, paths=own)] if own else []
        second += [dataclasses.replace(source, paths=(printed,))] if len(own) < len(source.paths) else []
    problems: list[str] = []
    for some in (first, second):
        found = [run for source in some for run in _runs(source, run_key, problems)]
        validated = [run for run in found if run.loss_column == _FACTS[0][0]]
        found = validated if len(found) > 1 and validated else found
        if len(found) > 1:
            files = ", ".join(dict.fromkeys(f"{run.file} ({run.format})" for run in found))
            raise LogFormatError(
                f"{folder} holds {counted(len(found), 'log')} with a loss, and is to hold one run: {files}; say which "
                "with the name of its format, or empty the folder before a run begins anew"
            )
        if found:
            return found[0]
    why = f" ({'; '.join(problems[:_MOST_SAID])})" if problems else ""
    raise LogFormatError(f"no loss was found in the logs in {folder}{why}")


def logged_step(folder: Path, *, format_name: str | None = None) -> int:
    """The last step that the logs in a folder have, of a run that may go on; 0 where they have no loss along steps.

    Raises
    ------
    LogFormatError
        There is no log.
    """
    sources = find_sources(folder, format_name)
    curves = [curve for source in sources for table in _tables(source, []) for curve in table.curves]
    if not any(curve.metric in _LOSSES for curve in curves):
        return 0
    return max((int(curve.steps[-1]) for curve in curves if len(curve.steps)), default=0)


def _runs(source: Source, run_key: str, problems: list[str]) -> Iterator[OneRun]:
    for table in _tables(source, problems):
        yield from _of_table(table, run_key)


def _tables(source: Source, problems: list[str]) -> Iterator[Table]:
    """Its tables of runs; of what has a row for each step, the run that it is."""
    try:
        for table in read_source_tables(source):
            problems += [f"{rejection.file}: {rejection.reason}" for rejection in table.rejections]
            yield from tables_of(table.format, [_logged(table)], [], table.name) if _has_steps(table) else [table]
    except LogFormatError as error:
        problems.append(str(error).removeprefix(f"{source.root}/"))


def _has_steps(table: Table) -> bool:
    """Whether a table has a row for each step of one run, as no format of logs does: those have curves."""
    facts = any(name for name, _ in _FACTS if name in table.columns)
    return not table.curves and not facts and _axis(table) is not None


def _axis(table: Table) -> int | None:
    lowered = [column.strip().lower() for column in table.columns]
    return next((lowered.index(name) for name in _AXES if name in lowered), None)


def _logged(table: Table) -> LoggedRun:
    """A table of steps as the log that it is."""
    axis = _axis(table)
    assert axis is not None
    run = LoggedRun(file=table.name, name=table.name, run_id="run")
    for _, cells in table.rows:
        at = _number(cells[axis])
        step = None if at is None else whole_step(at)
        if step is None:
            continue
        for column, cell in zip(table.columns, cells, strict=True):
            if column.strip().lower() not in _NOT_MEASURED and (value := _number(cell)) is not None:
                run.log(column, step, value)
    return run


def _number(cell: Cell) -> float | None:
    try:
        return None if cell is None or isinstance(cell, bool) or cell == "" else float(cell)
    except ValueError:
        return None


def _of_table(table: Table, run_key: str) -> Iterator[OneRun]:
    """A run for each row that has a loss, or diverged."""
    for line, cells in table.rows:
        row = {column: cell for column, cell in zip(table.columns, cells, strict=True) if cell is not None}
        mine = str(row.get("run_id", ""))
        curves = [curve for curve in table.curves if curve.run_key == mine]
        loss, column, kind = _loss(row, curves)
        if column:
            yield OneRun(
                file=table.place(line)[0],
                format=table.format,
                loss=loss,
                loss_column=column,
                loss_kind=kind,
                last_step=max((curve.steps[-1] for curve in curves if len(curve.steps)), default=0),
                interval=_interval(curves),
                curves=tuple(dataclasses.replace(curve, run_key=run_key) for curve in curves),
                notes=table.notes,
            )


def _loss(row: Mapping[str, Any], curves: Sequence[Curve]) -> tuple[float | None, str, str]:
    """The final loss, the column that it is of, and what that is in words; no column where there is none."""
    if row.get("status") == "diverged" or str(row.get("diverged", "0")) in ("1", "True"):
        metrics = {curve.metric for curve in curves}
        column, kind = _FACTS[0] if "validation_loss" in metrics else _FACTS[1]
        return None, column, kind
    named = [(column, _number(row[column]), kind) for column, kind in _FACTS if column in row]
    named += [(c, _number(v), _FACTS[0][1]) for c, v in row.items() if curve_facts.is_validation_loss(c)]
    named += [(c, _number(v), _FACTS[1][1]) for c, v in row.items() if curve_facts.is_training_loss(c)]
    for column, value, kind in named:
        if value is not None:
            return (value if math.isfinite(value) else None), column, kind
    return None, "", ""


def _interval(curves: Iterable[Curve]) -> int:
    return min((int(curve.steps[-1] - curve.steps[-2]) for curve in curves if len(curve.steps) > 1), default=1)
