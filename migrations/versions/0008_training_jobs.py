"""Launches, the jobs that they start, and who trains which run."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Three tables more; nothing that was stored is touched."""
    op.create_table(
        "launches",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("backend", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("process", sa.Text(), nullable=False),
        sa.Column("logs", sa.Text(), nullable=False),
        sa.Column("command", sa.Text(), nullable=False),
        sa.Column("began_at", sa.Text(), nullable=False),
        sa.Column("beat_at", sa.Double(), nullable=False),
        sa.Column("ended_at", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_launches")),
    )
    op.create_table(
        "training_jobs",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("launch_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("runs", sa.JSON(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("place", sa.Text(), nullable=False),
        sa.Column("attempts", sa.JSON(), nullable=False),
        sa.Column("tokens", sa.Double(), nullable=False),
        sa.Column("tokens_total", sa.Double(), nullable=False),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.Column("tail", sa.Text(), nullable=False),
        sa.Column("dollars_per_gpu_hour", sa.Double(), nullable=True),
        sa.Column("created_at", sa.Text(), nullable=False),
        sa.Column("started_at", sa.Text(), nullable=True),
        sa.Column("finished_at", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "state IN ('queued', 'running', 'cancelling', 'ended', 'stopped', 'split', 'failed', 'given_up', "
            "'cancelled')",
            name=op.f("ck_training_jobs_state_known"),
        ),
        sa.ForeignKeyConstraint(["launch_id"], ["launches.id"], name=op.f("fk_training_jobs_launch_id_launches")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_training_jobs")),
    )
    op.create_index("ix_training_jobs_launch_id", "training_jobs", ["launch_id"])
    op.create_table(
        "training_claims",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("launch_id", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["launch_id"], ["launches.id"], name=op.f("fk_training_claims_launch_id_launches")),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_training_claims")),
    )
    op.create_index("ix_training_claims_launch_id", "training_claims", ["launch_id"])


def downgrade() -> None:
    """The tables go, with what is known of jobs; the runs that they trained stay."""
    op.drop_index("ix_training_claims_launch_id", table_name="training_claims")
    op.drop_table("training_claims")
    op.drop_index("ix_training_jobs_launch_id", table_name="training_jobs")
    op.drop_table("training_jobs")
    op.drop_table("launches")
