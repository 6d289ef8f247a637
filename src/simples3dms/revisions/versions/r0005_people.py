"""People: limits on attempts, sessions, bounded tokens, services."""

from __future__ import annotations

from typing import Any

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

#: Tables of the platform, on which the tenant role has no right.
PLATFORM_TABLES = ("attempt_buckets", "known_networks", "sessions")

LIMITS = """
CREATE TABLE attempt_buckets (
  kind text NOT NULL CHECK (kind ~ '^[a-z_]+\\.[a-z_]+$'),
  key bytea NOT NULL CHECK (octet_length(key) = 32),
  empty_at timestamptz NOT NULL,
  told_at timestamptz,
  PRIMARY KEY (kind, key)
);
CREATE INDEX attempt_buckets_empty ON attempt_buckets (empty_at);
CREATE TABLE known_networks (
  user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  network text NOT NULL CHECK (length(network) <= 100),
  last_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (user_id, network)
);
"""

SESSIONS = """
CREATE TABLE sessions (
  id uuid PRIMARY KEY,
  user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  secret_hash bytea NOT NULL UNIQUE CHECK (octet_length(secret_hash) = 32),
  created_at timestamptz NOT NULL DEFAULT now(),
  last_seen_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz NOT NULL,
  ended_at timestamptz,
  address text NOT NULL CHECK (length(address) <= 100),
  agent text NOT NULL CHECK (length(agent) <= 300),
  method text NOT NULL
);
CREATE INDEX ON sessions (user_id, id);
"""

TOKENS = """
ALTER TABLE api_tokens
  ADD COLUMN scopes text[] CHECK (cardinality(scopes) > 0),
  ADD COLUMN only_tenant_id uuid REFERENCES tenants (id);
ALTER TABLE users
  ADD COLUMN is_service boolean NOT NULL DEFAULT false,
  ADD COLUMN of_tenant_id uuid REFERENCES tenants (id),
  ADD CHECK (of_tenant_id IS NULL OR is_service);
CREATE INDEX users_services ON users (of_tenant_id, id) WHERE is_service;
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
    _run(LIMITS)
    _run(SESSIONS)
    _run(TOKENS)
    for table in PLATFORM_TABLES:
        _run(PLATFORM_POLICY.format(table=table))


def downgrade() -> None:
    raise RuntimeError("Restore a backup instead: what later versions wrote can't be put back.")
