"""Every kind of law beside that of learning rate and batch, from the evidence of a recipe to an answer about a target.

To add one: a module with a `LawKind`, and a line in `KINDS`. It is then fitted, stored, certified, asked and shown on
every card, page, report and notebook, and stands in JSON and in the REST API.
"""

from __future__ import annotations

from typing import Final

from lawfit.kinds.critical_batch import CRITICAL_BATCH
from lawfit.kinds.kind import FittedLaw, LawKind, Outcome, Setting
from lawfit.kinds.loss import LOSS
from lawfit.kinds.three_term import THREE_TERM
from lawfit.kinds.weight_decay import TIMESCALE

__all__ = [
    "CRITICAL_BATCH",
    "KINDS",
    "LOSS",
    "THREE_TERM",
    "TIMESCALE",
    "FittedLaw",
    "LawKind",
    "Outcome",
    "Setting",
    "answering",
    "kind_of",
    "labels",
    "part_labels",
]

KINDS: Final[tuple[LawKind, ...]] = (TIMESCALE, CRITICAL_BATCH, LOSS, THREE_TERM)  # in the order that they are shown


def kind_of(name: str) -> LawKind | None:
    """The kind with this id; None for a fit of learning rate and batch, and for one of a later version of lawfit."""
    return next((kind for kind in KINDS if kind.id == name), None)


def answering() -> tuple[LawKind, ...]:
    """The kinds that have a part in an answer."""
    return tuple(kind for kind in KINDS if kind.part)


def labels() -> dict[str, str]:
    """id -> as cards call the law."""
    return {kind.id: kind.label for kind in KINDS}


def part_labels() -> dict[str, str]:
    """Part of an answer -> as it is called."""
    return {kind.part: kind.part_label or kind.label for kind in answering()}
