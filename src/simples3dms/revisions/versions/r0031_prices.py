"""What stores cost as operators say it, and how long chunks of migrations took, for plans."""

from __future__ import annotations

from typing import Any

from alembic import op

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None

#: A chunk's last run: when it began and ended, and what it copied.
PRICES = """
ALTER TABLE stores ADD COLUMN prices jsonb NOT NULL DEFAULT '{}';
ALTER TABLE migration_chunks
  ADD COLUMN started_at timestamptz,
  ADD COLUMN done_at timestamptz,
  ADD COLUMN copied_count bigint NOT NULL DEFAULT 0,
  ADD COLUMN copied_bytes bigint NOT NULL DEFAULT 0;
CREATE INDEX migration_chunks_done ON migration_chunks (tenant_id, migration_id, done_at)
  WHERE done_at IS NOT NULL AND phase = 'copy';
CREATE INDEX migrations_of_target ON migrations (target_store_id, started_at);
"""


def _run(statements: str) -> None:
    connection: Any = op.get_bind().connection.driver_connection
    connection.execute(statements)


def upgrade() -> None:
    _run(PRICES)


def downgrade() -> None:
    raise RuntimeError("Restore a backup instead: what later versions wrote can't be put back.")
