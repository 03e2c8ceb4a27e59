"""Which column is the configured peak learning rate, and not what a schedule had come down to when it was logged."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from lawfit.factors import normal
from lawfit.findings import Finding, finding
from lawfit.ingest.headers import Unit, is_formula
from lawfit.ingest.names import section
from lawfit.ingest.questions import Question
from lawfit.ingest.view import View, differs, pairs, same
from lawfit.packed import Column

_FLOOR: Final = 5e-5  # a rate this low in all rows is what schedules end at, hardly what all runs began with
_LOW: Final = 3e-4  # beside a schedule: a tenth of a peak that is common
_TINY: Final = 2e-5  # the highest rate of a sweep is hardly as low, even of fine-tuning
_DIGITS: Final = 3
_EQUAL: Final = 1e-9
_DECAYS: Final = frozenset({0.0, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.3, 0.5})  # of weights, as most people choose them
_A_DECAY: Final = 0.05
_A_RATE: Final = 0.03
_NEARLY: Final = 0.02  # relative: rates of one heap
_APART: Final = 0.15  # likewise: rates of two
_HEAP: Final = 0.03  # width of one
_NO_RATE: Final = frozenset({"ratio", "steps", "step", "fraction", "frac", "scheduler", "schedule", "type", "decay"})
_OF_ONE: Final = frozenset({"adam", "adamw", "muon", "sgd", "lion", "shampoo", "soap"})
_IN_FORCE: Final = frozenset(  # said of the rate that was trained with, where another was written down
    {
        *("scaled", "rescaled", "adjusted", "adj", "after", "effective", "eff", "actual", "real", "true", "used"),
        *("applied", "hidden"),
    }
)
_PARTS: Final = frozenset({"embed", "embedding", "embeddings", "head", "scalar", "bias", "norm", "unembed"})
_ENOUGH: Final = 2  # rows, for their numbers to tell one column from another
_MINIMA: Final = frozenset(
    {"min_lr", "lr_min", "final_lr", "end_lr", "min_learning_rate", "final_learning_rate", "eta_min", "lr_final"}
)
_OF_SCHEDULES: Final = frozenset(
    {
        *(
            "min",
            "minimum",
            "final",
            "end",
            "warmup",
            "decay",
            "schedule",
            "scheduler",
            "ratio",
            "steps",
            "step",
            "floor",
        ),
        *("type", "style", "name", "shape", "fraction", "cooldown", "text", "label", "rule", "law", "optimal", "best"),
    }
)
_FIRSTS: Final = frozenset({"initial", "init", "start"})
_RISES: Final = frozenset({"warmup", "div"})  # words of columns that say that a schedule begins below its peak
_BASES: Final = frozenset({"base", "mup"})
_PEAKS: Final = frozenset({"peak", "max", "maximum"})


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A column that may be the learning rate."""

    place: int
    rank: tuple[int, int]  # of its name, and how literally it is that name
    unit: Unit


def choose(view: View, found: Sequence[Candidate]) -> tuple[Candidate, list[Finding], list[Question]]:
    """The peak among the candidates, best name first; what to say of the others, and what to ask."""
    small = [c for c in found if (values := view.values(c.place, c.unit)) and values[0] < 1]
    found = small or found  # a step size of 1000 is one of a schedule
    best = found[0]
    notes: list[Finding] = []
    questions: list[Question] = []
    for other in found[1:]:
        one, two = view.numbers(best.place, best.unit), view.numbers(other.place, other.unit)
        if all(same(a, b, 0.01) for a, b in pairs(one, two)) and pairs(one, two) and best.rank != other.rank:
            continue
        votes = _votes(view, best, other)
        names = [view.table.columns[candidate.place] for candidate in (best, other)]
        if not votes and best.rank == other.rank:
            choices = tuple((("map", f"{name}=lr"),) for name in names)
            questions.append(
                Question(
                    found=finding("ingest.two_columns", columns=names, field="lr"),
                    columns=tuple(names),
                    choices=choices,
                )
            )
            continue
        if len({winner for winner, _ in votes}) > 1:
            choices = tuple((("map", f"{name}=lr"),) for name in names)
            why = [{"column": names[winner], "reason": reason} for winner, reason in votes]
            asked = finding("ingest.which_lr", columns=names, votes=why)
            questions.append(Question(found=asked, columns=tuple(names), choices=choices))
            continue
        winner = votes[0][0] if votes else 0
        reasons = [reason for _, reason in votes] or ["name"]
        notes.append(finding("ingest.lr_is", column=names[winner], other=names[1 - winner], reasons=reasons))
        best = (best, other)[winner]
    return best, notes, questions


