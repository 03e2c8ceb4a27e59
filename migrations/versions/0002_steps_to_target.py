"""Steps to a target loss: a table of their own, for rows that have no final loss."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def _positive(column: str) -> sa.CheckConstraint:
    return sa.CheckConstraint(f"{column} > 0 AND {column} < 1e300", name=op.f(f"ck_targets_{column}_positive"))


def upgrade() -> None:
    """One table more; nothing that was stored is touched."""
    op.create_table(
        "targets",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("recipe_id", sa.Integer(), nullable=False),
        sa.Column("run_key", sa.Text(), nullable=False),
        sa.Column("params", sa.Double(), nullable=False),
        sa.Column("batch_tokens", sa.Double(), nullable=False),
        sa.Column("steps", sa.BigInteger(), nullable=False),
        sa.Column("target_loss", sa.Double(), nullable=False),
        sa.Column("lr", sa.Double(), nullable=True),
        sa.Column("weight_decay", sa.Double(), nullable=True),
        sa.Column("extra", sa.JSON(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        _positive("params"),
        _positive("batch_tokens"),
        _positive("target_loss"),
        _positive("lr"),
        sa.CheckConstraint("steps > 0", name=op.f("ck_targets_steps_positive")),
        sa.CheckConstraint(
            "weight_decay >= 0 AND weight_decay < 1e300", name=op.f("ck_targets_weight_decay_not_negative")
        ),
        sa.ForeignKeyConstraint(["recipe_id"], ["recipes.id"], name=op.f("fk_targets_recipe_id_recipes")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_targets")),
        sa.UniqueConstraint("recipe_id", "run_key", name=op.f("uq_targets_recipe_id_run_key")),
    )


def downgrade() -> None:
    """The table goes, and its rows with it."""
    op.drop_table("targets")
