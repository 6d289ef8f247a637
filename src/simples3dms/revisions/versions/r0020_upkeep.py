"""Upkeep: scrubs of a tenant's replicas at a store, and stores that are not trusted; the guard of restores."""

from __future__ import annotations

from typing import Any

from alembic import op

from simples3dms.revisions.versions.r0001_first_path import PLATFORM_POLICY, TENANT_POLICY

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

TRUST = """
ALTER TABLE stores
  ADD COLUMN untrusted_at timestamptz,
  ADD COLUMN untrusted_reason text,
  ADD CONSTRAINT stores_untrusted CHECK ((untrusted_at IS NULL) = (untrusted_reason IS NULL));
-- What is to be copied anew, by store, so that those that are not trusted are passed over; and by tenant, to be shown.
CREATE INDEX replicas_doubtful_at_store ON replicas (store_id, tenant_id, id) WHERE state IN ('suspect', 'missing');
CREATE INDEX replicas_doubtful_of_tenant ON replicas (tenant_id, id) WHERE state IN ('suspect', 'missing');
"""

SCRUBS = """
-- When a scrub of each level was last begun there; of a new grant, when it was made.
ALTER TABLE store_grants
  ADD COLUMN light_scrub_at timestamptz NOT NULL DEFAULT now(),
  ADD COLUMN deep_scrub_at timestamptz NOT NULL DEFAULT now();
CREATE INDEX store_grants_light_scrub ON store_grants (light_scrub_at);
CREATE INDEX store_grants_deep_scrub ON store_grants (deep_scrub_at);
CREATE TABLE scrubs (
  tenant_id uuid NOT NULL REFERENCES tenants (id),
  id uuid NOT NULL,
  store_id uuid NOT NULL,
  level text NOT NULL CHECK (level IN ('light', 'deep')),
  state text NOT NULL CHECK (state IN ('running', 'paused', 'done')),
  is_scheduled boolean NOT NULL,
  seed bigint NOT NULL,
  low_id uuid,
  high_id uuid,
  part_count integer NOT NULL DEFAULT 0,
  done_parts integer NOT NULL DEFAULT 0,
  after_id uuid,
  created_at timestamptz NOT NULL DEFAULT now(),
  finished_at timestamptz,
  checked_count bigint NOT NULL DEFAULT 0,
  checked_bytes bigint NOT NULL DEFAULT 0,
  suspect_count bigint NOT NULL DEFAULT 0,
  missing_count bigint NOT NULL DEFAULT 0,
  lost_count bigint NOT NULL DEFAULT 0,
  forgiven_checked bigint NOT NULL DEFAULT 0,
  forgiven_bad bigint NOT NULL DEFAULT 0,
  error_code text,
  error_message text,
  due_at timestamptz NOT NULL DEFAULT now(),
  lease_until timestamptz,
  fence bigint NOT NULL DEFAULT 0,
  attempt integer NOT NULL DEFAULT 0,
  PRIMARY KEY (tenant_id, id),
  FOREIGN KEY (tenant_id, store_id) REFERENCES store_grants (tenant_id, store_id),
  CHECK ((low_id IS NULL) = (high_id IS NULL)),
  CHECK ((state = 'done') = (finished_at IS NOT NULL))
);
CREATE UNIQUE INDEX scrubs_one_active ON scrubs (tenant_id, store_id) WHERE state <> 'done';
CREATE INDEX scrubs_due ON scrubs (due_at) WHERE state = 'running';
"""

