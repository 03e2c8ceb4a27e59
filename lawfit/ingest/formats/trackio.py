"""Trackio's projects: an SQLite file each, with JSON in its tables `metrics` and `configs`.

Databases from before Trackio 0.24 know a run by its name only; one whose upgrade was broken off keeps its rows in
`trackio_legacy_*`. Trackio does not record whether a run ended.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePath
from typing import Any, Final

from lawfit.errors import LogFormatError
from lawfit.ingest.database import DatabaseLogs, Query, columns
from lawfit.ingest.run_log import LoggedRun

_WORDS: Final = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}
_AXES: Final = ("train/global_step", "global_step")  # of the Hugging Face Trainer


class Trackio(DatabaseLogs):
    """Projects of Trackio, read from 0.43."""

    name = "trackio"
    tables = frozenset({"metrics", "configs"})

    def runs_of(self, query: Query, file: str) -> Iterable[LoggedRun]:
        project = PurePath(file).stem
        runs: dict[str, LoggedRun] = {}
        for key, name, raw in _rows(query, "configs", "config"):
            settings = {k: v for k, v in _object(raw, file).items() if not k.startswith("_")}
            runs[key] = LoggedRun(run_id=key, file=file, name=name, project=project, config=settings)
        for key, name, step, raw in _rows(query, "metrics", "step", "metrics"):
            run = runs.get(key) or LoggedRun(run_id=key, file=file, name=name, project=project)
            runs[key] = run
            row = _object(raw, file)
            axis = next((row[a] for a in _AXES if isinstance(row.get(a), int)), step)
            for metric, value in row.items():
                number = _WORDS.get(value) if isinstance(value, str) else value
                if isinstance(number, (int, float)) and not isinstance(number, bool) and metric not in _AXES:
                    run.log(metric, int(axis), number)
        return runs.values()


def _rows(query: Query, table: str, *wanted: str) -> Iterator[tuple[Any, ...]]:
    """Key and name of the run and the wanted columns, those of an upgrade that was broken off first."""
    tables = {str(name) for (name,) in query("select name from sqlite_master where type = 'table'")}
    for name in (f"trackio_legacy_{table}", table):
        if name not in tables:
            continue
        there = columns(query, name)
        if {"run_name", *wanted} <= there:
            key = "coalesce(run_id, run_name)" if "run_id" in there else "run_name"
            sql = f"select {key}, run_name, {', '.join(wanted)} from {name} order by rowid"  # noqa: S608 - our words
            for row in query(sql):
                yield (str(row[0]), str(row[1]), *row[2:])


def _object(raw: Any, file: str) -> Mapping[str, Any]:
    try:
        found = json.loads(raw)
    except (ValueError, TypeError, RecursionError) as error:
        raise LogFormatError(f"{file}: a row of its tables is not JSON ({error}); the database is damaged") from None
    return found if isinstance(found, dict) else {}


TRACKIO: Final = Trackio()
