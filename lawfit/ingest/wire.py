"""Protocol buffers without their library: the fields of a message, every length checked against what is there."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

VARINT: Final = 0
FIXED64: Final = 1
BYTES: Final = 2
FIXED32: Final = 5
_MOST_VARINT_BYTES: Final = 10

Field = tuple[int, int, int, bytes]  # number, wire type, value of a varint (0 otherwise), bytes of any other


class WireError(ValueError):
    """The bytes are no message; the text says what is wrong with them."""


def fields(data: bytes) -> Iterator[Field]:
    """The fields of a message in their order.

    Raises
    ------
    WireError
        As of `spans`.
    """
    for number, kind, value, start, end in spans(data, 0, len(data)):
        yield number, kind, value, b"" if kind == VARINT else data[start:end]


def spans(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, int, int, int]]:
    """Number, wire type, value of a varint (0 otherwise), and the place of each field between two places.

    The encoding: protobuf.dev/programming-guides/encoding.

    Raises
    ------
    WireError
        A length that reaches beyond the message, a number of more than 64 bits, or an unknown wire type.
    """
    while at < end:
        key, at = varint(data, at, end)
        number, kind = key >> 3, key & 7
        if not number:
            raise WireError("a field without a number")
        if kind == VARINT:
            start = at
            value, at = varint(data, at, end)
            yield number, kind, value, start, at
            continue
        if kind == BYTES:
            length, at = varint(data, at, end)
        elif kind in (FIXED64, FIXED32):
            length = 8 if kind == FIXED64 else 4
        else:
            raise WireError(f"a field of the unknown wire type {kind}")
        if at + length > end:
            raise WireError(f"a field of {length} bytes where {end - at} are left")
        yield number, kind, 0, at, at + length
        at += length


def varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """A number and where it ends.

    Raises
    ------
    WireError
        It has no end.
    """
    value = 0
    for place in range(_MOST_VARINT_BYTES):
        if at + place >= end:
            raise WireError("a number that is cut off")
        byte = data[at + place]
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, at + place + 1
    raise WireError("a number of more than ten bytes")


def signed(value: int) -> int:
    """An int32 or int64, which stands as its two's complement in 64 bits."""
    return value - (1 << 64) if value >> 63 else value


def zigzag(value: int) -> int:
    """A sint64."""
    return (value >> 1) ^ -(value & 1)


def double(raw: bytes) -> float:
    return float(struct.unpack("<d", raw)[0])


def text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")
