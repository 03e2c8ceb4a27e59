"""How far along each run its learning rate stays at the peak: what of a loss curve may stand for shorter runs.

Where the rate falls the loss falls with it, whatever the batch, so a target crossed there says when the cooldown began
and not what the batch costs: a drop of 0.12 nats in the last fifth made critical batches 14 to 38 times too large
(tests/benchmarks/falling_rates.py). Curves are therefore cut where the rate begins to fall, and those of which nothing
tells where that is are not read.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lawfit.errors import FitError
from lawfit.factors import spellings
from lawfit.findings import Finding, Found, finding
from lawfit.laws.rate_falls import Falls, cooldown_share, falls
from lawfit.records import Json, Run

Floats = NDArray[np.float64]
Curves = Mapping[str, tuple[Floats, Floats]]  # run_key -> steps, values

AT_PEAK: Final = 1e-3  # a rate lower than its peak by a larger share has begun to fall; logs round to three digits
LEAST_SHARE: Final = 0.25  # of a run at the peak rate: shorter parts are mostly warmup
TRUNK, TRUNK_STEPS = "trunk_run_id", "trunk_steps"  # columns of our trainer: whose first steps these are, and how many

_PREFIX: Final = r"(?:(?:lr|wsd|learning_rate|lr_scheduler|scheduler|schedule|num|n|linear)_)*"
_PART: Final = _PREFIX + r"(?:cool_?down|warm_?down|decay|anneal(?:ing)?)"
# Megatron's lr_decay_iters are those of the whole schedule; its lr_wsd_decay_iters are those of the cooldown.
_LENGTH: Final = r"(?!lr_decay|learning_rate_decay)" + _PART
# Columns that say where the rate begins to fall -> that place in steps, of (value, steps of the run, tokens per step).
_COLUMNS: Final[tuple[tuple[re.Pattern[str], Callable[[float, float, float], float]], ...]] = (
    (re.compile(_PART + r"_(?:fraction|frac|share)|(?:cool_?down|warm_?down)_ratio"), lambda x, n, _: n * (1 - x)),
    (re.compile(_PART + r"_(?:percent|pct)"), lambda x, n, _: n * (1 - x / 100)),
    (re.compile(_PREFIX + r"(?:cool_?down|warm_?down)"), lambda x, n, _: n * (1 - x) if x <= 1 else n - x),
    (re.compile(_LENGTH + r"_(?:steps|iters|iterations)"), lambda x, n, _: n - x),
    (re.compile(_LENGTH + r"_tokens"), lambda x, n, b: n - x / b),
    (re.compile(_PART + r"_(?:start|begin)(?:_(?:fraction|frac|share))?"), lambda x, n, _: n * x if x <= 1 else x),
    (re.compile(_PART + r"_(?:start|begin)_(?:step|steps|iter|iteration)"), lambda x, *_: x),
    (
        re.compile(_PREFIX + r"stable_(?:steps|iters|iterations)"),
        lambda x, *_: x,
    ),
)
_RATE: Final = re.compile(r"(?:\w+_)?(?:lr|learning_rate)(?:_(?:group_?)?0)?")
_NOT_NOW: Final = frozenset({"peak", "max", "min", "base", "initial", "init", "final", "target", "end"})


@dataclass(frozen=True, kw_only=True)
class SteadyParts:
    """Of each run, the step up to which its rate is known to stay at the peak; or why that is not known."""

    until: Mapping[str, float]  # run_key -> steps; infinite: to its end
    told_by: Mapping[str, Found]  # run_key -> what says so, of those that end early
    unknown: Mapping[str, Found]  # run_key -> why

    def cut(self, curves: Curves) -> dict[str, tuple[Floats, Floats]]:
        """The curves up to there; those of other runs are left out."""
        return {
            key: (steps[steps <= self.until[key]], values[steps <= self.until[key]])
            for key, (steps, values) in curves.items()
            if key in self.until
        }

    def notes(self, curves: Curves) -> list[Found]:
        """Which of these curves end early, and which are not read."""
        short: dict[Found, list[float]] = {}
        for key in curves:
            if key in self.told_by:
                short.setdefault(self.told_by[key], []).append(self.until[key])
        cut = [
            finding("observe.curves_cut", runs=len(ends), first_step=min(ends), last_step=max(ends), told_by=told)
            for told, ends in short.items()
        ]
        return [*cut, *self.refusals(curves)]

    def refusals(self, curves: Curves) -> list[Found]:
        """Which of these curves are not read, and why."""
        count = Counter(self.unknown[key] for key in curves if key in self.unknown)
        return [finding("observe.curves_unread", runs=number, why=why) for why, number in count.items()]


def steady_parts(
    runs: Sequence[Run], schedule: str, rates: Curves | None = None, held: Mapping[str, Json] | None = None
) -> SteadyParts:
    """How far each run's learning rate stays at its peak; its warmup belongs to that part.

    What a log says of the rate along the run comes first, then columns such as ``cooldown_fraction``, then the name of
    the schedule, then branches: a run whose first steps others share held its rate for as long as they do.

    Parameters
    ----------
    runs : of one recipe
    schedule : of the recipe
    rates : run_key -> (steps, learning rates), where they were logged
    held : columns that the recipe holds fixed
    """
    when = falls(schedule)
    branches = _branches(runs)
    until: dict[str, float] = {}
    told_by: dict[str, Found] = {}
    unknown: dict[str, Found] = {}
    for run in runs:
        key, length = run.run_key, _length(run)
        if when is Falls.THROUGHOUT:
            unknown[key] = falls_throughout(schedule)
            continue
        try:
            stated = _stated(run, {**(held or {}), **run.extra})
            end, told = _end(run, when, schedule, (rates or {}).get(key), stated, branches.get(key))
        except FitError as error:
            unknown[key] = error.finding
            continue
        if end < LEAST_SHARE * length:
            unknown[key] = finding("observe.rate_falls_early", share=LEAST_SHARE, told_by=told)
            continue
        until[key] = end
        if end < length:
            told_by[key] = told
    return SteadyParts(until=until, told_by=told_by, unknown=unknown)


def falls_throughout(schedule: str) -> Finding:
    """Why no curve of a schedule is read half-way."""
    return finding("observe.rate_falls_throughout", schedule=schedule)


def is_rate(metric: str) -> bool:
    """Whether a curve is that of the learning rate at each step."""
    return any(_RATE.fullmatch(form) and _NOT_NOW.isdisjoint(form.split("_")) for form in spellings(metric))


def _end(
    run: Run,
    when: Falls,
    schedule: str,
    rate: tuple[Floats, Floats] | None,
    stated: tuple[float, str] | None,
    branch: float | None,
) -> tuple[float, Found]:
    """(steps at the peak rate, what says so).

    Raises
    ------
    FitError
        Nothing says it.
    """
    if rate is not None and (logged := _end_of_logged(*rate, to_the_end=when is Falls.NEVER)) is not None:
        return logged, finding("observe.by_logged_rate")
    if when is Falls.UNSAID:
        raise FitError(finding("observe.schedule_unknown", schedule=schedule))
    if stated is not None:
        return stated[0], finding("observe.by_column", column=stated[1])
    if when is Falls.NEVER:
        return float("inf"), ""
    if (share := cooldown_share(schedule)) is not None:
        return _length(run) * (1 - share), finding("observe.by_schedule", schedule=schedule)
    if branch is not None:
        return branch, finding("observe.by_branches", column=TRUNK_STEPS)
    raise FitError(finding("observe.cooldown_unknown", schedule=schedule))


def _end_of_logged(steps: Floats, rate: Floats, *, to_the_end: bool) -> float | None:
    """The last logged step before the rate falls; None where no rate was logged."""
    fine = np.isfinite(rate) & (rate > 0)
    if not fine.any():
        return None
    steps, rate = steps[fine], rate[fine]
    at_peak = rate >= (1 - AT_PEAK) * rate.max()
    first = int(np.argmax(at_peak))
    fallen = np.flatnonzero(~at_peak[first:])
    if len(fallen):
        return float(steps[first + fallen[0] - 1])
    return float("inf") if to_the_end else float(steps[-1])


def _stated(run: Run, columns: Mapping[str, Json]) -> tuple[float, str] | None:
    """The earliest place where a column says that the rate begins to fall, in steps, and the column.

    Raises
    ------
    FitError
        A column says what cannot be.
    """
    found = []
    for name, cell in columns.items():
        forms = spellings(name)
        for pattern, place in _COLUMNS:
            if any(map(pattern.fullmatch, forms)):
                start = place(_number(name, cell), _length(run), run.batch_tokens)
                if start < 0:
                    raise FitError(finding("observe.beyond_the_run", column=name, value=cell))
                found.append((start, name))
                break
    return min(found, default=None)


def _number(name: str, cell: Json) -> float:
    try:
        value = float(str(cell))
    except ValueError:
        value = float("nan")
    if not (np.isfinite(value) and value >= 0):
        raise FitError(finding("observe.no_place", column=name, value=cell))
    return value


def _branches(runs: Sequence[Run]) -> dict[str, float]:
    """The most steps that a run shares with another: those of a branch, and of a trunk up to its last branch."""
    shared: dict[str, float] = {}
    for run in runs:
        trunk, steps = run.extra.get(TRUNK), run.extra.get(TRUNK_STEPS)
        if trunk and isinstance(steps, int | float):
            for key in (str(trunk), run.run_key):
                shared[key] = max(float(steps), shared.get(key, 0.0))
    return shared


def _length(run: Run) -> float:
    return float(run.steps) if run.steps else run.tokens / run.batch_tokens
