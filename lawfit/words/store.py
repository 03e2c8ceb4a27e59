"""What the store says of names and keys that it does not hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from lawfit.words import Sentence, Spoken, named, option, say

_RUN: Final = "no run '{run}' in this recipe"


def _close(data: Mapping[str, Any]) -> str:
    return say("did you mean '{close}'? There are: {names}" if data["close"] else "there are: {names}", data)


WORDS: Final[Mapping[str, Sentence]] = {
    "no_runs": Spoken(
        terminal="{database} holds no runs yet; start with lawfit ingest FILE",
        http="there are no runs yet; log some, or upload a table of runs",
    ),
    "several_recipes": Spoken(
        terminal="{database} holds {count} recipes; say which one to use (--recipe NAME; recipe=NAME in a URL): "
        "{names}",
        http="there are {count} recipes; say which one with recipe=NAME: {names}",
        page="there are {count} recipes; choose one: {names}",
    ),
    "no_recipe": Spoken(
        terminal=lambda data: say("no recipe '{recipe}' in {database}; ", data) + _close(data),
        http=lambda data: say("there is no recipe '{recipe}'; ", data) + _close(data),
    ),
    "many_waiting": "{waiting} jobs of this kind wait already; ask again when some of them have ended",
    "no_run": Spoken(
        terminal=_RUN + "; lawfit runs list shows their keys",
        http=_RUN + "; GET /v1/runs lists their keys",
        page=_RUN + "; the page of runs lists their keys",
    ),
    "no_run_but": _RUN + "; did you mean '{close}'?",
    "no_fit": Spoken(
        terminal="no fit '{fit_id}' in {database}; run lawfit fit",
        http="there is no fit '{fit_id}'; GET /v1/fits lists them",
        page="there is no fit '{fit_id}'; the page of laws lists them under 'Earlier fits'",
    ),
    "no_fit_yet": Spoken(
        terminal="no stored {which} for recipe '{recipe}'; run lawfit fit --recipe {recipe}",
        http="there is no {which} for recipe '{recipe}' yet; fit it first (POST /v1/fits)",
        page="there is no {which} for recipe '{recipe}' yet; fit it on the first page",
    ),
    "joined_runs": named(
        "these runs joined the {stored} that recipe '{recipe}' has: name and settings are the same, and no run is "
        "repeated; if they are another sweep, name it with {option}",
        option=lambda _: option("recipe", "NAME"),
    ),
    "another_sweep": named(
        "recipe '{recipe}' has {shared} runs with the settings of these and other losses: taken as another sweep, "
        "'{free}'; to correct '{recipe}' instead, ingest with {option}",
        option=lambda of: option("recipe", of["recipe"]),
    ),
    "unlike_all": named(
        "runs that joined recipe '{recipe}' are unlike all that it had: {why}; to keep them apart, give them another "
        "name with {option}",
        option=lambda _: option("recipe", "NAME"),
    ),
    "corrections_kept": Spoken(
        terminal="{whose} what a person corrected, though the file says otherwise (lawfit runs history; lawfit runs "
        "undo)",
        http="{whose} what a person corrected, though the file says otherwise",
    ),
    "no_live_run": "run '{run}' of project '{project}' has not begun; POST /v1/live/runs begins it",
    "run_ended": "run '{run}' of project '{project}' has ended and is stored; log one that goes on under another key",
    "run_too_long": "run '{run}' of project '{project}' would have more than {most:q} points; log every tenth step",
    "no_training_job": Spoken(
        terminal="no job of a launch is called '{job}'; lawfit jobs lists them",
        http="there is no training job '{job}'; GET /v1/training-jobs lists them",
    ),
    "several_training_jobs": "several jobs begin with '{job}'; give more of the id",
    "no_job": "there is no job '{job}'; GET /v1/jobs lists them",
    "no_prediction": Spoken(
        terminal="no prediction '{prediction_id}' in {database}; lawfit predict prints the id of each",
        http="there is no prediction '{prediction_id}'; POST /v1/predictions keeps one and says its id",
    ),
    "no_plan": Spoken(
        terminal="no plan '{plan_id}' in {database}; lawfit plan next prints the id of each",
        http="there is no plan '{plan_id}'; POST /v1/plans/next keeps one and says its id",
    ),
}
