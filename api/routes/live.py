"""/v1/live: what a training loop logs as it goes. What is acknowledged is committed; the same again changes nothing."""

from __future__ import annotations

import json
import math
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query

from lawfit import pipeline
from lawfit.storage.live import LiveRun, begin_live_run, list_live_runs, put_points

from ..deps import StoreDep, contradiction
from ..problems import documented
from ..questions import answers_of
from ..schemas import LivePoints, LivePointsKept, LiveRunBegun, LiveRunEnded, LiveRunFinished, LiveRunOut, LiveRunsOut

router = APIRouter(tags=["live"])

MOST_BYTES = 1 << 18  # of the settings of a run
MOST_POINTS = 5_000_000  # of a run that has not ended


@router.post("/live/runs", name="begin_run", response_model=LiveRunOut, responses=documented(422, 503))
def begin(store: StoreDep, asked: LiveRunBegun) -> dict[str, Any]:
    """Begin to log a run, or go on with it: settings are added to those that it has."""
    return _told(begin_live_run(store, asked.project, asked.run_key, _plain(asked.config, "config")))


@router.get("/live/runs", name="list_live_runs", response_model=LiveRunsOut, responses=documented(422, 503))
def list_all(
    store: StoreDep,
    project: Annotated[str | None, Query(description="Of this project; left out: of all")] = None,
    state: Annotated[
        Literal["running", "finished", "crashed", "diverged"] | None, Query(description="Only these")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="At most so many")] = 100,
) -> dict[str, Any]:
    """Runs that are, or were, logged, those heard of last first."""
    if "\x00" in (project or ""):
        return {"runs": []}
    return {"runs": [_told(run) for run in list_live_runs(store, project, state, limit=limit)]}


@router.post("/live/points", response_model=LivePointsKept, responses=documented(404, 409, 422, 503))
def log_points(store: StoreDep, asked: LivePoints) -> dict[str, Any]:
    """Points of runs that have begun; all of them are committed, or none. A later value of a step replaces it."""
    points: dict[tuple[str, str], list[tuple[str, int, float]]] = {}
    for run in asked.runs:
        points.setdefault((run.project, run.run_key), []).extend(run.points)
    return {"kept": put_points(store, points, most_unstored=MOST_POINTS)}


@router.post(
    "/live/runs/finish", name="finish_run", response_model=LiveRunEnded, responses=documented(404, 409, 422, 503)
)
def finish(store: StoreDep, asked: LiveRunFinished) -> dict[str, Any]:
    """End a run and store it with its curves; its project is the recipe's name.

    What it leaves open is a 422 of type `Doubted` with `questions`: send it again with `answers`, which are kept for
    later runs of the project. Until then it waits, with all its points.
    """
    answers, said = answers_of(asked.answers), _plain(asked.summary, "summary")
    report = pipeline.finish_run(store, asked.project, asked.run_key, asked.state, said, answers)
    return {"state": asked.state, "stored": report is not None, "report": None if report is None else report.to_json()}


def _plain(settings: dict[str, Any], name: str) -> dict[str, Any]:
    """Settings as any database holds them, with the words of numbers that JSON does not have."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {plain(key): plain(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [plain(inner) for inner in value]
        if isinstance(value, str):
            return value.replace("\x00", "").encode("utf-8", "replace").decode()
        return str(value) if isinstance(value, float) and not math.isfinite(value) else value

    found: dict[str, Any] = plain(settings)
    if len(json.dumps(found)) > MOST_BYTES:
        raise contradiction(ValueError(f"the {name} is longer than {MOST_BYTES:,} bytes"))
    return found


def _told(run: LiveRun) -> dict[str, Any]:
    return {name: value for name, value in vars(run).items() if name not in ("said", "facts", "answers")}
