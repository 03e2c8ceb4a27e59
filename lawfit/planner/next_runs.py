"""The next runs for a target and a budget, as a document."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from lawfit.ask import Target
from lawfit.documents.next_runs import ExpectedThere, NextDecay, NextGrid, NextPace, NextRuns
from lawfit.errors import NotEnoughData
from lawfit.findings import Found, as_json, finding
from lawfit.planner.choose import (
    LEAST_GAIN,
    LEAST_GAINS,
    MOST_SHARE,
    Asked,
    Chosen,
    Outlook,
    State,
    choose,
    found_by_fit,
    most_of_one,
    scales_in_reach,
    told_by_fit,
)
from lawfit.planner.decay import LEVEL_SD, Decay, DecaySweep, decay_beside
from lawfit.planner.information import Valley
from lawfit.planner.knowledge import SAME, of_fit, of_nothing
from lawfit.planner.means import Means
from lawfit.planner.pace import Pace
from lawfit.planner.planned import not_there, planned_of, row_of, rows_of, with_runs
from lawfit.records import Fit, Run
from lawfit.units import six_digits

SCHEMA: Final = "lawfit.next_runs/1"
SMALLEST_SHARE: Final = 1e-3  # of the target's size: the smallest of a first sweep, and not below `SMALLEST`
SMALLEST: Final = 1e6
USUAL_TOKENS: Final = 20.0  # per parameter
FIRST_SPAN: Final = 16.0  # at least, between the sizes of a first sweep
WORTH: Final = 0.001  # of the loss: what costs less is cheap everywhere here; among the runs nothing is worth it then
# Among the runs, up to here a plan says that it is hardly worth it: one run moves what is expected by a few percent.
HARDLY: Final = 2 * WORTH
LITTLE: Final = 3 * LEAST_GAIN  # of what could be gained at all: a plan that brings less says so
NEAR_BEST: Final = 0.5  # ln: a run that far from the best learning rate and batch of its scale carries a sweep of decay
STRETCH: Final = 16.0  # times the largest size of the runs: farther, nobody knows how the laws bend


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Which runs can be made."""

    max_params: float | None = None  # the largest size that can be trained
    max_tokens: float | None = None  # the longest horizon, as of the text there is
    seq_len: int | None = None  # batches are whole sequences
    as_made: Callable[[float], float] | None = None  # size -> parameters of the nearest model; None: of any size


NO_LIMITS: Final = Limits()


def next_runs(
    fit: Fit | None,
    target: Target,
    means: Means,
    *,
    limits: Limits = NO_LIMITS,
    under_way: Sequence[Mapping[str, float]] = (),
    there: Sequence[Run] = (),
    held_decay: HeldDecay | None = None,
) -> NextRuns:
    """Which runs would cut the expected regret at the target most for the budget.

    Parameters
    ----------
    fit : a usable fit of learning rate and batch; None: published laws alone, for a first sweep
    under_way : runs that will come in (params, tokens, lr, batch_tokens, seed) and count as made
    there : runs that were made, which are not named again, and count as made where no fit has heard them
    held_decay : the weight decay that all of them have, where a sweep of it may be planned

    Raises
    ------
    NotEnoughData
        The budget buys no grid that helps, or the target is known as well as it can be: which.
    """
    state, valley = what_is_known(fit, target, limits.max_params, limits.max_tokens)
    smallest, most = _sizes_in_reach(fit, target, state, limits.max_params)
    made = [] if fit is not None else [row_of(run) for run in there]  # a fit has heard what its runs say
    state = with_runs(state, valley, planned_of([*under_way, *made]))
    asked = Asked(target=target, valley=valley, means=means, least_batch=limits.seq_len or 0.0)
    now = asked.outlook(state)
    among = _among(target, list(state.told))
    if now.regret < WORTH and among:
        raise NotEnoughData(finding("plan_next.inside", regret=now.regret, worth=WORTH))
    reach = _Reach(
        state=state,
        smallest=min(smallest, most or smallest),
        largest=most,
        longest=min(limits.max_tokens or target.tokens, target.tokens),
    )
    scales = _makeable(asked, reach, limits.as_made)
    grids = choose(asked, state, scales)
    if not grids:
        raise NotEnoughData(_no_grid(asked, state, scales, now))
    shown = now
    if fit is None and not (made or under_way):  # what the laws say there themselves, which a fit of small runs forgets
        at_target = State(knowledge=of_nothing(target.params, target.tokens))
        shown = asked.outlook(at_target)
    decay = None if fit is None or held_decay is None else _decay(asked, state, scales, grids, held_decay, there)
    sweeps: Sequence[DecaySweep] = ()
    if decay is not None and decay.pays:
        grids, sweeps = list(decay.grids), decay.sweeps
    document = {
        "schema": SCHEMA,
        "id": "",  # of all of it, once it is complete
        "kept": False,
        "recipe": None if fit is None else fit.recipe_name,
        "fit_id": None if fit is None else fit.id,
        "asked": {},
        "target": _target(target, state),
        "budget": _spent(means, grids, sweeps),
        "now": _expected(shown),
        "after": _expected(grids[-1].after),
        "known": [] if fit is None else [_known(cell) for cell in fit.payload["cells"]],
        "under_way": [dict(row) for row in under_way],
        "grids": _named(
            grids, limits.seq_len, [*under_way, *({**row_of(run), "seed": run.seed or 0} for run in there)]
        ),
        **({} if decay is None or held_decay is None else {"weight_decay": _told_of_decay(decay, held_decay)}),
        "grid_file": None,
        "missing": {},
        "warnings": list(_warnings(fit, asked, now, shown, grids, among=among)),
    }
    return as_json(document)  # type: ignore[no-any-return]


