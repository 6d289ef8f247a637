"""Tables, roles and row-level security of the first whole path."""

from __future__ import annotations

from importlib import resources
from typing import Any

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

#: Tables that belong to tenants: keyed by (tenant_id, ...), isolated by policy. The rights are the tenant role's.
TENANT_TABLES = {
    "members": "SELECT",
    "store_grants": "SELECT, UPDATE (loss_count)",
    "placements": "SELECT, INSERT, UPDATE",
    "placement_versions": "SELECT, INSERT",
    "blobs": "SELECT, INSERT, UPDATE, DELETE",
    "replicas": "SELECT, INSERT, UPDATE, DELETE",
    "documents": "SELECT, INSERT, UPDATE",
    "versions": "SELECT, INSERT, DELETE",
    "uploads": "SELECT, INSERT, UPDATE, DELETE",
    "transfers": "SELECT, INSERT, UPDATE, DELETE",
    "migrations": "SELECT, INSERT, UPDATE",
    "migration_chunks": "SELECT, INSERT, UPDATE",
    "audit_events": "SELECT, INSERT",
}
#: Tables of the platform: the tenant role has no right on them at all, unless a policy of its own says so.
PLATFORM_TABLES = ("tenants", "users", "api_tokens", "stores", "credentials")

ROLES = """
DO $$
DECLARE role_name text;
BEGIN
  FOREACH role_name IN ARRAY ARRAY['simples3dms_tenant', 'simples3dms_platform', 'simples3dms_queue'] LOOP
    IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = role_name) THEN
      EXECUTE format('CREATE ROLE %I NOLOGIN NOSUPERUSER NOBYPASSRLS NOINHERIT', role_name);
    END IF;
  END LOOP;
END $$;
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO simples3dms_tenant, simples3dms_platform, simples3dms_queue;
"""

PLATFORM = """
CREATE TABLE tenants (
  id uuid PRIMARY KEY,
  slug text NOT NULL UNIQUE CHECK (slug ~ '^[a-z0-9][a-z0-9-]{0,62}$'),
  name text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
  created_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE users (
  id uuid PRIMARY KEY,
  email text NOT NULL UNIQUE CHECK (email = lower(email)),
  password_hash text NOT NULL,
  is_operator boolean NOT NULL DEFAULT false,
  created_at timestamptz NOT NULL DEFAULT now(),
  disabled_at timestamptz
);
CREATE TABLE api_tokens (
  id uuid PRIMARY KEY,
  user_id uuid NOT NULL REFERENCES users (id),
  name text NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
  token_hash bytea NOT NULL UNIQUE CHECK (octet_length(token_hash) = 32),
  created_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz,
  last_used_at timestamptz,
  revoked_at timestamptz
);
CREATE INDEX ON api_tokens (user_id, id);
CREATE TABLE stores (
  id uuid PRIMARY KEY,
  name text NOT NULL UNIQUE CHECK (name ~ '^[a-z0-9][a-z0-9-]{0,62}$'),
  kind text NOT NULL,
  settings jsonb NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  disabled_at timestamptz
);
CREATE TABLE credentials (
  store_id uuid NOT NULL REFERENCES stores (id) ON DELETE CASCADE,
  version integer NOT NULL CHECK (version >= 1),
  key_id text NOT NULL CHECK (key_id <> ''),
  wrapped_key bytea NOT NULL CHECK (octet_length(wrapped_key) > 16),
  sealed bytea NOT NULL CHECK (octet_length(sealed) > 16),
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (store_id, version)
);
CREATE TABLE members (
  tenant_id uuid NOT NULL REFERENCES tenants (id),
  user_id uuid NOT NULL REFERENCES users (id),
  role text NOT NULL CHECK (role IN ('admin', 'member')),
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, user_id)
);
CREATE INDEX ON members (user_id);
CREATE TABLE audit_events (
  tenant_id uuid NOT NULL,
  id uuid NOT NULL,
  at timestamptz NOT NULL DEFAULT now(),
  principal_id uuid,
  principal_name text NOT NULL,
  action text NOT NULL CHECK (action ~ '^[a-z_]+\\.[a-z_]+$'),
  target_type text NOT NULL,
  target_id text NOT NULL,
  outcome text NOT NULL CHECK (outcome IN ('done', 'refused', 'failed')),
  details jsonb NOT NULL DEFAULT '{}',
  PRIMARY KEY (tenant_id, id)
);
"""

