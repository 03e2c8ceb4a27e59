"""What a kind of law is: fitted to the evidence of a recipe, it answers about a target and shows itself in a chart."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lawfit.ask import Target
from lawfit.documents import Answer
from lawfit.estimate.evidence import Prepared
from lawfit.findings import Found
from lawfit.records import Fit, FitStatus
from lawfit.units import format_quantity, format_scale

Floats = NDArray[np.float64]

FAR_DECADES: Final = 0.05  # beyond the runs by more than this is an extrapolation
_POINTS: Final = 25


@dataclass(frozen=True, kw_only=True)
class FittedLaw:
    """One law as it is stored. Its payload has ``words`` (what it says), ``lines`` (the same at length), ``reasons``
    against its use, ``sentences`` (what to know before using it) and ``lent_by`` (laws that lent to it; None: none)."""

    kind: str
    status: FitStatus
    payload: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of fitting one kind of law."""

    law: FittedLaw | None = None
    missing: Found = ""  # why there is none, or why it is not certified
    details: Mapping[str, Found] = field(default_factory=dict)  # kind or route -> all that is in the way


@dataclass(frozen=True, kw_only=True)
class Setting:
    """The learning rate and batch that are recommended."""

    lr: float
    batch_tokens: float


@dataclass(frozen=True, kw_only=True)
class LawKind:
    """One kind of law. It stands in fits, answers, cards, pages and reports by being named in `kinds.KINDS`."""

    id: str  # of stored fits, in JSON and in URLs
    label: str  # as cards call it
    unit: str = ""  # of what it answers
    part: str = ""  # name of its part of an answer; empty: it answers nothing
    part_label: str = ""  # as an answer calls it, where that is another word
    needs_setting: bool = False  # its answer goes with the recommended learning rate and batch
    on_request: bool = False  # it takes seconds: fitted only where it is asked for

    def fit(self, prepared: Prepared) -> Outcome:
        """The law, or what is missing for it.

        Raises
        ------
        FitError
            What is missing for it.
        """
        raise NotImplementedError

    def answer(self, fit: Fit, target: Target, setting: Setting | None = None) -> dict[str, Any]:
        """Its part of an answer: ``value``, ``low``, ``high``, ``level``, `standing`, and what is its own.

        `setting` is given to a kind that needs it.

        Raises
        ------
        NotEnoughData
            It has no answer at this target.
        """
        raise NotImplementedError

    def chart(self, fit: Fit, document: Answer) -> LawChart | None:
        """The law with what it rests on and its answer; None where it has no axis to be drawn along."""
        return None


def standing(fit: Fit, decades: Mapping[str, float]) -> dict[str, Any]:
    """How far an answer extrapolates, whether its law is borrowed, and what to know before using it."""
    beyond = max(decades.values(), default=0.0) > FAR_DECADES
    borrowed = fit.status is FitStatus.SPARSE
    return {
        "extrapolation_decades": {name: round(value, 4) for name, value in decades.items()},
        "status": "borrowed" if borrowed else "extrapolated" if beyond else "ok",
        "fit_id": fit.id,
        "notes": list(fit.payload["sentences"]),
    }


@dataclass(frozen=True, kw_only=True)
class Dot:
    """What the runs of one scale say, or the answer."""

    x: float
    value: float
    low: float | None  # of a 90 % interval; None where there is none on that side
    high: float | None
    words: str  # which scale

    @classmethod
    def of_answer(cls, x: float, said: Mapping[str, Any], target: Mapping[str, Any]) -> Dot:
        words = format_scale(target["params"], target["tokens"])
        return cls(x=x, value=said["value"], low=said["low"], high=said["high"], words=words)


@dataclass(frozen=True, kw_only=True)
class SizeLine:
    """The law at one size of one's own runs, and the dots that belong to it."""

    label: str
    x: Floats
    value: Floats
    measured: tuple[Dot, ...]


@dataclass(frozen=True, kw_only=True)
class LawChart:
    """The numbers of one figure."""

    name: str  # the part of the answer that it is about
    title: str
    x_label: str
    y_label: str
    caption: str  # what dots and lines are
    measured: tuple[Dot, ...]
    x: Floats
    value: Floats  # of the law
    low: Floats  # of its `level` interval; NaN where there is none
    high: Floats
    level: float
    target: Dot  # the answer
    write: Callable[[float], str] = format_quantity
    logarithmic: bool = True  # the axis of values
    line: str = "law"  # its name in the legend
    sizes: tuple[SizeLine, ...] = ()  # where the law takes more than the axis: `measured`, by size


def axis(values: list[float]) -> Floats:
    """Places along a logarithmic axis, from the least to the largest of these."""
    return np.geomspace(min(values), max(values), _POINTS)
