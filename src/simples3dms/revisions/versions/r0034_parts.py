"""Migrations of a part: which blobs they are of, and when their present phase began."""

from __future__ import annotations

from typing import Any

from alembic import op

revision = "0034"
down_revision = "0033"
branch_labels = None
depends_on = None

PARTS = """
ALTER TABLE migrations
  ADD COLUMN scope jsonb NOT NULL DEFAULT '{}',
  ADD COLUMN phase_at timestamptz;
"""


def _run(statements: str) -> None:
    connection: Any = op.get_bind().connection.driver_connection
    connection.execute(statements)


def upgrade() -> None:
    _run(PARTS)


def downgrade() -> None:
    raise RuntimeError("Restore a backup instead: what later versions wrote can't be put back.")
