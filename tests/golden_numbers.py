"""Every number and sentence of a document against the one that was kept, so that none moves without being meant to.

Kept in tests/golden/numbers, six digits each, and in tests/golden/words; `pytest --update-golden` writes them anew.
Numbers that are checked against an independent computation have tests of their own; this net notices what no such test
looks at.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from lawfit.findings import Finding
from lawfit.words import told

KEPT: Final = Path(__file__).parent / "golden"
NEAR: Final = 1e-4  # relative: optimizers stop elsewhere by a tenth of it at most, on other processors
DIFFERENCES: Final = {"/shift": 1e-4, "/left_out_at_the_end": 1e-6}  # of two fits: what is apart of them by rounding
LONG: Final = 8  # numbers, beyond which a list is told by its size, mean, spread and ends
# What names a fit or a day.
LEFT_OUT: Final = frozenset({"id", "data_hash", "evidence_hash", "created_at", "code_version", "version"})
# What moves with the processor: how far from nought a gradient ended, which of equal starts agreed, how a loss law came
# out without one of its scales where that leaves it open, ties of forms; and the sentences on these.
UNSTEADY: Final = re.compile(
    r"gradient_norm|search/spread|/standing/|/stands/|/sensitivity/|lr_batch_forms/words"
    r"|loss.*/certificate/(influence|search/agreeing)|/loss/forms/fits/\d+/certificate/(reasons|search/converged)"
)
ID: Final = re.compile(r"\b[0-9a-f]{16}\b")  # of a fit: it holds a hash of the code
UNSTEADY_WORDS: Final = re.compile(r"bends the law|starts ended at a higher|residuals are not noise")


def check(name: str, document: Any, *, update: bool, without: frozenset[str] = frozenset()) -> None:
    """Compare, or keep; `without` names further keys that are left out.

    Raises
    ------
    AssertionError
        Numbers differ: each place with what was kept and what is there.
    """
    flat = _flat(json.loads(json.dumps(told(_plain(document)))), LEFT_OUT | without)
    now = {place: value for place, value in flat if not UNSTEADY.search(place)}
    words = {place: value for place, value in now.items() if isinstance(value, str)}
    apart = []
    for path, found in (
        (KEPT / "numbers" / f"{name}.json", {place: value for place, value in now.items() if place not in words}),
        (KEPT / "words" / f"{name}.json", words),
    ):
        if update:
            path.parent.mkdir(parents=True, exist_ok=True)
            text = json.dumps(found, indent=0, sort_keys=True, ensure_ascii=False)
            path.write_text(text + "\n", encoding="utf-8")
            continue
        kept = json.loads(path.read_text(encoding="utf-8"))
        apart += [
            f"{place}: {kept.get(place, 'nothing')!r} was kept, {found.get(place, 'nothing')!r} is there"
            for place in sorted(kept.keys() | found.keys())
            if place not in kept or place not in found or not _same(kept[place], found[place], place)
        ]
    assert not apart, f"{len(apart)} of {len(now)} differ (--update-golden keeps them):\n" + "\n".join(apart[:12])


def _plain(document: Any) -> Any:
    """Records and arrays as JSON has them."""
    if isinstance(document, Finding):
        return document.to_json()
    if isinstance(document, Sequence) and not isinstance(document, str | bytes):
        return [_plain(value) for value in document]
    if dataclasses.is_dataclass(document) and not isinstance(document, type):
        return {field.name: _plain(getattr(document, field.name)) for field in dataclasses.fields(document)}
    if isinstance(document, Mapping):
        return {str(key): _plain(value) for key, value in document.items()}
    if isinstance(document, np.ndarray | np.generic):
        return document.tolist()
    return document


def _same(one: Any, other: Any, place: str) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        if not (math.isfinite(one) and math.isfinite(other)):
            return str(one) == str(other)
        least = next((least for end, least in DIFFERENCES.items() if place.endswith(end)), 1e-9)
        return abs(one - other) <= NEAR * max(abs(one), abs(other)) + least
    return bool(one == other)


def _flat(document: Any, without: frozenset[str], place: str = "") -> Iterator[tuple[str, Any]]:
    """(place, value) of every leaf: numbers with six digits, words as they are."""
    if isinstance(document, Mapping):
        for key, value in document.items():
            if key not in without and not key.endswith("_id"):
                yield from _flat(value, without, f"{place}/{key}")
    elif isinstance(document, list):
        document = [each for each in document if not (isinstance(each, str) and UNSTEADY_WORDS.search(each))]
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
        yield place, ID.sub("(id)", document)
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
