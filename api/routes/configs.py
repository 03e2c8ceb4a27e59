"""GET /v1/configs/{program}: what `lawfit predict --as PROGRAM --json` prints."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path

from lawfit import configs, pipeline
from lawfit.ask import SetUp, Target
from lawfit.documents import Config

from ..deps import FitId, Levels, RecipeName, StoreDep, contradiction, question
from ..problems import documented
from ..told import Told

router = APIRouter(tags=["configs"])

PROGRAMS = ", ".join(program.name for program in configs.PROGRAMS)


@router.get("/configs/{program}", response_model=Config, responses=documented(404, 409, 422, 503))
def config(
    store: StoreDep,
    program: Annotated[str, Path(description=f"Training program: {PROGRAMS}")],
    asked: Annotated[Target, Depends(question(Target))],
    devices: Annotated[SetUp, Depends(question(SetUp))],
    recipe: RecipeName = None,
    fit: FitId = None,
    at: Levels = None,
) -> Told:
    """The recommendation as settings of a training program, ready to be pasted."""
    try:
        writer = configs.named(program)
        training = pipeline.set_up(store, recipe, asked, devices, fit_id=fit, at=at or (), keep=False)
    except ValueError as error:  # no such program, or a batch that the devices cannot share
        raise contradiction(error) from None
    return Told(configs.config_of(writer, training))
