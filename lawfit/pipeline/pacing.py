"""How long packs took that were trained from this store, for plans of further ones."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Final

from lawfit.records import Attempt, Recipe, Run, RunStatus, TrainingJob

if TYPE_CHECKING:
    from lawfit.documents.study import StudyBudget
    from lawfit.planner.pace import MeasuredPack, Pace
    from lawfit.storage import Store
    from lawfit.storage.studies import StoredStudy

_NEWEST: Final = 300  # packs that are looked at
_DONE: Final = "done"  # as launch/endings.py has it


def pace_of(store: Store, recipe: Recipe | None) -> Pace | None:
    """By the packs of a recipe that were trained on GPUs from this store; None where too few were, each at one go."""
    from lawfit.planner.pace import measured_pace
    from lawfit.storage.training_jobs import list_training_jobs

    if recipe is None:
        return None
    # those that are excluded took as long
    measured = measured_packs(list_training_jobs(store, "ended", limit=sys.maxsize), store.runs(recipe.key))
    return measured_pace(list(islice(measured, _NEWEST)))


def study_pace(store: Store, study: StoredStudy, budget: StudyBudget, recipe: Recipe | None) -> Pace | None:
    """As the rounds of a study measured it: by their packs, and so that all of them together took what they took.

    Where no pack tells (a CPU, few packs), by all rounds' FLOPs and hours; None before the first.
    """
    from lawfit.planner.pace import Pace, measured_pace
    from lawfit.storage.training_jobs import list_training_jobs

    if budget["flops_per_second"] is None:
        return None
    made = {run_id for each in study.rounds for run_id in each.document["run_ids"]}
    own = [run for run in store.runs(recipe.key) if run.run_key in made] if recipe is not None else []
    packs = list(measured_packs(list_training_jobs(store, "ended", limit=sys.maxsize), own))
    pace = measured_pace(packs)
    if pace is None:
        return Pace(flops_per_second=budget["flops_per_second"], start_seconds=0.0)
    foretold = sum(pace.seconds_of(each) for each in _packs_of(own))
    return pace.times(3600 * budget["gpu_hours"] / foretold)


def _packs_of(runs: Iterable[Run]) -> Iterator[MeasuredPack]:
    """As grids make them, of runs of one size, horizon and batch; also those whose jobs do not tell what they took."""
    from lawfit.planner.pace import MeasuredPack

    alike: dict[tuple[float, float, float], list[Run]] = {}
    for run in runs:
        alike.setdefault((run.params, run.tokens, run.batch_tokens), []).append(run)
    for own in alike.values():
        steps, tokens = _done(own)
        yield MeasuredPack(
            params=own[0].params, runs=len(own), steps=steps, tokens=tokens, seconds=0.0, gpu_seconds=0.0
        )


def measured_packs(jobs: Sequence[TrainingJob], runs: Iterable[Run]) -> Iterator[MeasuredPack]:
    """What packs took, those that ended at the first go."""
    from lawfit.planner.pace import MeasuredPack

    by_id = {run.run_key: run for run in runs}
    alone = [job for job in jobs if [each.reason for each in job.attempts] == [_DONE]]
    shares = _gpu_seconds([job.attempts[0] for job in alone])
    for job, gpu_seconds in zip(alone, shares, strict=True):
        own = [by_id[run_id] for run_id in job.runs if run_id in by_id]
        if len(own) == len(job.runs) and len({run.params for run in own}) == 1 and gpu_seconds > 0:
            steps, tokens = _done(own)
            yield MeasuredPack(
                params=own[0].params, runs=len(own), steps=steps, tokens=tokens, seconds=job.attempts[0].seconds,
                gpu_seconds=gpu_seconds,
            )  # fmt: skip


def _done(runs: Sequence[Run]) -> tuple[float, float]:
    """Steps of the longest run and tokens of all, as far as they were trained: a diverged run is left where it is."""
    tokens = [run.tokens * share_done(run) for run in runs]
    return max(done / run.batch_tokens for done, run in zip(tokens, runs, strict=True)), sum(tokens)


def share_done(run: Run) -> float:
    """Of the steps of a run, those that were trained."""
    done = run.extra.get("steps_done")
    if run.status is RunStatus.FINISHED or not run.steps or not isinstance(done, int | float):
        return 1.0
    return min(1.0, done / run.steps)


def _gpu_seconds(attempts: Sequence[Attempt]) -> list[float]:
    """Of each, wall time times its GPUs; of those that share some, the share of each moment."""
    places: dict[tuple[str, str], list[tuple[float, float]]] = {}
    spans = [(began := _clock(each.began_at), began + each.seconds) for each in attempts]
    for each, span in zip(attempts, spans, strict=True):
        if _shares(each):
            places.setdefault((each.host, each.place), []).append(span)
    return [
        gpus_at(each.place) * _share(span, places[each.host, each.place])
        if _shares(each)
        else each.seconds * each.gpus
        for each, span in zip(attempts, spans, strict=True)
    ]  # fmt: skip


def _shares(attempt: Attempt) -> bool:
    return 0 < attempt.gpus < gpus_at(attempt.place)


def gpus_at(place: str) -> int:
    """How many GPUs a place names: ``gpu 0,1`` two."""
    return place.count(",") + 1


def _share(span: tuple[float, float], beside: Sequence[tuple[float, float]]) -> float:
    """Seconds of a span, each divided among those that lie there."""
    near = [(max(low, span[0]), min(high, span[1])) for low, high in beside if low < span[1] and high > span[0]]
    edges = sorted({edge for each in near for edge in each})
    return sum((high - low) / sum(begin <= low and high <= end for begin, end in near) for low, high in pairwise(edges))


def _clock(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()
