"""Every number of a document against the one that was kept, so that none moves without being meant to.

Kept in tests/golden/numbers, six digits each; `pytest --update-golden` writes them anew. Numbers that are checked
against an independent computation have tests of their own; this net notices what no such test looks at.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

KEPT: Final = Path(__file__).parent / "golden" / "numbers"
NEAR: Final = 2e-3  # relative: optimizers stop elsewhere by less, on other processors
LONG: Final = 8  # numbers, beyond which a list is told by its size, mean, spread and ends
# What names a fit or a day; sentences; and what moves with the processor: how far from nought a gradient ended, which
# of equal starts agreed, how a law fitted without one cluster came out where that leaves it open, ties of forms.
LEFT_OUT: Final = frozenset(
    {
        *("id", "data_hash", "created_at", "code_version", "version"),
        *("notes", "warnings", "sentences", "words"),
        *("search", "influence", "sensitivity", "gradient", "agreement", "condition"),
        *("standing", "stands"),
    }
)


def check(name: str, document: Any, *, update: bool, without: frozenset[str] = frozenset()) -> None:
    """Compare, or keep; `without` names further keys that are left out.

    Raises
    ------
    AssertionError
        Numbers differ: each place with what was kept and what is there.
    """
    path = KEPT / f"{name}.json"
    now = dict(_flat(json.loads(json.dumps(_plain(document))), LEFT_OUT | without))
    if update:
        KEPT.mkdir(exist_ok=True)
        path.write_text(json.dumps(now, indent=0, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
        return
    kept = json.loads(path.read_text(encoding="utf-8"))
    apart = [
        f"{place}: {kept.get(place, 'nothing')!r} was kept, {now.get(place, 'nothing')!r} is there"
        for place in sorted(kept.keys() | now.keys())
        if place not in kept or place not in now or not _same(kept[place], now[place])
    ]
    assert not apart, f"{len(apart)} of {len(kept)} differ (--update-golden keeps them):\n" + "\n".join(apart[:12])


def _plain(document: Any) -> Any:
    """Records and arrays as JSON has them."""
    if dataclasses.is_dataclass(document) and not isinstance(document, type):
        return {name: _plain(value) for name, value in vars(document).items()}
    if isinstance(document, Mapping):
        return {str(key): _plain(value) for key, value in document.items()}
    if isinstance(document, list | tuple):
        return [_plain(value) for value in document]
    if isinstance(document, np.ndarray | np.generic):
        return document.tolist()
    return document


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        if not (math.isfinite(one) and math.isfinite(other)):
            return str(one) == str(other)
        return abs(one - other) <= NEAR * max(abs(one), abs(other)) + 1e-9
    return bool(one == other)


def _flat(document: Any, without: frozenset[str], place: str = "") -> Iterator[tuple[str, Any]]:
    """(place, value) of every leaf: numbers with six digits, words without the numbers in them."""
    if isinstance(document, Mapping):
        for key, value in document.items():
            if key not in without and not key.endswith("_id"):
                yield from _flat(value, without, f"{place}/{key}")
    elif isinstance(document, list):
        yield f"{place}/count", float(len(document))
        numbers = _numbers(document)
        if numbers is not None and numbers.size > LONG:
            found = {"mean": numbers.mean(), "sd": numbers.std(), "first": numbers.flat[0], "last": numbers.flat[-1]}
            for key, number in found.items():
                yield f"{place}/{key}", float(f"{number:.6g}")
        else:
            for at, value in enumerate(document):
                yield from _flat(value, without, f"{place}/{at}")
    elif isinstance(document, str):
        yield place, re.sub(r"[-+]?\d[\d.,]*(e[-+]?\d+)?", "#", document)
    elif isinstance(document, int | float) and not isinstance(document, bool):
        yield place, float(f"{document:.6g}")
    else:
        yield place, document


def _numbers(document: list[Any]) -> np.ndarray | None:
    """The list as an array, where it is one of numbers alone."""
    try:
        found = np.array(document)
    except ValueError:
        return None
    return found if found.dtype.kind in "if" else None
