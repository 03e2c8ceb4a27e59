"""A stored study as a document: what its rounds cost and taught, and what is left of its budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from lawfit.ask import StudyQuestion
from lawfit.documents.study import RoundMade, Study, StudyBudget, StudyRound, StudySummary
from lawfit.findings import Found, as_json
from lawfit.pipeline.pacing import share_done
from lawfit.records import RunStatus
from lawfit.storage.studies import FITTED, StoredRound, StoredStudy, runs_of
from lawfit.units import six_digits, training_flops

if TYPE_CHECKING:
    from lawfit.planner.means import Means
    from lawfit.planner.pace import Pace
    from lawfit.storage import Store

SCHEMA: Final = "lawfit.study/1"


def study_document(store: Store, study: StoredStudy, *, stopped: Found = "") -> Study:
    """The whole of a study, what is under way counted as far as it is stored.

    Parameters
    ----------
    stopped : why this call ends, where the study has not
    """
    from lawfit.planner.rounds import ROUNDS

    asked = question_of(study)
    rounds = [_round(store, each, means_of(asked)) for each in study.rounds]
    return as_json(  # type: ignore[no-any-return]
        {
            "schema": SCHEMA,
            "id": study.id,
            "state": "open" if study.stopped is None else "ended",
            "stopped": study.stopped if study.stopped is not None else stopped,
            "recipe": study.recipe,
            "asked": dict(study.asked),
            "launch": dict(study.launch),
            "target": {"params": asked.params, "tokens": asked.tokens, "level": asked.level},
            "budget": budget_of(asked, rounds),
            "rounds": rounds,
            "most_rounds": asked.rounds or ROUNDS,
            "answer": next((each["answer"] for each in reversed(rounds) if each["answer"]), None),
            "created_at": study.created_at,
            "updated_at": study.updated_at,
        }
    )


def study_summary(study: StoredStudy) -> StudySummary:
    """One line of a list."""
    over = [each for each in study.rounds if each.phase == FITTED]
    answers = [each.document["answer"] for each in over if each.document.get("answer")]
    return {
        "id": study.id,
        "state": "open" if study.stopped is None else "ended",
        "recipe": study.recipe,
        "params": study.asked["params"],
        "tokens": study.asked["tokens"],
        "budget": study.asked["budget"],
        "until": study.asked.get("until"),
        "rounds": len(over),
        "expected_regret": answers[-1]["expected_regret"] if answers else None,
        "created_at": study.created_at,
        "updated_at": study.updated_at,
    }


def question_of(study: StoredStudy) -> StudyQuestion:
    """What was asked."""
    return StudyQuestion(**study.asked)


def means_of(asked: StudyQuestion, measured: Pace | None = None) -> Means:
    """The whole budget.

    Parameters
    ----------
    measured : of one GPU, which then stands for what was assumed

    Raises
    ------
    ValueError
        It is none, or lacks what turns FLOPs into it.
    """
    from lawfit.planner.means import read_means

    try:
        return read_means(asked.budget, asked.flops_per_second if measured is None else None, asked.price, measured)
    except ValueError as error:
        raise ValueError(str(error).replace("dollars_per_gpu_hour", "price")) from None


def budget_of(asked: StudyQuestion, rounds: Sequence[StudyRound]) -> StudyBudget:
    """What is spent, and what is left."""
    made, means = [each["made"] for each in rounds], means_of(asked)
    spent = sum(each["cost"] for each in made)
    flops, hours = sum(each["flops"] for each in made), sum(each["gpu_hours"] for each in made)
    return {
        "amount": means.amount,
        "unit": means.unit,
        "spent": six_digits(spent),
        "left": six_digits(max(0.0, means.amount - spent)),
        "runs": sum(each["runs"] for each in made),
        "flops": six_digits(flops),
        "seconds": six_digits(sum(each["seconds"] for each in made)),
        "gpu_hours": six_digits(hours),
        "dollars": None if asked.price is None else six_digits(hours * asked.price),
        "flops_per_second": six_digits(flops / hours / 3600) if flops and hours else None,
    }


def _round(store: Store, found: StoredRound, means: Means) -> StudyRound:
    document: Any = {**found.document}
    if found.phase != FITTED:  # afterwards it stands in the document: runs may be excluded or go to other recipes
        document["made"] = made_of(store, found, means)
    document |= {"number": found.number, "phase": found.phase}
    return document  # type: ignore[no-any-return]


def made_of(store: Store, found: StoredRound, means: Means) -> RoundMade:
    """What is stored of the runs of a round, and what it took."""
    runs, _ = runs_of(store, found.document["run_ids"])
    diverged = sum(run.status is RunStatus.DIVERGED for run in runs)
    flops = sum(training_flops(run.params, run.tokens * share_done(run)) for run in runs)
    hours = found.gpu_seconds / 3600
    measured: Mapping[str, float] = {
        "runs": float(len(runs)),
        "flops": flops,
        "gpu-hours": hours,
        "$": hours * (means.dollars_per_gpu_hour or 0.0),
    }
    return {
        "runs": len(runs),
        "finished": len(runs) - diverged,
        "diverged": diverged,
        "missing": len(found.document["run_ids"]) - len(runs),
        "flops": six_digits(flops),
        "seconds": six_digits(found.seconds),
        "gpu_hours": six_digits(hours),
        "cost": six_digits(measured[means.unit]),
        "failures": list(found.document.get("failures", [])),
    }
