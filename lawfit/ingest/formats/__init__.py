"""The log formats, and which one a file is of."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from lawfit.errors import LogFormatError
from lawfit.ingest.formats.delimited import CSV, TSV
from lawfit.ingest.formats.excel import EXCEL
from lawfit.ingest.formats.jsonl import JSONL
from lawfit.ingest.formats.parquet import PARQUET
from lawfit.ingest.formats.trainer_log import TRAINER
from lawfit.ingest.source import read_head, require_text
from lawfit.ingest.table import FolderFormat, LogFormat, Table

# The first that recognises a file reads it: those that know their content come before those that go by the name.
FORMATS: Final[tuple[LogFormat, ...]] = (PARQUET, EXCEL, TRAINER, JSONL, TSV, CSV)


def read_table(path: str | Path, format_name: str | None = None) -> Table:
    """Read a file, or a folder of logs, as a table of runs.

    Raises
    ------
    LogFormatError
        No such file, a folder of other files, empty, binary, or in no format that lawfit reads.
    """
    path = Path(path)
    named = {log_format.name: log_format for log_format in FORMATS}
    if format_name is not None and format_name not in named:
        raise LogFormatError(f"no log format '{format_name}'; there are {', '.join(named)}")
    if path.is_dir():
        folders = [found for found in FORMATS if isinstance(found, FolderFormat) and format_name in (None, found.name)]
        if folders:  # the last says what is wrong where none recognises it
            return next((found for found in folders if found.sniff_folder(path)), folders[-1]).read(path)
    head = read_head(path)
    if format_name is not None:
        return named[format_name].read(path)
    for log_format in FORMATS:
        if log_format.sniff(path, head):
            return log_format.read(path)
    require_text(path, head)
    raise LogFormatError(f"{path} is in none of the formats {', '.join(f.name for f in FORMATS)}")