STORAGE = """
CREATE TABLE store_grants (
  tenant_id uuid NOT NULL REFERENCES tenants (id),
  store_id uuid NOT NULL REFERENCES stores (id),
  prefix text NOT NULL CHECK (prefix ~ '^[A-Za-z0-9._/-]+/$'),
  loss_count bigint NOT NULL DEFAULT 0,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, store_id),
  UNIQUE (store_id, prefix)
);
CREATE TABLE placements (
  tenant_id uuid PRIMARY KEY REFERENCES tenants (id),
  version bigint NOT NULL CHECK (version >= 1),
  write_store_id uuid NOT NULL,
  copy_store_ids uuid[] NOT NULL DEFAULT '{}',
  read_store_ids uuid[] NOT NULL DEFAULT '{}',
  held_until timestamptz,
  updated_at timestamptz NOT NULL DEFAULT now(),
  FOREIGN KEY (tenant_id, write_store_id) REFERENCES store_grants (tenant_id, store_id)
);
CREATE TABLE placement_versions (
  tenant_id uuid NOT NULL REFERENCES tenants (id),
  version bigint NOT NULL,
  policy jsonb NOT NULL,
  reason text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, version)
);
CREATE SEQUENCE blob_seq AS bigint;
CREATE TABLE blobs (
  tenant_id uuid NOT NULL REFERENCES tenants (id),
  id uuid NOT NULL,
  seq bigint NOT NULL DEFAULT nextval('blob_seq'),
  digest bytea NOT NULL CHECK (octet_length(digest) = 32),
  size_bytes bigint NOT NULL CHECK (size_bytes >= 0),
  created_at timestamptz NOT NULL DEFAULT now(),
  dead_at timestamptz,
  PRIMARY KEY (tenant_id, id),
  UNIQUE (tenant_id, seq)
);
CREATE TABLE replicas (
  tenant_id uuid NOT NULL,
  id uuid NOT NULL,
  blob_id uuid,
  store_id uuid NOT NULL,
  key text NOT NULL,
  state text NOT NULL CHECK (state IN ('writing', 'live', 'suspect', 'missing', 'retiring')),
  version_id text,
  evidence text CHECK (evidence IN ('written', 'read-back')),
  evidence_at timestamptz,
  created_at timestamptz NOT NULL DEFAULT now(),
  state_at timestamptz NOT NULL DEFAULT now(),
  lease_until timestamptz,
  fence bigint NOT NULL DEFAULT 1,
  attempt integer NOT NULL DEFAULT 0,
  last_error text,
  PRIMARY KEY (tenant_id, id),
  FOREIGN KEY (tenant_id, blob_id) REFERENCES blobs (tenant_id, id),
  FOREIGN KEY (tenant_id, store_id) REFERENCES store_grants (tenant_id, store_id),
  UNIQUE (tenant_id, store_id, key),
  CHECK (state IN ('writing', 'retiring') OR (blob_id IS NOT NULL AND evidence IS NOT NULL)),
  CHECK (state <> 'writing' OR lease_until IS NOT NULL)
);
CREATE UNIQUE INDEX replicas_one_per_store ON replicas (tenant_id, blob_id, store_id)
  WHERE state IN ('writing', 'live');
CREATE INDEX replicas_of_blob ON replicas (tenant_id, blob_id);
CREATE INDEX replicas_at_store ON replicas (tenant_id, store_id, id);
CREATE INDEX replicas_to_clean ON replicas (tenant_id, lease_until NULLS FIRST) WHERE state IN ('writing', 'retiring');
CREATE TABLE transfers (
  tenant_id uuid NOT NULL,
  id uuid NOT NULL,
  blob_id uuid NOT NULL,
  target_store_id uuid NOT NULL,
  migration_id uuid,
  state text NOT NULL CHECK (state IN ('pending', 'failed')),
  error_kind text,
  error_message text,
  created_at timestamptz NOT NULL DEFAULT now(),
  due_at timestamptz NOT NULL DEFAULT now(),
  lease_until timestamptz,
  fence bigint NOT NULL DEFAULT 0,
  attempt integer NOT NULL DEFAULT 0,
  PRIMARY KEY (tenant_id, id),
  UNIQUE (tenant_id, blob_id, target_store_id),
  FOREIGN KEY (tenant_id, blob_id) REFERENCES blobs (tenant_id, id) ON DELETE CASCADE,
  FOREIGN KEY (tenant_id, target_store_id) REFERENCES store_grants (tenant_id, store_id)
);
CREATE INDEX transfers_due ON transfers (due_at) WHERE state = 'pending';
CREATE INDEX transfers_of_target ON transfers (tenant_id, target_store_id, state, id);
CREATE TABLE migrations (
  tenant_id uuid NOT NULL REFERENCES tenants (id),
  id uuid NOT NULL,
  source_store_id uuid NOT NULL,
  target_store_id uuid NOT NULL,
  state text NOT NULL CHECK (state IN ('planned', 'copying', 'ready', 'soaking', 'finalizing', 'done',
    'paused', 'failed', 'rolling_back', 'rolled_back', 'cancelled')),
  resume_state text CHECK (resume_state IN ('copying', 'ready', 'soaking', 'finalizing', 'rolling_back')),
  automatic_cutover boolean NOT NULL DEFAULT false,
  plan jsonb NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  started_at timestamptz,
  cut_over_at timestamptz,
  finished_at timestamptz,
  barrier_seq bigint NOT NULL DEFAULT 0,
  planned_seq bigint NOT NULL DEFAULT 0,
  proven_seq bigint,
  proof_loss_count bigint NOT NULL DEFAULT 0,
  copied_count bigint NOT NULL DEFAULT 0,
  copied_bytes bigint NOT NULL DEFAULT 0,
  total_count bigint NOT NULL DEFAULT 0,
  total_bytes bigint NOT NULL DEFAULT 0,
  error_code text,
  error_message text,
  lease_until timestamptz,
  fence bigint NOT NULL DEFAULT 0,
  attempt integer NOT NULL DEFAULT 0,
  PRIMARY KEY (tenant_id, id),
  FOREIGN KEY (tenant_id, source_store_id) REFERENCES store_grants (tenant_id, store_id),
  FOREIGN KEY (tenant_id, target_store_id) REFERENCES store_grants (tenant_id, store_id),
  CHECK (source_store_id <> target_store_id),
  CHECK ((state IN ('paused', 'failed')) = (resume_state IS NOT NULL))
);
CREATE UNIQUE INDEX migrations_one_active ON migrations (tenant_id)
  WHERE state NOT IN ('done', 'rolled_back', 'cancelled');
CREATE INDEX migrations_active ON migrations (state)
  WHERE state IN ('copying', 'ready', 'soaking', 'finalizing', 'rolling_back');
CREATE TABLE migration_chunks (
  tenant_id uuid NOT NULL,
  migration_id uuid NOT NULL,
  phase text NOT NULL CHECK (phase IN ('copy', 'evacuate')),
  low_seq bigint NOT NULL,
  high_seq bigint NOT NULL,
  state text NOT NULL CHECK (state IN ('pending', 'done')),
  blob_count bigint NOT NULL,
  size_bytes bigint NOT NULL,
  due_at timestamptz NOT NULL DEFAULT now(),
  lease_until timestamptz,
  fence bigint NOT NULL DEFAULT 0,
  attempt integer NOT NULL DEFAULT 0,
  PRIMARY KEY (tenant_id, migration_id, phase, low_seq),
  FOREIGN KEY (tenant_id, migration_id) REFERENCES migrations (tenant_id, id),
  CHECK (low_seq <= high_seq)
);
CREATE INDEX migration_chunks_pending ON migration_chunks (tenant_id, migration_id, phase, low_seq)
  WHERE state = 'pending';
"""