def _sizes_in_reach(
    fit: Fit | None, target: Target, state: State, max_params: float | None
) -> tuple[float, float | None]:
    """The smallest and the largest size of a run; None where the target alone bounds it."""
    if fit is None:
        return _smallest_of_first(target, max_params), max_params
    return min(state.knowledge.sizes), max_params or STRETCH * max(state.knowledge.sizes)


def _no_grid(asked: Asked, state: State, scales: list[tuple[float, float]], now: Outlook) -> Found:
    """Why no grid helps."""
    if choose(replace(asked, least_batch=0.0), state, scales):
        return finding("plan_next.long_sequences", seq_len=asked.least_batch)
    gain, least = most_of_one(asked, state, scales), min(LEAST_GAINS) * (now.regret - now.floor)
    return finding("plan_next.nothing_to_learn", regret=now.regret, floor=now.floor, gain=gain, least=least)


def expected_at(fit: Fit, target: Target) -> ExpectedThere:
    """What is expected of the setting advised at the target, as a plan from this fit begins with."""
    state, valley = what_is_known(fit, target)
    free = Means(amount=np.inf, unit="runs")
    return _expected(Asked(target=target, valley=valley, means=free).outlook(state))


def what_is_known(
    fit: Fit | None, target: Target, max_params: float | None = None, max_tokens: float | None = None
) -> tuple[State, Valley]:
    """Of the laws and the runs at each scale, and of the valley; without a fit, by published laws.

    Without a fit that is what the fit of a first sweep will begin with: the level that these laws lend where its runs
    lie, and from there to the target their exponents. What they say at the target itself no fit will hear.
    """
    if fit is None:
        return State(knowledge=of_nothing(*middle_of_first(target, max_params, max_tokens))), Valley(shape=None)
    model = fit.payload["model"]
    knowledge = of_fit(model)
    state = State(knowledge=knowledge, told=told_by_fit(knowledge, model), found=found_by_fit(model))
    return state, Valley.of_fit(model)


def _smallest_of_first(target: Target, max_params: float | None) -> float:
    smallest = max(SMALLEST, SMALLEST_SHARE * target.params)
    return min(smallest, (max_params or target.params) / FIRST_SPAN)


def middle_of_first(target: Target, max_params: float | None, max_tokens: float | None) -> tuple[float, float]:
    """About where the runs of a first sweep lie: between its smallest size and the largest of usual length in reach."""
    largest = min(max_params or math.inf, target.params * math.sqrt(MOST_SHARE))
    params = math.sqrt(_smallest_of_first(target, max_params) * max(largest, 1.0))
    return params, min(USUAL_TOKENS * params, max_tokens or math.inf, target.tokens)


def _among(target: Target, scales: list[tuple[float, float]]) -> bool:
    """Whether a target lies between the runs in size and in horizon, or beyond them by a hair: horizons of runs are cut
    to whole steps."""
    if not scales:
        return False
    logs, at = np.log(scales), np.log([target.params, target.tokens])
    return bool(np.all((logs.min(axis=0) - SAME <= at) & (at <= logs.max(axis=0) + SAME)))


