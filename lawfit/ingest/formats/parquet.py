"""Parquet tables, one row per run. Needs pyarrow, an extra."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from lawfit.errors import LogFormatError
from lawfit.ingest.source import read_head
from lawfit.ingest.table import Rows, Table, as_cell, as_text, require_distinct, table_of_objects
from lawfit.packed import ROWS_AT_ONCE, Column

_MAGIC = b"PAR1"


@dataclass(frozen=True)
class ParquetTable:
    """A Parquet file; the line of a row is its number, from 1."""

    name: str = "parquet"

    def sniff(self, path: Path, head: bytes) -> bool:
        return head.startswith(_MAGIC) or path.suffix.lower() in (".parquet", ".pq")

    def read(self, path: Path) -> Table:
        if not read_head(path).startswith(_MAGIC):
            raise LogFormatError(f"{path} is not a Parquet file, whatever its name says")
        try:
            from pyarrow import ArrowException
            from pyarrow.parquet import ParquetFile
            from pyarrow.types import is_nested
        except ImportError:
            raise LogFormatError(
                f"{path}: Parquet needs pyarrow; install it with pip install 'lawfit[parquet]'"
            ) from None
        try:
            with ParquetFile(path) as file:
                require_distinct(file.schema_arrow.names, path.name)
                if any(
                    is_nested(field.type) or as_text(field.name.replace("\x00", "")) != field.name
                    for field in file.schema_arrow
                ):
                    objects = chain.from_iterable(batch.to_pylist() for batch in file.iter_batches(ROWS_AT_ONCE))
                    table = table_of_objects(path.name, self.name, enumerate(objects, start=1), [])
                else:
                    columns = {name: Column.of(map(as_cell, _values(file, name))) for name in file.schema_arrow.names}
                    lines = np.arange(1, file.metadata.num_rows + 1)
                    rows = Rows(lines, list(columns.values()))
                    table = Table(name=path.name, format=self.name, columns=tuple(columns), rows=rows)
        except (ArrowException, OSError, UnicodeDecodeError) as error:
            first = str(error).strip().splitlines()[0]
            raise LogFormatError(f"{path} cannot be read as Parquet: {first}") from None
        if not table.rows and not table.rejections:
            raise LogFormatError(f"{path} has columns and no rows")
        return table


def _values(file: Any, name: str) -> Iterator[Any]:
    """One column, some rows at a time."""
    for batch in file.iter_batches(ROWS_AT_ONCE, columns=[name]):
        yield from batch.column(name).to_pylist()


PARQUET = ParquetTable()
