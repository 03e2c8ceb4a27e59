"""Runs that are the same up to a step are trained once up to it: a trunk, and the branches that leave it.

A WSD run at a shorter horizon is the longer one up to its cooldown, and a constant rate is any of them up to its end
(arXiv 2405.18392). So a pack that lists the horizons of a WSD run costs one of them and the cooldowns of the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from lawfit.proxy.pack import Pack, RunSettings
from lawfit.records import content_hash

SHARING = ("constant", "wsd")  # the other schedules fall from their first step on, at a pace that knows the last


@dataclass(frozen=True, kw_only=True)
class Branch:
    """A run that leaves another one; both by their index in the pack."""

    run: int
    trunk: int
    at: int  # steps that both share


@dataclass(frozen=True, kw_only=True)
class Detour:
    """Branches that leave their trunks after the same step, at most one of each trunk: they are trained together."""

    at: int
    until: int
    branches: tuple[Branch, ...]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How the runs of a pack are trained: some as rows of the stack, the others on detours of these rows."""

    rows: tuple[int, ...]  # index in the pack
    detours: tuple[Detour, ...]  # in the order in which they leave

    @property
    def hash(self) -> str:
        """Tells whether a checkpoint was made on this plan."""
        return content_hash(asdict(self))

    @property
    def branches(self) -> tuple[Branch, ...]:
        return tuple(branch for detour in self.detours for branch in detour.branches)


def plan(pack: Pack) -> Plan:
    """Share what can be shared, if that is less work.

    On a detour every row of the stack is computed, so that a single branch beside many rows without one costs more
    than a row of its own.
    """
    runs = pack.runs
    branches = list(_branches(runs))
    leaving = {branch.run for branch in branches}
    rows = tuple(i for i in range(len(runs)) if i not in leaving)
    shared = Plan(rows=rows, detours=tuple(_detours(branches, runs)))
    longest = max(runs[i].steps for i in rows)
    work = len(rows) * (longest + sum(detour.until - detour.at for detour in shared.detours))
    if not branches or work >= sum(run.steps for run in runs):
        return Plan(rows=tuple(range(len(runs))), detours=())
    return shared


def trained_tokens(pack: Pack) -> int:
    """Tokens that training a pack takes, with those that runs share counted once."""
    whole = plan(pack)
    steps = sum(pack.runs[row].steps for row in whole.rows)
    steps += sum(pack.runs[branch.run].steps - branch.at for branch in whole.branches)
    return steps * pack.batch_tokens


def cut(pack: Pack, count: int) -> tuple[Pack, ...]:
    """The pack in `count` packs of about as many rows, at most one per row; branches stay with their trunks."""
    whole = plan(pack)
    rows = len(whole.rows)
    count = min(count, rows)
    trunk = {branch.run: branch.trunk for branch in whole.branches}
    part_of = {
        row: part for part in range(count) for row in whole.rows[rows * part // count : rows * (part + 1) // count]
    }
    parts: list[list[RunSettings]] = [[] for _ in range(count)]
    for i, run in enumerate(pack.runs):
        parts[part_of[trunk.get(i, i)]].append(run)
    return tuple(replace(pack, runs=tuple(part)) for part in parts)


def halves(pack: Pack) -> tuple[Pack, ...] | None:
    """The pack in two; None for a single row."""
    parts = cut(pack, 2)
    return parts if len(parts) == 2 else None


def _branches(runs: Sequence[RunSettings]) -> Iterator[Branch]:
    """Each run that shares steps with the longest of its kind."""
    families: dict[RunSettings, list[int]] = {}
    for i, run in enumerate(runs):
        if run.schedule in SHARING:
            kind = replace(
                run, schedule="constant", steps=run.warmup_steps + 1,
                final_fraction=0.0, final_lr=None, cooldown_fraction=1.0,
            )  # fmt: skip
            families.setdefault(kind, []).append(i)
    for family in families.values():
        trunk = max(family, key=lambda i: runs[i].steps)
        rates = runs[trunk].rates()
        for i in family:
            own = runs[i].rates()
            differ = np.flatnonzero(own != rates[: len(own)])
            at = int(differ[0]) if len(differ) else len(own)
            if i != trunk and at:
                yield Branch(run=i, trunk=trunk, at=at)


def _detours(branches: Sequence[Branch], runs: Sequence[RunSettings]) -> Iterator[Detour]:
    """Branches by the step at which they leave; a second one of the same trunk waits for the next detour."""
    waiting = sorted(branches, key=lambda branch: (branch.at, runs[branch.run].steps))
    while waiting:
        at = waiting[0].at
        together: dict[int, Branch] = {}
        for branch in waiting:
            if branch.at == at:
                together.setdefault(branch.trunk, branch)
        chosen = tuple(together.values())
        yield Detour(at=at, until=max(runs[branch.run].steps for branch in chosen), branches=chosen)
        waiting = [branch for branch in waiting if branch not in chosen]
