"""Event logs of lawfit's own trainer (`<run id>.jsonl`), one file or a folder of them: a row and curves per run.

A log begins with a `start` line (settings, conventions, corpus) and ends with an `end` line; between them stand
`train` and `eval` lines, and `diverged`. Files that were put together (`cat runs/*.jsonl`) read the same.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from lawfit.errors import LogFormatError
from lawfit.ingest.source import TextLines, read_head, require_text
from lawfit.ingest.table import Table, table_of_objects
from lawfit.proxy.table import run_row  # the one place that knows what a row of the run table says
from lawfit.records import Curve, Json, Rejection

FIRST_EVENT: Final = "start"
SUFFIX: Final = ".jsonl"
_NOT_MEASURED: Final = frozenset({"event", "step", "tokens"})  # of a line: where it stands
_EVENTS: Final = frozenset({"train", "eval", "diverged", "end"})


@dataclass
class _Section:
    """The lines of one run."""

    file: str
    line: int  # of its start
    events: list[Mapping[str, Json]]
    last_line: int
    damage: str = ""  # why it cannot be taken
    cut: bool = False  # its last line is no whole JSON


@dataclass
class _Gathered:
    """Rows, curves and rejections while files are read."""

    objects: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    places: dict[int, tuple[str, int]] = field(default_factory=dict)
    curves: list[Curve] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)

    def add(self, section: _Section) -> None:
        row, reason = _row(section)
        if row is None:
            where = section.line if section.damage else section.last_line
            self.rejections.append(Rejection(file=section.file, line=where, column=None, reason=reason))
            return
        number = len(self.objects) + 1
        self.objects.append((number, row))
        self.places[number] = (section.file, section.line)
        self.curves += curves_of(section.events)

    def table(self, name: str, format_name: str, notes: Iterable[str] = ()) -> Table:
        made = table_of_objects(name, format_name, self.objects, self.rejections, notes)
        return Table(
            name=name, format=format_name, columns=made.columns, rows=made.rows, rejections=made.rejections,
            notes=made.notes, places=self.places, curves=tuple(self.curves), exact=True,
        )  # fmt: skip


@dataclass(frozen=True)
class TrainerLog:
    """Logs of `python -m lawfit.train`."""

    name: str = "trainer"

    def sniff(self, path: Path, head: bytes) -> bool:  # noqa: ARG002 - known by its content
        first = head.removeprefix(b"\xef\xbb\xbf").lstrip().split(b"\n", 1)[0]
        try:
            event = json.loads(first)
        except (
            ValueError,
            RecursionError,
        ):  # a first line that is cut reads as any JSON lines do, and is rejected there
            return False
        return isinstance(event, dict) and event.get("event") == FIRST_EVENT and "run_id" in event

    def read(self, path: Path) -> Table:
        found: list[_Section] = []
        gathered, notes = _Gathered(), _read_file(path, path.name, found)
        for section in found:
            gathered.add(section)
        if not found:
            raise LogFormatError(f"{path} does not begin with a start line; it is no log of the trainer")
        return gathered.table(path.name, self.name, notes)

    def read_files(self, paths: Sequence[Path], root: Path) -> list[Table]:
        """Several logs as one table.

        Raises
        ------
        LogFormatError
            None of them is a log.
        """
        table, logs = self.read_logs(root.resolve().name or "logs", root, paths)
        if not logs:
            raise LogFormatError(f"{root}: none of its {len(paths)} files *{SUFFIX} is a log of the trainer")
        return [table]

    def read_logs(self, title: str, folder: Path, paths: Sequence[Path]) -> tuple[Table, int]:
        """Some logs in a folder as one table, and how many there were; what is none is a rejection."""
        gathered, notes, logs = _Gathered(), list[str](), 0
        for path in paths:
            name = path.relative_to(folder).as_posix()
            found: list[_Section] = []
            try:
                notes += [f"{name}: {note}" for note in _read_file(path, name, found)]
            except LogFormatError as error:
                gathered.rejections.append(Rejection(file=name, line=None, column=None, reason=str(error)))
                continue
            if not found:
                reason = "it does not begin with a start line, so it is no log of the trainer"
                gathered.rejections.append(Rejection(file=name, line=1, column=None, reason=reason))
            logs += len(found)
            for section in found:
                gathered.add(section)
        return gathered.table(title, self.name, notes), logs


def _read_file(path: Path, name: str, into: list[_Section]) -> list[str]:
    """Collect the sections of a file; notes about its text."""
    head = read_head(path)
    require_text(path, head)
    lines = TextLines(path)
    into.extend(_sections(lines, name))
    for rejection in lines.rejections:  # lines that are too long or hold NUL
        for section in into:
            if rejection.line is not None and section.line <= rejection.line <= section.last_line + 1:
                section.damage = section.damage or f"line {rejection.line}: {rejection.reason}"
    return lines.notes()


def _sections(lines: TextLines, name: str) -> Iterator[_Section]:
    current: _Section | None = None
    for number, text in lines:
        if not text.strip():
            continue
        event = _event(text)
        if event is not None and event.get("event") == FIRST_EVENT:
            if current is not None:
                yield current
            current = _Section(file=name, line=number, events=[event], last_line=number)
            continue
        if current is None:
            return  # not a log of the trainer; the caller says so
        if current.cut:  # the line before was cut, and yet something follows
            current.damage = current.damage or f"line {current.last_line} is not JSON; the log is damaged"
        current.last_line = number
        if event is None:
            current.cut = True
        elif event.get("event") not in _EVENTS:
            current.damage = current.damage or f"line {number} is none of the trainer's: event {event.get('event')!r}"
        else:
            current.events.append(event)
    if current is not None:
        yield current


def _event(text: str) -> Mapping[str, Json] | None:
    try:
        event = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) else None


def _row(section: _Section) -> tuple[dict[str, Any] | None, str]:
    """The row of the run, or why there is none."""
    if section.damage:
        return None, section.damage
    last = section.events[-1]
    if section.cut and last.get("event") == "end":
        return None, f"line {section.last_line} is not JSON, after the end of the run; the log is damaged"
    try:
        if last.get("event") != "end" or last["status"] == "stopped":
            return None, _unfinished(section)
        row = run_row(section.events)
    except (KeyError, TypeError, ValueError, ArithmeticError, AttributeError, IndexError) as error:
        what = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        return None, f"the log cannot be understood: {what}; was it written by another version of the trainer?"
    return (row, "") if row is not None else (None, _unfinished(section))


def _unfinished(section: _Section) -> str:
    start, last = section.events[0], section.events[-1]
    done = last.get("step", 0)
    return (
        f"the run has not ended: its log stops at step {done:,} of {start['steps']:,}; "
        "it may be in training, or goes on when its pack is trained again"
    )


def curves_of(events: Sequence[Mapping[str, Json]]) -> list[Curve]:
    """What a run's log says along its steps: `train_loss`, `grad_norm`, `lr`, ..., `validation_loss`, ..."""
    points: dict[str, dict[int, float]] = {}
    for event in events:
        kind = event.get("event")
        if kind not in ("train", "eval", "end"):
            continue
        for name, value in event.items():
            if name in _NOT_MEASURED or isinstance(value, bool) or not isinstance(value, (int, float)):
                continue
            if kind != "train" and name != "loss" and not name.endswith("_loss"):
                continue  # of the end: FLOPs and timings
            metric = name if name != "loss" else "train_loss" if kind == "train" else "validation_loss"
            points.setdefault(metric, {})[int(event["step"])] = float(value)
    run_key = str(events[0]["run_id"])
    made = []
    for metric, values in points.items():
        steps = sorted(step for step, value in values.items() if step > 0 and math.isfinite(value))
        if steps:
            made.append(
                Curve(run_key=run_key, metric=metric, steps=tuple(steps), numbers=tuple(values[s] for s in steps))
            )
    return made


TRAINER: Final = TrainerLog()
