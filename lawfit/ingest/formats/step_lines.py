"""JSON lines with a row per logged step of one run (`{"step": 10, "loss": 3.2}`), a file for each run.

Lines without a step are settings; so is a file of the usual names beside, or `<same name>.json`. Tables of runs and
tables of curves with a run in each row are other formats: they name a run, or its sizes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from lawfit.errors import LogFormatError
from lawfit.factors import normal
from lawfit.ingest import curve_facts
from lawfit.ingest.companions import beside
from lawfit.ingest.names import NAMES
from lawfit.ingest.run_log import LoggedRun, RunLogs, place, whole_step
from lawfit.ingest.source import whole_lines

_AXES: Final = ("step", "global_step", "train_step", "iteration", "iter", "_step")
_NAMES_A_RUN: Final = frozenset(
    name
    for field in (
        "run_id",
        "run_name",
        "params",
        "batch_tokens",
        "batch_sequences",
        "batch_unstated",
        "weight_decay",
        "seed",
    )
    for name in NAMES[field]
)
_FEWEST: Final = 2  # lines with a step
_LOOKED_AT: Final = 20  # lines
_NOT_MEASURED: Final = frozenset({"epoch", "time", "timestamp", "_timestamp", "_runtime", "wall_time"})
_CONFIG_WORDS: Final = ("config", "args", "hparams", "settings")


class StepLines(RunLogs):
    """Step logs that are told by their first lines."""

    name = "step-lines"

    def sniff(self, path: Path, head: bytes) -> bool:  # noqa: ARG002 - known by its content
        if not head.lstrip(b"\xef\xbb\xbf \n").startswith(b"{") or b"\x00" in head:
            return False
        seen: list[float] = []
        for line in head.removeprefix(b"\xef\xbb\xbf").split(b"\n")[:_LOOKED_AT]:
            row = _row(line)
            axis = _axis(row)
            if axis is None:
                continue
            if row is None or "event" in row or not _NAMES_A_RUN.isdisjoint(map(normal, row)):
                return False
            losses = [
                key for key in _flat(row) if curve_facts.is_training_loss(key) or curve_facts.is_validation_loss(key)
            ]
            if losses and isinstance(row[axis], (int, float)):
                seen.append(row[axis])
        return len(seen) >= _FEWEST and seen == sorted(seen)

    def runs(self, path: Path, root: Path) -> Iterable[LoggedRun]:
        name = path.name.removesuffix(".gz").rpartition(".")[0] or path.name
        settings, notes = beside(path.parent, (f"{name}.json", f"{name}.yaml", *_usual(path)))
        run = LoggedRun(file=place(path, root), name=name, config=settings, notes=notes)
        for number, line, last in whole_lines(path):
            row = _row(line)
            if row is None:
                if last:
                    run.notes.append("its last line is cut off: in writing, or killed; what stands before is taken")
                elif line.strip():
                    raise LogFormatError(f"{path}: line {number} is not JSON; the log is damaged")
                continue
            _take(run, row)
        return [run]


def _usual(path: Path) -> tuple[str, ...]:
    """Settings of a folder are those of its one log; where it has several, each needs its own."""
    logs = [other for other in path.parent.iterdir() if other.suffix == path.suffix]
    return ("config.json", "config.yaml", "hparams.json", "hparams.yaml", "args.json") if len(logs) == 1 else ()


def _row(line: str | bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


def _axis(row: Mapping[str, Any] | None) -> str | None:
    return None if row is None else next((name for name in _AXES if name in row), None)


def _take(run: LoggedRun, row: dict[str, Any]) -> None:
    axis = _axis(row)
    if axis is None:
        inner = next((row[word] for word in _CONFIG_WORDS if isinstance(row.get(word), dict)), row)
        run.config |= inner
        return
    given = row[axis]
    step = whole_step(given) if isinstance(given, (int, float)) else None
    if step is None:
        return
    for metric, value in _flat(row).items():
        if metric != axis and metric not in _NOT_MEASURED:
            run.log(metric, step, value)


def _flat(row: Mapping[str, Any], prefix: str = "", depth: int = 0) -> dict[str, float]:
    found: dict[str, float] = {}
    for key, value in row.items():
        if isinstance(value, Mapping) and depth < 5:
            found |= _flat(value, f"{prefix}{key}/", depth + 1)
        elif isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 2**1023:
            found[prefix + key] = float(value)
        elif isinstance(value, float):
            found[prefix + key] = value
    return found


STEP_LINES: Final = StepLines()
