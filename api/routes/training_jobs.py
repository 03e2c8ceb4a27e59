"""/v1/training-jobs: what launches train, as `lawfit launch` keeps it; a POST begins one, by a job of the service."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.exceptions import RequestValidationError

from lawfit import pipeline
from lawfit.ask import Misasked
from lawfit.errors import NotEnabled
from lawfit.records import TrainingJob
from lawfit.storage.jobs import LAUNCH
from lawfit.storage.training_jobs import cancel_training_job, list_training_jobs, training_job

from ..deps import StoreDep
from ..problems import documented
from ..schemas import LaunchAsked, LaunchBegunOut, TrainingJobOut, TrainingJobsOut
from .jobs import begun, require_shared

router = APIRouter(tags=["training jobs"])

State = Literal[
    "queued", "running", "cancelling", "lost", "ended", "stopped", "split", "failed", "given_up", "cancelled"
]


async def _templates(request: Request) -> dict[str, Any]:
    """What may be trained: before the body is looked at.

    Raises
    ------
    NotEnabled
    """
    found: dict[str, Any] = request.app.state.templates
    if not found:
        raise NotEnabled("this service trains nothing: whoever starts it has to name templates that it may train")
    return found


@router.post("/training-jobs", status_code=202, response_model=LaunchBegunOut, responses=documented(403, 404, 422, 503))
def begin_launch(
    store: StoreDep,
    request: Request,
    response: Response,
    asked: LaunchAsked,
    templates: Annotated[dict[str, Any], Depends(_templates)],
) -> dict[str, Any]:
    """Train a grid with a template of the service, in the background: `Location` is the job that tells of it.

    Runs that are there are told, and not trained again. The same once more, while it waits or runs, is the same job;
    once it has ended, it goes on with what was left. Each launch trains what `/v1/training-jobs` lists.
    """
    require_shared(store)
    try:
        found = pipeline.require_launchable(store, templates, **asked.model_dump())
    except Misasked as error:
        raise RequestValidationError([{"loc": ("body", error.field), "msg": error.problem}]) from None
    job = begun(store, request, response, LAUNCH, dict(found.asked), while_it_runs=True)
    return {"job": job, "runs": found.runs, "known": found.known, "caveats": found.caveats}


@router.get("/training-jobs", response_model=TrainingJobsOut, responses=documented(422, 503))
def list_all(
    store: StoreDep,
    state: Annotated[State | None, Query(description="Only these")] = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="At most so many")] = 100,
) -> dict[str, Any]:
    """Jobs of launches, the last launch first, and of one launch those that run first."""
    return {"jobs": [_told(job) for job in list_training_jobs(store, state, limit=limit)]}


@router.get("/training-jobs/{job_id}", response_model=TrainingJobOut, responses=documented(404, 503))
def read(store: StoreDep, job_id: str) -> dict[str, Any]:
    """One job of a launch: its runs, each attempt with how it ended, what it cost, what it said last.

    The beginning of its id is enough.
    """
    return _told(training_job(store, job_id))


@router.post("/training-jobs/{job_id}/cancel", response_model=TrainingJobOut, responses=documented(404, 503))
def cancel(store: StoreDep, job_id: str) -> dict[str, Any]:
    """End one job, with a checkpoint where it runs: its launch hears of it within seconds. What is over stays."""
    return _told(cancel_training_job(store, job_id))


def _told(job: TrainingJob) -> dict[str, Any]:
    """Without the folder of its logs: clients have no files there."""
    return {name: value for name, value in job.to_json().items() if name != "logs"}
