"""The tables: recipes, runs, curves, targets, losses, corrections, moves, optima, fits (and when each was made),
predictions, plans of further runs, studies; of launches: jobs, and who trains which run; of the service: tokens, audit,
jobs, replies, and runs that are being logged."""

from __future__ import annotations

import sqlalchemy as sa

# Named constraints, so that a migration can drop what an earlier one created, on both databases.
NAMING = {
    "ix": "ix_%(column_0_N_label)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

metadata = sa.MetaData(naming_convention=NAMING)


def _positive(column: str) -> sa.CheckConstraint:
    # The upper bound keeps out infinity and, on PostgreSQL where NaN sorts above all numbers, NaN.
    return sa.CheckConstraint(f"{column} > 0 AND {column} < 1e300", name=f"{column}_positive")


recipes = sa.Table(
    "recipes",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("key", sa.Text, nullable=False, unique=True),  # Recipe.key: hash of all that is held fixed
    sa.Column("name", sa.Text, nullable=False, unique=True),
    sa.Column("optimizer", sa.Text, nullable=False),
    sa.Column("schedule", sa.Text, nullable=False),
    sa.Column("data", sa.Text, nullable=False),
    sa.Column("tokenizer", sa.Text, nullable=False),
    sa.Column("seq_len", sa.BigInteger),
    sa.Column("parametrization", sa.Text, nullable=False),
    sa.Column("params_convention", sa.Text, nullable=False),
    sa.Column("loss_kind", sa.Text, nullable=False),
    sa.Column("loss_column", sa.Text, nullable=False),
    sa.Column("extra", sa.JSON, nullable=False),
    sa.Column("created_at", sa.Text, nullable=False),
    sa.CheckConstraint("name <> ''", name="name_given"),
    sa.CheckConstraint("seq_len > 0", name="seq_len_positive"),
)

runs = sa.Table(
    "runs",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("recipe_id", sa.ForeignKey("recipes.id"), nullable=False),
    sa.Column("run_key", sa.Text, nullable=False),
    sa.Column("params", sa.Double, nullable=False),
    sa.Column("tokens", sa.Double, nullable=False),
    sa.Column("batch_tokens", sa.Double, nullable=False),
    sa.Column("lr", sa.Double, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("loss", sa.Double),
    sa.Column("weight_decay", sa.Double),
    sa.Column("steps", sa.BigInteger),
    sa.Column("seed", sa.BigInteger),
    sa.Column("extra", sa.JSON, nullable=False),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("excluded", sa.Text),
    sa.UniqueConstraint("recipe_id", "run_key"),
    _positive("params"),
    _positive("tokens"),
    _positive("batch_tokens"),
    _positive("lr"),
    _positive("loss"),
    sa.CheckConstraint("steps > 0", name="steps_positive"),
    sa.CheckConstraint("weight_decay >= 0 AND weight_decay < 1e300", name="weight_decay_not_negative"),
    sa.CheckConstraint("status IN ('finished', 'diverged')", name="status_known"),
    sa.CheckConstraint("(loss IS NULL) = (status = 'diverged')", name="loss_null_iff_diverged"),
    sa.CheckConstraint("excluded <> ''", name="excluded_with_reason"),
)

curves = sa.Table(
    "curves",
    metadata,
    sa.Column("run_id", sa.ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("metric", sa.Text, primary_key=True),
    sa.Column("chunk", sa.Integer, primary_key=True),  # 0, 1, ...: a live run appends
    sa.Column("codec", sa.Text, nullable=False),  # how to read `steps` and `numbers`
    sa.Column("points", sa.Integer, nullable=False),
    sa.Column("first_step", sa.BigInteger, nullable=False),
    sa.Column("last_step", sa.BigInteger, nullable=False),
    sa.Column("steps", sa.LargeBinary, nullable=False),
    sa.Column("numbers", sa.LargeBinary, nullable=False),
    sa.CheckConstraint("points > 0", name="points_positive"),
    sa.CheckConstraint("first_step <= last_step", name="steps_ascend"),
)

# Steps to a target loss, mostly the best of a small sweep: no run with a loss of its own.
targets = sa.Table(
    "targets",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("recipe_id", sa.ForeignKey("recipes.id"), nullable=False),
    sa.Column("run_key", sa.Text, nullable=False),
    sa.Column("params", sa.Double, nullable=False),
    sa.Column("batch_tokens", sa.Double, nullable=False),
    sa.Column("steps", sa.Double, nullable=False),
    sa.Column("target_loss", sa.Double, nullable=False),
    sa.Column("lr", sa.Double),
    sa.Column("weight_decay", sa.Double),
    sa.Column("extra", sa.JSON, nullable=False),
    sa.Column("source", sa.Text, nullable=False),
    sa.UniqueConstraint("recipe_id", "run_key"),
    _positive("params"),
    _positive("batch_tokens"),
    _positive("target_loss"),
    _positive("lr"),
    _positive("steps"),
    sa.CheckConstraint("weight_decay >= 0 AND weight_decay < 1e300", name="weight_decay_not_negative"),
)

# What sizes of model reached, where nobody says learning rate and batch: evidence for laws of the loss alone.
losses = sa.Table(
    "losses",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("recipe_id", sa.ForeignKey("recipes.id"), nullable=False),
    sa.Column("run_key", sa.Text, nullable=False),
    sa.Column("params", sa.Double, nullable=False),
    sa.Column("tokens", sa.Double, nullable=False),
    sa.Column("loss", sa.Double, nullable=False),
    sa.Column("extra", sa.JSON, nullable=False),
    sa.Column("source", sa.Text, nullable=False),
    sa.UniqueConstraint("recipe_id", "run_key"),
    _positive("params"),
    _positive("tokens"),
    _positive("loss"),
)

# A field of a run that a person changed. Rows of one `change` were made together and are undone together.
corrections = sa.Table(
    "corrections",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("change", sa.Integer, nullable=False, index=True),
    sa.Column("run_id", sa.ForeignKey("runs.id", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("field", sa.Text, nullable=False),
    sa.Column("before", sa.Text, nullable=False),  # JSON as text: SQLite takes a bare 1.0 in a JSON column for 1
    sa.Column("after", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("made_at", sa.Text, nullable=False),
    sa.Column("undone_at", sa.Text),
    sa.CheckConstraint("reason <> ''", name="reason_given"),
)

# Where the runs of a merged recipe (no `split_by`) or of one that was split have gone, and later ones go.
moves = sa.Table(
    "moves",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("recipe_id", sa.ForeignKey("recipes.id"), nullable=False),
    sa.Column("into_id", sa.ForeignKey("recipes.id"), nullable=False),
    sa.Column("split_by", sa.Text),
    sa.Column("split_value", sa.Text),
    sa.Column("made_at", sa.Text, nullable=False),
    sa.UniqueConstraint("recipe_id", "split_value"),
    sa.CheckConstraint("(split_by IS NULL) = (split_value IS NULL)", name="merged_or_split"),
)

fits = sa.Table(
    "fits",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),  # content hash; rows are never updated (a trigger refuses)
    sa.Column("recipe_id", sa.ForeignKey("recipes.id"), nullable=False, index=True),
    sa.Column("recipe_name", sa.Text, nullable=False),  # as it was called then
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("data_hash", sa.Text, nullable=False),
    sa.Column("code_version", sa.Text, nullable=False),
    sa.Column("created_at", sa.Text, nullable=False),
    sa.Column("options", sa.JSON, nullable=False),
    sa.Column("exclusions", sa.JSON, nullable=False),
    sa.Column("payload", sa.JSON, nullable=False),
    sa.CheckConstraint("status IN ('ok', 'sparse', 'uncertified')", name="status_known"),
)

# A fit made again (data changed and changed back) is the same row, yet it is the latest once more: hence a log.
refits = sa.Table(
    "refits",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("fit_id", sa.ForeignKey("fits.id"), nullable=False, index=True),
    sa.Column("made_at", sa.Text, nullable=False),
)

optima = sa.Table(
    "optima",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("fit_id", sa.ForeignKey("fits.id"), nullable=False, index=True),
    sa.Column("params", sa.Double, nullable=False),
    sa.Column("tokens", sa.Double, nullable=False),
    sa.Column("estimator", sa.Text, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("lr", sa.Double),
    sa.Column("batch_tokens", sa.Double),
    sa.Column("loss", sa.Double),
    sa.Column("detail", sa.JSON, nullable=False),
    sa.CheckConstraint("status IN ('inside', 'at_edge', 'flat', 'too_few')", name="status_known"),
    _positive("params"),
    _positive("tokens"),
    _positive("lr"),
    _positive("batch_tokens"),
)

predictions = sa.Table(
    "predictions",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("fit_id", sa.ForeignKey("fits.id"), nullable=False, index=True),
    sa.Column("target", sa.JSON, nullable=False),
    sa.Column("answer", sa.JSON, nullable=False),
    sa.Column("created_at", sa.Text, nullable=False),
)

# What to run next, as it was planned: without a fit where nothing was run yet.
next_plans = sa.Table(
    "next_plans",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("fit_id", sa.ForeignKey("fits.id"), index=True),
    sa.Column("document", sa.JSON, nullable=False),
    sa.Column("created_at", sa.Text, nullable=False),
)

# Commands that train runs, while they live and afterwards. One that is killed stops beating.
launches = sa.Table(
    "launches",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("backend", sa.Text, nullable=False),
    sa.Column("host", sa.Text, nullable=False),
    sa.Column("process", sa.Text, nullable=False),  # tells it from all others of its machine; "" where that cannot be
    sa.Column("logs", sa.Text, nullable=False),  # folder
    sa.Column("command", sa.Text, nullable=False),  # template of a trainer of the user's own; "": lawfit's
    sa.Column("began_at", sa.Text, nullable=False),
    sa.Column("beat_at", sa.Double, nullable=False),  # seconds since 1970
    sa.Column("ended_at", sa.Text),
)

# What launches start: a pack of runs each, or one run of a trainer of the user's own. Not the service's `jobs` below.
training_jobs = sa.Table(
    "training_jobs",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),  # hash of its runs: a launch that goes on with it has the same
    sa.Column("launch_id", sa.ForeignKey("launches.id"), nullable=False, index=True),  # the last that had it
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("runs", sa.JSON, nullable=False),  # ids
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("place", sa.Text, nullable=False),
    sa.Column("attempts", sa.JSON, nullable=False),  # of all launches: when, where, how each ended and what it cost
    sa.Column("tokens", sa.Double, nullable=False),  # trained
    sa.Column("tokens_total", sa.Double, nullable=False),
    sa.Column("problem", sa.Text),  # why it failed
    sa.Column("tail", sa.Text, nullable=False),  # of what it said last
    sa.Column("dollars_per_gpu_hour", sa.Double),
    sa.Column("created_at", sa.Text, nullable=False),
    sa.Column("started_at", sa.Text),
    sa.Column("finished_at", sa.Text),
    sa.CheckConstraint(
        "state IN ('queued', 'running', 'cancelling', 'ended', 'stopped', 'split', 'failed', 'given_up', 'cancelled')",
        name="state_known",
    ),
)

# Of all launches on one store, only one trains a run at a time.
training_claims = sa.Table(
    "training_claims",
    metadata,
    sa.Column("run_id", sa.Text, primary_key=True),
    sa.Column("launch_id", sa.ForeignKey("launches.id"), nullable=False, index=True),
)

# A study: a question, how its runs are made, and why it ended (a finding; NULL while it can go on).
studies = sa.Table(
    "studies",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("recipe", sa.Text, nullable=False),
    sa.Column("asked", sa.JSON, nullable=False),
    sa.Column("launch", sa.JSON, nullable=False),
    sa.Column("stopped", sa.JSON(none_as_null=True)),
    sa.Column("created_at", sa.Text, nullable=False),
    sa.Column("updated_at", sa.Text, nullable=False),
)

# A round of a study: each step of it is one change of the phase, so that no round counts twice.
study_rounds = sa.Table(
    "study_rounds",
    metadata,
    sa.Column("study_id", sa.ForeignKey("studies.id"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("phase", sa.Text, nullable=False),
    sa.Column("document", sa.JSON, nullable=False),
    sa.Column("grid", sa.JSON, nullable=False),  # as `lawfit launch` takes it
    sa.Column("seconds", sa.Double, nullable=False),  # of its launches so far
    sa.Column("gpu_seconds", sa.Double, nullable=False),
    sa.CheckConstraint("phase IN ('planned', 'trained', 'fitted')", name="phase_known"),
)

# What opens the service to whom. The token itself is nowhere: what stands here does not give it back.
tokens = sa.Table(
    "tokens",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.Text, nullable=False, unique=True),
    sa.Column("hash", sa.Text, nullable=False, unique=True),  # SHA-256 of 256 random bits, which needs no salt
    sa.Column("scopes", sa.Text, nullable=False),  # separated by spaces
    sa.Column("created_at", sa.Text, nullable=False),
    sa.Column("expires_at", sa.Text),
    sa.Column("last_used_at", sa.Text),
    sa.Column("revoked_at", sa.Text),
    sa.CheckConstraint("name <> ''", name="name_given"),
)

# Each change that came over HTTP: who, from where, what, and how it ended.
audit = sa.Table(
    "audit",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("at", sa.Text, nullable=False),
    sa.Column("who", sa.Text, nullable=False),  # name of the token; "" from the machine itself, without one
    sa.Column("address", sa.Text, nullable=False),
    sa.Column("request_id", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False),  # method and path
    sa.Column("status", sa.Integer, nullable=False),
)

# Work that a request began and that outlasts it. A worker that dies stops beating, and another one takes over.
jobs = sa.Table(
    "jobs",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("asked", sa.JSON, nullable=False),
    sa.Column("result", sa.JSON),
    sa.Column("problem", sa.Text),
    sa.Column("progress", sa.Double, nullable=False),  # share that is done
    sa.Column("doing", sa.Text, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("who", sa.Text, nullable=False),
    sa.Column("worker", sa.Text),
    sa.Column("created_at", sa.Text, nullable=False),
    sa.Column("started_at", sa.Text),
    sa.Column("beat_at", sa.Double),  # seconds since 1970
    sa.Column("finished_at", sa.Text),
    sa.CheckConstraint(
        "state IN ('queued', 'running', 'cancelling', 'done', 'failed', 'cancelled')", name="state_known"
    ),
    sa.CheckConstraint("progress >= 0 AND progress <= 1", name="progress_is_a_share"),
    sa.Index("ix_jobs_state", "state"),
)

# What was answered to a request with an Idempotency-Key, so that the same request again does nothing again.
replies = sa.Table(
    "replies",
    metadata,
    sa.Column("who", sa.Text, primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("asked", sa.Text, nullable=False),  # hash of method, path, query and body
    sa.Column("status", sa.Integer),  # None: under way
    sa.Column("media_type", sa.Text),
    sa.Column("body", sa.LargeBinary),
    sa.Column("began_at", sa.Double, nullable=False),  # seconds since 1970
)

# Runs that a training loop is logging; when they have ended they are read as any other log is, and go to `runs`.
live_runs = sa.Table(
    "live_runs",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("project", sa.Text, nullable=False),
    sa.Column("run_key", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("config", sa.JSON, nullable=False),
    sa.Column("summary", sa.JSON, nullable=False),
    sa.Column("began_at", sa.Text, nullable=False),
    sa.Column("beat_at", sa.Text, nullable=False),
    sa.Column("stored_at", sa.Text),  # when it went to `runs`
    sa.UniqueConstraint("project", "run_key"),
    sa.CheckConstraint("state IN ('running', 'finished', 'crashed', 'diverged')", name="state_known"),
)

live_points = sa.Table(
    "live_points",
    metadata,
    sa.Column("live_run_id", sa.ForeignKey("live_runs.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("metric", sa.Text, primary_key=True),
    sa.Column("step", sa.BigInteger, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),  # as Python writes a float: nan and infinity are values too
)
