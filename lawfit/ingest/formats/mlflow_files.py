"""MLflow's file store: `mlruns/<experiment>/<run>/{meta.yaml, params/, metrics/}`.

MLflow itself calls it "in maintenance mode" and refuses it unless told otherwise; the files are plain text.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from lawfit.errors import LogFormatError
from lawfit.ingest.companions import read_settings
from lawfit.ingest.formats.mlflow import STATES
from lawfit.ingest.run_log import RUNNING, LoggedRun, RunLogs, place
from lawfit.ingest.source import whole_lines

_STATE_NUMBERS: Final = {
    1: "RUNNING",
    2: "SCHEDULED",
    3: "FINISHED",
    4: "FAILED",
    5: "KILLED",
}  # entities/run_status.py
_MOST_PARAM_BYTES: Final = 1 << 16


class MlflowFiles(RunLogs):
    """A run is told by its `meta.yaml`; its experiment by the one above."""

    name = "mlflow-files"
    whole_folder = True

    def sniff(self, path: Path, head: bytes) -> bool:
        return path.name == "meta.yaml" and (b"run_id:" in head or b"run_uuid:" in head)

    def parts(self, path: Path) -> Iterable[Path]:
        return [file for part in ("params", "metrics") for file, _ in _files(path.parent / part)]

    def runs(self, path: Path, root: Path) -> Iterable[LoggedRun]:
        meta = read_settings(path)
        folder = path.parent
        if str(meta.get("lifecycle_stage")) == "deleted":
            return
        run = LoggedRun(
            run_id=str(meta.get("run_id") or meta.get("run_uuid") or folder.name), file=place(path, root),
            name=str(meta.get("run_name") or meta.get("name") or ""), project=_experiment(folder.parent),
            state=_state(meta.get("status")),
        )  # fmt: skip
        for file, key in _files(folder / "params"):
            with file.open("rb") as opened:
                run.config[key] = opened.read(_MOST_PARAM_BYTES).decode("utf-8", "replace").strip()
        for file, key in _files(folder / "metrics"):
            _log(run, key, file, place(file, root))
        yield run


def _state(status: object) -> str:
    """Written as a number, or in other versions as a word."""
    word = _STATE_NUMBERS.get(status) if isinstance(status, int) else str(status)
    return STATES.get(word or "", RUNNING)


def _experiment(folder: Path) -> str:
    try:
        return str(read_settings(folder / "meta.yaml").get("name", folder.name))
    except LogFormatError:
        return folder.name


def _files(folder: Path) -> Iterator[tuple[Path, str]]:
    """Files below a folder and their names; a slash in a name made folders."""
    for above, _, names in os.walk(folder):
        for name in sorted(names):
            path = Path(above) / name
            yield path, path.relative_to(folder).as_posix()


def _log(run: LoggedRun, metric: str, path: Path, name: str) -> None:
    """The points of a file of `timestamp value step` lines."""
    for number, line, last in whole_lines(path, cuttable=True):
        cells = line.split()
        try:
            value, step = float(cells[1]), int(cells[2]) if len(cells) > 2 else number - 1
        except (ValueError, IndexError):
            if last:
                run.notes.append(f"the last line of {metric} is cut off: in writing, or killed")
                return
            raise LogFormatError(f"{name}, line {number} is not 'timestamp value step'; the file is damaged") from None
        run.log(metric, step, value)


MLFLOW_FILES: Final = MlflowFiles()
