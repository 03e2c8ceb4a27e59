"""Logs of trackers and trainers, a run with its curves each -> tables of runs. What all such formats share.

A format says how a log becomes `LoggedRun`s. Here they become rows: settings under `config.`, what a person or trainer
summed up under `summary.`, and what the curves say (`final_val_loss`, `steps`, `peak_lr`, ... see curve_facts.py).
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lawfit.errors import LogFormatError
from lawfit.ingest import curve_facts
from lawfit.ingest.changes import Kept
from lawfit.ingest.source import live
from lawfit.ingest.table import Table, as_text, table_of_objects
from lawfit.records import Curve, Rejection, content_hash
from lawfit.units import counted

Steps = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.float64]

FINISHED: Final = "finished"
RUNNING: Final = "running"  # or killed: nothing says that it ended
CRASHED: Final = "crashed"
DIVERGED: Final = "diverged"
UNKNOWN: Final = ""  # the source keeps no record of ends

_MOST_STEP: Final = 2**63 - 1
_NOTHING: Final = "it holds neither settings nor numbers (a run that has just begun, or was killed at once)"
_DEEPEST: Final = 20  # nested settings


class Points:
    """A metric along a run while it is read: eight bytes a step and eight a number, in the order of the log."""

    def __init__(self) -> None:
        self._steps, self._numbers = array("q"), array("d")

    def add(self, step: int, number: float) -> None:
        self._steps.append(step)
        self._numbers.append(number)

    def extend(self, steps: Steps, numbers: Numbers) -> None:
        self._steps.frombytes(np.ascontiguousarray(steps, dtype=np.int64).tobytes())
        self._numbers.frombytes(np.ascontiguousarray(numbers, dtype=np.float64).tobytes())

    def limit(self, largest: float) -> None:
        """Infinity where a source that cannot hold it has its largest numbers."""
        numbers = np.array(self._numbers)
        if (over := np.abs(numbers) > largest).any():
            numbers[over] = np.copysign(np.inf, numbers[over])
            self._numbers = array("d", numbers.tobytes())

    def copy(self) -> Points:
        made = Points()
        made.join(self)
        return made

    def join(self, later: Points) -> None:
        self._steps.extend(later._steps)
        self._numbers.extend(later._numbers)

    def ascending(self) -> tuple[Steps, Numbers]:
        """By step; of a step that was logged twice (a restart from a checkpoint) the later number."""
        steps, numbers = np.array(self._steps, dtype=np.int64), np.array(self._numbers, dtype=np.float64)
        if len(steps) < 2 or bool((steps[1:] > steps[:-1]).all()):
            return steps, numbers
        order = np.argsort(steps, kind="stable")
        steps, numbers = steps[order], numbers[order]
        last = np.append(steps[1:] != steps[:-1], True)
        return steps[last], numbers[last]

    @property
    def first(self) -> tuple[int, float]:
        """As it was logged first."""
        return self._steps[0], self._numbers[0]

    def __len__(self) -> int:
        return len(self._steps)


@dataclass(kw_only=True)
class LoggedRun:
    """One run as its log has it."""

    file: str  # its log, for messages
    run_id: str = ""  # of the tracker; made from `name` and the first number where it gives none
    name: str = ""
    project: str = ""  # runs of different ones stand in tables of their own
    kind: str = ""  # likewise, where a format is several trainers'
    state: str = UNKNOWN
    reached: int = 0  # step that the state is of, where logs of one run may come in any order
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)  # said once of a run, not along it
    points: dict[str, Points] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)  # columns of their own, under names that say what they are
    notes: list[str] = field(default_factory=list)

    def identify(self, home: Path) -> None:
        """An id for a run whose source gives none: the same from wherever it is read, and while its log grows.

        It is made from the names of its folder and the two above (`lr-1e-3/seed-1`) and its first number, which alone
        would be the same for all runs of one initialisation; not from settings, which may be added later.
        """
        first = min((points.first for points in self.points.values() if len(points)), default=(0, math.nan))
        metric = min((name for name, p in self.points.items() if len(p) and p.first[0] == first[0]), default="")
        number = self.points[metric].first[1] if metric else math.nan
        names = [as_text(name) for name in home.resolve().parts[-3:]]
        self.run_id = f"{self.name}-{content_hash([names, metric, first[0], repr(number)])[:8]}"

    def log(self, metric: str, step: int, number: float) -> None:
        if metric not in self.points:
            self.points[metric] = Points()
        self.points[metric].add(step, number)

    def copy(self) -> LoggedRun:
        """One to which the later logs of the run may be joined."""
        return dataclasses.replace(
            self,
            config={**self.config},
            summary={**self.summary},
            points={metric: each.copy() for metric, each in self.points.items()},
            facts={**self.facts},
            notes=[*self.notes],
        )

    def join(self, later: LoggedRun) -> None:
        """What a later log of the same run adds, after a restart."""
        self.config |= later.config
        self.summary |= later.summary
        self.facts |= later.facts
        if later.reached >= self.reached:
            self.state, self.reached = later.state, later.reached
        self.notes += later.notes
        for metric, points in later.points.items():
            self.points.setdefault(metric, Points()).join(points)


class RunLogs(ABC):
    """A format whose logs hold whole runs. `runs` is all that one has to say, beside its name and how it is told."""

    name: str
    whole_folder: bool = False  # a folder that has such a log belongs to it with all below

    @abstractmethod
    def sniff(self, path: Path, head: bytes) -> bool:
        """Whether a file of this name that starts with these bytes is of this format."""

    @abstractmethod
    def runs(self, path: Path, root: Path) -> Iterable[LoggedRun]:
        """The runs of one log; their files are named from `root`.

        Raises
        ------
        LogFormatError
            It cannot be read.
        """

    def home(self, path: Path) -> Path | None:
        """The folder of the run of a log, where all that other formats find is of the same run; None: not so."""
        return path.parent if self.whole_folder else None

    def _understood(self, path: Path, root: Path) -> Iterator[LoggedRun]:
        """Its runs. Where a log holds other kinds of values than its writer writes, that is a sentence too."""
        try:
            yield from self.runs(path, root)
        except (TypeError, ValueError, KeyError, IndexError, AttributeError, OverflowError, RecursionError) as error:
            what = f"it lacks {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
            advice = "it is damaged, or of a version that is not known"
            raise LogFormatError(f"{path} cannot be understood: {what}; {advice}") from error
        except OSError as error:
            raise LogFormatError(f"{path} cannot be read: {error.strerror or error}") from None

    def _runs_of(self, path: Path, root: Path, kept: Kept | None) -> Iterable[LoggedRun]:
        if kept is None:
            return self._understood(path, root)
        with live(kept.quiet_seconds):
            runs = kept.of(f"runs from {root}", path, lambda: list(self._understood(path, root)), self.parts(path))
        return [run.copy() for run in runs]

    def parts(self, path: Path) -> Iterable[Path]:  # noqa: ARG002 - of most logs: none
        """Further files that a log consists of, beside the settings of the usual names."""
        return ()

    def title(self, path: Path) -> str:
        """What a table of one log is called, where no project says it."""
        return (self.home(path) or path).resolve().name

    def read(self, path: Path) -> Table:
        """One log as a table."""
        tables = self.read_files([path], path.parent)
        return tables[0] if len(tables) == 1 else joined(tables, path.name)

    def read_files(self, paths: Sequence[Path], root: Path, kept: Kept | None = None) -> list[Table]:
        """Several logs, a table for each project. A log that cannot be read is a rejection, if others can.

        Parameters
        ----------
        kept : what was read of them before

        Raises
        ------
        LogFormatError
            None can be read.
        """
        found: dict[tuple[str, str], LoggedRun] = {}
        rejections: list[Rejection] = []
        for path in paths:
            try:
                for run in self._runs_of(path, root, kept):
                    if not (run.config or run.points or run.summary or run.facts):
                        rejections.append(Rejection(file=run.file, line=None, column=None, reason=_NOTHING))
                        continue
                    if not run.run_id:
                        run.identify(self.home(path) or path.with_suffix(""))
                    key = (run.project, run.run_id)
                    if key in found:
                        found[key].join(run)
                    else:
                        found[key] = run
            except LogFormatError as error:
                if len(paths) == 1:
                    raise
                reason = str(error).removeprefix(f"{path}: ").removeprefix(f"{path} ")
                rejections.append(Rejection(file=place(path, root), line=None, column=None, reason=reason))
        if not found and rejections:
            first = rejections[0]
            raise LogFormatError(f"{root}: no run can be taken; {first.file}: {first.reason}")
        if not found:
            raise LogFormatError(f"{paths[0]} holds no run")
        title = self.title(paths[0]) if len(paths) == 1 else root.resolve().name or "logs"
        return tables_of(self.name, found.values(), rejections, title)


def place(path: Path, root: Path) -> str:
    """How messages and sources call a file."""
    try:
        named = path.relative_to(root).as_posix()
    except ValueError:
        named = path.name
    return as_text(named)


def tables_of(format_name: str, runs: Iterable[LoggedRun], rejections: Sequence[Rejection], title: str) -> list[Table]:
    """A table for each project, in the order of the log; rejected logs stand in the first."""
    groups: dict[tuple[str, str], list[LoggedRun]] = {}
    for run in runs:
        groups.setdefault((run.project, run.kind), []).append(run)
    several = len({kind for _, kind in groups}) > 1
    tables: list[Table] = []
    for (project, kind), members in groups.items():
        name = f"{project or title}-{kind}" if several else project or title
        tables.append(_table(format_name, members, [] if tables else list(rejections), name))
    return tables


def joined(tables: Sequence[Table], name: str) -> Table:
    """Tables of several projects as one, for those who ask for one; the projects stand in a column."""
    objects = []
    for table in tables:
        for _, cells in table.rows:
            named = {key: cell for key, cell in zip(table.columns, cells, strict=True) if cell is not None}
            objects.append({"project": table.name, **named})
    rejections = [rejection for table in tables for rejection in table.rejections]
    notes = dict.fromkeys(note for table in tables for note in table.notes)
    made = table_of_objects(name, tables[0].format, enumerate(objects, start=1), rejections, notes)
    spots = [table.place(line) for table in tables for line, _ in table.rows]
    return Table(
        name=name, format=made.format, columns=made.columns, rows=made.rows, rejections=made.rejections,
        notes=made.notes, places=dict(enumerate(spots, start=1)),
        curves=tuple(curve for table in tables for curve in table.curves),
    )  # fmt: skip


def _table(format_name: str, runs: Sequence[LoggedRun], rejections: list[Rejection], name: str) -> Table:
    curves = [{metric: points.ascending() for metric, points in run.points.items()} for run in runs]
    chosen = curve_facts.choose(curves)
    derived, notes = curve_facts.derive(chosen, curves, [run.config for run in runs], [run.state for run in runs])
    objects: list[tuple[int, dict[str, Any]]] = []
    places: dict[int, tuple[str, int]] = {}
    kept: list[Curve] = []
    for number, (run, facts, mine) in enumerate(zip(runs, derived, curves, strict=True), start=1):
        row: dict[str, Any] = {"run_id": run.run_id, "run_name": run.name or None, **facts, **_bounded(run.facts)}
        row["config"] = _bounded(run.config)
        row["summary"] = _without(_bounded(run.summary), set(run.points)) | row.get("summary", {})
        objects.append((number, {key: value for key, value in row.items() if value not in (None, {})}))
        places[number] = (run.file, 1)
        kept += _curves(as_text(run.run_id), mine, chosen)
    made = table_of_objects(name, format_name, objects, rejections, [*_said(runs), *notes])
    return Table(
        name=name, format=format_name, columns=made.columns, rows=made.rows, rejections=made.rejections,
        notes=made.notes, places=places, curves=tuple(kept),
    )  # fmt: skip


def _said(runs: Iterable[LoggedRun]) -> Iterator[str]:
    """Each note once, with the number of runs that it holds for."""
    first: dict[str, list[str]] = {}
    for run in runs:
        for note in dict.fromkeys(run.notes):
            first.setdefault(note, []).append(run.file)
    for note, files in first.items():
        yield f"{files[0]}: {note}" if len(files) == 1 else f"{counted(len(files), 'run')}: {note} (first {files[0]})"


def _curves(run_key: str, curves: Mapping[str, tuple[Steps, Numbers]], chosen: curve_facts.Chosen) -> Iterator[Curve]:
    """For the store: finite numbers from step 1 on, as of all curves there, under the store's words for metrics."""
    for metric, (steps, numbers) in curves.items():
        fine = np.isfinite(numbers) & (steps > 0)
        if fine.any():
            kept_steps, kept_numbers = array("q", steps[fine].tobytes()), array("d", numbers[fine].tobytes())
            yield Curve(run_key=run_key, metric=chosen.word(metric), steps=kept_steps, numbers=kept_numbers)


def _bounded(settings: Mapping[str, Any], depth: int = 0) -> dict[str, Any]:
    """Settings less what no table of runs can hold: nesting without end, and texts as long as a book."""
    kept: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            if depth < _DEEPEST:
                kept[str(key)] = _bounded(value, depth + 1)
        elif not (isinstance(value, (str, list, tuple)) and len(value) > 1000):
            kept[str(key)] = value
    return kept


def _without(settings: Mapping[str, Any], metrics: Set[str], prefix: str = "") -> dict[str, Any]:
    """A summary less what is known along the run, and with that of its end."""
    kept: dict[str, Any] = {}
    for key, value in settings.items():
        if f"{prefix}{key}" in metrics:
            continue  # or it is its lowest and highest
        if isinstance(value, Mapping):
            if inner := _without(value, metrics, f"{prefix}{key}."):
                kept[key] = inner
        else:
            kept[key] = value
    return kept


def whole_step(value: float) -> int | None:
    """A step as logs write it (40, 40.0), None for what is none."""
    if isinstance(value, bool) or not math.isfinite(value) or value != int(value) or abs(value) > _MOST_STEP:
        return None
    return int(value)
