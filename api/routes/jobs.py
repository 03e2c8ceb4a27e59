"""POST /v1/fits begins a fit, and of a plan's rehearsals a rehearsal; /v1/jobs tells how far it is."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request, Response

from lawfit import pipeline
from lawfit.ask import NextQuestion
from lawfit.errors import MissingScope
from lawfit.findings import finding
from lawfit.storage.jobs import LAUNCH, Job, cancel_job, create_job, list_jobs, read_job
from lawfit.storage.store import Store
from lawfit.words import tell

from ..deps import FitId, RecipeName, StoreDep, contradiction, question
from ..problems import documented
from ..schemas import FitAsked, JobOut, JobsOut, RehearsalAsked

router = APIRouter(tags=["jobs"])


@router.post("/fits", status_code=202, response_model=JobOut, responses=documented(404, 409, 422, 503))
def begin_fit(store: StoreDep, request: Request, response: Response, asked: FitAsked) -> dict[str, Any]:
    """Fit every law that a recipe's runs support, in the background: `Location` is the job that tells of it.

    The same data, options and code give the same fits, whoever makes them. A job that asks the same and waits still is
    given again.
    """
    require_shared(store)
    try:
        pipeline.require_askable(asked.at, asked.without_law, asked.critical_definition)
    except ValueError as error:
        raise contradiction(error) from None
    chosen = store.recipe(asked.recipe)
    return begun(store, request, response, "fit", {**asked.model_dump(), "recipe": chosen.key})


@router.post("/plans/next/jobs", status_code=202, response_model=JobOut, responses=documented(404, 422, 503))
def begin_plan(
    store: StoreDep,
    request: Request,
    response: Response,
    asked: Annotated[NextQuestion, Depends(question(NextQuestion))],
    recipe: RecipeName = None,
    fit: FitId = None,
) -> dict[str, Any]:
    """The same plan in the background, for one of many runs: the job's result is the id that it is kept under."""
    require_shared(store)
    try:
        pipeline.require_plannable(store, recipe, asked, fit)
    except ValueError as error:
        raise contradiction(error) from None
    said = {name: value for name, value in vars(asked).items() if value is not None}
    return begun(store, request, response, "plan_next", {"question": said, "recipe": recipe, "fit": fit})


@router.post(
    "/plans/next/{plan_id}/rehearsals", status_code=202, response_model=JobOut, responses=documented(404, 422, 503)
)
def begin_rehearsal(
    store: StoreDep, request: Request, response: Response, plan_id: str, asked: RehearsalAsked
) -> dict[str, Any]:
    """Play a kept plan in worlds drawn from what is known, in the background: `Location` is the job that tells of it.

    Its result is what the plan would bring there, beside what it promises.
    """
    require_shared(store)
    pipeline.kept_plan(store, plan_id)
    return begun(store, request, response, "rehearse", {"plan": plan_id, **asked.model_dump()})


def require_shared(store: Store) -> None:
    """Refuse a store that no other process can open.

    Raises
    ------
    RequestValidationError
    """
    if store.location.is_sqlite and store.location.path is None:
        raise contradiction(ValueError("the database is in memory, where no other process can work"))


def begun(
    store: Store,
    request: Request,
    response: Response,
    kind: str,
    asked: dict[str, Any],
    *,
    while_it_runs: bool = False,
) -> dict[str, Any]:
    """Queue a job, wake who works on it, and say where it is."""
    job = create_job(store, kind, asked, who=request.state.who, while_it_runs=while_it_runs)
    request.app.state.runner.wake()
    response.headers["Location"] = f"{request.scope.get('root_path', '')}/v1/jobs/{job.id}"
    return _told(job, request)


@router.get("/jobs", name="list_jobs", response_model=JobsOut, responses=documented(422, 503))
def list_all(
    store: StoreDep,
    request: Request,
    state: Annotated[
        Literal["queued", "running", "cancelling", "done", "failed", "cancelled"] | None,
        Query(description="Only these"),
    ] = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="At most so many")] = 100,
) -> dict[str, Any]:
    """Jobs, those begun last first; of launches without their grids."""
    found = list_jobs(store, state, limit=limit)
    return {"jobs": [_told(job, request) | {"asked": _short(job)} for job in found]}


@router.get("/jobs/{job_id}", name="read_job", response_model=JobOut, responses=documented(404, 503))
def read(store: StoreDep, request: Request, job_id: str) -> dict[str, Any]:
    """One job: its state, how far it is, what it is doing, and what came of it.

    A launch whose template this service does not have waits, and says so.
    """
    return _told(read_job(store, job_id), request)


@router.post("/jobs/{job_id}/cancel", name="cancel_job", response_model=JobOut, responses=documented(403, 404, 503))
def cancel(store: StoreDep, request: Request, job_id: str) -> dict[str, Any]:
    """End a job: its process is ended, and nothing of it is stored. One that has ended stays as it is.

    A launch, which takes the scope `launch`, ends what it trains with checkpoints; runs that have ended are stored.
    """
    needed = "launch" if read_job(store, job_id).kind == LAUNCH else "fit"
    if needed not in request.state.holds:
        raise MissingScope(f"the job {job_id} takes a token with the scope '{needed}' to end it")
    job = cancel_job(store, job_id)
    request.app.state.runner.wake()
    return _told(job, request)


def _told(job: Job, request: Request) -> dict[str, Any]:
    said = {name: value for name, value in vars(job).items() if name != "worker"}
    if job.kind == LAUNCH and job.state == "queued" and job.asked["template"] not in request.app.state.templates:
        said["doing"] = tell(finding("launch.no_template", template=job.asked["template"], job=job.id))
    return said


def _short(job: Job) -> dict[str, Any]:
    return {name: value for name, value in job.asked.items() if job.kind != LAUNCH or name != "grid"}
