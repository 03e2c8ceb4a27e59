"""Sentences of the advisor's page: how far to trust an answer, said once, and what a row of it stands for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from lawfit.documents import Answer, setting_of
from lawfit.units import format_scale
from lawfit.words import listed
from lawfit.words.answers import INPUT_WORDS, STATUS_WORDS

NEAR: Final = 1.5  # a scale within this factor of the target, in parameters and in tokens, is as good as there
BEYOND: Final = "extrapolated"
BEYOND_ITS_RUNS: Final = "beyond the runs that measured it"
LEAST_BEYOND: Final = 0.005  # powers of ten
VERBS: Final[Mapping[str, str]] = {"lr": "use", "batch_tokens": "use", "weight_decay": "use"}
SAID_ONCE: Final = frozenset({"advice.beyond_runs"})  # warnings that `trust_words` says

MEANING: Final[Mapping[str, str]] = {
    "lr": "the peak of the schedule",
    "batch_tokens": "tokens per step",
    "weight_decay": "as torch.optim.AdamW takes it, for this learning rate and batch",
    "critical_batch": "tokens per step; larger batches mostly waste tokens",
    "expected_loss": "nats per token, with the best settings",
}


def trust_words(document: Answer, cells: Sequence[Mapping[str, Any]]) -> str:
    """One sentence on where the target lies and what that means.

    Parameters
    ----------
    cells : scales of the fit (``payload["cells"]``), of which the nearest is named where the target lies among them
    """
    parts = {name: setting_of(document["recommendation"], name) for name in ("lr", "batch_tokens")}
    status = {name: part["status"] for name, part in parts.items() if part["status"] != "given"}
    if BEYOND in status.values():
        far = {k: v for part in parts.values() for k, v in part["extrapolation_decades"].items() if v >= LEAST_BEYOND}
        away = listed([f"{_times(10**decades)} in {INPUT_WORDS.get(name, name)}" for name, decades in far.items()])
        return f"Beyond your runs, {away}: read the intervals, not the digits"
    if set(status.values()) <= {"ok", "between"}:
        return _nearest(document["target"]["params"], document["target"]["tokens"], cells)
    said = {name: STATUS_WORDS.get(each, each) for name, each in status.items()}
    if len(set(said.values())) == 1:
        return next(iter(said.values()))
    return f"Learning rate {said['lr']}; batch {said['batch_tokens']}"


def _times(factor: float) -> str:
    return f"{factor:,.0f}x" if factor >= 10 else f"{factor:.2g}x"


def _nearest(params: float, tokens: float, cells: Sequence[Mapping[str, Any]]) -> str:
    """Inside means that runs lie near, not inside a box around all of them."""
    if not cells:
        return STATUS_WORDS["ok"]

    def factors(cell: Mapping[str, Any]) -> dict[str, float]:
        return {
            "params": math.exp(abs(math.log(cell["params"] / params))),
            "tokens": math.exp(abs(math.log(cell["tokens"] / tokens))),
        }

    nearest = min(cells, key=lambda cell: max(factors(cell).values()))
    away = {name: factor for name, factor in factors(nearest).items() if factor > NEAR}
    scale = format_scale(nearest["params"], nearest["tokens"])
    if not away:
        return f"Among your runs: the nearest were made at {scale}"
    words = listed([f"{_times(factor)} in {INPUT_WORDS[name]}" for name, factor in away.items()])
    return f"Between your runs: the nearest were made at {scale}, {words} from here"


def leads_with_interval(part: Mapping[str, Any]) -> bool:
    """Whether the interval of a number is the answer, as the target lies beyond its runs."""
    beyond = any(part["extrapolation_decades"].get(name, 0.0) >= LEAST_BEYOND for name in ("params", "tokens"))
    return part.get("low") is not None and part["status"] != "given" and (beyond or part["status"] == BEYOND)


def outside_zone_words(value: float, zone: Sequence[float] | None) -> str:
    """Why a recommendation may lie outside the settings that cost little; empty where it does not."""
    if zone is None or zone[0] <= value <= zone[1]:
        return ""
    return (
        "the value lies outside it on purpose: the range holds if the fitted optimum is right, the value also counts "
        "how far it may be off"
    )
