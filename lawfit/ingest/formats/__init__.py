"""The log formats, and which one a file is of."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from lawfit.errors import LogFormatError
from lawfit.findings import finding
from lawfit.ingest.changes import Kept, Stamp
from lawfit.ingest.database import DatabaseLogs, is_uri, open_postgres
from lawfit.ingest.formats.delimited import CSV, TSV
from lawfit.ingest.formats.excel import EXCEL
from lawfit.ingest.formats.jsonl import JSONL
from lawfit.ingest.formats.markdown import MARKDOWN
from lawfit.ingest.formats.mlflow import MLFLOW
from lawfit.ingest.formats.mlflow_files import MLFLOW_FILES
from lawfit.ingest.formats.neptune import NEPTUNE
from lawfit.ingest.formats.optuna import OPTUNA
from lawfit.ingest.formats.optuna_journal import OPTUNA_JOURNAL
from lawfit.ingest.formats.parquet import PARQUET
from lawfit.ingest.formats.step_lines import STEP_LINES
from lawfit.ingest.formats.step_table import STEP_TABLE
from lawfit.ingest.formats.tensorboard import TENSORBOARD, UNVERIFIED
from lawfit.ingest.formats.text_log import TEXT_LOG
from lawfit.ingest.formats.trackio import TRACKIO
from lawfit.ingest.formats.trainer_log import TRAINER
from lawfit.ingest.formats.trainer_state import TRAINER_STATE
from lawfit.ingest.formats.wandb import WANDB
from lawfit.ingest.formats.wandb_chart import WANDB_CHART
from lawfit.ingest.run_log import RunLogs, joined, tables_of
from lawfit.ingest.source import Source, read_head, require_text
from lawfit.ingest.table import FolderFormat, LogFormat, Table, as_text
from lawfit.ingest.tree import sources_below
from lawfit.ingest.wandb_online import FORMAT as WANDB_ONLINE
from lawfit.ingest.wandb_online import is_project, read_project

# The first that recognises a file reads it: those that know their content come before those that go by the name.
FORMATS: Final[tuple[LogFormat, ...]] = (
    *(
        WANDB,
        TRAINER_STATE,
        MLFLOW,
        MLFLOW_FILES,
        OPTUNA,
        TRACKIO,
        NEPTUNE,
        WANDB_CHART,
        STEP_TABLE,
        TENSORBOARD,
        OPTUNA_JOURNAL,
    ),
    # A text log may begin with a brace, too.
    *(PARQUET, EXCEL, TRAINER, STEP_LINES, TEXT_LOG, JSONL, MARKDOWN, TSV, CSV),
    UNVERIFIED,  # TensorBoard again, by its name only
)


def is_address(text: str) -> bool:
    """Whether a text names a database or a server, and no file."""
    return is_uri(text) or is_project(text)


def find_sources(path: str | Path, format_name: str | None = None, kept: Kept | None = None) -> list[Source]:
    """What is to be read at a place: a file, the logs in a folder and below it, a database or server by its URI.

    Parameters
    ----------
    kept : what is known of files that were looked at before

    Raises
    ------
    LogFormatError
        No such file, a folder without logs, empty, binary, or in no format that lawfit reads.
    """
    named = {log_format.name: log_format for log_format in FORMATS}
    if format_name is not None and format_name not in named:
        raise LogFormatError(f"no log format '{format_name}'; there are {', '.join(named)}")
    if is_project(str(path)):
        return [Source(format=WANDB_ONLINE, root=Path(), uri=str(path))]
    if is_uri(str(path)):
        return [Source(format="database" if format_name is None else format_name, root=Path(), uri=str(path))]
    path = Path(path)
    if path.is_dir():
        formats = [found for found in FORMATS if format_name in (None, found.name) and found is not UNVERIFIED]
        formats = [named[format_name]] if format_name is not None else formats
        for found in formats:  # one that takes folders as a whole, and knows this one
            if isinstance(found, FolderFormat) and found.sniff_folder(path):
                return [Source(format=found.name, root=path, paths=(path,))]
        return sources_below(path, formats, kept or Kept())
    head = read_head(path)
    if format_name is None:
        format_name = next((log_format.name for log_format in FORMATS if log_format.sniff(path, head)), None)
    if format_name is None:
        require_text(path, head)
        raise LogFormatError(f"{path} is in none of the formats {', '.join(named)}")
    return [Source(format=format_name, root=path.parent, paths=(path,))]


def read_source_tables(source: Source, kept: Kept | None = None) -> list[Table]:
    """The tables of a source: one for a table of runs, one per project for the logs of a tracker.

    Parameters
    ----------
    kept : logs of runs that were read before, which are not read again unless they have changed

    Raises
    ------
    LogFormatError
        It cannot be read.
    """
    if source.format == WANDB_ONLINE:
        return read_project(source)
    if source.uri:
        return _read_uri(source)
    log_format = _named(source.format)
    assert log_format is not None
    tables: list[Table]
    if isinstance(log_format, RunLogs):
        tables = log_format.read_files(source.paths, source.root, kept)
    elif hasattr(log_format, "read_files") and source.tree:
        tables = log_format.read_files(source.paths, source.root)
    else:
        tables = [log_format.read(source.paths[0])]
    tables[0] = dataclasses.replace(
        tables[0],
        notes=(*source.notes, *tables[0].notes),
        rejections=(*source.skipped, *tables[0].rejections),
    )
    return [_storable(table) for table in tables]


def _storable(table: Table) -> Table:
    """Under a name that can be stored and shown."""
    if table.name.isascii():
        return table
    rejections = [dataclasses.replace(item, file=as_text(item.file)) for item in table.rejections]
    return dataclasses.replace(table, name=as_text(table.name), rejections=tuple(rejections))


def stamps_of(source: Source, kept: Kept) -> dict[Path, Stamp]:
    """The files of a source as they are now."""
    log_format = _named(source.format)
    parts = log_format.parts if isinstance(log_format, RunLogs) else lambda _: ()
    return {path: kept.stamp(path, parts(path)) for path in source.paths}


def readable_part(source: Source, changed: Mapping[Path, Stamp]) -> Source:
    """What is to be read of a source of which some files have changed.

    Logs of runs belong together, and end where they end. Of tables, those in which nobody is writing a row.
    """
    if isinstance(_named(source.format), RunLogs) or source.uri:
        return source
    return dataclasses.replace(source, paths=tuple(path for path, (own, *_) in changed.items() if own and own[-1]))


def _named(name: str) -> LogFormat | None:
    return next((log_format for log_format in FORMATS if log_format.name == name), None)


def read_table(path: str | Path, format_name: str | None = None) -> Table:
    """Read a file, or a folder of logs of one kind, as one table of runs.

    Raises
    ------
    LogFormatError
        It cannot be read, or a folder holds logs of several kinds.
    """
    sources = find_sources(path, format_name)
    if len(sources) > 1:
        names = [f"{source} ({source.format})" for source in sources[:6]]
        raise LogFormatError(finding("ingest.several_sources", place=str(path), count=len(sources), names=names))
    tables = read_source_tables(sources[0])
    return tables[0] if len(tables) == 1 else joined(tables, sources[0].name)


def _read_uri(source: Source) -> list[Table]:
    with open_postgres(source.uri) as (query, there):
        known = [found for found in FORMATS if isinstance(found, DatabaseLogs) and found.tables <= there]
        if not known:
            raise LogFormatError(f"{source} holds no tables of MLflow or Optuna, which can be read so")
        runs = list(known[0].runs_of(query, source.name))
        if not runs:
            raise LogFormatError(f"{source} holds no run")
        return tables_of(known[0].name, runs, [], source.name)
