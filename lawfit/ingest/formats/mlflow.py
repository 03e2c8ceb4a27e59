"""MLflow's tracking store in a database: `mlflow.db` or any SQLite file with its tables, or PostgreSQL by URI.

Read through its tables, as mlflow-skinny cannot open them: `runs`, `experiments`, `params`, `metrics`. An experiment is
a project.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

from lawfit.ingest.database import DatabaseLogs, Query
from lawfit.ingest.run_log import CRASHED, FINISHED, RUNNING, LoggedRun, Points

STATES: Final = {
    "FINISHED": FINISHED, "FAILED": CRASHED, "KILLED": CRASHED, "RUNNING": RUNNING, "SCHEDULED": RUNNING,
}  # fmt: skip
_LARGEST: Final = 1.7e308  # MLflow stores infinity as the largest double


class MlflowDatabase(DatabaseLogs):
    """Runs that are not deleted, with all points of all metrics."""

    name = "mlflow"
    tables = frozenset({"experiments", "runs", "params", "metrics", "latest_metrics"})

    def runs_of(self, query: Query, file: str) -> Iterable[LoggedRun]:
        projects = {key: str(name) for key, name in query("select experiment_id, name from experiments")}
        runs: dict[str, LoggedRun] = {}
        described = "select run_uuid, name, status, experiment_id from runs where lifecycle_stage = 'active'"
        for run_id, name, status, experiment in query(f"{described} order by start_time, run_uuid"):
            runs[run_id] = LoggedRun(
                run_id=str(run_id), file=file, name=str(name or ""), project=projects.get(experiment, ""),
                state=STATES.get(str(status), RUNNING),
            )  # fmt: skip
        for run_id, key, value in query("select run_uuid, key, value from params"):
            if run_id in runs:
                runs[run_id].config[str(key)] = value
        series: dict[tuple[str, str], Points] = {}
        for run_id, key, step, value, is_nan in query("select run_uuid, key, step, value, is_nan from metrics"):
            points = series.get((run_id, key))
            if points is None:
                points = series[run_id, key] = Points()
            points.add(step, math.nan if is_nan else value)
        for (run_id, key), points in series.items():
            if run_id in runs:
                points.limit(_LARGEST)
                runs[run_id].points[str(key)] = points
        return runs.values()


MLFLOW: Final = MlflowDatabase()
