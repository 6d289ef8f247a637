"""Locks at stores: what we asked of each store, what it says it keeps, and when that is to be looked at."""

from __future__ import annotations

from typing import Any

from alembic import op

from simples3dms.revisions.versions.r0001_first_path import TENANT_POLICY

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

LOCKS = """
CREATE TABLE object_locks (
  tenant_id uuid NOT NULL,
  replica_id uuid NOT NULL,
  store_id uuid NOT NULL REFERENCES stores (id),
  asked_hold boolean NOT NULL DEFAULT false,
  asked_until timestamptz,
  set_hold boolean NOT NULL DEFAULT false,
  set_mode text CHECK (set_mode IN ('governance', 'compliance')),
  set_until timestamptz,
  set_at timestamptz,
  due_at timestamptz,
  fence bigint NOT NULL DEFAULT 0,
  attempt integer NOT NULL DEFAULT 0,
  last_error text,
  PRIMARY KEY (tenant_id, replica_id),
  FOREIGN KEY (tenant_id, replica_id) REFERENCES replicas (tenant_id, id) ON DELETE CASCADE,
  CHECK ((set_mode IS NULL) = (set_until IS NULL))
);
-- A tenant of which every document is to be looked at, since a store of it locks now or locks harder.
CREATE TABLE lock_surveys (
  tenant_id uuid PRIMARY KEY REFERENCES tenants (id),
  after uuid,
  due_at timestamptz,
  fence bigint NOT NULL DEFAULT 0
);
CREATE INDEX lock_surveys_due ON lock_surveys (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX object_locks_due ON object_locks (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX object_locks_of_tenant ON object_locks (tenant_id, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX object_locks_at_store ON object_locks (store_id)
  WHERE asked_hold OR asked_until IS NOT NULL OR due_at IS NOT NULL;
"""


def _run(statements: str) -> None:
    connection: Any = op.get_bind().connection.driver_connection
    connection.execute(statements)


def upgrade() -> None:
    _run(LOCKS)
    # Rows go with their replicas.
    everything = "SELECT, INSERT, UPDATE, DELETE"
    _run(TENANT_POLICY.format(table="object_locks", rights="SELECT, INSERT, UPDATE", platform_rights=everything))
    _run(TENANT_POLICY.format(table="lock_surveys", rights="SELECT, UPDATE", platform_rights=everything))


def downgrade() -> None:
    raise RuntimeError("Restore a backup instead: what later versions wrote can't be put back.")
