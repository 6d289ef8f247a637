"""Audit: a numbered chain of hashes for each tenant, signed checkpoints, cuts, and who may touch which of it."""

from __future__ import annotations

from typing import Any

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

#: What whoever records an act gives. The time, the number and the hash are not theirs to say.
GIVEN = "tenant_id, id, principal_id, principal_name, action, target_type, target_id, outcome, details"

ROLE = """
DO $$
BEGIN
  IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'simples3dms_sealer') THEN
    CREATE ROLE simples3dms_sealer NOLOGIN NOSUPERUSER NOBYPASSRLS NOINHERIT;
  END IF;
END $$;
GRANT USAGE ON SCHEMA public TO simples3dms_sealer;
"""

TABLES = """
ALTER TABLE audit_events
  ADD COLUMN seq bigint CHECK (seq >= 1),
  ADD COLUMN hash bytea CHECK (octet_length(hash) = 32),
  ADD COLUMN noun text CHECK (noun = split_part(action, '.', 1)),
  ADD CHECK ((seq IS NULL) = (hash IS NULL)),
  ADD CHECK ((seq IS NULL) = (noun IS NULL));
CREATE TABLE audit_heads (
  tenant_id uuid PRIMARY KEY,
  seq bigint NOT NULL DEFAULT 0 CHECK (seq >= 0),
  hash bytea NOT NULL DEFAULT decode(repeat('00', 32), 'hex') CHECK (octet_length(hash) = 32),
  cut_seq bigint NOT NULL DEFAULT 0,
  checkpoint_seq bigint NOT NULL DEFAULT 0,
  checkpointed_at timestamptz NOT NULL DEFAULT now(),
  copied_seq bigint NOT NULL DEFAULT 0,
  cut_looked_at timestamptz NOT NULL DEFAULT '-infinity',
  retention_days integer CHECK (retention_days BETWEEN 1 AND 36500),
  CHECK (cut_seq BETWEEN 0 AND seq),
  CHECK (checkpoint_seq BETWEEN 0 AND seq)
);
CREATE INDEX audit_heads_to_checkpoint ON audit_heads (checkpointed_at) WHERE seq > checkpoint_seq;
CREATE INDEX audit_heads_to_copy ON audit_heads (tenant_id) WHERE checkpoint_seq > copied_seq;
CREATE INDEX audit_heads_to_cut ON audit_heads (cut_looked_at) WHERE retention_days IS NOT NULL;
CREATE TABLE audit_checkpoints (
  tenant_id uuid NOT NULL,
  seq bigint NOT NULL CHECK (seq >= 1),
  hash bytea NOT NULL CHECK (octet_length(hash) = 32),
  at timestamptz NOT NULL,
  key_id text NOT NULL,
  signature bytea NOT NULL CHECK (octet_length(signature) = 64),
  PRIMARY KEY (tenant_id, seq)
);
CREATE TABLE audit_cuts (
  tenant_id uuid NOT NULL,
  seq bigint NOT NULL CHECK (seq >= 1),
  hash bytea NOT NULL CHECK (octet_length(hash) = 32),
  at timestamptz NOT NULL,
  days integer NOT NULL CHECK (days >= 1),
  key_id text NOT NULL,
  signature bytea NOT NULL CHECK (octet_length(signature) = 64),
  PRIMARY KEY (tenant_id, seq)
);
CREATE TABLE audit_signing_keys (
  key_id text PRIMARY KEY CHECK (key_id ~ '^[0-9a-f]{32}$'),
  public_key bytea NOT NULL CHECK (octet_length(public_key) = 32),
  created_at timestamptz NOT NULL DEFAULT now(),
  retired_at timestamptz,
  seal_key_id text,
  wrapped_key bytea,
  sealed bytea,
  CHECK ((retired_at IS NULL) = (seal_key_id IS NOT NULL AND wrapped_key IS NOT NULL AND sealed IS NOT NULL))
);
CREATE UNIQUE INDEX audit_signing_keys_one_active ON audit_signing_keys ((true)) WHERE retired_at IS NULL;
CREATE TABLE audit_copies (
  tenant_id uuid NOT NULL,
  seq bigint NOT NULL,
  store_id uuid NOT NULL,
  key text NOT NULL,
  state text NOT NULL CHECK (state IN ('writing', 'stored')),
  due_at timestamptz NOT NULL DEFAULT now(),
  fence bigint NOT NULL DEFAULT 0,
  attempt integer NOT NULL DEFAULT 0,
  stored_at timestamptz,
  last_error text,
  PRIMARY KEY (tenant_id, seq, store_id),
  FOREIGN KEY (tenant_id, seq) REFERENCES audit_checkpoints (tenant_id, seq),
  FOREIGN KEY (tenant_id, store_id) REFERENCES store_grants (tenant_id, store_id),
  UNIQUE (tenant_id, store_id, key)
);
CREATE INDEX audit_copies_due ON audit_copies (due_at) WHERE state = 'writing';
"""

