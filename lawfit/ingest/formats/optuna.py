"""Optuna's studies in a database. A trial is a run; what it searched is its settings, its value is `value`.

Whether the value is a loss only its author knows: where the study maximises, it is called a score.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, Final

from lawfit.errors import LogFormatError
from lawfit.ingest.database import DatabaseLogs, Query
from lawfit.ingest.run_log import CRASHED, FINISHED, RUNNING, LoggedRun

STATES: Final = {
    "COMPLETE": FINISHED, "FAIL": CRASHED, "PRUNED": "pruned", "RUNNING": RUNNING, "WAITING": "waiting",
}  # fmt: skip
_NOT_FINITE: Final = {"INF_POS": math.inf, "INF_NEG": -math.inf, "NAN": math.nan}
INTERMEDIATE: Final = "intermediate_value"


class Optuna(DatabaseLogs):
    """Studies in SQLite or PostgreSQL, with the values on the way as curves."""

    name = "optuna"
    tables = frozenset(
        {
            *("studies", "study_directions", "trials", "trial_params", "trial_values", "trial_user_attributes"),
            "trial_intermediate_values",
        }
    )

    def runs_of(self, query: Query, file: str) -> Iterable[LoggedRun]:
        studies = {study: str(name) for study, name in query("select study_id, study_name from studies")}
        maximised = {
            study
            for study, direction in query("select study_id, direction from study_directions")
            if direction == "MAXIMIZE"
        }
        runs: dict[Any, LoggedRun] = {}
        study_of: dict[Any, Any] = {}
        for trial, number, study, state in query(
            "select trial_id, number, study_id, state from trials order by study_id, number"
        ):
            study_of[trial] = study
            runs[trial] = trial_run(studies.get(study, ""), number, file, STATES.get(state, RUNNING))
        for trial, key, value, distribution in query(
            "select trial_id, param_name, param_value, distribution_json from trial_params order by param_id"
        ):
            if trial in runs:
                runs[trial].config[str(key)] = external(value, distribution, file)
        for trial, key, value in query("select trial_id, key, value_json from trial_user_attributes"):
            if trial in runs:
                runs[trial].facts.setdefault("user_attrs", {})[str(key)] = loaded(value, file)
        for trial, objective, value, kind in query(
            "select trial_id, objective, value, value_type from trial_values order by trial_id, objective"
        ):
            if trial in runs:
                number = number_of(value, kind)
                runs[trial].facts[value_name(objective, maximised=study_of[trial] in maximised)] = number
        for trial, step, value, kind in query(
            "select trial_id, step, intermediate_value, intermediate_value_type from trial_intermediate_values"
        ):
            if trial in runs:
                runs[trial].log(INTERMEDIATE, step, number_of(value, kind))
        return [run for run in runs.values() if run.state != "waiting"]


def trial_run(study: str, number: Any, file: str, state: str) -> LoggedRun:
    return LoggedRun(run_id=f"{study}-{number}", file=file, name=f"trial {number}", project=study, state=state)


def number_of(value: float | None, kind: str) -> float:
    """A value, which the tables cannot hold where it is not finite."""
    return _NOT_FINITE.get(kind, math.nan if value is None else value)


def value_name(objective: int, *, maximised: bool) -> str:
    name = "score" if maximised else "value"
    return name if objective == 0 else f"{name}_{objective}"


def external(value: Any, distribution: Any, file: str) -> Any:
    """A parameter as it was searched: choices are stored as their numbers."""
    described = loaded(distribution, file)
    attributes = described.get("attributes", {}) if isinstance(described, Mapping) else {}
    kind = str(described.get("name", "")) if isinstance(described, Mapping) else ""
    try:
        if kind == "CategoricalDistribution":
            return attributes["choices"][int(value)]
        return int(value) if kind.startswith("Int") else value
    except (KeyError, IndexError, TypeError, ValueError, OverflowError):
        raise LogFormatError(f"{file}: a parameter is none of its choices; the study is damaged") from None


def loaded(raw: Any, file: str) -> Any:
    try:
        return json.loads(raw)
    except (ValueError, TypeError, RecursionError) as error:
        raise LogFormatError(f"{file}: a value is not JSON ({error}); the study is damaged") from None


OPTUNA: Final = Optuna()