@dataclass(frozen=True, kw_only=True)
class _Reach:
    """What can be trained."""

    state: State
    smallest: float  # params
    largest: float | None
    longest: float  # tokens

    def scales(self, asked: Asked) -> list[tuple[float, float]]:
        return scales_in_reach(asked, self.state, self.largest, self.smallest, self.longest)


def _makeable(asked: Asked, reach: _Reach, as_made: Callable[[float], float] | None) -> list[tuple[float, float]]:
    """Scales within reach, their sizes those of models that can be made."""
    scales = reach.scales(asked)
    if not scales:
        raise NotEnoughData(_out_of_reach(asked, reach))
    if as_made is None:
        return scales
    scales = sorted({(as_made(size), tokens) for size, tokens in scales})
    made = [scale for scale in scales if scale[0] <= (reach.largest or asked.target.params)]
    if not made:
        raise NotEnoughData(
            finding("plan_next.no_such_size", most=reach.largest or asked.target.params, least=scales[0][0])
        )
    return made


def _known(cell: Mapping[str, Any]) -> dict[str, Any]:
    return {name: cell[name] for name in ("params", "tokens", "runs")}


def _out_of_reach(asked: Asked, reach: _Reach) -> Found:
    """Why no run can be made: the budget, or limits that leave none whatever it is."""
    endless = replace(asked, means=replace(asked.means, amount=np.inf))
    if reach.scales(endless):
        return finding("plan_next.too_little", amount=asked.means.amount, unit=asked.means.unit)
    largest = min(reach.largest or np.inf, asked.target.params)
    return finding(
        "plan_next.no_scales", smallest=reach.smallest, largest=largest, longest=reach.longest, share=MOST_SHARE
    )


def _target(target: Target, state: State) -> dict[str, float]:
    lr, batch = (six_digits(value) for value in np.exp(state.optimum((target.params, target.tokens))).tolist())
    return {
        "params": target.params, "tokens": target.tokens, "level": target.level, "lr": lr, "batch_tokens": batch
    }  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class HeldDecay:
    """The weight decay that the runs of a fit have."""

    value: float  # coupled to the learning rate
    without_laws: Sequence[str] = ()  # published laws that lend the recipe nothing


def _decay(
    asked: Asked,
    state: State,
    scales: Sequence[tuple[float, float]],
    grids: list[Chosen],
    held: HeldDecay,
    there: Sequence[Run],
) -> Decay | None:
    """A sweep of weight decay beside the grids, at each scale from the run nearest to its best setting."""
    settings = []
    done = [run for run in there if run.loss is not None and run.weight_decay == held.value]
    places = np.log([[run.params, run.tokens, run.lr, run.batch_tokens] for run in done]).reshape(-1, 4)
    for scale, best in state.found.items():
        off = np.abs(places - [*np.log(scale), *best])
        here = np.flatnonzero((off[:, :2] < SAME).all(axis=1))
        if len(here) and off[nearest := here[np.argmin(off[here, 2:].max(axis=1))], 2:].max() < NEAR_BEST:
            run = done[int(nearest)]
            settings.append(((run.params, run.tokens), run.lr, run.batch_tokens))
    return decay_beside(asked, state, scales, grids, held.value, settings, without_laws=held.without_laws)


def _told_of_decay(decay: Decay, held: HeldDecay) -> NextDecay:
    numbers: dict[str, Any] = {
        "held": held.value,
        "expected_regret": six_digits(decay.there.held),
        "published": six_digits(decay.there.published_decay),
        "published_regret": six_digits(decay.there.published),
        "gain": six_digits(decay.gain) if decay.sweeps else None,
        "lost": six_digits(decay.lost),
        "least": six_digits(decay.least),
    }
    rows = [
        {
            "params": sweep.scale[0],
            "tokens": sweep.scale[1],
            "lr": [sweep.lr],
            "batch_tokens": [sweep.batch_tokens],
            "weight_decay": list(sweep.weight_decays),
            "seeds": list(range(sweep.seeds)),
            "runs": sweep.runs,
            "shape": None,
            "flops": six_digits(sweep.packs.flops),
            "cost": six_digits(sweep.cost),
        }
        for sweep in decay.sweeps
    ]
    words = finding("plan_next.weight_decay", **numbers, sweeps=rows, planned=decay.pays, level=math.exp(LEVEL_SD))
    return {**numbers, "sweeps": rows if decay.pays else [], "words": words}  # type: ignore[typeddict-item]


