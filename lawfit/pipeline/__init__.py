"""THE MAIN PATH, one verb a file: ingest -> refit -> recommend -> plan -> launch -> again. Start reading here."""

from __future__ import annotations

from lawfit.pipeline.asked import laws_of
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
from lawfit.pipeline.next_planning import kept_plan, plan_next, require_plannable, run_rows
from lawfit.pipeline.next_runs import next_grid
from lawfit.pipeline.opening import open_store
from lawfit.pipeline.planning import plan
from lawfit.pipeline.predicting import (
    comes_out_the_same,
    cost_of_setting,
    recommend,
)
from lawfit.pipeline.rehearsing import rehearse
from lawfit.pipeline.schedules import refine_schedule, study_schedules
from lawfit.pipeline.served_launches import (
    launch_asked,
    launch_places,
    read_training_templates,
    require_launchable,
)
from lawfit.pipeline.studying import (
    Watch,
    all_studies,
    require_study,
    resume_study,
    run_study,
    show_study,
)
from lawfit.pipeline.training import set_up
from lawfit.pipeline.uploading import ingest_upload

__all__ = [
    "Watch",
    "all_studies",
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
    "kept_plan",
    "launch",
    "launch_asked",
    "launch_places",
    "law_at",
    "laws_of",
    "list_laws",
    "list_recipes",
    "list_runs",
    "next_grid",
    "open_store",
    "plan",
    "plan_next",
    "read_training_templates",
    "recommend",
    "refine_schedule",
    "refit",
    "rehearse",
    "require_askable",
    "require_launchable",
    "require_plannable",
    "require_study",
    "resume_study",
    "run_rows",
    "run_study",
    "runs_changed_since",
    "set_up",
    "show_law",
    "show_study",
    "study_schedules",
    "token_ratio",
    "transfer",
]
