"""Records as the writers of W&B and TensorBoard frame them, to make logs that no writer makes at will."""

from __future__ import annotations

import json
import struct
import zlib
from typing import Any

BLOCK = 1 << 15


def varint(value: int) -> bytes:
    made = bytearray()
    while value > 0x7F:
        made.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*made, value])


def message(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def item(path: list[str], value: Any) -> bytes:
    named = b"".join(message(2, key.encode()) for key in path) if len(path) > 1 else message(2, path[0].encode())
    return message(1, named + message(16, json.dumps(value).encode()))


def history(**row: Any) -> bytes:
    return message(2, b"".join(item([key.replace("__", "/")], value) for key, value in row.items()))


def run_record(run_id: str, config: dict[str, Any], project: str = "p") -> bytes:
    update = b"".join(item([key], value) for key, value in config.items())
    return message(17, message(1, run_id.encode()) + message(3, project.encode()) + message(4, update))


def framed(*written: bytes) -> bytes:
    """Records in LevelDB's framing."""
    made = bytearray(b":W&B" + struct.pack("<HB", 0xBEE1, 0))
    for record in written:
        first = True
        while True:
            room = BLOCK - len(made) % BLOCK
            if room < 7:
                made += bytes(room)
                continue
            piece, record = record[: room - 7], record[room - 7 :]
            kind = {(True, True): 1, (True, False): 2, (False, False): 3, (False, True): 4}[first, not record]
            made += struct.pack("<IHB", zlib.crc32(piece, zlib.crc32(bytes([kind]))), len(piece), kind) + piece
            first = False
            if not record:
                break
    return bytes(made)


EXIT = message(18, b"")  # an exit code of 0 is left out
Value = bytes  # of a summary


def crc32c(data: bytes) -> int:
    """Bit by bit, as in RFC 3720."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def masked(data: bytes) -> int:
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def record(event: bytes) -> bytes:
    length = struct.pack("<Q", len(event))
    return length + struct.pack("<I", masked(length)) + event + struct.pack("<I", masked(event))


def event(step: int, *values: Value) -> bytes:
    stepped = varint(2 << 3) + varint(step % 2**64) if step else b""
    return b"\x09" + struct.pack("<d", 1.7e9 + step) + stepped + message(5, b"".join(message(1, v) for v in values))


def simple(tag: str, number: float) -> Value:
    return message(1, tag.encode()) + varint(2 << 3 | 5) + struct.pack("<f", number)


def tensor(tag: str, dtype: int, content: bytes, shape: bytes = b"") -> Value:
    return message(1, tag.encode()) + message(8, varint(1 << 3) + varint(dtype) + message(2, shape) + content)
