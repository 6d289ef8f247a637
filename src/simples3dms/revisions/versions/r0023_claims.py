"""Locks at stores: one at a time, and what was there before ours. Migrations: which waivers a proof is of."""

from __future__ import annotations

from typing import Any

from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

CLAIMS = """
ALTER TABLE object_locks
  ADD COLUMN lease_until timestamptz,
  ADD COLUMN claim bigint NOT NULL DEFAULT 0,
  ADD COLUMN doubt_until timestamptz,
  ADD COLUMN kept_until timestamptz;
ALTER TABLE migrations ADD COLUMN waivers_changed bigint NOT NULL DEFAULT 0;
"""


def _run(statements: str) -> None:
    connection: Any = op.get_bind().connection.driver_connection
    connection.execute(statements)


def upgrade() -> None:
    _run(CLAIMS)


def downgrade() -> None:
    raise RuntimeError("Restore a backup instead: what later versions wrote can't be put back.")
