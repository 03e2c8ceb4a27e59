"""Steps to a target may be read between two evaluations: they need not be whole."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_BOUNDS = "ck_targets_steps_positive"


def upgrade() -> None:
    """The column holds fractions; its rows stay as they are."""
    _change(sa.BigInteger(), sa.Double(), "steps > 0 AND steps < 1e300")


def downgrade() -> None:
    """Fractions of a step go: on SQLite and PostgreSQL alike they are rounded, to one step at least."""
    op.execute("UPDATE targets SET steps = CASE WHEN steps < 1 THEN 1 ELSE round(steps) END")
    _change(sa.Double(), sa.BigInteger(), "steps > 0")


def _change(before: sa.types.TypeEngine[float], after: sa.types.TypeEngine[float], bounds: str) -> None:
    with op.batch_alter_table("targets", copy_from=_table(before)) as batch:
        batch.drop_constraint(op.f(_BOUNDS), type_="check")
        batch.alter_column("steps", existing_type=before, type_=after, existing_nullable=False)
        batch.create_check_constraint(op.f(_BOUNDS), bounds)


def _table(steps: sa.types.TypeEngine[float]) -> sa.Table:
    """The table as it stands: SQLite copies it, and its constraints are not read off the database."""

    def positive(column: str) -> sa.CheckConstraint:
        return sa.CheckConstraint(f"{column} > 0 AND {column} < 1e300", name=op.f(f"ck_targets_{column}_positive"))

    return sa.Table(
        "targets",
        sa.MetaData(),
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("recipe_id", sa.Integer(), nullable=False),
        sa.Column("run_key", sa.Text(), nullable=False),
        sa.Column("params", sa.Double(), nullable=False),
        sa.Column("batch_tokens", sa.Double(), nullable=False),
        sa.Column("steps", steps, nullable=False),
        sa.Column("target_loss", sa.Double(), nullable=False),
        sa.Column("lr", sa.Double(), nullable=True),
        sa.Column("weight_decay", sa.Double(), nullable=True),
        sa.Column("extra", sa.JSON(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        *(positive(column) for column in ("params", "batch_tokens", "target_loss", "lr")),
        sa.CheckConstraint("steps > 0", name=op.f(_BOUNDS)),
        sa.CheckConstraint(
            "weight_decay >= 0 AND weight_decay < 1e300", name=op.f("ck_targets_weight_decay_not_negative")
        ),
        sa.ForeignKeyConstraint(["recipe_id"], ["recipes.id"], name=op.f("fk_targets_recipe_id_recipes")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_targets")),
        sa.UniqueConstraint("recipe_id", "run_key", name=op.f("uq_targets_recipe_id_run_key")),
    )
