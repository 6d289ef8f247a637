"""Key-encrypting keys: which the database knows, and the work of bringing sealed rows from one under another."""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0005"
branch_labels = None
depends_on = None

_TABLES = """
CREATE TABLE sealing_keys (
  key_id text PRIMARY KEY CHECK (key_id ~ '^[a-z0-9][a-z0-9-]{0,62}$'),
  fingerprint bytea CHECK (octet_length(fingerprint) = 16),
  is_primary boolean NOT NULL DEFAULT false,
  created_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX sealing_keys_one_primary ON sealing_keys (is_primary) WHERE is_primary;
CREATE TABLE rewraps (
  id uuid PRIMARY KEY,
  key_id text NOT NULL,
  state text NOT NULL CHECK (state IN ('running', 'done', 'needs_attention')),
  total_count bigint NOT NULL,
  done_count bigint NOT NULL DEFAULT 0,
  broken_count bigint NOT NULL DEFAULT 0,
  error_code text,
  created_at timestamptz NOT NULL DEFAULT now(),
  finished_at timestamptz,
  due_at timestamptz NOT NULL DEFAULT now(),
  lease_until timestamptz,
  fence bigint NOT NULL DEFAULT 0,
  attempt integer NOT NULL DEFAULT 0,
  CHECK ((state = 'running') = (finished_at IS NULL))
);
CREATE UNIQUE INDEX rewraps_one_running ON rewraps (state) WHERE state = 'running';
"""

_POLICY = """
ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;
ALTER TABLE {table} FORCE ROW LEVEL SECURITY;
CREATE POLICY platform_rows ON {table} FOR ALL TO simples3dms_platform USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO simples3dms_platform;
"""

#: The tables' owner is held by their policies as well, and none of them is for it.
_CREDENTIALS = """
ALTER TABLE credentials NO FORCE ROW LEVEL SECURITY;
INSERT INTO sealing_keys (key_id) SELECT DISTINCT key_id FROM credentials;
ALTER TABLE credentials ADD FOREIGN KEY (key_id) REFERENCES sealing_keys (key_id);
CREATE INDEX credentials_of_key ON credentials (key_id, store_id, version);
ALTER TABLE credentials FORCE ROW LEVEL SECURITY;
"""


def upgrade() -> None:
    op.execute(_TABLES)
    op.execute(_CREDENTIALS)
    for table in ("sealing_keys", "rewraps"):
        op.execute(_POLICY.format(table=table))


def downgrade() -> None:
    raise RuntimeError("Restore a backup instead: what later versions wrote can't be put back.")
