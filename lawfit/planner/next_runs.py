"""The next runs for a target and a budget, as a document."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from lawfit.ask import Target
from lawfit.documents.next_runs import ExpectedThere, NextGrid, NextRuns
from lawfit.errors import NotEnoughData
from lawfit.findings import Found, as_json, finding
from lawfit.planner.choose import LEAST_GAIN, Asked, Chosen, Outlook, State, choose, scales_in_reach, told_by_fit
from lawfit.planner.information import Valley
from lawfit.planner.knowledge import of_fit, of_nothing
from lawfit.planner.means import Means
from lawfit.records import Fit, content_hash
from lawfit.units import six_digits

SCHEMA: Final = "lawfit.next_runs/1"
SMALLEST_SHARE: Final = 1e-3  # of the target's size: the smallest of a first sweep, and not below `SMALLEST`
SMALLEST: Final = 1e6
STRETCH: Final = 16.0  # times the largest size of the runs: farther, nobody knows how the laws bend


def next_runs(
    fit: Fit | None, target: Target, means: Means, *, max_params: float | None = None, seq_len: int | None = None
) -> NextRuns:
    """Which runs would cut the expected regret at the target most for the budget.

    Parameters
    ----------
    fit : a usable fit of learning rate and batch; None: published laws alone, for a first sweep
    max_params : the largest size that can be trained
    seq_len : batches are whole sequences

    Raises
    ------
    NotEnoughData
        The budget buys no grid that helps, or the target is known as well as it can be: which.
    """
    if fit is None:
        state, valley = State(knowledge=of_nothing(target.params, target.tokens)), Valley(shape=None)
        smallest, largest = max(SMALLEST, SMALLEST_SHARE * target.params), max_params
    else:
        knowledge = of_fit(fit.payload["model"])
        state = State(knowledge=knowledge, told=told_by_fit(knowledge, fit.payload["model"]))
        valley = Valley.of_fit(fit.payload["model"])
        smallest = min(knowledge.sizes)
        largest = max_params or STRETCH * max(knowledge.sizes)
    asked = Asked(target=target, valley=valley, means=means)
    now = asked.outlook(state.knowledge)
    scales = scales_in_reach(asked, list(state.told), largest, min(smallest, largest or smallest))
    grids, _ = choose(asked, state, scales)
    if not grids:
        raise NotEnoughData(_why_none(asked, now, scales))
    document = {
        "schema": SCHEMA,
        "recipe": None if fit is None else fit.recipe_name,
        "fit_id": None if fit is None else fit.id,
        "target": {"params": target.params, "tokens": target.tokens, "level": target.level},
        "budget": _spent(means, grids),
        "now": _expected(now),
        "after": _expected(grids[-1].after),
        "grids": [_grid(each, seq_len) for each in grids],
        "warnings": list(_warnings(fit, asked, grids)),
    }
    found = as_json(document)
    found["id"] = content_hash(found)
    return found  # type: ignore[no-any-return]


def _why_none(asked: Asked, now: Outlook, scales: list[tuple[float, float]]) -> Found:
    if not scales:
        means = asked.means
        return finding("plan_next.too_little", amount=means.amount, unit=means.unit)
    return finding("plan_next.nothing_to_learn", regret=now.regret, floor=now.floor, least=LEAST_GAIN)


def _spent(means: Means, grids: list[Chosen]) -> dict[str, Any]:
    flops = sum(each.flops for each in grids)
    hours, dollars = means.gpu_hours(flops), means.dollars(flops)
    return {
        "amount": means.amount,
        "unit": means.unit,
        "spent": six_digits(sum(each.cost for each in grids)),
        "runs": sum(each.design.runs for each in grids),
        "flops": six_digits(flops),
        "gpu_hours": None if hours is None else six_digits(hours),
        "dollars": None if dollars is None else six_digits(dollars),
    }


def _expected(outlook: Outlook) -> ExpectedThere:
    return {
        "expected_regret": six_digits(outlook.regret),
        "floor": six_digits(outlook.floor),
        "lr_factor": six_digits(outlook.lr_factor),
        "batch_factor": six_digits(outlook.batch_factor),
    }


def _grid(chosen: Chosen, seq_len: int | None) -> NextGrid:
    (of_lr, of_batch), design = chosen.design.offsets(), chosen.design
    unit = seq_len or 1
    batches = sorted({max(1, round(float(b) / unit)) * float(unit) for b in np.exp(chosen.centre[1] + of_batch)})
    return {
        "params": chosen.scale[0],
        "tokens": chosen.scale[1],
        "lr": [float(f"{lr:.2g}") for lr in np.exp(chosen.centre[0] + of_lr)],
        "batch_tokens": batches if seq_len else [float(f"{batch:.2g}") for batch in batches],
        "seeds": list(range(design.seeds)),
        "runs": design.runs,
        "flops": six_digits(chosen.flops),
        "why": finding("plan_next.why", part=chosen.part, new_size=chosen.new_size),  # type: ignore[typeddict-item]
        "after": _expected(chosen.after),
    }


def _warnings(fit: Fit | None, asked: Asked, grids: list[Chosen]) -> list[Found]:
    found: list[Found] = []
    if fit is None:
        found.append(finding("plan_next.nothing_yet"))
    first = min(grids, key=lambda each: each.cost)
    if asked.means.amount < 2 * first.cost:
        found.append(finding("plan_next.one_grid"))
    return found


def rows_of(document: NextRuns) -> list[dict[str, float]]:
    """One row a run, in the order in which to make them: for a table, or for a launcher of one's own."""
    return [
        {"params": grid["params"], "tokens": grid["tokens"], "batch_tokens": batch, "lr": lr, "seed": seed}
        for grid in document["grids"]
        for batch in grid["batch_tokens"]
        for lr in grid["lr"]
        for seed in grid["seeds"]
    ]
