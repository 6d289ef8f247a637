"""Migrations that finish by themselves, and in hours of their own."""

from __future__ import annotations

from typing import Any

from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None

SCHEDULES = """
ALTER TABLE migrations
  ADD COLUMN finalize_after_seconds bigint CHECK (finalize_after_seconds >= 0),
  ADD COLUMN finalize_at timestamptz,
  ADD COLUMN windows jsonb NOT NULL DEFAULT '[]';
"""


def _run(statements: str) -> None:
    connection: Any = op.get_bind().connection.driver_connection
    connection.execute(statements)


def upgrade() -> None:
    _run(SCHEDULES)


def downgrade() -> None:
    raise RuntimeError("Restore a backup instead: what later versions wrote can't be put back.")
