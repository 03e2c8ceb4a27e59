"""What a person changed: fields of runs, with the reason, and which recipes were merged or split by which rule."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Two tables more; nothing that was stored is touched."""
    op.create_table(
        "corrections",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("change", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("field", sa.Text(), nullable=False),
        sa.Column("before", sa.Text(), nullable=False),
        sa.Column("after", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("made_at", sa.Text(), nullable=False),
        sa.Column("undone_at", sa.Text(), nullable=True),
        sa.CheckConstraint("reason <> ''", name=op.f("ck_corrections_reason_given")),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_corrections_run_id_runs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_corrections")),
    )
    op.create_index(op.f("ix_corrections_run_id"), "corrections", ["run_id"])
    op.create_index(op.f("ix_corrections_change"), "corrections", ["change"])
    op.create_table(
        "moves",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("recipe_id", sa.Integer(), nullable=False),
        sa.Column("into_id", sa.Integer(), nullable=False),
        sa.Column("split_by", sa.Text(), nullable=True),
        sa.Column("split_value", sa.Text(), nullable=True),
        sa.Column("made_at", sa.Text(), nullable=False),
        sa.CheckConstraint("(split_by IS NULL) = (split_value IS NULL)", name=op.f("ck_moves_merged_or_split")),
        sa.ForeignKeyConstraint(["into_id"], ["recipes.id"], name=op.f("fk_moves_into_id_recipes")),
        sa.ForeignKeyConstraint(["recipe_id"], ["recipes.id"], name=op.f("fk_moves_recipe_id_recipes")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_moves")),
        sa.UniqueConstraint("recipe_id", "split_value", name=op.f("uq_moves_recipe_id_split_value")),
    )


def downgrade() -> None:
    """The tables go; what was corrected and moved stays as it is."""
    op.drop_table("moves")
    op.drop_table("corrections")
