"""The log formats, and which one a file is of."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from lawfit.errors import LogFormatError
from lawfit.ingest.delimited import CSV, TSV
from lawfit.ingest.jsonl import JSONL
from lawfit.ingest.parquet import PARQUET
from lawfit.ingest.source import read_head, require_text
from lawfit.ingest.table import LogFormat, Table
from lawfit.ingest.trainer_log import TRAINER

# The first that recognises a file reads it: those that know their content come before those that go by the name.
FORMATS: Final[tuple[LogFormat, ...]] = (PARQUET, TRAINER, JSONL, TSV, CSV)


def read_table(path: str | Path, format_name: str | None = None) -> Table:
    """Read a file, or a folder of the trainer's logs, as a table of runs.

    Raises
    ------
    LogFormatError
        No such file, a folder of other files, empty, binary, or in no format that lawfit reads.
    """
    path = Path(path)
    if path.is_dir() and format_name in (None, TRAINER.name):
        return TRAINER.read_folder(path)
    head = read_head(path)
    if format_name is not None:
        for log_format in FORMATS:
            if log_format.name == format_name:
                return log_format.read(path)
        raise LogFormatError(f"no log format '{format_name}'; there are {', '.join(f.name for f in FORMATS)}")
    for log_format in FORMATS:
        if log_format.sniff(path, head):
            return log_format.read(path)
    require_text(path, head)
    raise LogFormatError(f"{path} is in none of the formats {', '.join(f.name for f in FORMATS)}")
