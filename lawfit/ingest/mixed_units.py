"""Rows in two units in one column: some sizes in millions, a batch in sequences, rates times 1000, perplexities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from lawfit.findings import finding
from lawfit.ingest.column_map import ColumnMap
from lawfit.ingest.headers import PLAIN
from lawfit.ingest.options import IngestOptions
from lawfit.ingest.questions import Question
from lawfit.ingest.view import View

_FACTORS: Final = (1e3, 1e6, 1e9)
_TIMES: Final = (1e3, 1e4, 1e6)  # of rates
_LENGTHS: Final = (1e3, *(2.0**power for power in range(7, 18)))  # K, and tokens of a sequence
_APART: Final = 30.0  # between two sizes, or two batches, that are next to each other
_RATES_APART: Final = 100.0
_LOSSES_APART: Final = 1.8
_FEWEST: Final = 4  # rows, to tell what is usual
_NEAR: Final = 3.0  # how far beyond the others a number may be that belongs to them
_COPIED: Final = 1e-3
_EVEN: Final = 1.2  # between the steps of one grid
_DIGITS: Final = 3
_EACH: Final = (1e-3, 1e5)  # tokens per parameter: beyond, rows are left out one by one
_FACTS: Final = ("optimizer", "parametrization")  # two kinds of runs may have rates of their own
Numbers = npt.NDArray[np.float64]
Rows = npt.NDArray[np.bool_]


def mixed_units(view: View, columns: ColumnMap, options: IngestOptions) -> list[Question]:
    """Asked of columns in which some rows seem to be in another unit than the others."""
    read = {
        name: view.numbers(place, columns.units.get(name, PLAIN)).floats()
        for name, place in columns.places.items()
        if name in ("params", "tokens", "steps", "batch_tokens", "batch_sequences", "lr", "loss")
    }
    with np.errstate(all="ignore"):
        found = {name: _other_unit(name, read, view, columns) for name in read}
    questions: list[Question] = []
    for name, rows in found.items():
        column = view.table.columns[columns.places[name]]
        if rows is None or column in options.units:
            continue
        numbers, lines = read[name], view.table.packed.lines
        some, rest = numbers[rows], numbers[~rows & ~np.isnan(numbers)]
        data = {"rows": int(np.count_nonzero(rows)), "line": int(lines[int(np.flatnonzero(rows)[0])])}
        ranges = {"low": some.min(), "high": some.max(), "low_of_rest": rest.min(), "high_of_rest": rest.max()}
        asked = finding("ingest.mixed_units", column=column, **data, **ranges)
        unit = columns.units.get(name, PLAIN).word  # all as they stand
        questions.append(Question(found=asked, columns=(column,), choices=((("unit", f"{column}={unit}"),),)))
    return questions


def _other_unit(name: str, read: Mapping[str, Numbers], view: View, columns: ColumnMap) -> Rows | None:
    """The rows of a field that seem to be in another unit; None where there are none."""
    numbers = read[name]
    if name in ("params", "tokens"):
        return _of_sizes(name, read)
    if name == "lr":
        low, high = _torn(numbers, _RATES_APART)
        facts = [view.cells(columns.places[fact]) for fact in _FACTS if fact in columns.places]
        kinds = [cells.spread([str(level) for level in cells.levels], object) for cells in facts]
        if not low.any() or any(set(kind[low]).isdisjoint(kind[high]) for kind in kinds):
            return None
        if min(np.count_nonzero(low), np.count_nonzero(high)) < 2:
            return None  # one row may have a rate that was tried
        near = _NEAR if numbers[high].max() >= 1 else 1.0
        return _fewer(low, high) if _may_be_one(numbers[low], numbers[high], _TIMES, near) else None
    if name in ("batch_tokens", "batch_sequences"):
        low, high = _torn(numbers, _APART)
        return _fewer(low, high) if low.any() and _may_be_one(numbers[low], numbers[high], _LENGTHS) else None
    if name == "loss" and columns.metric.kind == "nats":
        low, high = _torn(numbers, _LOSSES_APART)
        logs = np.log(numbers[high])
        if np.count_nonzero(high) < 2 or not low.any() or logs.min() < numbers[low].min() / 1.2:
            return None
        return high if logs.max() < numbers[low].max() * 1.2 and not _may_diverge(low, high, read) else None
    return None


def _may_diverge(low: Rows, high: Rows, read: Mapping[str, Numbers]) -> bool:
    """Whether half of the runs with high losses, or more, have the highest rates of their size, as those that blow up.

    Not where all runs of a size have such losses.
    """
    if not {"lr", "params"} <= read.keys():
        return False
    wild = 0
    for at in np.flatnonzero(high):
        tame = read["lr"][low & (read["params"] == read["params"][at])]
        wild += bool(len(tame)) and bool(read["lr"][at] > tame.max())
    return 2 * wild >= int(np.count_nonzero(high))


def _of_sizes(name: str, read: Mapping[str, Numbers]) -> Rows | None:
    """Parameters or tokens that with the other size make rows unlike the others, as no sweep has them."""
    batch = read.get("batch_tokens")
    tokens = read.get("tokens", read["steps"] * batch if "steps" in read and batch is not None else None)
    if tokens is None or "params" not in read:
        return None
    each = tokens / read["params"]
    taken = (each > _EACH[0]) & (each < _EACH[1]) & (read["params"] >= 1)  # the others are left out one by one
    taken &= True if batch is None else ~(tokens < batch)
    numbers = np.where(taken, read[name], np.nan)
    low, high = _torn(numbers, _APART)
    below, above = _torn(np.where(taken, each, np.nan), _APART)
    if below.any():
        few, many = (above, below) if name == "params" else (below, above)
        alike = bool(low.any()) and not (low != few).any()
        if (alike or _copied(numbers[few], numbers[many])) and _may_be_one(numbers[few], numbers[many], _FACTORS):
            return _fewer(few, many)
        return None
    other = np.where(taken, tokens if name == "params" else read["params"], np.nan)
    both = low.any() and not (low != _torn(other, _APART)[0]).any()
    return _fewer(low, high) if both and _copied(numbers[low], numbers[high]) else None


def _torn(numbers: Numbers, apart: float) -> tuple[Rows, Rows]:
    """The rows below and above the widest gap between the numbers of a column, none where it is not as wide."""
    known = np.isfinite(numbers) & (numbers > 0)
    levels = np.unique(numbers[known])
    if len(levels) < 2 or np.count_nonzero(known) < _FEWEST:
        return np.zeros_like(known), known
    steps = levels[1:] / levels[:-1]
    at = int(np.argmax(steps))
    if np.count_nonzero(steps > steps[at] / _EVEN) > 1:
        return np.zeros_like(known), known  # a coarse grid
    low = known & (numbers <= levels[at])
    return (low if steps[at] >= apart else np.zeros_like(known)), known & ~low


def _fewer(one: Rows, other: Rows) -> Rows:
    return one if np.count_nonzero(one) < np.count_nonzero(other) else other


def _may_be_one(low: Numbers, high: Numbers, factors: tuple[float, ...], near: float = _NEAR) -> bool:
    """Whether the lower numbers times a factor lie among the higher ones."""
    return any(low.min() * f <= near * high.max() and low.max() * f >= high.min() / near for f in factors)


def _copied(low: Numbers, high: Numbers) -> bool:
    """Whether most of the lower numbers are some of the higher ones in another unit, and not because all are round."""
    levels = np.unique(high)
    for factor in _FACTORS:
        made = np.unique(low) * factor
        there = [bool(np.isclose(levels, value, rtol=_COPIED, atol=0).any()) for value in made]
        long = [float(f"{value:.{_DIGITS - 1}g}") != float(f"{value:.6g}") for value in made]
        if 2 * sum(there) >= len(there) > 0 and any(a and b for a, b in zip(there, long, strict=True)):
            return True
    return False
