"""`ingest --watch`: places are looked at again and again, and what is new or has grown is stored as it comes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lawfit.errors import Doubted, NoRun, StoreError
from lawfit.findings import Finding, finding
from lawfit.pipeline.ingesting import label_of, read_source, sources_at, store_source, tables_of

if TYPE_CHECKING:
    from lawfit.ingest import Ingested
    from lawfit.ingest.changes import Stamp
    from lawfit.ingest.options import IngestOptions
    from lawfit.ingest.source import Source
    from lawfit.ingest.table import Table
    from lawfit.records import IngestReport, Run
    from lawfit.storage import Store

_NAMED: Final = 3  # runs that are told one by one, when a few have changed
_REJECTED: Final = 5  # rows of a table, likewise

Key = tuple[str, str]  # of a run: its recipe's, and its own
Ends = frozenset[tuple[str, int, int]]  # of the curves of a run: metric, points, last step


@dataclass
class Watched:
    """What a watch has stored so far."""

    looks: int = 0
    inserted: int = 0
    updated: int = 0
    points: int = 0
    waiting: dict[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)  # what it has not read; questions


class Watch:
    """Remembers what it has read and said: each look reads what has changed, and tells what came of it.

    Nothing that lies in a file ends it: what cannot be read is told once, and is looked at again when it has changed.
    """

    def __init__(self, store: Store, places: Sequence[str], options: IngestOptions, quiet_seconds: float) -> None:
        from lawfit.ingest.changes import Kept

        self.so_far = Watched()
        self._store = store
        self._places = places
        self._options = options
        self._kept = Kept(quiet_seconds)
        self._read: dict[str, Mapping[Path, Stamp]] = {}  # files of each source as they were when it was read
        self._stored: dict[Key, tuple[Run, Ends]] = {}
        self._said: dict[str, object] = {}  # why a place or a table waits
        self._rejected: set[tuple[str, str | None, str]] = set()  # file, column, reason
        self._noted: set[str] = set()  # tables whose notes were told

    def answer(self, options: IngestOptions) -> None:
        """Read everything once more, with other options."""
        self._options = options
        self._read.clear()
        self._said.clear()

    def look(self) -> Iterator[Finding]:
        """Look at all places once: a finding for each change."""
        self.so_far.looks += 1
        self._kept.look_again()
        for place in self._places:
            try:
                sources = sources_at(place, self._options, self._kept)
            except Exception as error:  # noqa: BLE001 - whatever there is, the other places are looked at
                yield from self._waits(place, error)
                continue
            self._goes_on(place)
            for source in sources:
                # Named from the folder that is watched, however few runs it holds yet.
                yield from self._look_at(dataclasses.replace(source, root=Path(place)) if source.tree else source)

    def _look_at(self, source: Source) -> Iterator[Finding]:
        from lawfit.ingest.formats import readable_part, stamps_of

        name = f"{source.root} ({source.format})" if source.tree else str(source)
        before = self._read.get(name, {})
        now = stamps_of(source, self._kept)
        changed = {path: stamp for path, stamp in now.items() if before.get(path) != stamp}
        part = readable_part(source, changed)
        if not (part.uri or (changed and part.paths)):
            return
        again = False
        try:
            tables = tables_of(part, self._store, self._kept)
        except Exception as error:  # noqa: BLE001 - a file that breaks its reader is told, and the watch goes on
            yield from self._waits(name, error)
        else:
            labels = [
                f"{source.root} ({source.format}, {table.name})" if source.tree else label_of(source, table)
                for table in tables
            ]
            if name not in labels:
                self._goes_on(name)
            for label, table in zip(labels, tables, strict=True):
                try:
                    yield from self._take(table, str(part), label)
                except Exception as error:  # noqa: BLE001 - the same
                    yield from self._waits(label, error)
                    again = again or isinstance(error, NoRun | StoreError)  # which is not for the file to mend
                else:
                    self._goes_on(label)
        if not again:
            self._read[name] = {**before, **{path: changed[path] for path in part.paths if path in changed}}

    def _take(self, table: Table, path: str, label: str) -> Iterator[Finding]:
        """Store what is new in a table."""
        read = read_source(path, self._options, table)
        new, ends = self._new_in(read.runs) if read.runs is not None and not read.runs.losses else (read.runs, {})
        report = store_source(self._store, dataclasses.replace(read, runs=new))
        if new is not None:
            for sweep in new.sweeps:
                self._stored |= {(sweep.recipe.key, run.run_key): (run, ends[run.run_key]) for run in sweep.runs}
        first = label not in self._noted
        self._noted.add(label)
        yield from self._told(label, report, new, first=first)

    def _new_in(self, found: Ingested) -> tuple[Ingested, dict[str, Ends]]:
        """The runs that are not as they were stored last, and where their curves end."""
        ends: dict[str, set[tuple[str, int, int]]] = {}
        for curve in found.curves:
            ends.setdefault(curve.run_key, set()).add((curve.metric, len(curve.steps), curve.steps[-1]))
        whole = {run.run_key: frozenset(ends.get(run.run_key, ())) for sweep in found.sweeps for run in sweep.runs}
        sweeps = []
        for sweep in found.sweeps:
            key = sweep.recipe.key
            runs = [run for run in sweep.runs if self._stored.get((key, run.run_key)) != (run, whole[run.run_key])]
            if runs:
                sweeps.append(dataclasses.replace(sweep, runs=tuple(runs)))
        return dataclasses.replace(found, sweeps=tuple(sweeps)), whole

    def _told(self, label: str, report: IngestReport, new: Ingested | None, *, first: bool) -> Iterator[Finding]:
        self.so_far.inserted += report.inserted
        self.so_far.updated += report.updated
        self.so_far.points += report.curve_points
        if first or report.inserted or report.updated or report.curve_points:
            runs = [run for sweep in new.sweeps for run in sweep.runs] if new is not None else []
            yield finding(
                "ingest.watched",
                file=label,
                of=report.of,
                recipes=list(report.recipes),
                rows=report.rows,
                inserted=report.inserted,
                updated=report.updated,
                points=report.curve_points,
                runs=[_shown(run) for run in runs] if len(runs) <= _NAMED else [],
            )
        if first:
            yield from (finding("ingest.watched_note", note=note) for note in report.notes)
        rejected = {(each.file, each.column, each.reason): each for each in reversed(report.rejections)}
        rejected = {what: each for what, each in reversed(rejected.items()) if what not in self._rejected}
        self._rejected.update(rejected)
        for rejection in list(rejected.values())[:_REJECTED]:
            yield finding("ingest.watched_rejection", **vars(rejection))
        if len(rejected) > _REJECTED:
            yield finding("ingest.watched_rejections", file=label, more=len(rejected) - _REJECTED)

    def _waits(self, name: str, error: Exception) -> Iterator[Finding]:
        """Why something cannot be read, once."""
        questions = error.questions if isinstance(error, Doubted) else ()
        why: object = [(question["code"], question["columns"]) for question in questions] or str(error)
        self.so_far.waiting[name] = questions
        if self._said.get(name) != why:
            self._said[name] = why
            yield finding("ingest.watched_waits", file=name, why=str(error) or type(error).__name__)

    def _goes_on(self, name: str) -> None:
        self._said.pop(name, None)
        self.so_far.waiting.pop(name, None)


def _shown(run: Run) -> dict[str, Any]:
    name = run.extra.get("run_name") or run.run_key
    return {"name": str(name), "loss": run.loss, "steps": run.steps}
