"""What tables of loss curves and of gradients say of learning-rate schedules. Nothing is stored."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from lawfit.ask import RefineQuestion, ScheduleQuestion
from lawfit.errors import LogFormatError, NotEnoughData
from lawfit.findings import Found, finding, joined
from lawfit.records import Json, Rejection

if TYPE_CHECKING:
    pass


def study_schedules(
    path: str | Path, question: ScheduleQuestion, *, progress: Callable[[str, float], None] = lambda _step, _share: None
) -> dict[str, Json]:
    """What other learning-rate schedules would reach, from a table of loss curves with their rates. Nothing is stored.

    Raises
    ------
    LogFormatError
        The file cannot be read, lacks a column, or no curve has the name that was asked for.
    NotEnoughData
        Fewer than two curves, or none whose learning rate falls.
    """
    from fnmatch import fnmatchcase

    from lawfit.estimate.schedules import study as schedule_study
    from lawfit.ingest import read_table
    from lawfit.ingest.curves import read_rated_curves

    read = read_rated_curves(read_table(path))
    chosen = {name: rows for name, rows in read.runs.items() if fnmatchcase(name, question.runs)}
    if not chosen:
        if not read.runs:
            nothing = finding("pipeline.no_usable_row", path=str(path), rows=len(read.rejections))
            raise LogFormatError(joined([nothing, *_first_line(read.rejections)]))
        raise LogFormatError(finding("pipeline.no_such_curve", path=str(path), asked=question.runs, **_five(read.runs)))
    curves, left = [], list[str]()
    for name, rows in chosen.items():
        try:
            curves.append(schedule_study.loss_curve(name, *rows, warmup_steps=question.warmup_steps))
        except ValueError as error:
            left.append(str(error))
    if len(curves) < 2:
        more = [finding("pipeline.more_alike", more=len(left) - 2)] if len(left) > 2 else []
        few = finding("pipeline.few_curves", usable=len(curves), curves=len(chosen))
        raise NotEnoughData(joined([few, *left[:2], *more]))
    found = schedule_study.study_schedules(
        curves,
        schedules=question.schedules or schedule_study.USUAL,
        lr=question.lr,
        steps=question.steps,
        progress=progress,
    )
    rejected = [asdict(rejection) for rejection in read.rejections]
    return {"file": str(path), "loss_column": read.loss_column, **found, "left": left, "rejected": rejected}


def refine_schedule(path: str | Path, question: RefineQuestion) -> dict[str, Json]:
    """The schedule that the gradients of a past run ask for, from a log of the trainer or a table. Nothing is stored.

    Raises
    ------
    LogFormatError
        The file cannot be read, lacks a column, or holds no such run, or several and none is named.
    NotEnoughData
        Too few gradient norms to tell a shape by.
    ValueError
        A smoothing or a length that cannot be.
    """
    from lawfit.estimate.schedules.refined import refine
    from lawfit.ingest import read_table
    from lawfit.ingest.gradient_norms import read_gradient_norms

    read = read_gradient_norms(read_table(path), question.column)
    name = _one_run(read.runs, question.run, path, read.rejections)
    steps, norms = read.runs[name]
    found = refine(steps, norms, adaptive=question.adaptive, smoothing=question.smoothing, length=question.steps)
    rejected = [asdict(rejection) for rejection in read.rejections]
    return {"file": str(path), "run": name, "column": read.column, **found, "rejected": rejected}


def _one_run(runs: Iterable[str], pattern: str | None, path: str | Path, rejections: Sequence[Rejection]) -> str:
    from fnmatch import fnmatchcase

    known = list(runs)
    if not known:
        nothing = finding("pipeline.no_gradient_norm", path=str(path))
        raise LogFormatError(joined([nothing, *_first_line(rejections)]))
    chosen = [name for name in known if pattern is None or name == pattern or fnmatchcase(name, pattern)]
    if len(chosen) == 1:
        return chosen[0]
    if not chosen:
        raise LogFormatError(finding("pipeline.no_such_run", path=str(path), asked=pattern, **_five(known)))
    raise LogFormatError(finding("pipeline.several_runs", path=str(path), runs=len(chosen), **_five(chosen)))


def _five(names: Collection[str]) -> dict[str, Json]:
    """The first names, and how many more there are."""
    return {"names": list(names)[:5], "more": max(0, len(names) - 5)}


def _first_line(rejections: Sequence[Rejection]) -> list[Found]:
    return [finding("pipeline.at_line", line=each.line, reason=each.reason) for each in rejections[:1]]
