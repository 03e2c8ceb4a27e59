"""What the next round of a study makes: what tells most, or what a fit that may not be used lacks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from lawfit.ask import StudyQuestion
from lawfit.documents.next_runs import NextRuns
from lawfit.documents.study import RoundScale
from lawfit.errors import LawfitError, NoFit, NotEnoughData
from lawfit.findings import finding, found_of
from lawfit.pipeline.fitting import LR_BATCH
from lawfit.pipeline.next_planning import plan_next
from lawfit.records import FitStatus, Json, Recipe, Run, RunStatus

if TYPE_CHECKING:
    from lawfit.launch.plan import Corpus
    from lawfit.planner.means import Means
    from lawfit.planner.pace import Packs
    from lawfit.storage import Store

LOWER: Final = 3.0  # between learning rates that are tried below those at which every run diverged
MOST_LOWERED: Final = 3  # times in a study
_HUNDREDTH: Final = 1.01


@dataclass(frozen=True, kw_only=True)
class NextRound:
    """What a round is to make."""

    kind: str  # "planned", "asked" or "lowered": as `documents.study.StudyRound` has it
    grid: dict[str, Json]  # as `lawfit launch` takes it
    scales: list[RoundScale]
    share: float  # that it was allowed to spend
    plan: NextRuns | None = None


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a study stands when a round is planned."""

    asked: StudyQuestion
    recipe: Recipe | None  # None: nothing was run yet
    runs: Sequence[Run]
    means: Means  # of the whole study
    measured: bool  # how long packs take; otherwise that is as was said
    left: float  # of the budget
    rounds_left: int  # with the next
    lowered: int  # rounds so far that only lowered learning rates
    corpus: Corpus
    cpu: bool


def next_round(store: Store, place: Place) -> NextRound:
    """The next round.

    Raises
    ------
    NotEnoughData
        No run is worth making, or none can be paid for: why.
    """
    if place.runs and all(run.status is RunStatus.DIVERGED for run in place.runs):
        return _lowered(place)
    if place.runs and (asked := _asked_by_fit(store, place)) is not None:
        return asked
    return _planned(store, place)


def _planned(store: Store, place: Place) -> NextRound:
    """What tells most; first for the round's part of the budget, then for all that is left."""
    from lawfit.planner.rounds import shares

    failed: NotEnoughData | None = None
    for share in shares(place.left, place.rounds_left):
        question = place.asked.next_runs(
            _written(share, place.means.unit),
            flops_per_second=None if place.measured else place.asked.flops_per_second,
            max_tokens=place.asked.max_tokens or min(place.asked.tokens, place.corpus.train_tokens),
        )
        try:
            name = None if place.recipe is None else place.recipe.key
            # rounds are of grids: each counts what it cost and taught of learning rate and batch
            document = plan_next(
                store, name, question, anew=place.recipe is None, sweep_decay=False, pace=place.means.pace
            )
        except NotEnoughData as error:
            failed = error
            continue
        if document["grid_file"] is None:
            raise NotEnoughData(found_of(document["missing"]["grid_file"]))
        grid = _for_corpus(document["grid_file"], place)
        scales = [_scale(each, each["seeds"]) for each in document["grids"]]
        return NextRound(kind="planned", grid=grid, scales=scales, share=share, plan=document)
    assert failed is not None
    raise failed


def _asked_by_fit(store: Store, place: Place) -> NextRound | None:
    """What the newest fit lacks to be used, as far as it can be paid for; None where it may be, or lacks no runs."""
    assert place.recipe is not None
    try:
        newest = store.latest_fit(place.recipe.key, LR_BATCH, usable_only=False)
    except NoFit:
        return None
    if newest.status is not FitStatus.UNCERTIFIED:
        return None
    payload = newest.payload
    rows = [row for lack in payload.get("lacking", []) if lack["bearing"] != "noted" for row in lack["runs"]]
    return _of_rows(place, [*rows, *(payload.get("next_grid") or [])], "asked")


