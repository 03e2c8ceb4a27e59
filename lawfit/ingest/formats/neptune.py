"""What Neptune's exporter left: Parquet with a row per attribute and step, `run_id, attribute_path, step, *_value`.

Configurations are attributes without a step; those below `sys/` are Neptune's own. A run may be spread over files.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from lawfit.errors import LogFormatError
from lawfit.ingest.run_log import CRASHED, LoggedRun, RunLogs, place, whole_step

_MAGIC: Final = b"PAR1"
_COLUMNS: Final = ("run_id", "attribute_path", "attribute_type", "step")
_VALUES: Final = ("float_value", "int_value", "string_value", "bool_value")


class NeptuneExport(RunLogs):
    """Needs pyarrow, an extra."""

    name = "neptune"

    def sniff(self, path: Path, head: bytes) -> bool:
        if not head.startswith(_MAGIC):
            return False
        try:
            from pyarrow import ArrowException
            from pyarrow.parquet import read_schema
        except ImportError:
            return False  # the format for Parquet says what to install
        try:
            return set(_COLUMNS) <= set(read_schema(path).names)
        except (ArrowException, OSError, ValueError):
            return False

    def runs(self, path: Path, root: Path) -> Iterable[LoggedRun]:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile

        runs: dict[str, LoggedRun] = {}
        try:
            with ParquetFile(path) as file:
                there = set(file.schema_arrow.names)
                wanted = [name for name in (*_COLUMNS, *_VALUES, "project_id") if name in there]
                for batch in file.iter_batches(columns=wanted):
                    for row in batch.to_pylist():
                        key = str(row["run_id"])
                        if key not in runs:
                            runs[key] = LoggedRun(
                                run_id=key, file=place(path, root), project=str(row.get("project_id") or "")
                            )
                        _take(runs[key], row)
        except (ArrowException, OSError, UnicodeDecodeError) as error:
            raise LogFormatError(f"{path} cannot be read as Parquet: {str(error).splitlines()[0]}") from None
        return runs.values()


def _take(run: LoggedRun, row: dict[str, Any]) -> None:
    name = str(row["attribute_path"])
    value = next((row[column] for column in _VALUES if row.get(column) is not None), None)
    if value is None:
        return
    if name == "sys/name":
        run.name = str(value)
    elif name == "sys/failed" and value is True:
        run.state = CRASHED
    elif name.startswith("sys/"):
        return
    elif row["step"] is None:
        run.config[name.replace("/", ".")] = value
    elif isinstance(value, (int, float)) and (step := whole_step(float(row["step"]))) is not None:
        run.log(name, step, float(value))


NEPTUNE: Final = NeptuneExport()
