"""Tenants: suspended since when, and why."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        ALTER TABLE tenants
          ADD COLUMN suspended_at timestamptz,
          ADD COLUMN suspension_reason text CHECK (length(suspension_reason) BETWEEN 1 AND 500),
          ADD CHECK ((suspended_at IS NULL) = (suspension_reason IS NULL))
        """
    )


def downgrade() -> None:
    raise RuntimeError("Restore a backup instead: what later versions wrote can't be put back.")
