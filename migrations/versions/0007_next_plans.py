"""Plans of further runs, kept under their ids."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """One table more; nothing that was stored is touched."""
    op.create_table(
        "next_plans",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("fit_id", sa.Text(), nullable=True),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["fit_id"], ["fits.id"], name=op.f("fk_next_plans_fit_id_fits")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_next_plans")),
    )
    op.create_index("ix_next_plans_fit_id", "next_plans", ["fit_id"])


def downgrade() -> None:
    """The table goes, with the plans; the same question gives each of them again."""
    op.drop_index("ix_next_plans_fit_id", table_name="next_plans")
    op.drop_table("next_plans")
