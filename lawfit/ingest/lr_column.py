"""Which column is the configured peak learning rate, and not what a schedule had come down to when it was logged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from lawfit.factors import normal
from lawfit.findings import Finding, finding
from lawfit.ingest.headers import Unit
from lawfit.ingest.names import section
from lawfit.ingest.questions import Question
from lawfit.ingest.view import View, pairs, same

_FLOOR: Final = 5e-5  # a rate this low in all rows is what schedules end at, hardly what all runs began with
_LOW: Final = 3e-4  # beside a schedule: a tenth of a peak that is common
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
    best, notes, questions = found[0], [], []
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
    rate = "lr" in words or "learning_rate" in normal(column)
    return rate and _OF_SCHEDULES.isdisjoint(words)


def base_rate(view: View, candidate: Candidate) -> Question | None:
    """Whether the only column of learning rates is a base rate, of muP or for another batch."""
    name = view.table.columns[candidate.place]
    if not candidate.unit.plain or _BASES.isdisjoint(normal(name).split("_")):
        return None
    choices = ((("map", f"{name}=lr"),), (("unit", f"{name}=FACTOR"),), (("set", "lr=RATE"),))
    return Question(found=finding("ingest.base_rate", column=name), columns=(name,), choices=choices)


def looks_decayed(view: View, candidate: Candidate) -> Question | None:
    """Whether the only column of learning rates may hold what was logged last."""
    name = view.table.columns[candidate.place]
    values = view.values(candidate.place, candidate.unit)
    if not values:
        return None
    constant = same(values[0], values[-1])
    sign = ""
    if section(name) == "result":
        sign = "logged"
    elif values[0] == values[-1] == 0:
        sign = "zero"
    elif constant and len(values) >= _ENOUGH and values[0] <= _FLOOR:
        sign = "floor"
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


def _schedules(view: View) -> bool:
    """Whether a column says that the rate falls."""
    for place, column in enumerate(view.table.columns):
        words = normal(column)
        if "schedule" in words or words.endswith("decay_style"):
            said = " ".join(str(cell).lower() for cell in view.cells(place))
            if any(word in said for word in ("cosine", "linear", "decay", "wsd", "poly", "inverse", "exp")):
                return True
    return False
