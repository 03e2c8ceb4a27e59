"""What trainers print, kept in a file: a run each. The dialects are in `ingest.dialects`."""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from lawfit.ingest.companions import beside
from lawfit.ingest.dialects import DIALECTS, Dialect
from lawfit.ingest.run_log import FINISHED, LoggedRun, RunLogs, place, whole_step
from lawfit.ingest.source import TextLines
from lawfit.units import counted

_SUFFIXES: Final = frozenset({".log", ".txt", ".out", ".err", ""})
_COLOURS: Final = re.compile(r"\x1b\[[0-9;]*m")
_MOST_BLOCK_LINES: Final = 5000
_SHORT: Final = {"K": 1e3, "M": 1e6, "B": 1e9}
_RANK: Final = re.compile(
    r"number of parameters on \(tensor, pipeline\) model parallel rank \((\d+), (\d+)\): ([0-9,]+)"
)


class TextLog(RunLogs):
    """A log of one run, told by a line that only one trainer prints."""

    name = "text-log"

    def sniff(self, path: Path, head: bytes) -> bool:
        if path.suffix.lower() not in _SUFFIXES or b"\x00" in head:
            return False
        return _dialect(head.decode("utf-8", "replace").splitlines()) is not None

    def runs(self, path: Path, root: Path) -> Iterable[LoggedRun]:
        reader: _Reader | None = None
        held: list[str] = []
        name = path.stem or path.name
        settings, notes = beside(path.parent, (f"{name}.json", f"{name}.yaml"))
        run = LoggedRun(file=place(path, root), name=name, config=settings, notes=notes)
        lines = TextLines(path, cuttable=True)
        for _, line in lines:
            text = _COLOURS.sub("", line)
            if reader is None:
                held.append(text)
                if (dialect := _dialect([text])) is None:
                    continue
                reader = _Reader(dialect, run)
                for earlier in held:
                    reader.take(earlier)
            else:
                reader.take(text)
        if reader is not None:
            reader.done()
        if lines.rejections:
            first = lines.rejections[0]
            run.notes.append(
                f"{counted(len(lines.rejections), 'line')} not read, first line {first.line}: {first.reason}"
            )
        return [run]


def _dialect(lines: Iterable[str]) -> Dialect | None:
    for line in lines:
        plain = _COLOURS.sub("", line)
        for dialect in DIALECTS:
            if dialect.mark.search(plain):
                return dialect
    return None


class _Reader:
    """One run while its lines come."""

    def __init__(self, dialect: Dialect, run: LoggedRun) -> None:
        self.dialect, self.run = dialect, run
        self._block: list[str] | None = None
        self._step = 0
        self._ranks: dict[tuple[str, str], int] = {}

    def take(self, line: str) -> None:
        if self._block is not None:
            self._in_block(line)
            return
        if self._numbers(line):
            return
        dialect = self.dialect
        if dialect.opens is not None and not self.run.points and (found := dialect.opens.search(line)):
            self._block = []
            self._in_block(line[found.end() :])
            return
        if dialect.finished is not None and dialect.finished.search(line):
            self.run.state = FINISHED
        for pattern in dialect.settings:
            if found := pattern.search(line):
                self.run.config |= {key: _plain(value) for key, value in found.groupdict().items()}
        if dialect.assigned is not None and not self.run.points and (found := dialect.assigned.match(line)):
            self.run.config[found["key"]] = _literal(found["value"])
        if found := _RANK.search(line):
            self._ranks[found[1], found[2]] = int(found[3].replace(",", ""))

    def _numbers(self, line: str) -> bool:
        for pattern in self.dialect.numbers:
            if not (found := pattern.search(line)):
                continue
            numbers = {key: _plain(value) for key, value in found.groupdict().items() if value is not None}
            if "step" in numbers:
                step = whole_step(numbers.pop("step"))
                if step is None:
                    return True
                self._step = step
            for metric, value in numbers.items():
                self.run.log(metric, self._step, value)
            if self.dialect.finished is not None and self.dialect.finished.search(line):
                self.run.state = FINISHED
            return True
        return False

    def _in_block(self, line: str) -> None:
        """Settings over several lines, until they are whole."""
        assert self._block is not None
        self._block.append(line)
        if line.rstrip().endswith("}"):
            text = "\n".join(self._block)
            for load in (json.loads, ast.literal_eval):  # neither runs anything
                try:
                    found = load(text)
                except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
                    continue
                if isinstance(found, dict):
                    self.run.config = {str(key): value for key, value in found.items()} | self.run.config
                self._block = None
                return
        if len(self._block) > _MOST_BLOCK_LINES:
            self._block = None
            self.run.notes.append("a block of settings has no end, and is not read")

    def done(self) -> None:
        if self._ranks:
            self.run.config["total_params"] = sum(self._ranks.values())
        batch: Any = self.run.config
        for key in self.dialect.sequences.split("."):
            batch = batch.get(key) if isinstance(batch, dict) else None
        if batch is not None:  # its name does not say what it counts, and the trainer does
            self.run.facts["batch_sequences"] = batch
        self.run.kind = self.dialect.name
        self.run.notes.append(f"read as a log of {self.dialect.name}")


def _plain(text: str | None) -> Any:
    """A number as it is printed: 491,520, 123.59M, nan."""
    if text is None:
        return math.nan
    scale = _SHORT.get(text[-1:], 1.0)
    try:
        value = float(text.replace(",", "").rstrip("KMB")) * scale
    except ValueError:
        return math.nan
    return round(value) if math.isfinite(value) and (value.is_integer() or scale > 1) else value


def _literal(text: str) -> Any:
    """A value of a configuration: a plain one, or a product of numbers (`5 * 8`)."""
    factors = text.split("*")
    if len(factors) > 1 and all(re.fullmatch(r"\s*\d{1,9}\s*", factor) for factor in factors):
        return math.prod(int(factor) for factor in factors)
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
        return text
    return value if isinstance(value, (str, bool, int, float, type(None))) else text


TEXT_LOG: Final = TextLog()
