"""Which of the analyst's choices moves the answer most: what each of them alone would have answered.

The answer averages over windows of loss, shapes of the valley and what is borrowed, weighted by how each predicted the
scales left out. Here the members of the ensemble are grouped by one choice at a time: the answer of a group is the
weighted mean of its members, all else averaged as in the answer. Choices that the backtest all but rejected do not
count.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lawfit.advise.draws import centres, known_of, law_row
from lawfit.advise.members import CHOICES, Members, members_of
from lawfit.estimate.lr_batch.valley import along_floor, steepened
from lawfit.findings import Finding, finding
from lawfit.units import six_digits

Floats = NDArray[np.float64]

REJECTED: Final = 0.02  # share of the weight below which a choice is as good as rejected
SAME: Final = 0.005  # of ln: answers that differ by less are one
_STEP: Final = 0.05  # of ln batch, to tell how a floor is tilted


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
    if not all("choice" in member for member in model["members"]):
        return None
    members = members_of(model)
    log_lr, log_batch = centres(model, params, tokens).T
    if imposed_log_batch is not None:
        q, _ = steepened(model["valley"], tokens)
        floor = members.floor
        log_lr = log_lr + along_floor(imposed_log_batch - log_batch, floor, np.tile(q, (len(floor), 1)), q)
    found: dict[str, Any] = {"lr": _moves(members, log_lr)}
    spreads = _under_spread_priors(model, params, tokens, imposed_log_batch)
    found["lr"] = _ranked([*found["lr"], *spreads[:1]])
    if forms and len(forms) > 1:
        each = [{"choice": name, "value": value, "weight": None} for name, value in forms.items()]
        found["lr"] = _ranked([*found["lr"], {"name": "form", "factor": _factor(each), "answers": each}])
    if imposed_log_batch is None:
        found["batch_tokens"] = _ranked([*_moves(members, log_batch), *spreads[1:]])
    found["words"] = _words(found)
    return found


def _under_spread_priors(
    model: Mapping[str, Any], params: float, tokens: float, imposed_log_batch: float | None
) -> list[dict[str, Any]]:
    """(lr, batch) what the leading choice says where the prior on the spread of sizes is narrower or wider.

    Beside the answer, how wide its interval then is against the one under the prior that is used. Where a batch is
    imposed, of the learning rate at it alone; empty where the target's size has runs, which show its own deviation.
    """
    if not model["spread_priors"] or known_of(model, params, tokens)[0]:
        return []
    both = np.kron(np.eye(2), law_row(model, params, tokens))  # a row for ln lr, one for ln batch
    members = members_of(model)
    values: dict[str, NDArray[np.float64]] = {}
    sds: dict[str, NDArray[np.float64]] = {}
    for under in members.spread_priors:
        centre, rows = both @ under.law, np.eye(2)
        if imposed_log_batch is not None:
            along = _floor_of_leading(members, tokens)
            r = imposed_log_batch - centre[1]
            centre[0] += along(r)
            rows[0, 1] = -(along(r + _STEP) - along(r - _STEP)) / (2 * _STEP)
        cov = both @ under.cov @ both.T + under.own
        values[under.name], sds[under.name] = np.exp(centre), np.sqrt(np.diag(rows @ cov @ rows.T))
    found = []
    for axis in (0, 1) if imposed_log_batch is None else (0,):
        each = [
            {
                "choice": name,
                "value": six_digits(value[axis]),
                "weight": None,
                "relative_width": round(float(sds[name][axis] / sds["1"][axis]), 3),
            }
            for name, value in values.items()
        ]
        found.append({"name": "spread", "factor": _factor(each), "answers": each})
    return found


def _floor_of_leading(members: Members, tokens: float) -> Callable[[float], float]:
    """By how much ln lr moves along the floor of the leading choice, at ln of a batch over the best one."""
    q, _ = steepened(members.stored["valley"], tokens)
    floor = members.floor[[int(np.argmax(members.stored_weights))]]
    return lambda r: float(along_floor(np.array([r]), floor, q[None], q)[0])


def _moves(members: Members, logs: Floats) -> list[dict[str, Any]]:
    """The choices of the ensemble with the answers of their levels, the one that moves most first."""
    weights, rows = members.stored_weights, []
    for name in CHOICES:
        each = []
        for level, mine in members.groups[name]:
            share = float(weights[mine].sum() / weights.sum())
            if share >= REJECTED:
                value = math.exp(float(weights[mine] @ logs[mine] / weights[mine].sum()))
                each.append({"choice": level, "value": six_digits(value), "weight": round(share, 4)})
        rows.append({"name": name, "factor": _factor(each), "answers": each})
    return _ranked(rows)


def _ranked(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: -float(row["factor"]))


def _factor(each: Sequence[Mapping[str, Any]]) -> float:
    """Largest answer over smallest."""
    values = [float(answer["value"]) for answer in each]
    return max(values) / min(values) if values else 1.0


def _words(found: Mapping[str, Any]) -> list[Finding]:
    """What moves each number most: from 3.4e-4 with the runs within 0.75 % to 4.1e-4 with those within 3 %, say."""
    said = []
    for quantity in ("lr", "batch_tokens"):
        rows = found.get(quantity) or []
        if not rows:
            continue
        top = rows[0]
        if top["factor"] < 1 + SAME:
            said.append(finding("advice.nothing_moves", quantity=quantity, share=SAME))
        elif top["name"] == "spread":  # whose answers are shown beside the sizes
            said.append(finding("advice.spread_moves", quantity=quantity))
        else:
            ordered = sorted(top["answers"], key=lambda answer: float(answer["value"]))
            ends = [{"choice": a["choice"], "value": a["value"]} for a in (ordered[0], ordered[-1])]
            said.append(finding("advice.choice_moves", quantity=quantity, choice=top["name"], answers=ends))
    return said
