"""The pages at `/studies`: all studies, and the history of one."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from lawfit import pipeline
from lawfit.report.study import study_sections
from lawfit.units import format_scale

from ..deps import StoreDep
from ..routes.studies import abroad
from .common import page

router = APIRouter(include_in_schema=False)


@router.get("/studies", response_class=HTMLResponse)
def studies(store: StoreDep, request: Request) -> HTMLResponse:
    """A row for each study."""
    return page(request, "studies.html", title="Studies", studies=pipeline.all_studies(store)["studies"])


@router.get("/studies/{study_id}", response_class=HTMLResponse)
def study(store: StoreDep, request: Request, study_id: str) -> HTMLResponse:
    """What each round cost and taught."""
    document = abroad(pipeline.show_study(store, study_id))
    target = document["target"]
    heading = f"A study for {format_scale(target['params'], target['tokens'])}"
    return page(request, "study.html", title="Study", heading=heading, body=study_sections(document))