def _lowered(place: Place) -> NextRound:
    """The scales again, each at learning rates below the lowest at which its runs diverged."""
    lowest: dict[tuple[float, float], float] = {}
    for run in place.runs:
        at = (run.params, run.tokens)
        lowest[at] = min(run.lr, lowest.get(at, math.inf))
    if place.lowered >= MOST_LOWERED:
        raise NotEnoughData(finding("study.all_diverged", lr=min(lowest.values())))
    rows = []
    for (params, tokens), lr in sorted(lowest.items(), key=lambda each: math.prod(each[0])):
        batches = sorted({run.batch_tokens for run in place.runs if (run.params, run.tokens) == (params, tokens)})
        rates = [float(f"{lr / LOWER**k:.2g}") for k in (3, 2, 1)]
        rows.append({"params": params, "tokens": tokens, "lr": rates, "batch_tokens": batches})
    found = _of_rows(place, rows, "lowered")
    if found is None:
        raise NotEnoughData(finding("study.all_diverged", lr=min(lowest.values())))
    return found


def _of_rows(place: Place, rows: Sequence[Mapping[str, Any]], kind: str) -> NextRound | None:
    """Grids of scales that were run, the first that fit into the round's part of the budget (one at least)."""
    from lawfit.advise.next_grid import next_grid

    assert place.recipe is not None
    chosen: list[Mapping[str, Any]] = []
    share, spent = place.left / place.rounds_left, 0.0
    for row in _unmade(rows, place.runs):
        cost = place.means.cost(packs_of_scale(_scale(row, [0])))
        if spent + cost <= (share if chosen else place.left) * _HUNDREDTH:
            chosen.append(row)
            spent += cost
    grid = next_grid(place.recipe, place.runs, chosen)
    if not grid["blocks"]:
        return None
    scales = [_scale(row, [0]) for row in chosen]
    return NextRound(kind=kind, grid=_for_corpus(grid, place), scales=scales, share=share)


def _unmade(rows: Sequence[Mapping[str, Any]], runs: Sequence[Run]) -> Iterator[Mapping[str, Any]]:
    """Rows of which some run is not there, each once."""
    from lawfit.planner.planned import not_there, row_of, rows_of

    taken = [{**row_of(run), "seed": run.seed} for run in runs]
    for row in rows:
        each = rows_of([{**row, "seeds": [0]}])
        if not_there(each, taken):
            taken += each
            yield row


def _scale(row: Mapping[str, Any], seeds: Sequence[int]) -> RoundScale:
    runs = len(row["lr"]) * len(row["batch_tokens"]) * len(seeds)
    return {
        "params": row["params"], "tokens": row["tokens"], "runs": runs, "lr": list(row["lr"]),
        "batch_tokens": list(row["batch_tokens"]), "seeds": list(seeds),
    }  # fmt: skip


def packs_of_scale(scale: RoundScale) -> Packs:
    """As the trainer makes them."""
    from lawfit.planner.pace import Packs

    runs = len(scale["lr"]) * len(scale["seeds"])
    return Packs(params=scale["params"], tokens=scale["tokens"], batches=tuple(scale["batch_tokens"]), runs=runs)


def _for_corpus(grid: Mapping[str, Json], place: Place) -> dict[str, Json]:
    """The grid on the corpus at hand; a first sweep also with what it can be evaluated on, and what a CPU computes in.

    Raises
    ------
    LawfitError
        The corpus cannot evaluate anything.
    """
    from lawfit.proxy.pack import Pack

    base = {**grid["base"], "corpus": place.corpus.folder}
    if not place.runs:
        held = (place.corpus.validation_tokens - 1) // base["seq_len"]
        if held < 1:
            raise LawfitError(
                f"the validation part of {place.corpus.folder} holds {place.corpus.validation_tokens:,} tokens, fewer "
                f"than one sequence of {base['seq_len']}; build a larger corpus, or ask for shorter sequences"
            )
        if held < Pack.eval_sequences:
            base["eval_sequences"] = held
        if place.cpu:
            base["precision"] = "fp32"
    return {**grid, "base": base}


def _written(amount: float, unit: str) -> str:
    """As `planner.means.read_means` reads it."""
    if unit == "$":
        return f"${amount:.6g}"
    return f"{max(1, math.floor(amount))}runs" if unit == "runs" else f"{amount:.6g}{unit}"
