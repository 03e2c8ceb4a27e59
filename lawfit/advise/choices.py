"""Which of the analyst's choices moves the answer most: what each of them alone would have answered.

The answer averages over windows of loss, shapes of the valley and what is borrowed, weighted by how each predicted the
scales left out. Here the members of the ensemble are grouped by one choice at a time: the answer of a group is the
weighted mean of its members, all else averaged as in the answer. Choices that the backtest all but rejected do not
count.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lawfit.advise.draws import centres, known_of, law_row
from lawfit.estimate.valley import along_floor, steepened
from lawfit.units import format_lr, format_quantity

Floats = NDArray[np.float64]

CHOICES: Final = {
    "window": "which runs count",
    "shape": "the shape of the valley",
    "prior": "the laws tried",
    "form": "the form of the law at this batch",
    "spread": "how far sizes may lie off the law",
}
LEVELS: Final = {
    "cubic": "a cubic",
    "exponentials": "three exponentials",
    "published": "near published exponents",
    "own": "exponents of your runs",
    "tokens_only": "a batch law in tokens alone",
    "bent": "laws that may bend",
    "surface": "the joint surface",
    "saturating": "the saturating law",
    "surge": "the surge law",
}
REJECTED: Final = 0.02  # share of the weight below which a choice is as good as rejected
SAME: Final = 0.005  # of ln: answers that differ by less are one


def choices_at(
    model: Mapping[str, Any],
    params: float,
    tokens: float,
    *,
    imposed_log_batch: float | None = None,
    forms: Mapping[str, float] | None = None,
) -> dict[str, Any] | None:
    """What each choice alone would answer at a scale, the one that moves it most first; None for an older fit.

    Parameters
    ----------
    model : ``Fit.payload["model"]``
    imposed_log_batch : the learning rate is asked for at this batch, and no batch is
    forms : form of the law -> learning rate, where several forms answer at an imposed batch
    """
    members = model["members"]
    if not all("choice" in member for member in members):
        return None
    weights = np.array([member["weight"] for member in members])
    log_lr, log_batch = centres(model, params, tokens).T
    if imposed_log_batch is not None:
        q, _ = steepened(model["valley"], tokens)
        floor = np.array([member["floor"] for member in members])
        log_lr = log_lr + along_floor(imposed_log_batch - log_batch, floor, np.tile(q, (len(members), 1)), q)
    found: dict[str, Any] = {"lr": _moves(members, weights, log_lr)}
    # where the target's own size was run, its runs answer for how far it lies off the law
    new = known_of(model, params, tokens)[0] == ""
    spreads = _under_spread_priors(model, params, tokens) if new and imposed_log_batch is None else []
    if spreads:
        found["lr"] = _ranked([*found["lr"], spreads[0]])
    if forms and len(forms) > 1:
        each = [{"choice": name, "value": value, "weight": None} for name, value in forms.items()]
        found["lr"] = _ranked([*found["lr"], {"name": "form", "factor": _factor(each), "answers": each}])
    if imposed_log_batch is None:
        found["batch_tokens"] = _ranked([*_moves(members, weights, log_batch), *spreads[1:]])
    found["words"] = _words(found)
    return found


def _under_spread_priors(model: Mapping[str, Any], params: float, tokens: float) -> list[dict[str, Any]]:
    """(lr, batch) what the leading choice says where the prior on the spread of sizes is narrower or wider.

    Beside the answer, how wide its interval then is against the one under the prior that is used.
    """
    x = law_row(model, params, tokens)
    half = len(x)
    rows = []
    for axis, at in ((0, 0), (1, half)):
        each: list[dict[str, Any]] = []
        widths: dict[float, float] = {}
        for under in model["spread_priors"]:
            law, cov = np.array(under["law"])[at : at + half], np.array(under["cov"])[at : at + half, at : at + half]
            widths[under["prior_scale"]] = math.sqrt(x @ cov @ x + under["size_var"][axis] + under["scatter_var"][axis])
            value = float(f"{math.exp(float(law @ x)):.6g}")
            each.append({"choice": f"{under['prior_scale']:g}", "value": value, "weight": None})
        for answer in each:
            answer["relative_width"] = round(widths[float(answer["choice"])] / widths[1.0], 3)
        rows.append({"name": "spread", "factor": _factor(each), "answers": each})
    return rows


def _moves(members: Sequence[Mapping[str, Any]], weights: Floats, logs: Floats) -> list[dict[str, Any]]:
    """The choices of the ensemble with the answers of their levels, the one that moves most first."""
    rows = []
    for name in ("window", "shape", "prior"):
        levels = sorted({member["choice"][name] for member in members})
        each = []
        for level in levels:
            mine = np.array([member["choice"][name] == level for member in members])
            share = float(weights[mine].sum() / weights.sum())
            if share >= REJECTED:
                value = math.exp(float(weights[mine] @ logs[mine] / weights[mine].sum()))
                each.append({"choice": level, "value": float(f"{value:.6g}"), "weight": round(share, 4)})
        rows.append({"name": name, "factor": _factor(each), "answers": each})
    return _ranked(rows)


def _ranked(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: -float(row["factor"]))


def _factor(each: Sequence[Mapping[str, Any]]) -> float:
    """Largest answer over smallest."""
    values = [float(answer["value"]) for answer in each]
    return max(values) / min(values) if values else 1.0


def _words(found: Mapping[str, Any]) -> list[str]:
    """A line per number: ``learning rate: which runs count, 3.4e-4 (within 0.75 % ...) to 4.1e-4 (within 3 % ...)``."""
    said = []
    for target, words, write in (("lr", "learning rate", format_lr), ("batch_tokens", "batch", format_quantity)):
        rows = found.get(target) or []
        if not rows:
            continue
        top = rows[0]
        if top["factor"] < 1 + SAME:
            said.append(f"{words}: no choice of the analysis moves it by more than {SAME:.1%}")
            continue
        ordered = sorted(top["answers"], key=lambda answer: float(answer["value"]))
        ends = " to ".join(
            f"{write(a['value'])} ({_level(top['name'], a['choice'])})" for a in (ordered[0], ordered[-1])
        )
        said.append(f"{words}: {CHOICES[top['name']]}, {ends}")
    return said


def _level(name: str, level: Any) -> str:
    if name == "spread":
        return f"{level} times the usual prior"
    return f"within {100 * level:g} % of the lowest loss" if name == "window" else LEVELS.get(level, str(level))