def _votes(view: View, one: Candidate, other: Candidate) -> list[tuple[int, str]]:
    """What speaks for one of two: (0 or 1, why)."""
    both = [view.table.columns[candidate.place] for candidate in (one, other)]
    a, b = view.numbers(one.place, one.unit), view.numbers(other.place, other.unit)
    rows, votes = pairs(a, b), []
    if len(rows) >= _ENOUGH:
        if all(x >= y * (1 - 1e-9) for x, y in rows) != all(y >= x * (1 - 1e-9) for x, y in rows):
            votes.append((0 if all(x >= y * (1 - 1e-9) for x, y in rows) else 1, "larger"))
        vary = [len({f"{value:.9g}" for value in column if value is not None}) > 1 for column in (a, b)]
        if vary[0] != vary[1]:
            votes.append((0 if vary[0] else 1, "varies"))
    places = [section(name) for name in both]
    order = {"config": 0, "": 1, "result": 2}
    if "result" in places and places[0] != places[1]:
        votes.append((0 if order[places[0]] < order[places[1]] else 1, "config"))
    bases = [not _BASES.isdisjoint(normal(name).split("_")) for name in both]
    if bases[0] != bases[1]:  # of muP, or for another batch: which is meant, the numbers do not say
        return [(0 if bases[0] else 1, "base"), (1 if bases[0] else 0, "not_base")]
    peaks = [not _PEAKS.isdisjoint(normal(name).split("_")) for name in both]
    if peaks[0] != peaks[1]:
        votes.append((0 if peaks[0] else 1, "peak"))
    if not votes and places[0] != places[1]:
        votes.append((0 if order[places[0]] < order[places[1]] else 1, "config"))
    return votes


def may_be_rate(column: str) -> bool:
    """Whether a name has the words of a learning rate, and none of what else is said of one."""
    words = normal(column).split("_")
    rate = "lr" in words or "learning_rate" in normal(column) or ("eta" in words and is_formula(column))
    return rate and _OF_SCHEDULES.isdisjoint(words)


def base_rate(view: View, candidate: Candidate) -> Question | None:
    """Whether the only column of learning rates is a base rate, of muP or for another batch."""
    name = view.table.columns[candidate.place]
    words = normal(name).split("_")
    if candidate.unit.plain and not _FIRSTS.isdisjoint(words) and (rises := _rises(view)):
        choices = ((("map", f"{name}=lr"),), (("unit", f"{name}=FACTOR"),), (("set", "lr=RATE"),))
        found = finding("ingest.first_rate", column=name, other=rises)
        return Question(found=found, columns=(name, rises), choices=choices)
    if not candidate.unit.plain or _BASES.isdisjoint(words):
        return None
    choices = ((("map", f"{name}=lr"),), (("unit", f"{name}=FACTOR"),), (("set", "lr=RATE"),))
    return Question(found=finding("ingest.base_rate", column=name), columns=(name,), choices=choices)


def _is_first_rate(words: set[str]) -> bool:
    return not words.isdisjoint(_FIRSTS) and not words.isdisjoint({"lr", "rate"})


def _rises(view: View) -> str:
    """A column that says that the rate rises from where it begins: warmup, or the factor of a one-cycle schedule."""
    for place, column in enumerate(view.table.columns):
        words = set(normal(column).split("_"))
        if (
            words & _RISES
            and "final" not in words
            and not _is_first_rate(words)
            and (values := view.values(place))
            and values[-1] > 0
        ):
            return column
    return ""


def texts_disagree(view: View, candidate: Candidate, texts: Sequence[tuple[str, Column]]) -> Question | None:
    """Asked where texts of the runs (a command line, a name) have another rate in them than the column, in most rows.

    Parameters
    ----------
    texts : columns of texts, and the rate in each
    """
    name, rates = view.table.columns[candidate.place], view.numbers(candidate.place, candidate.unit)
    for column, told in texts:
        both = [(a, float(b)) for a, b in zip(rates, told, strict=True) if a is not None and isinstance(b, float)]
        if 2 * sum(not same(a, b, _NEARLY) for a, b in both) > len(both):
            choices = ((("map", f"{column}=lr"),), (("map", f"{name}=lr"),))
            found = finding("ingest.two_columns", columns=[column, name], field="lr")
            return Question(found=found, columns=(column, name), choices=choices)
    return None


