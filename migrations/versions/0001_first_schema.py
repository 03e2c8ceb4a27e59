"""First schema: recipes, runs, curves, fits, refits, optima, predictions; a trigger keeps fits as they are."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """From nothing."""
    op.create_table(
        "recipes",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("optimizer", sa.Text(), nullable=False),
        sa.Column("schedule", sa.Text(), nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        sa.Column("tokenizer", sa.Text(), nullable=False),
        sa.Column("seq_len", sa.BigInteger(), nullable=True),
        sa.Column("parametrization", sa.Text(), nullable=False),
        sa.Column("params_convention", sa.Text(), nullable=False),
        sa.Column("loss_kind", sa.Text(), nullable=False),
        sa.Column("loss_column", sa.Text(), nullable=False),
        sa.Column("extra", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.Text(), nullable=False),
        sa.CheckConstraint("name <> ''", name=op.f("ck_recipes_name_given")),
        sa.CheckConstraint("seq_len > 0", name=op.f("ck_recipes_seq_len_positive")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_recipes")),
        sa.UniqueConstraint("key", name=op.f("uq_recipes_key")),
        sa.UniqueConstraint("name", name=op.f("uq_recipes_name")),
    )
    op.create_table(
        "fits",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("recipe_id", sa.Integer(), nullable=False),
        sa.Column("recipe_name", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("data_hash", sa.Text(), nullable=False),
        sa.Column("code_version", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Text(), nullable=False),
        sa.Column("options", sa.JSON(), nullable=False),
        sa.Column("exclusions", sa.JSON(), nullable=False),
        sa.Column("payload", sa.JSON(), nullable=False),
        sa.CheckConstraint("status IN ('ok', 'sparse', 'uncertified')", name=op.f("ck_fits_status_known")),
        sa.ForeignKeyConstraint(["recipe_id"], ["recipes.id"], name=op.f("fk_fits_recipe_id_recipes")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_fits")),
    )
    op.create_index(op.f("ix_fits_recipe_id"), "fits", ["recipe_id"])

    op.create_table(
        "runs",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("recipe_id", sa.Integer(), nullable=False),
        sa.Column("run_key", sa.Text(), nullable=False),
        sa.Column("params", sa.Double(), nullable=False),
        sa.Column("tokens", sa.Double(), nullable=False),
        sa.Column("batch_tokens", sa.Double(), nullable=False),
        sa.Column("lr", sa.Double(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("loss", sa.Double(), nullable=True),
        sa.Column("weight_decay", sa.Double(), nullable=True),
        sa.Column("steps", sa.BigInteger(), nullable=True),
        sa.Column("seed", sa.BigInteger(), nullable=True),
        sa.Column("extra", sa.JSON(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("excluded", sa.Text(), nullable=True),
        sa.CheckConstraint("(loss IS NULL) = (status = 'diverged')", name=op.f("ck_runs_loss_null_iff_diverged")),
        sa.CheckConstraint("excluded <> ''", name=op.f("ck_runs_excluded_with_reason")),
        sa.CheckConstraint("status IN ('finished', 'diverged')", name=op.f("ck_runs_status_known")),
        sa.CheckConstraint("batch_tokens > 0 AND batch_tokens < 1e300", name=op.f("ck_runs_batch_tokens_positive")),
        sa.CheckConstraint("loss > 0 AND loss < 1e300", name=op.f("ck_runs_loss_positive")),
        sa.CheckConstraint("lr > 0 AND lr < 1e300", name=op.f("ck_runs_lr_positive")),
        sa.CheckConstraint("params > 0 AND params < 1e300", name=op.f("ck_runs_params_positive")),
        sa.CheckConstraint("steps > 0", name=op.f("ck_runs_steps_positive")),
        sa.CheckConstraint("tokens > 0 AND tokens < 1e300", name=op.f("ck_runs_tokens_positive")),
        sa.CheckConstraint(
            "weight_decay >= 0 AND weight_decay < 1e300", name=op.f("ck_runs_weight_decay_not_negative")
        ),
        sa.ForeignKeyConstraint(["recipe_id"], ["recipes.id"], name=op.f("fk_runs_recipe_id_recipes")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_runs")),
        sa.UniqueConstraint("recipe_id", "run_key", name=op.f("uq_runs_recipe_id_run_key")),
    )
    op.create_table(
        "curves",
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("chunk", sa.Integer(), nullable=False),
        sa.Column("codec", sa.Text(), nullable=False),
        sa.Column("points", sa.Integer(), nullable=False),
        sa.Column("first_step", sa.BigInteger(), nullable=False),
        sa.Column("last_step", sa.BigInteger(), nullable=False),
        sa.Column("steps", sa.LargeBinary(), nullable=False),
        sa.Column("numbers", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint("first_step <= last_step", name=op.f("ck_curves_steps_ascend")),
        sa.CheckConstraint("points > 0", name=op.f("ck_curves_points_positive")),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_curves_run_id_runs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id", "metric", "chunk", name=op.f("pk_curves")),
    )
    op.create_table(
        "optima",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("fit_id", sa.Text(), nullable=False),
        sa.Column("params", sa.Double(), nullable=False),
        sa.Column("tokens", sa.Double(), nullable=False),
        sa.Column("estimator", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("lr", sa.Double(), nullable=True),
        sa.Column("batch_tokens", sa.Double(), nullable=True),
        sa.Column("loss", sa.Double(), nullable=True),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.CheckConstraint("status IN ('inside', 'at_edge', 'flat', 'too_few')", name=op.f("ck_optima_status_known")),
        sa.CheckConstraint("batch_tokens > 0 AND batch_tokens < 1e300", name=op.f("ck_optima_batch_tokens_positive")),
        sa.CheckConstraint("lr > 0 AND lr < 1e300", name=op.f("ck_optima_lr_positive")),
        sa.CheckConstraint("params > 0 AND params < 1e300", name=op.f("ck_optima_params_positive")),
        sa.CheckConstraint("tokens > 0 AND tokens < 1e300", name=op.f("ck_optima_tokens_positive")),
        sa.ForeignKeyConstraint(["fit_id"], ["fits.id"], name=op.f("fk_optima_fit_id_fits")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_optima")),
    )
    op.create_index(op.f("ix_optima_fit_id"), "optima", ["fit_id"])

    op.create_table(
        "predictions",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("fit_id", sa.Text(), nullable=False),
        sa.Column("target", sa.JSON(), nullable=False),
        sa.Column("answer", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["fit_id"], ["fits.id"], name=op.f("fk_predictions_fit_id_fits")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_predictions")),
    )
    op.create_index(op.f("ix_predictions_fit_id"), "predictions", ["fit_id"])

    op.create_table(
        "refits",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("fit_id", sa.Text(), nullable=False),
        sa.Column("made_at", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["fit_id"], ["fits.id"], name=op.f("fk_refits_fit_id_fits")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_refits")),
    )
    op.create_index(op.f("ix_refits_fit_id"), "refits", ["fit_id"])

    if op.get_context().dialect.name == "sqlite":
        op.execute(
            "CREATE TRIGGER fits_are_immutable BEFORE UPDATE ON fits "
            "BEGIN SELECT RAISE(ABORT, 'a stored fit is never changed'); END"
        )
    else:
        op.execute(
            "CREATE FUNCTION lawfit_refuse_change() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'a stored fit is never changed'; END $$"
        )
        op.execute(
            "CREATE TRIGGER fits_are_immutable BEFORE UPDATE ON fits "
            "FOR EACH ROW EXECUTE FUNCTION lawfit_refuse_change()"
        )


def downgrade() -> None:
    """Back to nothing."""
    for table in ("refits", "predictions", "optima", "curves", "runs", "fits", "recipes"):
        op.drop_table(table)
    if op.get_context().dialect.name != "sqlite":
        op.execute("DROP FUNCTION lawfit_refuse_change()")
