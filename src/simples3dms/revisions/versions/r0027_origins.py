"""Where a copy's bytes were before they moved: what a migration's report names once the source is empty."""

from __future__ import annotations

from typing import Any

from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None

ORIGINS = "ALTER TABLE replicas ADD COLUMN origin_store_id uuid, ADD COLUMN origin_key text"


def _run(statements: str) -> None:
    connection: Any = op.get_bind().connection.driver_connection
    connection.execute(statements)


def upgrade() -> None:
    _run(ORIGINS)


def downgrade() -> None:
    raise RuntimeError("Restore a backup instead: what later versions wrote can't be put back.")