RECONCILES = """
-- Keys are bytes, and compared as stores do: a listing and the records are walked side by side.
ALTER TABLE replicas ALTER COLUMN key TYPE text COLLATE "C";
ALTER TABLE stores ADD COLUMN price_per_gib_month numeric(12, 6) CHECK (price_per_gib_month >= 0);
CREATE TABLE reconciles (
  tenant_id uuid NOT NULL REFERENCES tenants (id),
  id uuid NOT NULL,
  store_id uuid NOT NULL,
  state text NOT NULL CHECK (state IN ('running', 'done', 'removing', 'removed')),
  older_than_days double precision NOT NULL CHECK (older_than_days >= 0),
  position text,
  is_sorted boolean NOT NULL DEFAULT true,
  created_at timestamptz NOT NULL DEFAULT now(),
  finished_at timestamptz,
  listed_count bigint NOT NULL DEFAULT 0,
  listed_bytes bigint NOT NULL DEFAULT 0,
  unexplained_count bigint NOT NULL DEFAULT 0,
  unexplained_bytes bigint NOT NULL DEFAULT 0,
  hidden_count bigint NOT NULL DEFAULT 0,
  hidden_bytes bigint NOT NULL DEFAULT 0,
  unfinished_count bigint NOT NULL DEFAULT 0,
  compared_count bigint NOT NULL DEFAULT 0,
  missing_count bigint NOT NULL DEFAULT 0,
  lost_count bigint NOT NULL DEFAULT 0,
  removed_count bigint NOT NULL DEFAULT 0,
  kept_count bigint NOT NULL DEFAULT 0,
  error_code text,
  error_message text,
  due_at timestamptz NOT NULL DEFAULT now(),
  lease_until timestamptz,
  fence bigint NOT NULL DEFAULT 0,
  attempt integer NOT NULL DEFAULT 0,
  PRIMARY KEY (tenant_id, id),
  FOREIGN KEY (tenant_id, store_id) REFERENCES store_grants (tenant_id, store_id)
);
CREATE UNIQUE INDEX reconciles_one_active ON reconciles (tenant_id, store_id) WHERE state IN ('running', 'removing');
CREATE INDEX reconciles_due ON reconciles (due_at) WHERE state IN ('running', 'removing');
CREATE TABLE reconcile_findings (
  tenant_id uuid NOT NULL,
  reconcile_id uuid NOT NULL,
  kind text NOT NULL CHECK (kind IN ('object', 'version', 'upload')),
  key text COLLATE "C" NOT NULL,
  version_id text NOT NULL,
  size_bytes bigint NOT NULL,
  modified_at timestamptz,
  state text NOT NULL DEFAULT 'found' CHECK (state IN ('found', 'removed', 'kept')),
  error text,
  PRIMARY KEY (tenant_id, reconcile_id, key, version_id, kind),
  FOREIGN KEY (tenant_id, reconcile_id) REFERENCES reconciles (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX reconcile_findings_to_remove ON reconcile_findings (tenant_id, reconcile_id, key, version_id)
  WHERE state = 'found';
"""

GUARD = """
-- One row, written when an installation first looks. It names the database and the transaction that wrote it.
CREATE TABLE restore_guard (
  the_one boolean PRIMARY KEY DEFAULT true CHECK (the_one),
  cluster_id text NOT NULL,
  timeline text NOT NULL,
  database_oid text NOT NULL,
  written_by text NOT NULL,
  held_at timestamptz,
  held_reason text,
  confirmed_at timestamptz,
  confirmed_by_name text,
  CHECK ((held_at IS NULL) = (held_reason IS NULL))
);
"""


def _run(statements: str) -> None:
    connection: Any = op.get_bind().connection.driver_connection
    connection.execute(statements)


def upgrade() -> None:
    _run(TRUST)
    _run(SCRUBS)
    _run(RECONCILES)
    _run(GUARD)
    _run(PLATFORM_POLICY.format(table="restore_guard"))
    everything = "SELECT, INSERT, UPDATE, DELETE"
    for table in ("scrubs", "reconciles", "reconcile_findings"):
        _run(TENANT_POLICY.format(table=table, rights="SELECT, INSERT, UPDATE", platform_rights=everything))


def downgrade() -> None:
    raise RuntimeError("Restore a backup instead: what later versions wrote can't be put back.")
