"""TensorBoard's event files: TFRecord framing and scalars, many records at a time.

A record is a length, its checksum, an `Event`, its checksum. Writers write the same event again and again, with another
time, step and number. So the records of one length are laid under each other as a matrix; the first is taken apart
byte by byte, and all that agree with it elsewhere are read from the same places by numpy.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from lawfit.ingest.crc32c import masked_crcs
from lawfit.ingest.run_log import Points
from lawfit.ingest.wire import BYTES, FIXED32, FIXED64, VARINT, WireError, fields, signed, spans, text

Bytes = npt.NDArray[np.uint8]
Places = npt.NDArray[np.int64]

_CHUNK: Final = 1 << 23
_MOST_RECORD_BYTES: Final = 1 << 28  # an image or a graph; nothing that is read here is longer
_LENGTH: Final = struct.Struct("<Q")
_FRAME: Final = 16  # bytes around each event
_FEW: Final = 3  # records: so few alike are read one by one
HEAD_BYTES: Final = 1 << 15  # of a file that is looked at by its ends
TAIL_BYTES: Final = (1 << 17, 1 << 22)  # the second where no record begins in the first
_SEARCHED: Final = 1 << 12  # bytes at a time: the first record begins soon, where records are short
_MOST_TEXT_BYTES: Final = 1 << 20
_TENSOR_TYPES: Final = {1: "<f4", 2: "<f8", 3: "<i4", 9: "<i8", 14: "bf16", 19: "<f2"}  # tensorflow/types.proto
_TEXT_TYPE: Final = 7
# Fields of a tensor that hold numbers by themselves, and their types: float_val, double_val, half_val as is.
_NUMBERS: Final = {5: "<f4", 6: "<f8"}


class Damaged(ValueError):
    """The file is not as it was written; the text says where."""


@dataclass
class Events:
    """What an event file holds of use: scalars by tag, texts, and the settings of the HParams plugin."""

    scalars: dict[str, Points] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    plugins: dict[str, bytes] = field(default_factory=dict)  # tag -> content of the HParams plugin
    cut: bool = False  # the file ends in the middle of a record

    def points(self, tag: str) -> Points:
        if tag not in self.scalars:
            self.scalars[tag] = Points()
        return self.scalars[tag]


@dataclass(frozen=True)
class _Value:
    tag: str
    start: int  # of its number; -1: it is zero, and no byte says so
    kind: str


@dataclass
class _Layout:
    """Where an event holds what."""

    step: tuple[int, int] = (0, 0)
    values: list[_Value] = field(default_factory=list)
    free: list[tuple[int, int]] = field(default_factory=list)  # bytes that differ between events of one kind


def read_events(path: Path, *, verify: bool = True) -> Events:
    """Read a file to its end, or to where a writer is writing.

    Raises
    ------
    Damaged
        A wrong checksum, or bytes that are no event.
    OSError
        It cannot be read.
    """
    events = Events()
    with path.open("rb") as file:
        offset, rest = 0, b""
        while chunk := file.read(max(_CHUNK, len(rest))):
            data = rest + chunk
            starts, end = _frames(data, offset)
            if len(starts) > 1:
                _take(data, starts, offset, events, verify=verify)
            offset, rest = offset + end, data[end:]
    if rest:
        _require_cut(rest, offset)
        events.cut = True
    return events


def ends(path: Path) -> bytes | None:
    """The first and last whole records of a file, themselves such a file: how far a run is costs the same however long.

    None where no record begins near its end, as in the middle of a long image.
    """
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        if size <= HEAD_BYTES + TAIL_BYTES[0]:
            return file.read()
        head = file.read(HEAD_BYTES)
        head = head[: _frames(head, 0)[1]]
        for reach in TAIL_BYTES:
            file.seek(max(len(head), size - reach))
            tail = file.read(reach)
            if (start := _first_frame(tail)) is not None:
                return head + tail[start:]
    return None


def _first_frame(data: bytes) -> int | None:
    """Where the first whole record begins, told by the checksum of its length."""
    raw = np.frombuffer(data, dtype=np.uint8)
    for begin in range(0, len(raw) - _FRAME, _SEARCHED):
        windows = np.lib.stride_tricks.sliding_window_view(raw[begin : begin + _SEARCHED + 11], 12)
        stated = np.ascontiguousarray(windows[:, 8:]).view("<u4")[:, 0]
        for at in np.flatnonzero(masked_crcs(windows[:, :8]) == stated):
            start = begin + int(at)
            if start + _FRAME + _LENGTH.unpack_from(data, start)[0] <= len(data):
                return start
    return None


def _frames(data: bytes, offset: int) -> tuple[Places, int]:
    """Where the whole records begin and the last one ends."""
    starts, at, size, unpack = list[int](), 0, len(data), _LENGTH.unpack_from
    while at + 12 <= size:
        following = at + _FRAME + unpack(data, at)[0]
        if following > size:
            if following - at > _MOST_RECORD_BYTES:
                _require_cut(data[at : at + 12], offset + at)
                raise Damaged(f"the record at byte {offset + at:,} is longer than {_MOST_RECORD_BYTES >> 20} MiB")
            break
        starts.append(at)
        at = following
    return np.array([*starts, at], dtype=np.int64), at


def _require_cut(rest: bytes, at: int) -> None:
    """That the last record is cut off, and not longer than the file because its length was damaged."""
    head = np.frombuffer(rest[:12], dtype=np.uint8)
    if len(head) == 12 and masked_crcs(head[None, :8])[0] != head[8:].view("<u4")[0]:
        raise Damaged(f"the checksum of the length at byte {at:,} is wrong")


def _take(data: bytes, starts: Places, offset: int, events: Events, *, verify: bool) -> None:
    """The records of a chunk, by their length; the last of `starts` is where they end."""
    raw = np.frombuffer(data, dtype=np.uint8)
    sizes = np.diff(starts)
    order = np.argsort(sizes, kind="stable")
    bounds = np.flatnonzero(np.diff(sizes[order], prepend=-1, append=-1))
    for first, last in itertools.pairwise(bounds):
        mine = starts[order[first:last]]
        size = int(sizes[order[first]])
        rows = np.lib.stride_tricks.sliding_window_view(raw, size)[mine]
        if verify:
            _verify(rows, mine, offset)
        _read_rows(rows[:, 12:-4], mine, offset, events)


def _verify(rows: Bytes, starts: Places, offset: int) -> None:
    for what, first, last in (("length", 0, 8), ("record", 12, rows.shape[1] - 4)):
        # All lengths are the same here: one sum is enough for them.
        sums = masked_crcs(rows[:1, first:last] if what == "length" else rows[:, first:last])
        wrong = np.ascontiguousarray(rows[:, last : last + 4]).view("<u4")[:, 0] != sums
        if wrong.any():
            raise Damaged(f"the checksum of the {what} at byte {offset + int(starts[wrong][0]):,} is wrong")


def _read_rows(rows: Bytes, starts: Places, offset: int, events: Events) -> None:
    """Events of one length."""
    left = rows
    places = starts
    while len(left):
        try:
            layout = _layout(left[0].tobytes(), events)
        except WireError as error:
            raise Damaged(f"the record at byte {offset + int(places[0]):,} is no event ({error})") from None
        if len(left) <= _FEW:
            _read_alike(left[:1], layout, events)
            left, places = left[1:], places[1:]
            continue
        alike = _alike(left, layout)
        _read_alike(left if alike.all() else left[alike], layout, events)
        left, places = left[~alike], places[~alike]


def _alike(rows: Bytes, layout: _Layout) -> npt.NDArray[np.bool_]:
    """Which rows have the bytes of the first wherever those are not times, steps or numbers."""
    same = np.ones(len(rows), dtype=bool)
    at = 0
    for start, end in [*sorted(layout.free), (rows.shape[1], rows.shape[1])]:
        if start > at:
            same &= (rows[:, at:start] == rows[0, at:start]).all(axis=1)
        at = end
    first, last = layout.step
    if last > first:  # a number of as many bytes
        same &= (rows[:, first : last - 1] >= 0x80).all(axis=1) & (rows[:, last - 1] < 0x80)
    return same


def _read_alike(rows: Bytes, layout: _Layout, events: Events) -> None:
    if not layout.values:
        return
    steps = np.zeros(len(rows), dtype=np.uint64)
    for place, column in enumerate(range(*layout.step)):
        steps |= (rows[:, column] & np.uint8(0x7F)).astype(np.uint64) << np.uint64(7 * place)
    for value in layout.values:
        events.points(value.tag).extend(steps.view(np.int64), _numbers(rows, value))


def _numbers(rows: Bytes, value: _Value) -> npt.NDArray[np.float64]:
    if value.start < 0:
        return np.zeros(len(rows))
    size = 2 if value.kind == "bf16" else np.dtype(value.kind).itemsize
    raw = np.ascontiguousarray(rows[:, value.start : value.start + size])
    if value.kind == "bf16":
        return (raw.view("<u2")[:, 0].astype(np.uint32) << np.uint32(16)).view(np.float32).astype(np.float64)
    with np.errstate(invalid="ignore"):  # a signalling nan
        return raw.view(value.kind)[:, 0].astype(np.float64)


def _layout(data: bytes, events: Events) -> _Layout:
    """Take an event apart; texts and settings in it are kept at once.

    Event: wall_time 1, step 2, summary 5. Summary: value 1. Value: tag 1, simple_value 2, tensor 8, metadata 9.
    """
    layout = _Layout()
    for number, kind, _, start, end in spans(data, 0, len(data)):
        if number == 1 and kind == FIXED64:
            layout.free.append((start, end))
        elif number == 2 and kind == VARINT:
            layout.step = (start, end)
            layout.free.append((start, end))
        elif number == 5 and kind == BYTES:
            for inner, what, _, first, last in spans(data, start, end):
                if inner == 1 and what == BYTES:
                    _value_layout(data, first, last, layout, events)
    return layout


def _value_layout(data: bytes, start: int, end: int, layout: _Layout, events: Events) -> None:
    found: _Value | None = None
    tag = ""
    for number, kind, _, first, last in spans(data, start, end):
        if number == 1 and kind == BYTES:
            tag = text(data[first:last])
        elif number == 2 and kind == FIXED32:
            found = _Value("", first, "<f4")
        elif number == 8 and kind == BYTES:
            found = _tensor(data, first, last)
        elif number == 9 and kind == BYTES:
            _metadata(data[first:last], tag, events)
    if found is None:
        return
    if found.kind == "text":
        if found.start >= 0 and tag not in events.texts:
            events.texts[tag] = found.tag
        return
    layout.values.append(_Value(tag, found.start, found.kind))
    if found.start >= 0:
        size = 2 if found.kind == "bf16" else np.dtype(found.kind).itemsize
        layout.free.append((found.start, found.start + size))


def _tensor(data: bytes, start: int, end: int) -> _Value | None:
    """A tensor of one number or text. Tensor: dtype 1, shape 2, content 4, float_val 5, double_val 6, string_val 8."""
    dtype, numbers = 0, _Value("", -1, "")
    for number, kind, value, first, last in spans(data, start, end):
        if number == 1 and kind == VARINT:
            dtype = value
        elif number == 2 and kind == BYTES:
            if any(n == 2 and raw for n, _, _, raw in fields(data[first:last])) and dtype != _TEXT_TYPE:
                return None  # of several numbers: an image, a histogram
        elif number == 4 and kind == BYTES and last > first:
            numbers = _Value("", first, _TENSOR_TYPES.get(dtype, ""))
            if not numbers.kind or last - first != (2 if numbers.kind == "bf16" else np.dtype(numbers.kind).itemsize):
                return None
        elif number in _NUMBERS and kind in (BYTES, FIXED32, FIXED64):
            numbers = _Value("", first, _NUMBERS[number])
            if last - first != np.dtype(numbers.kind).itemsize:
                return None
        elif number == 8 and kind == BYTES and dtype == _TEXT_TYPE and numbers.start < 0:
            numbers = _Value(text(data[first : min(last, first + _MOST_TEXT_BYTES)]), first, "text")
    if numbers.start < 0:
        return _Value("", -1, _TENSOR_TYPES[dtype]) if dtype in _TENSOR_TYPES else None
    return numbers


def _metadata(data: bytes, tag: str, events: Events) -> None:
    """SummaryMetadata: plugin_data 1 (plugin_name 1, content 2). Kept for HParams only."""
    for number, kind, _, raw in fields(data):
        if number == 1 and kind == BYTES:
            inner = {n: content for n, k, _, content in fields(raw) if k == BYTES}
            if inner.get(1) == b"hparams" and 2 in inner:
                events.plugins[tag] = inner[2]


def hparams(content: bytes) -> dict[str, str | float | bool]:
    """The settings in a content of the HParams plugin: session_start_info 3, with the map hparams 1."""
    found: dict[str, str | float | bool] = {}
    for number, kind, _, raw in fields(content):
        if number != 3 or kind != BYTES:
            continue
        for inner, what, _, entry in fields(raw):
            if inner == 1 and what == BYTES:
                found.update(_settings(entry))
    return found


def _settings(entry: bytes) -> Iterator[tuple[str, str | float | bool]]:
    name = ""
    for number, kind, _, raw in fields(entry):
        if number == 1 and kind == BYTES:
            name = text(raw)
        elif number == 2 and kind == BYTES:
            for what, how, value, inner in fields(raw):  # google.protobuf.Value
                if what == 2 and how == FIXED64:
                    wide = float(np.frombuffer(inner, "<f8")[0])
                    yield name, int(wide) if wide.is_integer() else wide
                elif what == 3 and how == BYTES:
                    yield name, text(inner)
                elif what == 4 and how == VARINT:
                    yield name, bool(signed(value))
