"""Runs of Weights & Biases as they lie on disk: `run-<id>.wandb`, in folders `offline-run-*` or `run-*`.

The file is a log of protocol buffers in the framing of LevelDB, in 32 KiB blocks. It was read from wandb 0.19 to 0.31,
whose Python package ships no reader since 0.30. The message numbers are those of its `wandb_internal.proto`.
A file that ends in the middle of a record is that of a live or killed run; a wrong checksum is damage.
"""

from __future__ import annotations

import json
import math
import struct
import zlib
from collections.abc import Iterable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, Final

from lawfit.errors import LogFormatError
from lawfit.ingest.companions import read_settings
from lawfit.ingest.run_log import CRASHED, FINISHED, RUNNING, LoggedRun, RunLogs, place, whole_step
from lawfit.ingest.wire import BYTES, WireError, double, fields, signed, text, zigzag

_MAGIC: Final = b":W&B"
_HEAD: Final = _MAGIC + struct.pack("<HB", 0xBEE1, 0)
_BLOCK: Final = 1 << 15
_HEAD_BLOCKS: Final = 2  # of a file that is looked at by its ends
_TAIL_BLOCKS: Final = (4, 128)  # the second where the first hold no row of the history
_HEADER: Final = struct.Struct("<IHB")  # crc32 of type and payload, length, type
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
_CRC_OF_TYPE: Final = {kind: zlib.crc32(bytes([kind])) for kind in (_FULL, _FIRST, _MIDDLE, _LAST)}
_MOST_RECORD_BYTES: Final = 1 << 28
_HISTORY, _SUMMARY, _CONFIG, _METRIC, _RUN, _EXIT = 2, 3, 5, 12, 17, 18
# Further axes that trainers log as metrics, the first that is there: `_step` only counts calls of `log`.
_AXES: Final = ("train/global_step", "trainer/global_step", "global_step", "train/step", "iter", "iteration", "step")


class Damaged(ValueError):
    """The file is not as it was written; the text says where."""


