"""The checksum of TFRecord files, crc32c with a mask, for many records at once.

A crc is linear over GF(2): that of a message is the xor of what each byte adds at its distance from the end, found in a
table per distance. So numpy checks all records of one length column by column, at some nanoseconds a byte.
"""

from __future__ import annotations

from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Crcs = npt.NDArray[np.uint32]

_POLYNOMIAL: Final = np.uint32(0x82F63B78)  # Castagnoli's, reflected
_MASK: Final = np.uint32(0xA282EAD8)  # tensorflow/core/lib/hash/crc32c.h
_PIECE: Final = 1024  # bytes for which there are tables
_FEW: Final = 32  # rows: for fewer, one look-up of all bytes beats one per column


@cache
def _tables() -> Crcs:
    """(distance, byte) -> what the byte adds when so many others follow it."""
    first = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        first = np.where(first & 1, (first >> np.uint32(1)) ^ _POLYNOMIAL, first >> np.uint32(1))
    tables = np.empty((_PIECE, 256), dtype=np.uint32)
    tables[0] = first
    for distance in range(1, _PIECE):
        before = tables[distance - 1]
        tables[distance] = (before >> np.uint32(8)) ^ first[before & np.uint32(0xFF)]
    return tables


def masked_crcs(rows: Bytes) -> Crcs:
    """The masked checksum of each row of bytes.

    Parameters
    ----------
    rows : (n, length) bytes
    """
    count, length = rows.shape
    state = np.full(count, 0xFFFFFFFF, dtype=np.uint32)
    start = 0
    while start < length:
        # The first piece takes what is over, so that all others are whole; fewer than four bytes go one by one.
        size = (length - start) % _PIECE or _PIECE
        state = _update(state, rows[:, start : start + size])
        start += size
    crc = ~state
    return ((crc >> np.uint32(15)) | (crc << np.uint32(17))) + _MASK


def _update(state: Crcs, piece: Bytes) -> Crcs:
    tables = _tables()
    size = piece.shape[1]
    if size < 4:
        for column in range(size):
            state = tables[0][(state ^ piece[:, column]) & np.uint32(0xFF)] ^ (state >> np.uint32(8))
        return state
    if len(piece) < _FEW:
        mixed = piece.copy()
        mixed[:, :4] ^= state.astype("<u4").view(np.uint8).reshape(-1, 4)
        found: Crcs = np.bitwise_xor.reduce(tables[np.arange(size - 1, -1, -1)[None, :], mixed], axis=1)
        return found
    columns = np.ascontiguousarray(piece.T)
    columns[:4] ^= state.astype("<u4").view(np.uint8).reshape(-1, 4).T
    added = np.zeros(len(piece), dtype=np.uint32)
    for column in range(size):
        added ^= tables[size - 1 - column].take(columns[column])
    return added
