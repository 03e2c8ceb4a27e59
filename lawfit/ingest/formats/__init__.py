"""The log formats, and which one a file is of."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Final

from lawfit.errors import LogFormatError
from lawfit.findings import finding
from lawfit.ingest.database import DatabaseLogs, is_uri, open_postgres
from lawfit.ingest.formats.delimited import CSV, TSV
from lawfit.ingest.formats.excel import EXCEL
from lawfit.ingest.formats.jsonl import JSONL
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
from lawfit.ingest.run_log import RunLogs, joined, tables_of
from lawfit.ingest.source import Source, read_head, require_text
from lawfit.ingest.table import FolderFormat, LogFormat, Table
from lawfit.ingest.tree import sources_below

# The first that recognises a file reads it: those that know their content come before those that go by the name.
FORMATS: Final[tuple[LogFormat, ...]] = (
    *(WANDB, TRAINER_STATE, MLFLOW, MLFLOW_FILES, OPTUNA, TRACKIO, NEPTUNE, STEP_TABLE, TENSORBOARD, OPTUNA_JOURNAL),
    *(PARQUET, EXCEL, TRAINER, STEP_LINES, JSONL, TEXT_LOG, TSV, CSV),
    UNVERIFIED,  # TensorBoard again, by its name only
)


def find_sources(path: str | Path, format_name: str | None = None) -> list[Source]:
    """What is to be read at a place: a file, the logs in a folder and below it, or a database by its URI.

    Raises
    ------
    LogFormatError
        No such file, a folder without logs, empty, binary, or in no format that lawfit reads.
    """
    named = {log_format.name: log_format for log_format in FORMATS}
    if format_name is not None and format_name not in named:
        raise LogFormatError(f"no log format '{format_name}'; there are {', '.join(named)}")
    if is_uri(str(path)):
        return [Source(format="database" if format_name is None else format_name, root=Path(), uri=str(path))]
    path = Path(path)
    if path.is_dir():
        formats = [found for found in FORMATS if format_name in (None, found.name) and found is not UNVERIFIED]
        formats = [named[format_name]] if format_name is not None else formats
        for found in formats:  # one that takes folders as a whole, and knows this one
            if isinstance(found, FolderFormat) and found.sniff_folder(path):
                return [Source(format=found.name, root=path, paths=(path,))]
        return sources_below(path, formats)
    head = read_head(path)
    if format_name is None:
        format_name = next((log_format.name for log_format in FORMATS if log_format.sniff(path, head)), None)
    if format_name is None:
        require_text(path, head)
        raise LogFormatError(f"{path} is in none of the formats {', '.join(named)}")
    return [Source(format=format_name, root=path.parent, paths=(path,))]


def read_source_tables(source: Source) -> list[Table]:
    """The tables of a source: one for a table of runs, one per project for the logs of a tracker.

    Raises
    ------
    LogFormatError
        It cannot be read.
    """
    if source.uri:
        return _read_uri(source)
    log_format = next(log_format for log_format in FORMATS if log_format.name == source.format)
    if hasattr(log_format, "read_files") and (source.tree or isinstance(log_format, RunLogs)):
        tables: list[Table] = log_format.read_files(source.paths, source.root)
    else:
        tables = [log_format.read(source.paths[0])]
    if source.notes:
        tables[0] = dataclasses.replace(tables[0], notes=(*source.notes, *tables[0].notes))
    return tables


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