class WandbRuns(RunLogs):
    """Offline runs, and those that were synchronised and left on disk."""

    name = "wandb"
    whole_folder = True

    def sniff(self, path: Path, head: bytes) -> bool:
        if head.startswith(_MAGIC):
            return True
        return path.name == "wandb-summary.json" and not any(path.parent.parent.glob("run-*.wandb"))

    def runs(self, path: Path, root: Path) -> Iterable[LoggedRun]:
        if path.suffix == ".json":
            return [_of_summary(path, root)]
        run = Reader(LoggedRun(run_id=path.stem.removeprefix("run-"), file=place(path, root), state=RUNNING))
        try:
            with path.open("rb") as file:
                for record in records(file):
                    run.take(record)
        except (Damaged, WireError) as error:
            raise LogFormatError(
                f"{path}: {error}; the file is damaged, copy it again from where it was made"
            ) from None
        except OSError as error:
            raise LogFormatError(f"{path} cannot be read: {error.strerror or error}") from None
        return [run.done()]

    def ends(self, path: Path) -> bytes | None:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            if path.suffix == ".json" or size <= _BLOCK * (_HEAD_BLOCKS + _TAIL_BLOCKS[0]):
                return file.read()
            blocks = -(-size // _BLOCK)
            try:
                head = list(records(BytesIO(file.read(_HEAD_BLOCKS * _BLOCK))))
                for reach in _TAIL_BLOCKS:
                    file.seek(_BLOCK * max(_HEAD_BLOCKS, blocks - reach))
                    tail = list(records(BytesIO(file.read(reach * _BLOCK)), inside=True))
                    if any(number == _HISTORY for record in tail for number, *_ in fields(record)):
                        return framed([*head, *tail])
            except (Damaged, WireError):
                pass
        return None


def records(file: Any, *, inside: bool = False) -> Iterator[bytes]:
    """The records of a file, one in memory at a time; a cut tail ends them.

    Parameters
    ----------
    inside : it begins with a later block of a log; what is left there of a record that began before is passed over

    Raises
    ------
    Damaged
        No header, a wrong checksum, or a record out of place.
    """
    block, offset = file.read(_BLOCK), 0
    if block and not inside and not block.startswith(_MAGIC):
        raise Damaged("it does not begin with ':W&B'")
    at, parts = 0 if inside else len(_HEAD), list[bytes]()
    while block:
        while at + 7 <= len(block):
            crc, length, kind = _HEADER.unpack_from(block, at)
            where = f"byte {offset + at:,}"
            if kind == 0 and length == 0 and crc == 0 and _only_zeros(block[at:], file):
                return  # a tail that was allocated, and lost with the power
            if kind not in _CRC_OF_TYPE or at + 7 + length > _BLOCK:
                raise Damaged(f"no record begins at {where}")
            payload = block[at + 7 : at + 7 + length]
            if len(payload) < length:
                return  # cut
            if zlib.crc32(payload, _CRC_OF_TYPE[kind]) != crc:
                raise Damaged(f"the checksum of the record at {where} is wrong")
            if inside and kind in (_MIDDLE, _LAST):
                at += 7 + length
                continue
            inside = False
            if (kind in (_FULL, _FIRST)) == bool(parts):
                raise Damaged(f"the record at {where} is out of place")
            at += 7 + length
            if kind == _FULL:
                yield payload
                continue
            parts.append(payload)
            if sum(map(len, parts)) > _MOST_RECORD_BYTES:
                raise Damaged(f"the record at {where} is longer than {_MOST_RECORD_BYTES >> 20} MiB")
            if kind == _LAST:
                yield b"".join(parts)
                parts = []
        if len(block) < _BLOCK:
            return
        offset += _BLOCK
        block, at = file.read(_BLOCK), 0


def framed(written: Iterable[bytes]) -> bytes:
    """A file of these records, as `records` gives them."""
    made = bytearray(_HEAD)
    for record in written:
        left, begun = record, False
        while left or not begun:
            room = _BLOCK - len(made) % _BLOCK - _HEADER.size
            if room < 0:
                made += bytes(room + _HEADER.size)
                continue
            piece, left = left[:room], left[room:]
            kind = (_LAST if begun else _FULL) if not left else (_MIDDLE if begun else _FIRST)
            made += _HEADER.pack(zlib.crc32(piece, _CRC_OF_TYPE[kind]), len(piece), kind) + piece
            begun = True
    return bytes(made)


def _only_zeros(rest: bytes, file: Any) -> bool:
    """Whether nothing follows; a writer pads with fewer than seven zeros."""
    while not any(rest):
        rest = file.read(_BLOCK)
        if not rest:
            return True
    return False


class Reader:
    """One run while its records come."""

    def __init__(self, run: LoggedRun) -> None:
        self.run = run
        self._axis_of: dict[str, str] = {}  # metric -> metric that is its step, as `define_metric` says
        self._axis_below: dict[str, str] = {}  # the same for all metrics that begin so, which few writers spell out
        self._last: dict[str, int] = {}  # axis -> last step, for rows that do not log it
        self._axis = ""
        self._rows = 0
        self._back = 0

    def take(self, record: bytes) -> None:
        for number, kind, _, data in fields(record):
            if kind != BYTES:
                continue
            if number == _HISTORY:
                self.row(items(data))
            elif number == _RUN:
                self._describe(data)
            elif number == _CONFIG:
                _update(self.run.config, data)
            elif number == _SUMMARY:
                _update(self.run.summary, data)
            elif number == _METRIC:
                said = {n: text(raw) for n, k, _, raw in fields(data) if k == BYTES and n in (1, 2, 4)}
                if 4 in said and 1 in said:
                    self._axis_of[said[1]] = said[4]
                elif 4 in said and said.get(2, "").endswith("*"):
                    self._axis_below[said[2][:-1]] = said[4]
            elif number == _EXIT:
                codes = [signed(value) for n, k, value, _ in fields(data) if n == 1 and k == 0]
                self.run.state = CRASHED if any(codes) else FINISHED

    def _describe(self, data: bytes) -> None:
        for number, kind, _, raw in fields(data):
            if kind != BYTES:
                continue
            if number == 1:
                self.run.run_id = text(raw)
            elif number == 3:
                self.run.project = text(raw)
            elif number == 4:
                _update(self.run.config, raw)
            elif number == 8:
                self.run.name = text(raw)

    def row(self, row: dict[str, Any]) -> None:
        """A row of the history: what one call of `log` said."""
        self._rows += 1
        count = row.get("_step", self._rows)
        if not self._axis:
            self._axis = next((name for name in _AXES if name in row), "")
        for metric, value in row.items():
            if metric[0:1] == "_" or type(value) not in (float, int) or metric == self._axis:
                continue
            axis = self._axis_of.get(metric)
            if axis is None:
                axis = next((a for start, a in self._axis_below.items() if metric.startswith(start)), self._axis)
                self._axis_of[metric] = axis
            if metric == axis:
                continue
            step = self._step(row, axis, count)
            if step is not None:
                self.run.log(metric, step, value)

    def _step(self, row: dict[str, Any], axis: str, count: Any) -> int | None:
        if not axis:
            return whole_step(count) if isinstance(count, (int, float)) else None
        value = row.get(axis)
        step = whole_step(value) if isinstance(value, (int, float)) else None
        if step is not None:
            self._back += step < self._last.get(axis, step)
            self._last[axis] = step
        return self._last.get(axis)  # a row that does not log it belongs to the step before

    def done(self) -> LoggedRun:
        if self._axis:
            self.run.notes.append(f"steps are those of '{self._axis}', not W&B's count of calls")
        elif self.run.points:
            self.run.notes.append("steps are W&B's count of calls of log(): it logged no step of its own")
        if self._back:
            self.run.notes.append(
                "its steps go back (a restart, or counted anew): the later numbers of a step are kept"
            )
        self.run.config.pop("_wandb", None)
        summary, axes = self.run.summary, {*_AXES, *self._axis_of.values()}
        self.run.summary = {key: value for key, value in summary.items() if key[:1] != "_" and key not in axes}
        return self.run


def items(data: bytes) -> dict[str, Any]:
    """Names and values of a row of history. The usual item is read at once, any other field by field."""
    row: dict[str, Any] = {}
    at, end = 0, len(data)
    while at < end:
        size = data[at + 1] if at + 1 < end else 0x80
        if data[at] == 0x0A and size < 0x80 and size > 4 and at + 2 + size <= end and data[at + 2] == 0x12:
            value_at = at + 4 + data[at + 3]
            if data[value_at : value_at + 2] == b"\x82\x01" and value_at + 3 + data[value_at + 2] == at + 2 + size:
                raw = data[value_at + 3 : at + 2 + size]
                try:
                    value = float(raw)
                except ValueError:
                    value = _value(raw)
                row[data[at + 4 : value_at].decode("utf-8", "replace")] = value
                at += 2 + size
                continue
        return row | _slow_items(data[at:])
    return row


def _slow_items(data: bytes) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for number, kind, _, raw in fields(data):
        if kind != BYTES or number not in (1, 2):
            continue
        if number == 2:  # of the row itself
            for inner, what, step, _ in fields(raw):
                if inner == 1 and what == 0:
                    row["_step"] = signed(step)
            continue
        path, value = _item(raw)
        row["/".join(path) if len(path) < 2 else ".".join(path)] = value
    return row


def _item(data: bytes) -> tuple[list[str], Any]:
    """Path and value of an item of config, summary or history."""
    path, value = list[str](), None
    for number, kind, whole, raw in fields(data):
        if number in (1, 2) and kind == BYTES:
            path.append(text(raw))
        elif number in (8, 16) and kind == BYTES:
            value = _value(raw)
        elif number == 4 and kind == 0:
            value = bool(whole)
        elif number == 5 and kind == 0:
            value = zigzag(whole)
        elif number == 6 and len(raw) == 8:
            value = double(raw)
        elif number == 7 and kind == BYTES:
            value = text(raw)
    return path, value


def _value(raw: bytes) -> Any:
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        return text(raw)
    if value in ("NaN", "Infinity", "-Infinity"):
        return float(value)
    return value


def _update(settings: dict[str, Any], data: bytes) -> None:
    """Apply a record of changed (1) and removed (2) items."""
    for number, kind, _, raw in fields(data):
        if kind != BYTES or number not in (1, 2):
            continue
        path, value = _item(raw)
        inner = settings
        for key in path[:-1]:
            below = inner.setdefault(key, {})
            if not isinstance(below, dict):
                below = inner[key] = {}
            inner = below
        if path and number == 1:
            inner[path[-1]] = value
        elif path:
            inner.pop(path[-1], None)


def _of_summary(path: Path, root: Path) -> LoggedRun:
    """A folder of an old or online run without its `.wandb` file: `config.yaml` and `wandb-summary.json`.

    Its curves are on the server; that it has a summary does not say that it finished.
    """
    folder = path.parent.parent
    summary = read_settings(path)
    config = {
        key: value["value"] if isinstance(value, dict) and "value" in value else value
        for key, value in read_settings(path.with_name("config.yaml")).items()
        if key not in ("_wandb", "wandb_version")
    }
    finite = {key: value for key, value in summary.items() if not key.startswith("_")}
    run = LoggedRun(run_id=folder.name.rpartition("-")[2], file=place(path, root), config=config, summary=finite)
    run.notes.append("only its summary is on this disk, not its curves: the losses are those last logged")
    if any(isinstance(value, float) and math.isnan(value) for value in finite.values()):
        run.notes.append("a number of its summary is not finite")
    return run


WANDB: Final = WandbRuns()