def _spent(means: Means, grids: list[Chosen], sweeps: Sequence[DecaySweep]) -> dict[str, Any]:
    packs = [*(each.packs for each in grids), *(each.packs for each in sweeps)]
    hours = [hours for each in packs if (hours := means.gpu_hours(each)) is not None]
    gpu_hours = sum(hours) if hours else None
    price = means.dollars_per_gpu_hour
    return {
        "amount": means.amount,
        "unit": means.unit,
        "spent": six_digits(sum(each.cost for each in grids) + sum(each.cost for each in sweeps)),
        "runs": sum(each.all_runs for each in packs),
        "flops": six_digits(sum(each.flops for each in packs)),
        "gpu_hours": None if gpu_hours is None else six_digits(gpu_hours),
        "dollars": None if gpu_hours is None or price is None else six_digits(gpu_hours * price),
        "pace": None if means.pace is None else pace_document(means.pace),
    }


def pace_document(pace: Pace) -> NextPace:
    """As plans show it."""
    return {
        "flops_per_second": six_digits(pace.flops_per_second),
        "start_seconds": six_digits(pace.start_seconds),
        "step_seconds": six_digits(pace.step_seconds),
        "token_seconds": six_digits(pace.token_seconds),
        "packs": pace.packs,
        "at_a_time": six_digits(pace.at_a_time),
        "alone": pace.alone,
    }


def _expected(outlook: Outlook) -> ExpectedThere:
    return {
        "expected_regret": six_digits(outlook.regret),
        "floor": six_digits(outlook.floor),
        "lr_factor": six_digits(outlook.lr_factor),
        "batch_factor": six_digits(outlook.batch_factor),
    }


def _named(grids: list[Chosen], seq_len: int | None, taken: list[Mapping[str, Any]]) -> list[NextGrid]:
    """Grids with seeds that make none of their runs one that is taken: the same settings and seed are the same run."""
    found = []
    for each in grids:
        seed = 0
        while len(not_there(rows := rows_of([grid := _grid(each, seq_len, seed)]), taken)) < len(rows):
            seed += 1
        found.append(grid)
        taken = [*taken, *rows]
    return found


def _grid(chosen: Chosen, seq_len: int | None, seed: int) -> NextGrid:
    (of_lr, of_batch), design = chosen.design.offsets(), chosen.design
    batches = _whole(np.exp(chosen.centre[1] + of_batch).tolist(), seq_len or 1)
    return {
        "params": chosen.scale[0],
        "tokens": chosen.scale[1],
        "lr": [float(f"{lr:.2g}") for lr in np.exp(chosen.centre[0] + of_lr)],
        "batch_tokens": batches if seq_len else [float(f"{batch:.2g}") for batch in batches],
        "seeds": list(range(seed, seed + design.seeds)),
        "runs": design.runs,
        "shape": None,
        "flops": six_digits(chosen.packs.flops),
        "why": finding("plan_next.why", part=chosen.part, new_size=chosen.new_size),  # type: ignore[typeddict-item]
        "after": _expected(chosen.after),
    }


def _whole(batches: list[float], unit: int) -> list[float]:
    """Batches as whole numbers of sequences; small ones that would be the same are moved apart."""
    found: list[float] = []
    for batch in sorted(batches):
        found.append(max(round(batch / unit), 1 + (round(found[-1] / unit) if found else 0)) * float(unit))
    return found


def _warnings(
    fit: Fit | None, asked: Asked, now: Outlook, shown: Outlook, grids: list[Chosen], *, among: bool
) -> list[Found]:
    found: list[Found] = []
    if fit is None:
        found.append(finding("plan_next.nothing_yet"))
        if grids[-1].after.regret > shown.regret:
            found.append(finding("plan_next.laws_know_more", now=shown.regret, after=grids[-1].after.regret))
    if among and now.regret < HARDLY:
        found.append(finding("plan_next.hardly", regret=now.regret, worth=HARDLY))
    gain, most = now.regret - grids[-1].after.regret, now.regret - now.floor
    if most > 0 and gain < LITTLE * most:
        found.append(finding("plan_next.little", regret=now.regret, gain=gain, share=gain / most, least=LITTLE))
    first = min(grids, key=lambda each: each.cost)
    if asked.means.amount < 2 * first.cost:
        found.append(finding("plan_next.one_grid"))
    return found
