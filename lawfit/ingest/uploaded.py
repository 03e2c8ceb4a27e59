"""A file that somebody sent: which formats it may be of, how large it may become, and what it is called."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Final
from zipfile import BadZipFile, ZipFile

from lawfit.errors import LogFormatError
from lawfit.findings import finding
from lawfit.ingest.formats import find_sources, read_source_tables
from lawfit.ingest.table import Table

FILE: Final = "lawfit-upload"  # what it is called on this machine, beside its suffix
# Databases of other programs are not among them: opening one that a stranger made is more than reading it.
_FORMATS: Final = frozenset(
    {
        "wandb", "trainer-state", "neptune", "step-table", "tensorboard", "optuna-journal", "parquet", "excel",
        "trainer", "step-lines", "jsonl", "text-log", "tsv", "csv",
    }
)  # fmt: skip
_SUFFIXES: Final = re.compile(r"\.(csv|tsv|tab|txt|log|jsonl|ndjson|json|parquet|pq|xlsx|xlsm|wandb)", re.IGNORECASE)
_MOST_UNPACKED: Final = 1 << 30  # bytes of a workbook
_MOST_CELLS: Final = 50_000_000  # of a Parquet file


def shown_name(name: str) -> str:
    """What a file is called in messages, and its recipe after it: the last part of its name, of characters that print.

    It is never part of a path on this machine.
    """
    last = re.split(r"[/\\]", name)[-1]
    return "".join(character for character in last if character.isprintable())[-150:].strip() or "upload"


def suffix_of(name: str) -> str:
    """The suffix under which it is kept, by which some formats are told; empty for one that tells nothing."""
    suffix = re.search(r"\.[^./\\]*$", name)
    return suffix[0].lower() if suffix is not None and _SUFFIXES.fullmatch(suffix[0]) else ""


def uploaded_tables(path: Path, name: str, format_name: str | None = None) -> list[Table]:
    """The tables of a file that was sent, called by its `name`.

    Raises
    ------
    LogFormatError
        It is in no format that is taken so, packed, or would be too large unpacked.
    """
    with path.open("rb") as file:
        if file.read(2) == b"\x1f\x8b":
            raise LogFormatError(finding("ingest.packed", file=name))
    (source,) = find_sources(path, format_name)
    if source.format not in _FORMATS:
        raise LogFormatError(finding("ingest.not_sent", file=name, format=source.format, formats=sorted(_FORMATS)))
    _require_bounded(path, source.format, name)
    return [_called(table, path, name) for table in read_source_tables(source)]


def _require_bounded(path: Path, format_name: str, name: str) -> None:
    size, most = 0, 0
    if format_name == "excel":
        try:
            with ZipFile(path) as packed:
                size, most = sum(member.file_size for member in packed.infolist()), _MOST_UNPACKED
        except (BadZipFile, OSError, ValueError, NotImplementedError):
            return  # which its reader says in its words
    elif format_name == "parquet":
        try:
            from pyarrow import ArrowException
            from pyarrow.parquet import read_metadata

            about = read_metadata(path)
        except (ImportError, ArrowException, OSError, UnicodeDecodeError):
            return
        size, most = about.num_rows * about.num_columns, _MOST_CELLS
    if size > most:
        raise LogFormatError(finding("ingest.too_large", file=name))


def _called(table: Table, path: Path, name: str) -> Table:
    """The same table under the name that its sender knows."""
    if table.name not in (path.name, path.stem, path.parent.name):
        return table
    places = {line: (name if file == path.name else file, number) for line, (file, number) in table.places.items()}
    return dataclasses.replace(table, name=name, places=places)
