"""Why a fit is not answered from: what its runs lack, and which runs would mend it.

What they lack is in the fit (`estimate.lr_batch.lacking`); it is put together here, once for every place that shows it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from lawfit.errors import Unanswerable
from lawfit.estimate.lr_batch.lacking import Bearing, Lack, LackCode
from lawfit.findings import Finding, Found, finding, found_of
from lawfit.records import Fit

MOST_ROWS: Final = 2  # scales to add runs at that are named


def refusal(fit: Fit) -> Unanswerable:
    """The error of a fit that is not used, the same for command line, notebook, REST and page."""
    runs, why = mending(fit.payload), doubts(fit.payload)
    mend = finding("lr_batch.mending", runs=runs) if runs else finding("lr_batch.odd_runs")
    found = finding("lr_batch.refused", recipe=fit.recipe_name, doubts=why, mend=mend, fit_id=fit.id)
    return Unanswerable(found, lacking=tuple(lack.to_json() for lack in _causes(fit.payload)))


def doubts(payload: Mapping[str, Any]) -> list[Found]:
    """What speaks against using a fit: what its runs lack; where they lack nothing, how the search for a law went."""
    if found := _causes(payload):
        return [lack.finding for lack in found]
    reasons = (payload.get("certificate") or {}).get("reasons", [])
    return [found_of(reason) for reason in reasons] or [finding("lr_batch.not_settled")]


def is_a_score(payload: Mapping[str, Any]) -> bool:
    """Whether the losses of a fit look like a score, higher the better: then no law of them is one of a loss."""
    return any(lack.code is LackCode.HILL and lack.bearing is not Bearing.NOTED for lack in _lacking(payload))


def noted(payload: Mapping[str, Any]) -> list[Found]:
    """What the runs lack of a fit that answers."""
    return [
        finding("lr_batch.noted", lack=lack.finding, runs=_runs_to_add(lack.runs[:1]))
        for lack in _lacking(payload)
        if lack.bearing is Bearing.NOTED
    ]


def mending(payload: Mapping[str, Any]) -> Found:
    """Runs to add; empty where none is known to help."""
    rows = [row for lack in _causes(payload) for row in lack.runs] or [*payload.get("next_grid", [])]
    if rows:
        return _runs_to_add(rows)
    needed = (payload.get("certificate") or {}).get("needed_runs", [])
    sweeps = [finding("lr_batch.sweep", **run["inputs"]) for run in needed[:MOST_ROWS]]
    return finding("lr_batch.to_add", runs=sweeps) if sweeps else ""


def _runs_to_add(rows: Sequence[Mapping[str, Any]]) -> Finding:
    names = ("params", "tokens", "lr", "batch_tokens")
    runs = [finding("lr_batch.runs", **{name: row[name] for name in names}) for row in rows[:MOST_ROWS]]
    return finding("lr_batch.to_add", runs=runs)


def _lacking(payload: Mapping[str, Any]) -> list[Lack]:
    return [Lack.from_json(row) for row in payload.get("lacking", [])]  # none in a fit of before it was looked for


def _causes(payload: Mapping[str, Any]) -> list[Lack]:
    """What forbids an answer by itself; where nothing does, what explains that the search for a law failed.

    What is only remarked on in an answer leaves a direction open, along which there may be several minima.
    """
    found = _lacking(payload)
    by_bearing = ([lack for lack in found if lack.bearing is bearing] for bearing in Bearing)
    return next((lacks for lacks in by_bearing if lacks), [])
