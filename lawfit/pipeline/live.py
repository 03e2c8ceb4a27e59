"""A run that was logged as it went -> a stored run with its curves, read as any other tracker's log is."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lawfit.errors import LogFormatError
from lawfit.findings import finding
from lawfit.pipeline.ingesting import SourceRead, store_source
from lawfit.records import IngestReport, Json

if TYPE_CHECKING:
    from lawfit.ingest.options import IngestOptions
    from lawfit.ingest.run_log import LoggedRun
    from lawfit.ingest.table import Table
    from lawfit.storage import Store
    from lawfit.storage.live import LiveRun, Numbers

FORMAT = "live"


def finish_run(
    store: Store,
    project: str,
    run_key: str,
    state: str = "finished",
    said: Mapping[str, Json] | None = None,
    answers: Iterable[tuple[str, str]] = (),
) -> IngestReport | None:
    """End a run that was logged, and store it with its curves; the project is its recipe's name.

    All ended runs of the project are read together, as the logs of a tracker are: what is asked about one of them may
    only show beside the others. The same end twice changes nothing.

    Parameters
    ----------
    state : ``finished``, ``diverged``, or ``crashed``, which may go on and is not stored
    said : of the run as a whole, such as its final loss
    answers : to questions that were open (options of an ingest and values); kept for later runs of the project

    Raises
    ------
    NoRun
        It has not begun.
    Doubted
        Something is open that a guess could get wrong: it has ended, and waits for the answers.
    LogFormatError
        It cannot be taken as a run: a setting is missing, or its loss is.
    """
    from lawfit.storage.live import end_live_run, ended_runs, mark_stored

    answers = [*answers]
    end_live_run(store, project, run_key, state, said or {})
    if state == "crashed":
        return None
    live = ended_runs(store, project)
    options = answered([*(answer for run, _ in live for answer in run.answers), *answers])
    table = _table(project, live)
    report, refused = _stored(store, table, options)
    waiting = {
        run.run_key: sum(len(steps) for steps, _ in points.values())
        for run, points in live
        if run.stored_at is None and run.run_key not in refused
    }
    facts = {key: (waiting[key], found) for key, found in _facts(table).items() if key in waiting}
    mark_stored(store, project, facts, answers, run_key)
    if run_key in refused:
        raise LogFormatError(finding("ingest.no_live_run", run=run_key, why=refused[run_key]))
    return report


def answered(answers: Sequence[tuple[str, str]], **stated: Any) -> IngestOptions:
    """The options of an ingest after some answers, the later ones counting where two are of one thing.

    Parameters
    ----------
    stated : fields of the options beside them

    Raises
    ------
    ValueError
        No such option, or a value that it does not take.
    """
    from lawfit.ingest.options import IngestOptions

    options = IngestOptions(**stated)
    for option, value in answers:
        options = options.answered(option, value)
    return options


def _table(project: str, live: Sequence[tuple[LiveRun, Mapping[str, Numbers]]]) -> Table:
    from lawfit.ingest.run_log import tables_of

    return tables_of(FORMAT, [_logged(run, points) for run, points in live], [], project)[0]


def _logged(run: LiveRun, points: Mapping[str, Numbers]) -> LoggedRun:
    from lawfit.ingest.run_log import LoggedRun, Points

    logged = LoggedRun(file=run.run_key, run_id=run.run_key, project=run.project, state=run.state)
    logged.config, logged.facts = dict(run.config), {**run.said, **run.facts}
    for metric, (steps, numbers) in points.items():
        logged.points[metric] = Points()
        logged.points[metric].extend(steps, numbers)
    return logged


def _facts(table: Table) -> dict[str, dict[str, Json]]:
    """Of each run, what its row says beside its settings: to be read again when its points have gone."""
    place = table.columns.index("run_id")
    return {
        str(cells[place]): {
            name: cell if not isinstance(cell, float) or math.isfinite(cell) else str(cell)
            for name, cell in zip(table.columns, cells, strict=True)
            if cell is not None and name != "run_id" and not name.startswith("config.")
        }
        for _, cells in table.rows
    }


def _stored(store: Store, table: Table, options: IngestOptions) -> tuple[IngestReport, dict[str, str]]:
    """What storing did, and why runs were refused, by their keys."""
    from lawfit.ingest import interpret

    found = interpret(table, options)
    refused = {rejection.file: rejection.reason for rejection in found.rejections}
    read = SourceRead(path=table.name, options=options, table=table, runs=found)
    return store_source(store, read), refused
