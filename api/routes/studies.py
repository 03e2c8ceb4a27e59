"""GET /v1/studies: what `lawfit study list` and `show` print, without where on the server runs are made."""

from __future__ import annotations

from fastapi import APIRouter

from lawfit import pipeline
from lawfit.documents import Studies, Study

from ..deps import StoreDep
from ..problems import documented
from ..told import Told

router = APIRouter(tags=["studies"])


@router.get("/studies", response_model=Studies, responses=documented(503))
def list_studies(store: StoreDep) -> Told:
    """All studies, the newest first."""
    return Told(pipeline.all_studies(store))


@router.get("/studies/{study_id}", response_model=Study, responses=documented(404, 503))
def read_study(store: StoreDep, study_id: str) -> Told:
    """What each round of a study cost and taught, and what is known now."""
    return Told(abroad(pipeline.show_study(store, study_id)))


def abroad(document: Study) -> Study:
    """The same without folders of the server, and without what its processes said."""
    rounds = [{**each, "made": {**each["made"], "failures": []}} for each in document["rounds"]]
    return {**document, "launch": {}, "rounds": rounds}  # type: ignore[typeddict-item]
