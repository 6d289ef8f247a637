"""Which processes use which store now: they share its limits."""

from __future__ import annotations

from typing import Any

from alembic import op

from simples3dms.revisions.versions.r0001_first_path import PLATFORM_POLICY

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

USERS = """
CREATE TABLE store_users (
  store_id uuid NOT NULL REFERENCES stores (id) ON DELETE CASCADE,
  process_id uuid NOT NULL,
  seen_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (store_id, process_id)
);
"""


def _run(statements: str) -> None:
    connection: Any = op.get_bind().connection.driver_connection
    connection.execute(statements)


def upgrade() -> None:
    _run(USERS)
    _run(PLATFORM_POLICY.format(table="store_users"))
