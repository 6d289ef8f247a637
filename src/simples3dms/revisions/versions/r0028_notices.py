"""Notices of what becomes of migrations, and letters about them."""

from __future__ import annotations

from typing import Any

from alembic import op

from simples3dms.revisions.versions.r0001_first_path import TENANT_POLICY

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None

NOTICES = """
CREATE TABLE notices (
  tenant_id uuid NOT NULL REFERENCES tenants (id),
  id uuid NOT NULL,
  migration_id uuid NOT NULL,
  state text NOT NULL,
  at timestamptz NOT NULL DEFAULT now(),
  taken_at timestamptz,
  PRIMARY KEY (tenant_id, id),
  FOREIGN KEY (tenant_id, migration_id) REFERENCES migrations (tenant_id, id)
);
CREATE INDEX notices_due ON notices (at) WHERE taken_at IS NULL;
CREATE TABLE notice_letters (
  tenant_id uuid NOT NULL,
  id uuid NOT NULL,
  notice_id uuid NOT NULL,
  user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  PRIMARY KEY (tenant_id, id),
  UNIQUE (tenant_id, notice_id, user_id),
  FOREIGN KEY (tenant_id, notice_id) REFERENCES notices (tenant_id, id)
);
CREATE INDEX notice_letters_of_user ON notice_letters (user_id);
ALTER TABLE letters DROP CONSTRAINT letters_kind_check,
  ADD CONSTRAINT letters_kind_check CHECK (kind IN ('invitation', 'reset', 'notice'));
ALTER TABLE tenant_settings ADD COLUMN migration_letters boolean;
"""


def _run(statements: str) -> None:
    connection: Any = op.get_bind().connection.driver_connection
    connection.execute(statements)


def upgrade() -> None:
    _run(NOTICES)
    everything = "SELECT, INSERT, UPDATE, DELETE"
    _run(TENANT_POLICY.format(table="notices", rights="SELECT, INSERT", platform_rights=everything))
    _run(TENANT_POLICY.format(table="notice_letters", rights="SELECT", platform_rights=everything))


def downgrade() -> None:
    raise RuntimeError("Restore a backup instead: what later versions wrote can't be put back.")