DOCUMENTS = """
CREATE TABLE documents (
  tenant_id uuid NOT NULL REFERENCES tenants (id),
  id uuid NOT NULL,
  name text NOT NULL CHECK (length(name) <= 255),
  version_number integer NOT NULL CHECK (version_number >= 1),
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  deleted_at timestamptz,
  purged_at timestamptz,
  PRIMARY KEY (tenant_id, id),
  CHECK (purged_at IS NULL OR deleted_at IS NOT NULL)
);
CREATE INDEX documents_live ON documents (tenant_id, id) WHERE deleted_at IS NULL;
CREATE INDEX documents_trash ON documents (tenant_id, id) WHERE deleted_at IS NOT NULL AND purged_at IS NULL;
CREATE INDEX documents_to_purge ON documents (deleted_at) WHERE deleted_at IS NOT NULL AND purged_at IS NULL;
CREATE TABLE versions (
  tenant_id uuid NOT NULL,
  document_id uuid NOT NULL,
  number integer NOT NULL CHECK (number >= 1),
  blob_id uuid NOT NULL,
  content_type text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  created_by uuid,
  PRIMARY KEY (tenant_id, document_id, number),
  FOREIGN KEY (tenant_id, document_id) REFERENCES documents (tenant_id, id),
  FOREIGN KEY (tenant_id, blob_id) REFERENCES blobs (tenant_id, id)
);
CREATE INDEX versions_of_blob ON versions (tenant_id, blob_id);
CREATE TABLE uploads (
  tenant_id uuid NOT NULL REFERENCES tenants (id),
  id uuid NOT NULL,
  principal_id uuid NOT NULL,
  idempotency_key text CHECK (length(idempotency_key) BETWEEN 1 AND 255),
  fingerprint bytea NOT NULL,
  document_id uuid,
  name text NOT NULL,
  content_type text NOT NULL,
  replica_id uuid NOT NULL,
  state text NOT NULL CHECK (state IN ('open', 'completed', 'failed')),
  result_document_id uuid,
  result_version integer,
  created_at timestamptz NOT NULL DEFAULT now(),
  lease_until timestamptz NOT NULL,
  fence bigint NOT NULL DEFAULT 1,
  attempt integer NOT NULL DEFAULT 1,
  PRIMARY KEY (tenant_id, id),
  FOREIGN KEY (tenant_id, document_id) REFERENCES documents (tenant_id, id),
  CHECK ((state = 'completed') = (result_document_id IS NOT NULL))
);
CREATE UNIQUE INDEX uploads_idempotent ON uploads (tenant_id, principal_id, idempotency_key)
  WHERE idempotency_key IS NOT NULL;
CREATE INDEX uploads_open ON uploads (lease_until) WHERE state = 'open';
"""

