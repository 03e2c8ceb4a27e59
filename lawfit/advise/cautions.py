"""What to know before relying on an answer: how far it lies from the runs, and what it borrows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from lawfit.advise.refusal import doubts
from lawfit.ask import Target
from lawfit.findings import Finding, Found, finding, joined
from lawfit.kinds.kind import FAR_DECADES
from lawfit.kinds.third_input import settings_note
from lawfit.records import Fit, FitStatus, Recipe

VERY_FAR_DECADES: Final = 2.0
FEW_STEPS: Final = 100
BORROWED_SHARE: Final = 0.5
_NOTHING: Final = 0.02  # share of what is known that comes from the runs
# Of what published laws lend, what the answer's two numbers rest on.
_LENT: Final = {"lr": ("lr", "lr_joint"), "batch_tokens": ("batch_tokens", "batch")}


def _lender(payload: Mapping[str, Any], name: str) -> str:
    """What stands beside the runs in an answer's lr or batch, "laws" or a "vague" prior; once it was always laws."""
    found = payload.get("lending")
    lent = found is None or any(found["lenders"][quantity] for quantity in _LENT[name])
    return "laws" if lent else "vague"


def nothing_of_ones_own(payload: Mapping[str, Any], yours: Sequence[float]) -> list[Finding]:
    """Said where next to nothing of what is known comes from the runs."""
    if max(yours) >= _NOTHING:
        return []
    rest = list(dict.fromkeys(_lender(payload, name) for name, _ in zip(_LENT, yours, strict=False)))
    return [finding("advice.nothing_of_yours", batch_given=len(yours) == 1, lenders=rest)]


def borrowed(payload: Mapping[str, Any], yours: Sequence[float], *, batch_given: bool) -> list[Found]:
    """Where the rest comes from; of a batch that was given nothing is said, as nothing was asked."""
    asked = {"lr_at_batch": yours[0]} if batch_given else {"lr": yours[0], "batch_tokens": yours[1]}
    said: list[Found] = []
    for quantity, share in asked.items():
        if share < 0.95:
            lender = _lender(payload, quantity.removesuffix("_at_batch"))
            said.append(finding("advice.share_of_runs", quantity=quantity, share=share, lender=lender))
    return [*said, *(payload.get("borrowed", []) if said else [])]


def _assumed(payload: Mapping[str, Any], yours: Sequence[float]) -> list[Found]:
    """What was taken for granted about the recipe so that published laws could lend, where that matters here."""
    if yours[0] >= 0.95 or payload.get("lending") is None:
        return []
    assumed = payload["lending"]["assumed"].get("lr_joint", [])
    return [said for said in assumed if said not in payload["warnings"]]


def target_warnings(
    payload: Mapping[str, Any],
    target: Target,
    decades: Mapping[str, float],
    yours: Sequence[float],
    recommendation: Mapping[str, Any],
    recipe: Recipe,
) -> list[Found]:
    """What the place of the target, next to the runs, makes doubtful.

    Parameters
    ----------
    decades : how far each input lies beyond the runs, in powers of ten
    yours : shares of what is known that the runs brought, of learning rate and batch
    """
    said: list[Found] = [*settings_note(target, target.tokens), *_assumed(payload, yours)]
    ranges = payload["model"]["ranges"]
    far = [
        finding(
            "advice.beyond",
            input=name,
            factor=10 ** decades[name],
            side="below" if getattr(target, name) < low else "beyond",
            low=low,
            high=high,
        )
        for name, (low, high) in ((name, ranges[name]) for name in ("params", "tokens"))
        if decades[name] > FAR_DECADES
    ]
    if far:
        said.append(finding("advice.beyond_runs", parts=far))
    if max(decades["params"], decades["tokens"]) > VERY_FAR_DECADES:
        said.append(finding("advice.very_far"))
    constrained = target.batch_tokens or target.max_batch_tokens or target.batch_multiple
    if constrained is not None and decades["batch_tokens"] > FAR_DECADES:
        said.append(finding("advice.batch_outside", factor=10 ** decades["batch_tokens"]))
    for name, share in zip(_LENT, yours, strict=True):
        told = recommendation[name]["status"] in ("given", "undetermined")  # the latter in a warning of its own
        if share < 1 - BORROWED_SHARE and not told:
            rest = {"share": 1 - share, "lender": _lender(payload, name)}
            said.append(finding("advice.rests_on_others", quantity=name, **rest))
    steps = target.tokens / recommendation["batch_tokens"]["value"]
    if steps < FEW_STEPS:
        said.append(finding("advice.few_steps", steps=steps))
    if not recipe.params_convention:
        said.append(finding("advice.params_unsaid"))
    return said


def status_warning(fit: Fit) -> list[Finding]:
    """Why the fit is not certified, where it is not."""
    if fit.status is not FitStatus.UNCERTIFIED:
        return []
    return [finding("advice.not_certified", why=joined(doubts(fit.payload)))]


def status_of(edge: bool, yours: float, decades: Mapping[str, float], *, near: bool) -> str:
    """How far a number of the answer is known: at an edge, borrowed, beyond the runs, between them or among them."""
    if edge:
        return "at_edge"
    if yours < 1 - BORROWED_SHARE:
        return "borrowed"
    if max(decades.values()) > FAR_DECADES:
        return "extrapolated"
    return "ok" if near else "between"
