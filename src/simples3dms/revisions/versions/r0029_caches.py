"""Caches: stores in front of others, and what lies in them."""

from __future__ import annotations

from typing import Any

from alembic import op

from simples3dms.revisions.versions.r0001_first_path import PLATFORM_POLICY, TENANT_POLICY

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None

CACHES = """
-- A store with a size is a cache: no placement names it, and what it holds is no copy.
ALTER TABLE stores ADD COLUMN cache_max_bytes bigint CHECK (cache_max_bytes > 0);
-- What the rows of a cache come to, of all tenants: changed in the transaction that adds or forgets one.
CREATE TABLE cache_sizes (
  store_id uuid PRIMARY KEY REFERENCES stores (id),
  used_bytes bigint NOT NULL DEFAULT 0 CHECK (used_bytes >= 0)
);
-- As with replicas, the row is there before the bytes and goes after them. No reference to the blob: an entry of one
-- that is forgotten is still to be removed.
CREATE TABLE cache_entries (
  tenant_id uuid NOT NULL,
  id uuid NOT NULL,
  blob_id uuid NOT NULL,
  store_id uuid NOT NULL,
  key text NOT NULL,
  size_bytes bigint NOT NULL CHECK (size_bytes >= 0),
  state text NOT NULL CHECK (state IN ('writing', 'live', 'retiring')),
  used_at timestamptz NOT NULL DEFAULT now(),
  created_at timestamptz NOT NULL DEFAULT now(),
  lease_until timestamptz,
  fence bigint NOT NULL DEFAULT 1,
  attempt integer NOT NULL DEFAULT 0,
  PRIMARY KEY (tenant_id, id),
  FOREIGN KEY (tenant_id, store_id) REFERENCES store_grants (tenant_id, store_id)
);
-- One fill of a blob at a time, by whichever process.
CREATE UNIQUE INDEX cache_entries_of_blob ON cache_entries (tenant_id, blob_id, store_id) WHERE state <> 'retiring';
CREATE INDEX cache_entries_by_use ON cache_entries (store_id, used_at, id) WHERE state = 'live';
CREATE INDEX cache_entries_at ON cache_entries (tenant_id, store_id, key);
CREATE INDEX cache_entries_to_clean ON cache_entries (lease_until) WHERE state IN ('writing', 'retiring');
"""


def upgrade() -> None:
    connection: Any = op.get_bind().connection.driver_connection
    connection.execute(CACHES)
    everything = "SELECT, INSERT, UPDATE, DELETE"
    connection.execute(TENANT_POLICY.format(table="cache_entries", rights="SELECT, UPDATE", platform_rights=everything))
    connection.execute(PLATFORM_POLICY.format(table="cache_sizes"))


def downgrade() -> None:
    raise RuntimeError("Restore a backup instead: what later versions wrote can't be put back.")
