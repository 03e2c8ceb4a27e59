"""Losses of sizes: a table of their own, for rows whose learning rate and batch nobody says."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def _positive(column: str) -> sa.CheckConstraint:
    return sa.CheckConstraint(f"{column} > 0 AND {column} < 1e300", name=op.f(f"ck_losses_{column}_positive"))


def upgrade() -> None:
    """One table more; nothing that was stored is touched."""
    op.create_table(
        "losses",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("recipe_id", sa.Integer(), nullable=False),
        sa.Column("run_key", sa.Text(), nullable=False),
        sa.Column("params", sa.Double(), nullable=False),
        sa.Column("tokens", sa.Double(), nullable=False),
        sa.Column("loss", sa.Double(), nullable=False),
        sa.Column("extra", sa.JSON(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        _positive("params"),
        _positive("tokens"),
        _positive("loss"),
        sa.ForeignKeyConstraint(["recipe_id"], ["recipes.id"], name=op.f("fk_losses_recipe_id_recipes")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_losses")),
        sa.UniqueConstraint("recipe_id", "run_key", name=op.f("uq_losses_recipe_id_run_key")),
    )


def downgrade() -> None:
    """The table goes, and its rows with it."""
    op.drop_table("losses")