#: `noun` is a column and no expression: row-level security lets no function that may leak before its own condition.
#: An event is indexed for searching once it is sealed: whoever records one pays for its key and for one entry more.
INDEXES = """
CREATE INDEX audit_events_unsealed ON audit_events (tenant_id, at, id) WHERE seq IS NULL;
CREATE UNIQUE INDEX audit_events_seq ON audit_events (tenant_id, seq) WHERE seq IS NOT NULL;
CREATE INDEX audit_events_at ON audit_events (tenant_id, at, id) WHERE seq IS NOT NULL;
CREATE INDEX audit_events_principal ON audit_events (tenant_id, principal_id, at, id) WHERE seq IS NOT NULL;
CREATE INDEX audit_events_name ON audit_events (tenant_id, principal_name, at, id) WHERE seq IS NOT NULL;
CREATE INDEX audit_events_action ON audit_events (tenant_id, action, at, id) WHERE seq IS NOT NULL;
CREATE INDEX audit_events_noun ON audit_events (tenant_id, noun, at, id) WHERE seq IS NOT NULL;
CREATE INDEX audit_events_target ON audit_events (tenant_id, target_id, at, id) WHERE seq IS NOT NULL;
CREATE INDEX audit_events_target_type ON audit_events (tenant_id, target_type, at, id) WHERE seq IS NOT NULL;
CREATE INDEX audit_events_outcome ON audit_events (tenant_id, outcome, at, id)
  WHERE seq IS NOT NULL AND outcome <> 'done';
"""

#: They hold everybody, the tables' owner too, as long as the triggers are on.
TRIGGERS = """
CREATE FUNCTION audit_keep_sealed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'UPDATE' THEN
    IF OLD.seq IS NOT NULL OR NEW.seq IS NULL THEN
      RAISE insufficient_privilege USING MESSAGE = 'a sealed audit event is never changed';
    END IF;
    RETURN NEW;
  END IF;
  IF OLD.seq IS NULL OR NOT EXISTS (
      SELECT 1 FROM public.audit_heads h WHERE h.tenant_id = OLD.tenant_id AND h.cut_seq >= OLD.seq) THEN
    RAISE insufficient_privilege USING MESSAGE = 'an audit event goes only by a signed cut';
  END IF;
  RETURN OLD;
END $$;
CREATE TRIGGER audit_keep_sealed BEFORE UPDATE OR DELETE ON audit_events
  FOR EACH ROW EXECUTE FUNCTION audit_keep_sealed();
CREATE FUNCTION audit_go_forward() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.seq < OLD.seq OR NEW.cut_seq < OLD.cut_seq OR NEW.checkpoint_seq < OLD.checkpoint_seq THEN
    RAISE insufficient_privilege USING MESSAGE = 'an audit chain only grows';
  END IF;
  IF NEW.cut_seq > OLD.cut_seq AND NOT EXISTS (
      SELECT 1 FROM public.audit_cuts c WHERE c.tenant_id = NEW.tenant_id AND c.seq = NEW.cut_seq) THEN
    RAISE insufficient_privilege USING MESSAGE = 'an audit chain is cut only where a signed cut says so';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER audit_go_forward BEFORE UPDATE ON audit_heads FOR EACH ROW EXECUTE FUNCTION audit_go_forward();
REVOKE EXECUTE ON FUNCTION audit_keep_sealed(), audit_go_forward() FROM PUBLIC;
"""

TENANT_POLICY = """
ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;
ALTER TABLE {table} FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_rows ON {table} FOR ALL TO simples3dms_tenant
  USING (tenant_id = NULLIF(current_setting('app.tenant_id', true), '')::uuid)
  WITH CHECK (tenant_id = NULLIF(current_setting('app.tenant_id', true), '')::uuid);
CREATE POLICY platform_rows ON {table} FOR ALL TO simples3dms_platform USING (true) WITH CHECK (true);
"""
SEALER_POLICY = """
CREATE POLICY sealer_rows ON {table} FOR ALL TO simples3dms_sealer
  USING (tenant_id = NULLIF(current_setting('app.tenant_id', true), '')::uuid)
  WITH CHECK (tenant_id = NULLIF(current_setting('app.tenant_id', true), '')::uuid);
"""
RIGHTS = f"""
REVOKE INSERT ON audit_events FROM simples3dms_tenant, simples3dms_platform;
GRANT INSERT ({GIVEN}) ON audit_events TO simples3dms_tenant, simples3dms_platform, simples3dms_sealer;
GRANT UPDATE (seq, hash, noun), SELECT, DELETE ON audit_events TO simples3dms_sealer;
GRANT SELECT, INSERT, UPDATE ON audit_heads TO simples3dms_sealer;
GRANT SELECT, INSERT ON audit_checkpoints, audit_cuts TO simples3dms_sealer;
GRANT SELECT ON audit_heads, audit_checkpoints, audit_cuts TO simples3dms_tenant, simples3dms_platform;
GRANT SELECT, INSERT, UPDATE ON audit_copies TO simples3dms_tenant;
GRANT SELECT, DELETE ON audit_copies TO simples3dms_platform;
ALTER TABLE audit_signing_keys ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit_signing_keys FORCE ROW LEVEL SECURITY;
CREATE POLICY platform_rows ON audit_signing_keys FOR ALL TO simples3dms_platform USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE ON audit_signing_keys TO simples3dms_platform;
"""


def _run(statements: str) -> None:
    # Straight to the driver: the statements hold colons and percent signs that mean nothing to SQLAlchemy.
    connection: Any = op.get_bind().connection.driver_connection
    connection.execute(statements)


def upgrade() -> None:
    _run(ROLE)
    _run(TABLES)
    _run(INDEXES)
    _run(TRIGGERS)
    for table in ("audit_heads", "audit_checkpoints", "audit_cuts", "audit_copies"):
        _run(TENANT_POLICY.format(table=table))
    for table in ("audit_events", "audit_heads", "audit_checkpoints", "audit_cuts"):
        _run(SEALER_POLICY.format(table=table))
    _run(RIGHTS)


def downgrade() -> None:
    raise RuntimeError("Restore a backup instead: what later versions wrote can't be put back.")
