"""Runs that are planned or under way, by scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lawfit.planner.choose import Scale, State
from lawfit.planner.information import Valley, information_of, seen_through
from lawfit.planner.knowledge import SAME
from lawfit.records import Run

Floats = NDArray[np.float64]

SETTING: Final = ("params", "tokens", "lr", "batch_tokens")


@dataclass(frozen=True, kw_only=True)
class Planned:
    """All runs that are planned at one scale."""

    scale: Scale
    log_lr: Floats  # (runs,)
    log_batch: Floats


def planned_of(rows: Sequence[Mapping[str, float]]) -> list[Planned]:
    """Runs (params, tokens, lr, batch_tokens), those at one scale together."""
    settings: dict[Scale, list[tuple[float, float]]] = {}
    for row in rows:
        settings.setdefault((row["params"], row["tokens"]), []).append((row["lr"], row["batch_tokens"]))
    return [
        Planned(scale=scale, log_lr=np.log([lr for lr, _ in here]), log_batch=np.log([batch for _, batch in here]))
        for scale, here in settings.items()
    ]


def rows_of(grids: Sequence[Mapping[str, Any]]) -> list[dict[str, float]]:
    """One row a run of the grids of a plan, in the order in which to make them."""
    return [
        {"params": grid["params"], "tokens": grid["tokens"], "batch_tokens": batch, "lr": lr, "seed": seed}
        for grid in grids
        for batch in grid["batch_tokens"]
        for lr in grid["lr"]
        for seed in grid["seeds"]
    ]


def row_of(run: Run) -> dict[str, Any]:
    """A run that was made, as one that is planned."""
    return {name: getattr(run, name) for name in (*SETTING, "seed")}


def not_there(rows: Sequence[Mapping[str, Any]], others: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Runs that are not among others: another setting, or another seed. One without a seed may be any."""
    there = np.log([[other[name] for name in SETTING] for other in others]).reshape(-1, len(SETTING))
    seeds = [other["seed"] for other in others]
    found = []
    for row in rows:
        near = np.flatnonzero(np.abs(there - np.log([row[name] for name in SETTING])).max(axis=1, initial=0.0) < SAME)
        if not any(seeds[k] in (None, row["seed"]) for k in near):
            found.append(dict(row))
    return found


def with_runs(state: State, valley: Valley, planned: Sequence[Planned]) -> State:
    """What would be known after runs, as far as it can be told before they are made."""
    state = replace(state, knowledge=state.knowledge.with_sizes(sorted({each.scale[0] for each in planned})))
    for each in planned:
        known, scale = state.knowledge, each.scale
        row, own, told = known.row(*scale), known.own_var(scale[0]), state.told_at(scale)
        spread = np.asarray(np.linalg.inv(np.linalg.inv(row @ known.cov @ row.T + own) + told), dtype=float)
        log_lr, log_batch = known.optimum(*scale)
        (brought,) = information_of(
            valley.at(scale[1])[None],
            each.log_lr - log_lr,
            each.log_batch - log_batch,
            spread[None],
            noise=valley.noise,
            misfit=valley.misfit,
        )
        more = seen_through(told + brought, own) - seen_through(told, own)
        state = replace(
            state,
            knowledge=known.told(row, more),
            told={**state.told, scale: state.told.get(scale, np.zeros((2, 2))) + brought},
        )
    return state
