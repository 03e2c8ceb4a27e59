"""Launches that a service is asked for: a template of its own by name, with the settings of a client."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lawfit.ask import Misasked
from lawfit.errors import LawfitError
from lawfit.findings import Finding, Found, finding, found_of
from lawfit.pipeline.launching import arrivals_of, launch
from lawfit.pipeline.next_planning import kept_plan
from lawfit.records import Json, content_hash
from lawfit.units import counted

if TYPE_CHECKING:
    from lawfit.launch import LaunchError, LaunchReport, Pack, Progress, Result
    from lawfit.launch.served import Served
    from lawfit.storage import Store

log = logging.getLogger("lawfit")

MOST_BYTES: Final = 1 << 18  # of a grid as JSON: it is kept with its job
_OF_THE_MACHINE: Final = re.compile(r"(?<![\w.])/[\w.-]+|(?<!\w)--[a-z]|Errno")
_TELL_SECONDS: Final = 1.0
_MOST_SAID: Final = 20  # failures


def read_training_templates(path: str | Path) -> dict[str, Json]:
    """The tables of a file of templates, all of them looked at.

    Raises
    ------
    LaunchError
        The file cannot be read, or a template of it could not be launched here.
    """
    from lawfit.launch.served import read_served, served
    from lawfit.pipeline.own_logs import require_format

    tables = read_served(Path(path))
    for name, table in tables.items():
        template = served(name, table).options.template
        if template is not None:
            try:
                require_format(template)
            except LawfitError as error:
                raise type(error)(f"{path}: template '{name}': {error}") from None
    return tables


def launch_places(templates: Mapping[str, Json]) -> dict[str, int | None]:
    """How many launches of each template go on at a time on a machine; None: one, of all that have no such number."""
    from lawfit.launch.served import at_a_time

    return {name: at_a_time(table) for name, table in templates.items()}


def _trains(table: Mapping[str, Json]) -> str:
    """A hash of what a template trains with."""
    return content_hash({name: value for name, value in table.items() if name != "at_a_time"})


@dataclass(frozen=True, kw_only=True)
class AskedLaunch:
    """A launch that can be begun."""

    asked: Mapping[str, Json]  # template and a hash of its table, recipe, grid: all that its job needs
    runs: tuple[str, ...]  # ids of all runs of the grid
    known: tuple[str, ...]  # of these, those that are not trained again: they are stored, or their logs have ended
    caveats: tuple[str, ...]


def require_launchable(
    store: Store,
    templates: Mapping[str, Json],
    *,
    template: str,
    recipe: str | None,
    grid: Mapping[str, Json] | None,
    plan: str | None,
) -> AskedLaunch:
    """What a launch would train, before anything is done.

    Parameters
    ----------
    templates : tables by name, as `read_training_templates` gives them
    recipe : what to call the sweep where it is a new one; None: as the template
    grid, plan : one of them: what to train, or the id of a plan that was kept and has such a grid

    Raises
    ------
    Misasked
        Which field is wrong, and why.
    NoFit
        There is no such plan.
    """
    from lawfit.launch import LaunchError, make_plan
    from lawfit.launch.grid import require_json
    from lawfit.proxy.pack import PackError

    if template not in templates:
        there = ", ".join(sorted(templates))
        raise Misasked("template", f"there is no template '{template}' here; there are {there}")
    field = "grid" if plan is None else "plan"
    grid = _grid(store, grid, plan)
    try:
        require_json(grid)
    except PackError as error:
        raise Misasked(field, str(error)) from None
    size = len(json.dumps(grid))
    if size > MOST_BYTES:
        raise Misasked("grid", f"is {size:,} characters of JSON, and {MOST_BYTES:,} is the most; send it in parts")
    trains = _trains(templates[template])
    asked: dict[str, Json] = {"template": template, "trains": trains, "recipe": recipe or template, "grid": grid}
    try:
        packs, found = _packs(templates, asked)
        made = make_plan(packs, store.stored_of, replace(found.options, recipe=asked["recipe"], dry_run=True))
        field = "recipe"
        arrivals_of(store, made)
    except PackError as error:
        raise Misasked(field, str(error)) from None
    except LaunchError as error:
        raise Misasked(field, str(_for_clients(error, template))) from None
    known = {*made.known, *made.in_logs}
    return AskedLaunch(
        asked=asked,
        runs=made.asked,
        known=tuple(run_id for run_id in made.asked if run_id in known),
        caveats=tuple(str(each) for each in made.caveats),
    )


def _grid(store: Store, grid: Mapping[str, Json] | None, plan: str | None) -> Mapping[str, Json]:
    """The grid that was sent, or that of a plan."""
    if (grid is None) == (plan is None):
        raise Misasked("grid", "takes a grid, or plan the id of one that was kept: one of them")
    if plan is not None:
        document = kept_plan(store, plan)
        grid = document["grid_file"]
        if grid is None:
            raise Misasked("plan", f"has no grid file: {found_of(document['missing'].get('grid_file', 'none'))}")
    assert grid is not None
    return grid


def _for_clients(error: LaunchError, template: str) -> Found:
    """What a client is told of a launch that cannot begin; the log alone of what names files or options."""
    if isinstance(error.finding, Finding) or not _OF_THE_MACHINE.search(str(error)):
        return error.finding
    log.warning("template %s: %s", template, error)
    return finding("launch.no_launch")


def launch_asked(
    store: Store,
    templates: Mapping[str, Json],
    asked: Mapping[str, Json],
    *,
    tell: Callable[[str, float], None],
    stop: Callable[[], bool],
) -> dict[str, Json] | None:
    """Train what a client asked for; None where it was stopped, and goes on when it is asked again.

    Parameters
    ----------
    tell : is told what is being done, and which share of it is
    stop : asks for an end with checkpoints

    Raises
    ------
    LawfitError
        Nothing could be trained or stored: why.
    """
    from lawfit.launch import LaunchError

    if asked["template"] not in templates:
        raise LawfitError(f"there is no template '{asked['template']}' here any more")
    if _trains(templates[asked["template"]]) != asked["trains"]:
        raise LawfitError(f"the template '{asked['template']}' has changed since this was asked for; ask again")
    told = -_TELL_SECONDS

    def progress(now: Progress) -> None:
        nonlocal told
        if now.seconds - told >= _TELL_SECONDS:
            told = now.seconds
            tell(_words(now), now.tokens / now.tokens_total if now.tokens_total else 0.0)

    try:
        packs, found = _packs(templates, asked)
        report = launch(store, packs, replace(found.options, recipe=asked["recipe"]), progress=progress, stop=stop)
    except LaunchError as error:
        raise LawfitError(_for_clients(error, asked["template"])) from None
    result = report.result
    assert result is not None
    if result.stopped_by == "signal":
        return None
    refused = _refused(report, found.options.logs)
    if why := _why_none(report, [*refused.values()]):
        raise LawfitError(why)
    return _outcome(report, result, refused)


def _outcome(report: LaunchReport, result: Result, refused: Mapping[str, str]) -> dict[str, Json]:
    """What a client is told of a launch that ended."""
    return {
        "recipes": list(report.recipes),
        "runs": len(report.plan.asked),
        "known": len({*report.plan.known, *report.plan.in_logs}),
        "new": report.new,
        "finished": len(result.finished),
        "diverged": len(result.diverged),
        "unfinished": len(result.unfinished),
        "elsewhere": len(result.elsewhere),
        "failures": [
            {"name": failure.pack, "runs": list(failure.runs), "reason": failure.reason}
            for failure in result.failures[:_MOST_SAID]
        ],
        "rejections": [{"run": run, "reason": reason} for run, reason in [*refused.items()][:_MOST_SAID]],
        "caveats": [str(each) for each in report.plan.caveats],
    }


def _packs(templates: Mapping[str, Json], asked: Mapping[str, Json]) -> tuple[list[Pack], Served]:
    from lawfit.launch.served import packs_of, served

    found = served(asked["template"], templates[asked["template"]])
    return packs_of(found, asked["grid"]), found


def _refused(report: LaunchReport, logs: Path) -> dict[str, str]:
    """Why logs of runs were not taken, by run, for a client: without places on this machine."""
    from lawfit.pipeline.own_logs import KEPT_LOG

    found = {}
    for each in report.rejections:
        reason = each.reason.removesuffix(KEPT_LOG)
        for place in (f"{logs.absolute()}/", f"{logs}/"):
            reason = reason.replace(place, "")
        kept = finding("launch.unread_log", reason=reason, run=each.file) if each.reason.endswith(KEPT_LOG) else reason
        found[each.file] = str(kept)
    return found


def _why_none(report: LaunchReport, refused: Sequence[str]) -> str:
    """Why a launch has nothing to show; empty where it has."""
    result = report.result
    assert result is not None
    if report.not_stored:
        return f"{report.not_stored}; what was trained is stored when the same is asked again"
    failed = [*(failure.reason for failure in result.failures), *refused]
    ended = {*result.finished, *result.diverged} - {rejection.file for rejection in report.rejections}
    if failed and (result.stopped_by or not ended):
        stopped = "the first jobs all failed alike, and so would the rest: " if result.stopped_by else ""
        return f"no run ended: {stopped}{failed[0]}"
    return ""


def _words(now: Progress) -> str:
    over = now.finished + now.diverged
    failed = f", {now.failed} failed" if now.failed else ""
    return f"{over} of {counted(now.runs, 'run')} trained, {len(now.running)} running{failed}"
