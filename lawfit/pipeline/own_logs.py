"""Runs of a trainer of the user's own, as they end: what the log says of the loss, what the grid says of all else."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lawfit.errors import LogFormatError
from lawfit.findings import finding
from lawfit.launch import LaunchError
from lawfit.launch.own import OUTPUT, Trial
from lawfit.launch.template import Template, values_of
from lawfit.pipeline.launching import Arrivals
from lawfit.records import Curve, Recipe, Rejection, Run, RunStatus, Sweep

if TYPE_CHECKING:
    from lawfit.ingest.last_step import LastSteps
    from lawfit.ingest.one_run import OneRun
    from lawfit.launch import Pack, Plan, Result
    from lawfit.storage import Store

log = logging.getLogger("lawfit")

COMMAND: Final = "command"  # of a recipe: which command trained its runs
_WHOLE: Final = 0.98  # share of the steps that counts as all: the last may not have been logged
_FIRST: Final = 3  # logs without a loss, before any with one: so would the rest be
KEPT_LOG: Final = "; once it can be read, the same command stores it: to train it again, delete that folder"
# What a template names of a run, beside what every run has, is kept with it.
_CORE: Final = frozenset({"lr", "steps", "tokens", "batch_tokens", "batch_sequences", "params", "seq_len", "seed"})
_RECIPES: Final = frozenset({"optimizer", "schedule", "run_id", "folder", "corpus", "init_seed"})


class OwnArrivals(Arrivals):
    """Puts the runs of a template into the store."""

    def __init__(self, store: Store, plan: Plan, template: Template) -> None:
        super().__init__(store, plan)
        self._template = template
        self._packs: dict[str, Pack] = {run_id: pack for task in plan.tasks for run_id, pack in _runs_of(task)}
        self._packs |= dict(plan.ended_packs)
        self._refused = self._taken = 0
        self._steps: LastSteps | None = None
        self._diverged: set[str] = set()
        self.steps = self._last_step

    def _last_step(self, run_id: str) -> int | None:
        from lawfit.ingest.last_step import LastSteps

        if self._steps is None:
            self._steps = LastSteps(self._template.format, output=OUTPUT)
        try:
            return self._steps.of(self._folder / run_id)
        except Exception:  # a log may hold anything, and how far it is shown to be must not end a launch
            log.debug("the log of %s does not tell how far it is", run_id, exc_info=True)
            return None

    def why_stop(self) -> str:
        """`failing`, where the first logs were all refused."""
        return "failing" if not self._taken and self._refused >= min(_FIRST, max(1, len(self._packs))) else ""

    def judged(self, result: Result) -> Result:
        """Runs whose loss was no number diverged, however well their command ended."""
        diverged = tuple(run_id for run_id in result.finished if run_id in self._diverged)
        finished = tuple(run_id for run_id in result.finished if run_id not in self._diverged)
        return dataclasses.replace(result, finished=finished, diverged=diverged)

    def _read(self, logs: Sequence[Path]) -> tuple[list[Sweep], list[Curve], list[Rejection]]:
        sweeps, curves, rejections = list[Sweep](), list[Curve](), list[Rejection]()
        for run_id in dict.fromkeys(path.stem for path in logs):
            pack, folder = self._packs[run_id], self._folder / run_id
            try:
                found = read_log(folder, run_id, self._template, pack.runs[0].steps)
            except LogFormatError as error:
                self._refused += 1
                rejections.append(Rejection(file=run_id, line=None, column=None, reason=f"{error}{KEPT_LOG}"))
                continue
            self._taken += 1
            if found.loss is None:
                self._diverged.add(run_id)
            sweeps.append(_sweep(pack, folder, found, self._template))
            curves += found.curves
        return _joined(sweeps), curves, rejections


def _runs_of(task: Any) -> list[tuple[str, Pack]]:
    return [(run_id, task.pack) for run_id in task.ids]


def read_log(folder: Path, run_id: str, template: Template, steps: int) -> OneRun:
    """What the log of a run says.

    Raises
    ------
    LogFormatError
        There is none, none with a loss, or it ends before the run does.
    """
    from lawfit.ingest.one_run import read_one_run

    found = read_one_run(folder, run_id, format_name=template.format, output=OUTPUT)
    if found.loss is not None and 0 < found.last_step + found.interval < _WHOLE * steps:
        raise LogFormatError(
            f"the log {found.file} in {folder} ends at step {found.last_step:,} of {steps:,}, although the command "
            "ended well"
        )
    return found


def require_format(template: Template) -> None:
    """Refuse a format that there is not.

    Raises
    ------
    LaunchError
    """
    from lawfit.ingest import FORMATS

    names = [each.name for each in FORMATS]
    if template.format is not None and template.format not in names:
        raise LaunchError(
            f"there is no log format '{template.format}'; there are auto, {', '.join(dict.fromkeys(names))}"
        )


def require_same_command(store: Store, plan: Plan, template: Template) -> None:
    """Recipes of the names that new ones would get, if there are any, were trained by this command.

    Raises
    ------
    LaunchError
    """
    wanted, command = set(plan.names.values()), template.text
    for found in store.recipes():
        name, theirs = found.recipe.name, found.recipe.extra.get(COMMAND, "")
        if name in wanted and theirs != command:
            code = finding("launch.other_command", recipe=name, command=theirs) if theirs else None
            raise LaunchError(code or finding("launch.other_way", recipe=name))


def require_good(trial: Trial, template: Template) -> str:
    """A sentence about a trial that went well.

    Raises
    ------
    LaunchError
        The command failed, wrote no log, or one without a loss.
    """
    said = f"\n{trial.tail}" if trial.tail.strip() else ""
    cut = f", cut to {trial.steps} steps" if trial.cut else ""
    if trial.exit_code != 0:
        raise LaunchError(f"the trial{cut} failed with exit code {trial.exit_code}; nothing was submitted{said}")
    try:
        found = read_log(trial.folder, "trial", template, 0)
    except LogFormatError as error:
        raise LaunchError(f"the trial{cut} ended well, but {error}; nothing was submitted{said}") from None
    if found.loss is None:
        raise LaunchError(
            f"the trial{cut} ended with a loss that is no number ({found.file} in {trial.folder}); nothing was "
            f"submitted{said}"
        )
    return f"the trial{cut} took {trial.seconds:.0f} s; its {found.loss_kind} is {found.loss:.4g} ({found.format})"


def _sweep(pack: Pack, folder: Path, found: OneRun, template: Template) -> Sweep:
    """One run, with what the grid says of it; of what only the command knows, what the template names."""
    values = values_of(pack, folder)
    named = template.fields
    run = pack.runs[0]
    facts = {"data": "" if pack.corpus == "corpus" else pack.corpus, **template.facts}
    facts |= {name: str(values[name]) for name in ("optimizer", "schedule") if name in named}
    recipe = Recipe(
        name="own",
        seq_len=pack.model.seq_len,
        params_convention="non_embedding",
        loss_kind=found.loss_kind,
        loss_column=found.loss_column,
        extra={COMMAND: template.text},
        **facts,
    )
    extra = {name: values[name] for name in sorted(named - _CORE - _RECIPES) if name != "weight_decay"}
    return Sweep(
        recipe=recipe,
        exact=True,
        runs=(
            Run(
                run_key=values["run_id"],
                params=float(values["params"]),
                tokens=float(values["tokens"]),
                batch_tokens=float(pack.batch_tokens),
                lr=run.lr,
                status=RunStatus.DIVERGED if found.loss is None else RunStatus.FINISHED,
                loss=found.loss,
                weight_decay=run.weight_decay if "weight_decay" in named else None,
                steps=run.steps,
                seed=run.init_seed if {"seed", "init_seed"} & named else None,
                extra={name: value for name, value in extra.items() if value is not None},
                source=f"{folder.name}/{found.file}",
            ),
        ),
    )


def _joined(sweeps: Sequence[Sweep]) -> list[Sweep]:
    """Runs of equal recipes in one sweep."""
    by_key: dict[str, list[Sweep]] = {}
    for sweep in sweeps:
        by_key.setdefault(sweep.recipe.key, []).append(sweep)
    return [
        Sweep(recipe=some[0].recipe, runs=tuple(run for each in some for run in each.runs), exact=True)
        for some in by_key.values()
    ]