def looks_decayed(view: View, candidate: Candidate) -> Question | None:
    """Whether the only column of learning rates may hold what was logged last."""
    name = view.table.columns[candidate.place]
    values = view.values(candidate.place, candidate.unit)
    if not values or view.table.exact:  # a trainer that says what it was told
        return None
    constant = same(values[0], values[-1])
    sign = ""
    if section(name) == "result":
        sign = "logged"
    elif values[0] == values[-1] == 0:
        sign = "zero"
    elif constant and len(values) >= _ENOUGH and values[0] <= _FLOOR:
        sign = "floor"
    elif not constant and 0 < values[-1] <= _TINY:
        sign = "low"
    elif not constant and values[0] > 0 and _are_nearly_equal(values):
        sign = "nearly"
    else:
        for place, column in enumerate(view.table.columns):
            if place == candidate.place or normal(column).removeprefix("optimizer_") not in _MINIMA:
                continue
            both = pairs(view.numbers(candidate.place, candidate.unit), view.numbers(place))
            if len(both) >= _ENOUGH and all(same(a, b, 1e-6) for a, b in both):
                sign = "minimum"
    if not sign and constant and len(values) > _ENOUGH and values[0] <= _LOW and _schedules(view):
        sign = "constant"
    if not sign:
        return None
    low, high = values[0], values[-1]
    found = finding("ingest.lr_decayed", column=name, sign=sign, low=low, high=high)
    choices = ((("map", f"{name}=lr"),), (("set", "lr=RATE"),), (("kind", "losses"),))
    return Question(found=found, columns=(name,), choices=choices)


def swapped(view: View, candidate: Candidate, decay: int, optimizer: int | None) -> Question | None:
    """Asked where the rates are decays that people choose, and the decays a grid of rates that people choose.

    Not of SGD, whose rates are as high.
    """
    name, other = (view.table.columns[place] for place in (candidate.place, decay))
    rates, decays = (set(view.numbers(place).levels) - {None} for place in (candidate.place, decay))
    said = [] if optimizer is None else [str(cell).lower() for cell in view.cells(optimizer).levels]
    if not rates <= _DECAYS or max(rates, default=0) < _A_DECAY or len(rates) >= len(decays) or len(decays) < _DIGITS:
        return None
    if min(decays) <= 0 or max(decays) > _A_RATE or any("sgd" in each or "momentum" in each for each in said):
        return None
    found = finding("ingest.lr_and_decay", column=name, other=other, high=max(rates), low=min(decays), top=max(decays))
    choices = ((("map", f"{other}=lr"), ("map", f"{name}=weight_decay")), (("map", f"{name}=lr"),))
    return Question(found=found, columns=(name, other), choices=choices)


def _are_nearly_equal(values: Sequence[float]) -> bool:
    """Whether rates stand in a few heaps of values that are not quite the same, as last values of one schedule do.

    Rates that were drawn by chance, or in small steps, lie close too; they leave no gaps between heaps, or are round.
    """
    if all(value == float(f"{value:.{_DIGITS}g}") for value in values):
        return False
    levels = sorted(set(values))
    gaps = [b / a - 1 if a > 0 else math.inf for a, b in pairwise(levels)]
    ends = [k + 1 for k, gap in enumerate(gaps) if gap > _NEARLY]
    heaps = [levels[a:b] for a, b in pairwise([0, *ends, len(levels)])]
    apart = all(gap > _APART for gap in gaps if gap > _NEARLY)
    narrow = all(heap[-1] <= heap[0] * (1 + _HEAP) for heap in heaps)
    same_twice = any(gap <= _EQUAL for gap in gaps)
    many = len(levels) > _DIGITS and 2 * len(levels) >= len(values) and len(levels) >= 2 * len(heaps)
    return many and apart and narrow and not same_twice


def schedule_rates(view: View, free: Sequence[int]) -> list[str]:
    """Columns of what is no peak rate and differs between runs, as it does where the peak was varied."""
    found = []
    for place in free:
        column = view.table.columns[place]
        words = normal(column).split("_")
        named = "lr" in words or "learning_rate" in normal(column)
        values = view.values(place) if named and _NO_RATE.isdisjoint(words) else []
        if values and values[-1] < 1 and not same(values[0], values[-1], _NEARLY):
            found.append(column)
    return found


def rivals(view: View, chosen: Candidate, free: Sequence[int]) -> list[str]:
    """Rates that differ from the one chosen: of another optimizer, or said to be what runs were trained with."""
    of_one = not _OF_ONE.isdisjoint(normal(view.table.columns[chosen.place]).split("_"))
    one = view.numbers(chosen.place, chosen.unit)
    found = []
    for place in free:
        column = view.table.columns[place]
        words = set(normal(column).split("_"))
        if place == chosen.place or not may_be_rate(column) or words & _PARTS or not (of_one or words & _IN_FORCE):
            continue
        values = view.values(place)  # of 0 and 1: a flag
        if values and (of_one or 0 < values[-1] < 1) and differs(one, view.numbers(place)):
            found.append(column)
    return found


def _schedules(view: View) -> bool:
    """Whether a column says that the rate falls."""
    for place, column in enumerate(view.table.columns):
        words = normal(column)
        if "schedule" in words or words.endswith("decay_style"):
            said = " ".join(str(cell).lower() for cell in view.cells(place).levels)
            if any(word in said for word in ("cosine", "linear", "decay", "wsd", "poly", "inverse", "exp")):
                return True
    return False
