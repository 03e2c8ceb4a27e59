"""A project of Weights & Biases on its server, `wandb://ENTITY/PROJECT`, through wandb's own client, an extra.

Runs that are stored as far as the server has them are not fetched again, so that an ingest which ended early goes on
where it was. Written for and tried with wandb 0.31's client against a local stand-in of its server, never the real one.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import netrc
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from lawfit.errors import LogFormatError
from lawfit.findings import finding
from lawfit.ingest.formats.wandb import Reader
from lawfit.ingest.run_log import CRASHED, FINISHED, RUNNING, LoggedRun, tables_of
from lawfit.ingest.source import Source
from lawfit.ingest.table import Table
from lawfit.records import Rejection

FORMAT: Final = "wandb-online"
LAST_STEP: Final = "wandb_last_step"  # columns of a table, by which a stored run is known again
PROJECT: Final = "wandb_project"
WAITS: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0)  # seconds between tries, of which wandb's client makes its own
_URI: Final = re.compile(r"wandb://([^/\s?#]+/[^/\s?#]+)/?")
_STATES: Final = {
    "finished": FINISHED,
    **dict.fromkeys(("crashed", "failed", "killed", "preempted"), CRASHED),
}
_PAGE: Final = 50  # runs in one request
_ROWS: Final = 10_000  # of history
_TIMEOUT: Final = 30  # seconds, of a request
_FINAL: Final = re.compile(
    r"\b(40[0134])\b|could not find|not found|permission|denied|invalid|unauthori[sz]ed|relogin", re.IGNORECASE
)
_NOT_FINITE: Final = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}

Answer = TypeVar("Answer")


def is_project(text: str) -> bool:
    """Whether a text names something on W&B's server."""
    return text.startswith("wandb://")


def read_project(source: Source) -> list[Table]:
    """The runs of a project as a table; `source.known` are those that are stored, with their last step.

    Raises
    ------
    LogFormatError
        No such project, no key, no wandb, or no answer.
    """
    if not (named := _URI.fullmatch(source.uri)):
        raise LogFormatError(finding("ingest.wandb_uri", uri=source.uri))
    project = named[1]
    runs: list[LoggedRun] = []
    rejections: list[Rejection] = []
    known = 0
    try:
        for found in _all(_client(), project):
            summary = _patiently(partial(_plain_items, found.summary))
            last_step = int(summary.get("_step", -1))
            if source.known.get(found.id) == last_step:
                known += 1
            else:
                runs.append(_run(found, project, summary, last_step))
    except _NoAnswer as error:
        if not runs and not known:
            raise LogFormatError(finding("ingest.wandb_no_answer", uri=source.uri, why=str(error))) from None
        reason = f"the server gave no answer any more ({error}); the same command goes on where this one ended"
        rejections.append(Rejection(file=source.uri, line=None, column=None, reason=reason))
    notes = (f"runs that are stored as far as the server has them were not fetched again: {known:,}",) if known else ()
    if not runs:
        if not (known or rejections):
            raise LogFormatError(finding("ingest.wandb_empty", uri=source.uri))
        return [_nothing(source, rejections, notes)]
    (table,) = tables_of(FORMAT, runs, rejections, project.partition("/")[2])
    return [_with_notes(table, notes)]


class _NoAnswer(Exception):
    """The server was asked as often as is polite."""


def _client() -> Any:
    try:
        import wandb
    except ImportError:
        raise LogFormatError(finding("ingest.wandb_missing")) from None
    host = os.environ.get("WANDB_BASE_URL") or "https://api.wandb.ai"
    if not _has_key(host):  # wandb would ask for one, and wait
        raise LogFormatError(finding("ingest.wandb_no_key", host=host))
    try:
        return _patiently(lambda: wandb.Api(timeout=_TIMEOUT))
    except _NoAnswer as error:
        raise LogFormatError(finding("ingest.wandb_no_answer", uri=host, why=str(error))) from None


def _has_key(host: str) -> bool:
    """Whether there is a key where wandb's client looks for one; which one is no concern of ours."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    for path in (os.environ.get("NETRC"), "~/.netrc", "~/_netrc"):
        try:
            if path and urlsplit(host).hostname in netrc.netrc(os.path.expanduser(path)).hosts:  # noqa: PTH111
                return True
        except (OSError, netrc.NetrcParseError):
            continue
    return False


def _all(client: Any, project: str) -> Iterator[Any]:
    """The runs, page by page: what failed is asked for again."""
    whole = (
        {"lazy": False} if "lazy" in inspect.signature(client.runs).parameters else {}
    )  # else a request for each run
    pages, nothing = iter(client.runs(project, per_page=_PAGE, **whole)), object()
    while (found := _patiently(lambda: next(pages, nothing))) is not nothing:
        yield found


def _patiently(ask: Callable[[], Answer]) -> Answer:
    """An answer, after some waiting where the server has too many questions (429) or is not there for a moment.

    Raises
    ------
    LogFormatError
        It answers that there is no such thing, or not for us.
    _NoAnswer
        All waiting was in vain.
    """
    for wait in (*WAITS, None):
        try:
            return ask()
        except Exception as error:  # noqa: BLE001 - wandb's, requests' and its service's own, by version
            said = " ".join(str(error).split()) or type(error).__name__
            if _FINAL.search(said) and "429" not in said:
                raise LogFormatError(finding("ingest.wandb_refused", why=said)) from None
            if wait is None:
                raise _NoAnswer(said) from None
            time.sleep(wait)
    raise AssertionError


def _run(found: Any, project: str, summary: dict[str, Any], last_step: int) -> LoggedRun:
    """One run; its history only where it can be stored: it has finished, or may have diverged."""
    state = _STATES.get(found.state, RUNNING)
    run = LoggedRun(
        run_id=str(found.id),
        file=f"wandb://{project}/{found.id}",
        name=str(found.name or ""),
        project=project.partition("/")[2],
        state=state,
        config=dict(found.config),
        summary=summary,
        facts={PROJECT: project, LAST_STEP: last_step},
    )
    reader = Reader(run)
    diverged = any(isinstance(value, float) and not math.isfinite(value) for value in summary.values())
    if state != FINISHED and not diverged:
        run.summary = {}  # of its way, not of its end
    elif last_step >= 0:
        for row in _patiently(lambda: list(found.scan_history(page_size=_ROWS))):
            reader.row(_plain_items(row))
    return reader.done()


def _plain_items(given: Any) -> dict[str, Any]:
    """As a dictionary, with numbers for the words that JSON has for them."""
    return {str(name): _plain(value) for name, value in given.items()}


def _plain(value: Any) -> Any:
    if hasattr(value, "items"):
        return _plain_items(value)
    return _NOT_FINITE.get(value, value) if isinstance(value, str) else value


def _nothing(source: Source, rejections: list[Rejection], notes: tuple[str, ...]) -> Table:
    return Table(name=source.name, format=FORMAT, columns=(), rows=(), rejections=tuple(rejections), notes=notes)


def _with_notes(table: Table, notes: tuple[str, ...]) -> Table:
    return dataclasses.replace(table, notes=(*notes, *table.notes))


def known_step(extra: Mapping[str, Any], uri: str) -> int | None:
    """The last step of a stored run, where it is of this project."""
    named = _URI.fullmatch(uri)
    return extra.get(LAST_STEP) if named and extra.get(PROJECT) == named[1] else None
