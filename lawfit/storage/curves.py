"""Curve chunks: the steps and numbers of one metric as two compressed blobs, read back exactly.

Rows in SQL are 15 times slower and 3 times larger. A curve of a run that diverges holds nan and inf; inside a blob
that is fine, and it is the reason why no summary of a curve stands in an SQL column.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from lawfit.errors import StoreError

# Noted in every row. Bytes of one significance side by side are quicker to compress, and smaller, unless numbers were
# rounded to a few digits: of each chunk the better way is taken.
PLAIN: Final = "zlib/delta-int64,float64"
SHUFFLED: Final = "zlib/delta-int64,shuffled-float64"
_PROBE: Final = 512  # numbers whose compressed size decides
CHUNK_POINTS = 4096  # a longer piece is split, so that reading a part never unpacks the whole

Steps = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """One row of the table `curves`, less the run and the metric."""

    codec: str
    points: int
    first_step: int
    last_step: int
    steps: bytes
    numbers: bytes


def pack(steps: npt.ArrayLike, numbers: npt.ArrayLike) -> list[Chunk]:
    """Compress a piece of a curve into chunks.

    Parameters
    ----------
    steps : (n,) whole numbers, strictly ascending
    numbers : (n,) floats; nan and inf are kept as they are

    Raises
    ------
    ValueError
        Lengths differ, no points, or steps that do not ascend.
    """
    step_array = np.asarray(steps, dtype=np.int64).ravel()
    number_array = np.asarray(numbers, dtype=np.float64).ravel()
    if len(step_array) != len(number_array):
        raise ValueError(
            f"a curve needs one number per step, got {len(step_array)} steps and {len(number_array)} numbers"
        )
    if not len(step_array):
        raise ValueError("a curve needs at least one point")
    if np.any(np.diff(step_array) <= 0):
        where = int(np.argmax(np.diff(step_array) <= 0))
        raise ValueError(f"steps must ascend, got {step_array[where + 1]} after {step_array[where]}")
    return [
        _pack_one(step_array[start : start + CHUNK_POINTS], number_array[start : start + CHUNK_POINTS])
        for start in range(0, len(step_array), CHUNK_POINTS)
    ]


def unpack(codec: str, points: int, steps: bytes, numbers: bytes) -> tuple[Steps, Numbers]:
    """The points of one chunk, bit for bit as they were given.

    Raises
    ------
    StoreError
        An unknown codec, or blobs that do not hold what the row says.
    """
    if codec not in (PLAIN, SHUFFLED):
        raise StoreError(
            f"a curve is stored with codec '{codec}', which this version of lawfit cannot read; upgrade lawfit"
        )
    try:
        deltas = np.frombuffer(zlib.decompress(steps), dtype="<i8")
        raw = zlib.decompress(numbers)
        values = np.frombuffer(_unshuffled(raw) if codec == SHUFFLED else raw, dtype="<f8")
    except (zlib.error, ValueError) as error:
        raise StoreError(f"a curve chunk is damaged ({error}); run lawfit db check") from None
    if len(deltas) != points or len(values) != points:
        raise StoreError(f"a curve chunk holds {len(values)} points where its row says {points}; run lawfit db check")
    return np.cumsum(deltas, dtype=np.int64), values.astype(np.float64)


def _pack_one(steps: Steps, numbers: Numbers) -> Chunk:
    deltas = np.diff(steps, prepend=0)  # nearly constant, so they all but vanish
    raw = numbers.astype("<f8", copy=False).tobytes()
    plain, shuffled = (zlib.compress(way(raw[: 8 * _PROBE]), 1) for way in (bytes, _shuffled))
    codec = PLAIN if len(plain) < len(shuffled) else SHUFFLED
    return Chunk(
        codec=codec,
        points=len(steps),
        first_step=int(steps[0]),
        last_step=int(steps[-1]),
        steps=zlib.compress(deltas.astype("<i8", copy=False).tobytes(), 1),
        numbers=zlib.compress(raw, 6) if codec == PLAIN else zlib.compress(_shuffled(raw), 1),
    )


def _shuffled(raw: bytes) -> bytes:
    return np.frombuffer(raw, dtype=np.uint8).reshape(-1, 8).T.tobytes()


def _unshuffled(raw: bytes) -> bytes:
    return np.frombuffer(raw, dtype=np.uint8).reshape(8, -1).T.tobytes()
