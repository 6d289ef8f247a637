"""People: limits on attempts, sessions, bounded tokens, services, invitations, resets, second
factors, identity providers."""

from __future__ import annotations

from typing import Any

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

#: Tables that belong to tenants: the tenant role may read its own rows.
TENANT_TABLES = ("invitations",)
#: Tables of the platform, on which the tenant role has no right.
PLATFORM_TABLES = (
    "attempt_buckets",
    "known_networks",
    "sessions",
    "password_resets",
    "letters",
    "totp_factors",
    "recovery_codes",
    "passkeys",
    "passkey_challenges",
    "identity_providers",
    "external_identities",
    "sign_in_flows",
)

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

INVITATIONS = """
CREATE TABLE invitations (
  tenant_id uuid NOT NULL REFERENCES tenants (id),
  id uuid NOT NULL,
  email text NOT NULL CHECK (email = lower(email)),
  role text NOT NULL CHECK (role IN ('owner', 'administrator', 'editor', 'viewer', 'auditor')),
  token_hash bytea CHECK (octet_length(token_hash) = 32),
  invited_by uuid REFERENCES users (id),
  created_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz NOT NULL,
  accepted_at timestamptz,
  accepted_by uuid REFERENCES users (id),
  revoked_at timestamptz,
  PRIMARY KEY (tenant_id, id),
  CHECK ((accepted_at IS NULL) = (accepted_by IS NULL))
);
-- Not unique, as every unique index of a tenant's table begins with the tenant; 256 random bits do not meet.
CREATE INDEX invitations_by_token ON invitations (token_hash);
CREATE INDEX invitations_by_id ON invitations (id);
CREATE TABLE password_resets (
  id uuid PRIMARY KEY,
  email text,
  user_id uuid REFERENCES users (id) ON DELETE CASCADE,
  token_hash bytea UNIQUE CHECK (octet_length(token_hash) = 32),
  created_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz NOT NULL,
  used_at timestamptz,
  CHECK ((user_id IS NULL) = (token_hash IS NULL))
);
CREATE INDEX ON password_resets (user_id);
CREATE INDEX ON password_resets (expires_at);
CREATE TABLE letters (
  id uuid PRIMARY KEY,
  kind text NOT NULL CHECK (kind IN ('invitation', 'reset')),
  subject_id uuid NOT NULL,
  state text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'needs_attention')),
  created_at timestamptz NOT NULL DEFAULT now(),
  due_at timestamptz NOT NULL DEFAULT now(),
  lease_until timestamptz,
  fence bigint NOT NULL DEFAULT 0,
  attempt integer NOT NULL DEFAULT 0,
  last_error text
);
CREATE INDEX letters_due ON letters (due_at) WHERE state = 'pending';
"""

FACTORS = """
CREATE TABLE totp_factors (
  user_id uuid PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
  version integer NOT NULL CHECK (version >= 1),
  key_id text NOT NULL CHECK (key_id <> ''),
  wrapped_key bytea NOT NULL CHECK (octet_length(wrapped_key) > 16),
  sealed bytea NOT NULL CHECK (octet_length(sealed) > 16),
  created_at timestamptz NOT NULL DEFAULT now(),
  confirmed_at timestamptz,
  last_step bigint
);
CREATE TABLE recovery_codes (
  user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  code_hash bytea NOT NULL CHECK (octet_length(code_hash) = 32),
  used_at timestamptz,
  PRIMARY KEY (user_id, code_hash)
);
CREATE TABLE passkeys (
  id uuid PRIMARY KEY,
  user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  name text NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
  credential_id bytea NOT NULL UNIQUE,
  public_key bytea NOT NULL,
  sign_count bigint NOT NULL CHECK (sign_count >= 0),
  created_at timestamptz NOT NULL DEFAULT now(),
  last_used_at timestamptz
);
CREATE INDEX ON passkeys (user_id, id);
CREATE TABLE passkey_challenges (
  id uuid PRIMARY KEY,
  user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  purpose text NOT NULL CHECK (purpose IN ('register', 'sign_in')),
  challenge bytea NOT NULL CHECK (octet_length(challenge) = 32),
  expires_at timestamptz NOT NULL
);
CREATE INDEX ON passkey_challenges (user_id);
"""

FEDERATION = """
CREATE TABLE identity_providers (
  id uuid PRIMARY KEY,
  of_tenant_id uuid REFERENCES tenants (id),
  name text NOT NULL CHECK (name ~ '^[a-z0-9][a-z0-9-]{0,62}$'),
  issuer text NOT NULL,
  client_id text NOT NULL,
  key_id text CHECK (key_id <> ''),
  wrapped_key bytea CHECK (octet_length(wrapped_key) > 16),
  sealed bytea CHECK (octet_length(sealed) > 16),
  links_by_email boolean NOT NULL,
  creates_users boolean NOT NULL,
  default_role text CHECK (default_role IN ('owner', 'administrator', 'editor', 'viewer', 'auditor')),
  created_at timestamptz NOT NULL DEFAULT now(),
  UNIQUE NULLS NOT DISTINCT (of_tenant_id, name),
  CHECK (num_nulls(key_id, wrapped_key, sealed) IN (0, 3)),
  CHECK (default_role IS NULL OR of_tenant_id IS NOT NULL)
);
CREATE TABLE external_identities (
  provider_id uuid NOT NULL REFERENCES identity_providers (id) ON DELETE CASCADE,
  subject text NOT NULL CHECK (length(subject) BETWEEN 1 AND 255),
  user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (provider_id, subject)
);
CREATE INDEX ON external_identities (user_id);
CREATE TABLE sign_in_flows (
  state_hash bytea PRIMARY KEY CHECK (octet_length(state_hash) = 32),
  provider_id uuid NOT NULL REFERENCES identity_providers (id) ON DELETE CASCADE,
  expires_at timestamptz NOT NULL
);
CREATE INDEX ON sign_in_flows (expires_at);
ALTER TABLE sessions
  ADD COLUMN only_tenant_id uuid REFERENCES tenants (id),
  ADD COLUMN provider_id uuid REFERENCES identity_providers (id) ON DELETE SET NULL;
CREATE INDEX ON sessions (provider_id) WHERE provider_id IS NOT NULL;
"""

TENANT_POLICY = """
ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;
ALTER TABLE {table} FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_rows ON {table} FOR ALL TO simples3dms_tenant
  USING (tenant_id = NULLIF(current_setting('app.tenant_id', true), '')::uuid)
  WITH CHECK (tenant_id = NULLIF(current_setting('app.tenant_id', true), '')::uuid);
CREATE POLICY platform_rows ON {table} FOR ALL TO simples3dms_platform USING (true) WITH CHECK (true);
GRANT SELECT ON {table} TO simples3dms_tenant;
GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO simples3dms_platform;
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
    _run(INVITATIONS)
    _run(FACTORS)
    _run(FEDERATION)
    for table in TENANT_TABLES:
        _run(TENANT_POLICY.format(table=table))
    for table in PLATFORM_TABLES:
        _run(PLATFORM_POLICY.format(table=table))


def downgrade() -> None:
    raise RuntimeError("Restore a backup instead: what later versions wrote can't be put back.")
