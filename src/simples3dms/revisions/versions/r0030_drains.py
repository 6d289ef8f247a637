"""Drains of stores over all their tenants."""

from __future__ import annotations

from typing import Any

from alembic import op

from simples3dms.revisions.versions.r0001_first_path import PLATFORM_POLICY, TENANT_POLICY

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None

DRAINS = """
CREATE TABLE drains (
  id uuid PRIMARY KEY,
  store_id uuid NOT NULL REFERENCES stores (id),
  target_store_id uuid NOT NULL REFERENCES stores (id),
  state text NOT NULL CHECK (state IN ('running', 'confirming', 'paused', 'stepping_back', 'halted', 'done',
    'cancelled')),
  steps integer[] NOT NULL,
  step integer NOT NULL DEFAULT 0,
  automatic boolean NOT NULL,
  most_active integer NOT NULL CHECK (most_active >= 1),
  finalize_after_seconds bigint CHECK (finalize_after_seconds >= 0),
  most_failed_percent integer NOT NULL CHECK (most_failed_percent BETWEEN 0 AND 100),
  most_read_ms integer CHECK (most_read_ms >= 1),
  read_ms integer,
  slow_count integer NOT NULL DEFAULT 0,
  listed_after uuid,
  is_listed boolean NOT NULL DEFAULT false,
  reason text,
  created_at timestamptz NOT NULL DEFAULT now(),
  finished_at timestamptz,
  lease_until timestamptz,
  fence bigint NOT NULL DEFAULT 0,
  CHECK (store_id <> target_store_id)
);
CREATE UNIQUE INDEX drains_one_active ON drains (store_id) WHERE state NOT IN ('done', 'cancelled');
CREATE INDEX drains_of_target ON drains (target_store_id);
CREATE TABLE drain_tenants (
  tenant_id uuid NOT NULL REFERENCES tenants (id),
  drain_id uuid NOT NULL,
  step integer NOT NULL,
  state text NOT NULL CHECK (state IN ('waiting', 'moving', 'cut_over', 'moved', 'failed', 'blocked',
    'stepped_back')),
  migration_id uuid,
  code text,
  message text,
  updated_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, drain_id),
  FOREIGN KEY (tenant_id, migration_id) REFERENCES migrations (tenant_id, id)
);
CREATE INDEX drain_tenants_of_drain ON drain_tenants (drain_id, state, tenant_id);
"""


def _run(statements: str) -> None:
    connection: Any = op.get_bind().connection.driver_connection
    connection.execute(statements)


def upgrade() -> None:
    _run(DRAINS)
    _run(PLATFORM_POLICY.format(table="drains"))
    _run(TENANT_POLICY.format(table="drain_tenants", rights="SELECT", platform_rights="SELECT, INSERT, UPDATE, DELETE"))


def downgrade() -> None:
    raise RuntimeError("Restore a backup instead: what later versions wrote can't be put back.")
