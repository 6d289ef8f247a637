"""Takeouts, deletions of tenants, erasures of persons, and what reports on a person look up."""

from __future__ import annotations

from typing import Any

from alembic import op

from simples3dms.revisions.versions.r0001_first_path import PLATFORM_POLICY, TENANT_POLICY

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE takeouts (
  tenant_id uuid NOT NULL REFERENCES tenants (id),
  id uuid NOT NULL,
  upto_seq bigint NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  created_by text NOT NULL,
  PRIMARY KEY (tenant_id, id)
);
CREATE TABLE tenant_deletions (
  tenant_id uuid NOT NULL REFERENCES tenants (id),
  id uuid NOT NULL,
  state text NOT NULL CHECK (state IN ('requested', 'cancelled', 'purging', 'removing', 'done')),
  reason text NOT NULL CHECK (length(reason) BETWEEN 1 AND 500),
  requested_at timestamptz NOT NULL DEFAULT now(),
  requested_by uuid,
  requested_by_name text NOT NULL,
  waits_until timestamptz NOT NULL,
  confirmed_at timestamptz,
  confirmed_by uuid,
  confirmed_by_name text,
  cancelled_at timestamptz,
  cancelled_by_name text,
  finished_at timestamptz,
  kept_document_id uuid,
  error_code text,
  document_count bigint NOT NULL DEFAULT 0,
  version_count bigint NOT NULL DEFAULT 0,
  size_bytes numeric NOT NULL DEFAULT 0,
  manifest_digest bytea NOT NULL DEFAULT sha256('') CHECK (octet_length(manifest_digest) = 32),
  certificate jsonb,
  due_at timestamptz NOT NULL DEFAULT now(),
  lease_until timestamptz,
  fence bigint NOT NULL DEFAULT 0,
  attempt integer NOT NULL DEFAULT 0,
  PRIMARY KEY (tenant_id, id),
  CHECK ((state = 'done') = (certificate IS NOT NULL))
);
CREATE UNIQUE INDEX tenant_deletions_one ON tenant_deletions (tenant_id) WHERE state <> 'cancelled';
CREATE INDEX tenant_deletions_due ON tenant_deletions (due_at) WHERE state IN ('purging', 'removing');
CREATE INDEX tenant_deletions_by_id ON tenant_deletions (id);
ALTER TABLE tenants ADD COLUMN deleting_at timestamptz, ADD COLUMN deleted_at timestamptz;
CREATE TABLE erasures (
  id uuid PRIMARY KEY,
  user_id uuid NOT NULL,
  state text NOT NULL CHECK (state IN ('open', 'done')),
  reason text NOT NULL CHECK (length(reason) BETWEEN 1 AND 500),
  requested_at timestamptz NOT NULL DEFAULT now(),
  requested_by_name text NOT NULL,
  account jsonb NOT NULL,
  documents jsonb NOT NULL,
  finished_at timestamptz,
  certificate jsonb,
  due_at timestamptz NOT NULL DEFAULT now(),
  CHECK ((state = 'done') = (certificate IS NOT NULL))
);
CREATE INDEX erasures_open ON erasures (due_at) WHERE state = 'open';
CREATE INDEX versions_by_person ON versions (created_by, tenant_id, document_id, number)
  WHERE created_by IS NOT NULL;
CREATE INDEX audit_events_by_person ON audit_events (principal_id, id) WHERE principal_id IS NOT NULL;
CREATE INDEX audit_events_about_person ON audit_events (target_id, id) WHERE target_type = 'user';
"""
#: A document's name stays with the document only, so that it goes with it.
NAMES = """
ALTER TABLE uploads NO FORCE ROW LEVEL SECURITY;
UPDATE uploads SET name = '' WHERE state <> 'open' AND name <> '';
ALTER TABLE uploads FORCE ROW LEVEL SECURITY;
"""


def _run(statements: str) -> None:
    connection: Any = op.get_bind().connection.driver_connection
    connection.execute(statements)


def upgrade() -> None:
    _run(TABLES)
    _run(NAMES)
    usual = "SELECT, INSERT, UPDATE, DELETE"
    _run(TENANT_POLICY.format(table="takeouts", rights="SELECT, INSERT", platform_rights=usual))
    # A deletion is what is left of a tenant: nobody removes it.
    _run(TENANT_POLICY.format(table="tenant_deletions", rights="SELECT", platform_rights="SELECT, INSERT, UPDATE"))
    _run(PLATFORM_POLICY.format(table="erasures"))


def downgrade() -> None:
    raise RuntimeError("Restore a backup instead: what later versions wrote can't be put back.")