TENANT_POLICY = """
ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;
ALTER TABLE {table} FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_rows ON {table} FOR ALL TO simples3dms_tenant
  USING (tenant_id = NULLIF(current_setting('app.tenant_id', true), '')::uuid)
  WITH CHECK (tenant_id = NULLIF(current_setting('app.tenant_id', true), '')::uuid);
CREATE POLICY platform_rows ON {table} FOR ALL TO simples3dms_platform USING (true) WITH CHECK (true);
GRANT {rights} ON {table} TO simples3dms_tenant;
GRANT {platform_rights} ON {table} TO simples3dms_platform;
"""

PLATFORM_POLICY = """
ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;
ALTER TABLE {table} FORCE ROW LEVEL SECURITY;
CREATE POLICY platform_rows ON {table} FOR ALL TO simples3dms_platform USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO simples3dms_platform;
"""

#: A tenant may see itself, and the stores granted to it.
OWN_VIEW = """
CREATE POLICY own_row ON tenants FOR SELECT TO simples3dms_tenant
  USING (id = NULLIF(current_setting('app.tenant_id', true), '')::uuid);
GRANT SELECT ON tenants TO simples3dms_tenant;
CREATE POLICY granted_rows ON stores FOR SELECT TO simples3dms_tenant
  USING (EXISTS (SELECT 1 FROM store_grants g WHERE g.store_id = stores.id));
GRANT SELECT ON stores TO simples3dms_tenant;
GRANT USAGE ON SEQUENCE blob_seq TO simples3dms_tenant;
"""

QUEUE = """
GRANT SELECT, INSERT, UPDATE, DELETE ON procrastinate_jobs, procrastinate_events, procrastinate_workers,
  procrastinate_periodic_defers TO simples3dms_queue;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO simples3dms_queue;
REVOKE ALL ON SEQUENCE blob_seq FROM simples3dms_queue;
DO $$
DECLARE f regprocedure;
BEGIN
  FOR f IN SELECT p.oid::regprocedure FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
           WHERE n.nspname = 'public' AND p.proname LIKE 'procrastinate_%' LOOP
    EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', f);
    EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO simples3dms_queue', f);
  END LOOP;
END $$;
"""


def _run(statements: str) -> None:
    # Straight to the driver: the statements hold colons and percent signs that mean nothing to SQLAlchemy.
    connection: Any = op.get_bind().connection.driver_connection
    connection.execute(statements)


def upgrade() -> None:
    _run(ROLES)
    _run(PLATFORM)
    _run(STORAGE)
    _run(DOCUMENTS)
    for table, rights in TENANT_TABLES.items():
        platform_rights = "SELECT, INSERT" if table == "audit_events" else "SELECT, INSERT, UPDATE, DELETE"
        _run(TENANT_POLICY.format(table=table, rights=rights, platform_rights=platform_rights))
    for table in PLATFORM_TABLES:
        _run(PLATFORM_POLICY.format(table=table))
    _run(OWN_VIEW)
    # The queue's schema as its own library ships it for the version that constraints.txt pins.
    _run(resources.files("procrastinate").joinpath("sql/schema.sql").read_text())
    _run(QUEUE)


def downgrade() -> None:
    raise RuntimeError("There is nothing before the first revision; restore a backup instead.")
