"""POST /v1/fits begins a fit; /v1/jobs tells how far it is."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response

from lawfit import pipeline
from lawfit.storage.jobs import Job, cancel_job, create_job, list_jobs, read_job

from ..deps import StoreDep, contradiction
from ..problems import documented
from ..schemas import FitAsked, JobOut, JobsOut

router = APIRouter(tags=["jobs"])


@router.post("/fits", status_code=202, response_model=JobOut, responses=documented(404, 409, 422, 503))
def begin_fit(store: StoreDep, request: Request, response: Response, asked: FitAsked) -> dict[str, Any]:
    """Fit every law that a recipe's runs support, in the background: `Location` is the job that tells of it.

    The same data, options and code give the same fits, whoever makes them. A job that asks the same and waits still is
    given again.
    """
    if store.location.is_sqlite and store.location.path is None:
        raise contradiction(ValueError("the database is in memory, where no other process can fit"))
    try:
        pipeline.require_askable(asked.at, asked.without_law, asked.critical_definition)
    except ValueError as error:
        raise contradiction(error) from None
    chosen = store.recipe(asked.recipe)
    job = create_job(store, "fit", {**asked.model_dump(), "recipe": chosen.key}, who=request.state.who)
    request.app.state.runner.wake()
    response.headers["Location"] = f"{request.scope.get('root_path', '')}/v1/jobs/{job.id}"
    return _told(job)


@router.get("/jobs", name="list_jobs", response_model=JobsOut, responses=documented(422, 503))
def list_all(
    store: StoreDep,
    state: Annotated[
        Literal["queued", "running", "cancelling", "done", "failed", "cancelled"] | None,
        Query(description="Only these"),
    ] = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="At most so many")] = 100,
) -> dict[str, Any]:
    """Jobs, those begun last first."""
    return {"jobs": [_told(job) for job in list_jobs(store, state, limit=limit)]}


@router.get("/jobs/{job_id}", name="read_job", response_model=JobOut, responses=documented(404, 503))
def read(store: StoreDep, job_id: str) -> dict[str, Any]:
    """One job: its state, how far it is, what it is doing, and what came of it."""
    return _told(read_job(store, job_id))


@router.post("/jobs/{job_id}/cancel", name="cancel_job", response_model=JobOut, responses=documented(404, 503))
def cancel(store: StoreDep, request: Request, job_id: str) -> dict[str, Any]:
    """End a job: its process is ended, and nothing of it is stored. One that has ended stays as it is."""
    job = cancel_job(store, job_id)
    request.app.state.runner.wake()
    return _told(job)


def _told(job: Job) -> dict[str, Any]:
    return {name: value for name, value in vars(job).items() if name != "worker"}
