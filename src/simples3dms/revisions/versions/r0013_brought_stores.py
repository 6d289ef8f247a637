"""Stores that tenants bring, rollout of kinds, jurisdictions, shares of writes; grants can be revoked."""

from __future__ import annotations

from typing import Any

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

OWN = "owner_tenant_id = NULLIF(current_setting('app.tenant_id', true), '')::uuid"

STORES = """
ALTER TABLE stores
  ADD COLUMN owner_tenant_id uuid REFERENCES tenants (id),
  ADD COLUMN jurisdiction text CHECK (jurisdiction ~ '^[A-Z]{2,3}$'),
  ADD COLUMN jurisdiction_source text CHECK (jurisdiction_source IN ('operator', 'provider')),
  ADD CHECK ((jurisdiction IS NULL) = (jurisdiction_source IS NULL)),
  DROP CONSTRAINT stores_name_key;
CREATE UNIQUE INDEX stores_name_of_owner ON stores (owner_tenant_id, name) NULLS NOT DISTINCT;
-- Who else is in this bucket?
CREATE INDEX stores_of_bucket ON stores (kind, coalesce(settings ->> 'bucket', ''));
ALTER TABLE store_grants ADD COLUMN revoked_at timestamptz;
DROP POLICY granted_rows ON stores;
CREATE POLICY granted_rows ON stores FOR SELECT TO simples3dms_tenant
  USING (@own@ OR EXISTS (SELECT 1 FROM store_grants g WHERE g.store_id = stores.id AND g.revoked_at IS NULL));
CREATE POLICY own_rows ON stores FOR UPDATE TO simples3dms_tenant USING (@own@) WITH CHECK (@own@);
GRANT UPDATE (tuning, disabled_at) ON stores TO simples3dms_tenant;
ALTER TABLE tenants ADD COLUMN IF NOT EXISTS allowed_jurisdictions text[];
-- Among which stores new blobs are shared out, by weight; the write target is one of them. Empty: it has them all.
ALTER TABLE placements ADD COLUMN write_weights jsonb NOT NULL DEFAULT '{}',
  ADD CHECK (jsonb_typeof(write_weights) = 'object'),
  ADD CHECK (write_weights = '{}' OR write_weights ? write_store_id::text);
""".replace("@own@", OWN)

#: Without a row a kind is there for everyone, its stores are attached by operators, and tenants may bring none.
ROLLOUT = """
CREATE TABLE kind_rollouts (
  kind text PRIMARY KEY,
  version bigint NOT NULL CHECK (version >= 1),
  reach text NOT NULL CHECK (reach IN ('off', 'chosen', 'percent', 'everyone')),
  percent double precision NOT NULL DEFAULT 0 CHECK (percent BETWEEN 0 AND 100),
  tenant_ids uuid[] NOT NULL DEFAULT '{}' CHECK (cardinality(tenant_ids) <= 1000),
  attach text NOT NULL CHECK (attach IN ('operators', 'tenants')),
  updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE own_store_rules (
  kind text PRIMARY KEY,
  hosts text[] NOT NULL CHECK (cardinality(hosts) <= 100),
  regions text[] NOT NULL DEFAULT '{}' CHECK (cardinality(regions) <= 100),
  most_per_tenant integer NOT NULL CHECK (most_per_tenant BETWEEN 0 AND 100),
  bounds jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(bounds) = 'object'),
  updated_at timestamptz NOT NULL DEFAULT now()
);
"""

PLATFORM_POLICY = """
ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;
ALTER TABLE {table} FORCE ROW LEVEL SECURITY;
CREATE POLICY platform_rows ON {table} FOR ALL TO simples3dms_platform USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO simples3dms_platform;
"""


def _run(statements: str) -> None:
    # Straight to the driver: the statements hold colons and percent signs that mean nothing to SQLAlchemy.
    connection: Any = op.get_bind().connection.driver_connection
    connection.execute(statements)


def upgrade() -> None:
    _run(STORES)
    _run(ROLLOUT)
    for table in ("kind_rollouts", "own_store_rules"):
        _run(PLATFORM_POLICY.format(table=table))


def downgrade() -> None:
    raise RuntimeError("Restore a backup instead: what later versions wrote can't be put back.")
