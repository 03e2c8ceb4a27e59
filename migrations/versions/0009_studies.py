"""Studies and their rounds."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Two tables more; nothing that was stored is touched."""
    op.create_table(
        "studies",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("recipe", sa.Text(), nullable=False),
        sa.Column("asked", sa.JSON(), nullable=False),
        sa.Column("launch", sa.JSON(), nullable=False),
        sa.Column("stopped", sa.JSON(), nullable=True),
        sa.Column("created_at", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_studies")),
    )
    op.create_table(
        "study_rounds",
        sa.Column("study_id", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("phase", sa.Text(), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.Column("grid", sa.JSON(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("gpu_seconds", sa.Double(), nullable=False),
        sa.CheckConstraint("phase IN ('planned', 'trained', 'fitted')", name=op.f("ck_study_rounds_phase_known")),
        sa.ForeignKeyConstraint(["study_id"], ["studies.id"], name=op.f("fk_study_rounds_study_id_studies")),
        sa.PrimaryKeyConstraint("study_id", "number", name=op.f("pk_study_rounds")),
    )


def downgrade() -> None:
    """The tables go, with the history of studies; their runs, plans and fits stay."""
    op.drop_table("study_rounds")
    op.drop_table("studies")
