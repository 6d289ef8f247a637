"""What processes see of how long people wait: work in the background gives way by it."""

from __future__ import annotations

from typing import Any

from alembic import op

from simples3dms.revisions.versions.r0001_first_path import PLATFORM_POLICY

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

WAITS = """
CREATE TABLE reader_waits (
  process_id uuid PRIMARY KEY,
  slowdown float8,
  seen_at timestamptz NOT NULL DEFAULT now()
);
"""


def _run(statements: str) -> None:
    connection: Any = op.get_bind().connection.driver_connection
    connection.execute(statements)


def upgrade() -> None:
    _run(WAITS)
    _run(PLATFORM_POLICY.format(table="reader_waits"))
