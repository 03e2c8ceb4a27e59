"""THE MAIN PATH, one verb a file: ingest -> refit -> recommend -> plan -> launch. Start reading here."""

from __future__ import annotations

from lawfit.pipeline.changes import runs_changed_since
from lawfit.pipeline.comparing import (
    compare_fits,
    compare_laws,
    law_at,
    list_laws,
    show_law,
    token_ratio,
    transfer,
)
from lawfit.pipeline.correcting import correct
from lawfit.pipeline.exporting import export
from lawfit.pipeline.fitting import refit, require_askable
from lawfit.pipeline.ingesting import ingest
from lawfit.pipeline.launching import launch
from lawfit.pipeline.listing import list_recipes, list_runs
from lawfit.pipeline.live import answered, finish_run
from lawfit.pipeline.next_planning import plan_next, read_means, run_rows
from lawfit.pipeline.next_runs import next_grid
from lawfit.pipeline.opening import open_store
from lawfit.pipeline.planning import plan
from lawfit.pipeline.predicting import (
    comes_out_the_same,
    cost_of_setting,
    laws_of,
    recommend,
)
from lawfit.pipeline.schedules import refine_schedule, study_schedules
from lawfit.pipeline.training import set_up
from lawfit.pipeline.uploading import ingest_upload

__all__ = [
    "answered",
    "comes_out_the_same",
    "compare_fits",
    "compare_laws",
    "correct",
    "cost_of_setting",
    "export",
    "finish_run",
    "ingest",
    "ingest_upload",
    "launch",
    "law_at",
    "laws_of",
    "list_laws",
    "list_recipes",
    "list_runs",
    "next_grid",
    "open_store",
    "plan",
    "plan_next",
    "read_means",
    "recommend",
    "refine_schedule",
    "refit",
    "require_askable",
    "run_rows",
    "runs_changed_since",
    "set_up",
    "show_law",
    "study_schedules",
    "token_ratio",
    "transfer",
]
