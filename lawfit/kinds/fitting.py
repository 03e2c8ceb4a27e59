"""Every kind of law of one recipe beside that of learning rate and batch: what its data support, what others miss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lawfit import kinds
from lawfit.errors import FitError, NotEnoughData
from lawfit.estimate.evidence import Evidence, prepare
from lawfit.estimate.observe.held import Held
from lawfit.estimate.observe.observations import observe
from lawfit.estimate.other_laws import fit_other_laws
from lawfit.findings import Found, finite
from lawfit.kinds.kind import FittedLaw, Outcome
from lawfit.laws.critical_batch import ZHANG, Definition


@dataclass(frozen=True, kw_only=True)
class AllLaws:
    """What could be fitted, and what is missing for each law that could not (or is not certified)."""

    fitted: tuple[FittedLaw, ...]
    missing: Mapping[str, Found]  # kind -> why
    details: Mapping[str, Found]  # kind or route -> all that was found to be in the way
    held: Held  # the runs that all laws but that of weight decay rest on
    other: Mapping[str, Any]  # forms of the field that answer nothing here, on these runs: `other_laws`


def fit_all_laws(
    evidence: Evidence,
    *,
    at: Sequence[str] = (),
    also: Definition = ZHANG,
    on_request: Sequence[str] = (),
    without_laws: Sequence[str] = (),
) -> AllLaws:
    """Fit every kind of law that the evidence supports; of those that take seconds, the ones that are asked for.

    All but that of weight decay hold at one level of each setting that varies: `at`, or what `held` chooses.
    `without_laws` are published laws that must lend nothing to any of them (`laws.lenders`). A critical batch is also
    stated by the definition `also`.

    Raises
    ------
    UnknownLevel
        No run has a level that was asked for.
    """
    prepared = prepare(evidence, at=at, also=also, without_laws=without_laws)
    found: dict[str, Outcome] = {}
    for kind in kinds.KINDS:
        if kind.on_request and kind.id not in on_request:
            continue
        try:
            found[kind.id] = kind.fit(prepared)
        except FitError as error:
            found[kind.id] = Outcome(missing=error.finding)
    level = prepared.held.runs
    try:
        other = fit_other_laws(observe(level), level)
    except NotEnoughData:
        other = {}  # no finished run
    return AllLaws(
        fitted=tuple(outcome.law for outcome in found.values() if outcome.law is not None),
        missing={kind: outcome.missing for kind, outcome in found.items() if outcome.missing},
        details={name: why for outcome in found.values() for name, why in outcome.details.items()},
        held=prepared.held,
        other=finite(other),
    )
