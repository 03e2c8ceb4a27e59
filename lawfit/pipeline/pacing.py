"""How long packs took that were trained from this store, for plans of further ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from lawfit.records import Attempt, Run, TrainingJob

if TYPE_CHECKING:
    from lawfit.documents.study import StudyBudget
    from lawfit.planner.pace import MeasuredPack, Pace, Packs
    from lawfit.storage import Store
    from lawfit.storage.studies import StoredStudy

_NEWEST: Final = 300  # jobs that are looked at
_DONE: Final = "done"  # as launch/endings.py has it


def pace_of(store: Store, runs: Sequence[Run]) -> Pace | None:
    """By the packs on GPUs whose runs these are; None where too few of them were trained here, each at one go."""
    from lawfit.planner.pace import measured_pace
    from lawfit.storage.training_jobs import list_training_jobs

    return measured_pace(list(measured_packs(list_training_jobs(store, "ended", limit=_NEWEST), runs)))


def study_pace(store: Store, study: StoredStudy, budget: StudyBudget, runs: Sequence[Run]) -> Pace | None:
    """As the rounds of a study measured it: by their packs, and so that all of them together took what they took.

    Where no pack tells (a CPU, few packs), by all rounds' FLOPs and hours; None before the first.
    """
    from lawfit.planner.pace import Pace

    if budget["flops_per_second"] is None:
        return None
    made = {run_id for each in study.rounds for run_id in each.document["run_ids"]}
    own = [run for run in runs if run.run_key in made]
    pace = pace_of(store, own)
    if pace is None:
        return Pace(flops_per_second=budget["flops_per_second"], start_seconds=0.0)
    foretold = sum(pace.seconds(each) for each in _packs_of(own))
    return pace.times(3600 * budget["gpu_hours"] / foretold)


def _packs_of(runs: Iterable[Run]) -> Iterator[Packs]:
    """As grids make them: runs of one size, horizon and batch together."""
    from lawfit.planner.pace import Packs

    alike = Counter((run.params, run.tokens, run.batch_tokens) for run in runs)
    for (params, tokens, batch), count in alike.items():
        yield Packs(params=params, tokens=tokens, batches=(batch,), runs=count)


def measured_packs(jobs: Sequence[TrainingJob], runs: Iterable[Run]) -> Iterator[MeasuredPack]:
    """What packs took, those that ended at the first go."""
    from lawfit.planner.pace import MeasuredPack

    by_id = {run.run_key: run for run in runs}
    alone = [job for job in jobs if [each.reason for each in job.attempts] == [_DONE]]
    shares = _gpu_seconds([job.attempts[0] for job in alone])
    for job, seconds in zip(alone, shares, strict=True):
        own = [by_id[run_id] for run_id in job.runs if run_id in by_id]
        if len(own) == len(job.runs) and len({run.params for run in own}) == 1 and seconds > 0:
            steps = max(run.tokens / run.batch_tokens for run in own)
            yield MeasuredPack(params=own[0].params, steps=steps, tokens=job.tokens, gpu_seconds=seconds)


def _gpu_seconds(attempts: Sequence[Attempt]) -> list[float]:
    """Of each, wall time times its GPUs; of those that share one, its share of each moment."""
    places: dict[tuple[str, str], list[tuple[float, float]]] = {}
    spans = [(began := _clock(each.began_at), began + each.seconds) for each in attempts]
    for each, span in zip(attempts, spans, strict=True):
        if 0 < each.gpus < 1:
            places.setdefault((each.host, each.place), []).append(span)
    found = []
    for each, span in zip(attempts, spans, strict=True):
        beside = places.get((each.host, each.place), ())
        found.append(_share(span, beside) if 0 < each.gpus < 1 else each.seconds * each.gpus)
    return found


def _share(span: tuple[float, float], beside: Sequence[tuple[float, float]]) -> float:
    """Seconds of a span, each divided among those that lie there."""
    near = [(max(low, span[0]), min(high, span[1])) for low, high in beside if low < span[1] and high > span[0]]
    edges = sorted({edge for each in near for edge in each})
    return sum((high - low) / sum(begin <= low and high <= end for begin, end in near) for low, high in pairwise(edges))


def _clock(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()
