"""Credentials: staged, current and old ones; their rotations, by hand and on a schedule."""

from __future__ import annotations

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_CREDENTIALS = """
ALTER TABLE credentials
  ADD COLUMN state text NOT NULL DEFAULT 'current' CHECK (state IN ('staged', 'current', 'old')),
  ADD COLUMN fingerprint text,
  ADD COLUMN provider_key_id text,
  ADD COLUMN expires_at timestamptz,
  ADD COLUMN expiry_warned_at timestamptz;
CREATE UNIQUE INDEX credentials_one_current ON credentials (store_id) WHERE state = 'current';
CREATE INDEX credentials_expiring ON credentials (expires_at) WHERE state = 'current' AND expires_at IS NOT NULL;
"""

_TABLES = """
CREATE TABLE credential_rotations (
  id uuid PRIMARY KEY,
  store_id uuid NOT NULL REFERENCES stores (id) ON DELETE CASCADE,
  state text NOT NULL CHECK (state IN ('making', 'staged', 'switched', 'retiring', 'undoing',
    'done', 'rolled_back', 'failed', 'needs_attention')),
  from_version integer NOT NULL,
  to_version integer NOT NULL,
  is_made boolean NOT NULL,
  key_name text NOT NULL,
  known_key_ids text[],
  deletes_old boolean NOT NULL,
  grace_seconds double precision NOT NULL CHECK (grace_seconds >= 0),
  created_at timestamptz NOT NULL DEFAULT now(),
  switched_at timestamptz,
  grace_until timestamptz,
  finished_at timestamptz,
  error_code text,
  error_message text,
  due_at timestamptz NOT NULL DEFAULT now(),
  lease_until timestamptz,
  fence bigint NOT NULL DEFAULT 0,
  attempt integer NOT NULL DEFAULT 0,
  CHECK (to_version > from_version)
);
CREATE UNIQUE INDEX credential_rotations_one_active ON credential_rotations (store_id)
  WHERE state IN ('making', 'staged', 'switched', 'retiring', 'undoing');
CREATE INDEX credential_rotations_of_store ON credential_rotations (store_id, id);
CREATE INDEX credential_rotations_due ON credential_rotations (due_at)
  WHERE state IN ('making', 'staged', 'switched', 'retiring', 'undoing');
CREATE TABLE rotation_schedules (
  store_id uuid PRIMARY KEY REFERENCES stores (id) ON DELETE CASCADE,
  every_seconds double precision CHECK (every_seconds > 0),
  deletes_old boolean NOT NULL DEFAULT false,
  next_at timestamptz,
  manager_version integer NOT NULL DEFAULT 0,
  key_id text REFERENCES sealing_keys (key_id),
  wrapped_key bytea,
  sealed bytea,
  fingerprint text,
  updated_at timestamptz NOT NULL DEFAULT now(),
  CHECK ((every_seconds IS NULL) = (next_at IS NULL)),
  CHECK ((key_id IS NULL) = (sealed IS NULL) AND (key_id IS NULL) = (wrapped_key IS NULL))
);
CREATE INDEX rotation_schedules_due ON rotation_schedules (next_at);
CREATE INDEX rotation_schedules_of_key ON rotation_schedules (key_id, store_id);
"""

_POLICY = """
ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;
ALTER TABLE {table} FORCE ROW LEVEL SECURITY;
CREATE POLICY platform_rows ON {table} FOR ALL TO simples3dms_platform USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO simples3dms_platform;
"""


def upgrade() -> None:
    op.execute(_CREDENTIALS)
    op.execute(_TABLES)
    for table in ("credential_rotations", "rotation_schedules"):
        op.execute(_POLICY.format(table=table))


def downgrade() -> None:
    raise RuntimeError("Restore a backup instead: what later versions wrote can't be put back.")
