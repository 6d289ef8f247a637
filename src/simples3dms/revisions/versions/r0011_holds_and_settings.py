"""Legal holds, retention, tenants' settings and limits; the database itself keeps what is to be kept."""

from __future__ import annotations

from typing import Any

from alembic import op

from simples3dms.revisions.versions.r0001_first_path import TENANT_POLICY

revision = "0011"
down_revision = "0009"
branch_labels = None
depends_on = None

TABLES = {
    "holds": "SELECT, INSERT, UPDATE",
    "tenant_settings": "SELECT",
    "usage_shards": "SELECT, INSERT, UPDATE",
}

HOLDS = """
CREATE TABLE holds (
  tenant_id uuid NOT NULL,
  id uuid NOT NULL,
  document_id uuid NOT NULL,
  name text NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
  reason text NOT NULL CHECK (length(reason) BETWEEN 1 AND 500),
  placed_at timestamptz NOT NULL DEFAULT now(),
  placed_by text NOT NULL,
  released_at timestamptz,
  released_by text,
  release_reason text CHECK (length(release_reason) BETWEEN 1 AND 500),
  PRIMARY KEY (tenant_id, id),
  FOREIGN KEY (tenant_id, document_id) REFERENCES documents (tenant_id, id),
  CHECK ((released_at IS NULL) = (released_by IS NULL) AND (released_at IS NULL) = (release_reason IS NULL))
);
CREATE UNIQUE INDEX holds_in_force ON holds (tenant_id, document_id, name) WHERE released_at IS NULL;
CREATE INDEX holds_of_tenant ON holds (tenant_id, id) WHERE released_at IS NULL;
CREATE INDEX holds_of_document ON holds (tenant_id, document_id, id);
ALTER TABLE documents
  ADD COLUMN retain_until timestamptz,
  ADD COLUMN retention_mode text CHECK (retention_mode IN ('governance', 'compliance')),
  ADD COLUMN kept_at timestamptz,
  ADD CHECK ((retain_until IS NULL) = (retention_mode IS NULL));
CREATE INDEX documents_retained ON documents (tenant_id, retain_until) WHERE retain_until IS NOT NULL;
CREATE INDEX documents_trash_age ON documents (tenant_id, deleted_at)
  WHERE deleted_at IS NOT NULL AND purged_at IS NULL;
ALTER TABLE versions ADD COLUMN original_created_at timestamptz;
"""

SETTINGS = """
ALTER TABLE tenants ADD COLUMN IF NOT EXISTS allowed_jurisdictions text[];
CREATE TABLE tenant_settings (
  tenant_id uuid PRIMARY KEY REFERENCES tenants (id),
  version bigint NOT NULL CHECK (version >= 1),
  trash_days double precision CHECK (trash_days BETWEEN 0 AND 36500),
  retention_days integer CHECK (retention_days BETWEEN 1 AND 36500),
  retention_mode text CHECK (retention_mode IN ('governance', 'compliance')),
  region text CHECK (length(region) BETWEEN 1 AND 63),
  largest_upload_bytes bigint CHECK (largest_upload_bytes >= 1),
  most_documents bigint CHECK (most_documents >= 0),
  most_bytes bigint CHECK (most_bytes >= 0),
  updated_at timestamptz NOT NULL DEFAULT now(),
  CHECK ((retention_days IS NULL) = (retention_mode IS NULL))
);
CREATE TABLE usage_shards (
  tenant_id uuid NOT NULL REFERENCES tenants (id),
  shard smallint NOT NULL CHECK (shard BETWEEN 0 AND 15),
  document_count bigint NOT NULL,
  size_bytes numeric NOT NULL,
  PRIMARY KEY (tenant_id, shard)
);
ALTER TABLE uploads ADD COLUMN reserved_bytes bigint NOT NULL DEFAULT 0 CHECK (reserved_bytes >= 0);
CREATE INDEX uploads_reserved ON uploads (tenant_id) WHERE state = 'open';
"""

#: What is there is counted once; from here on each upload and each purge counts for itself.
COUNTED = """
ALTER TABLE documents NO FORCE ROW LEVEL SECURITY;
ALTER TABLE versions NO FORCE ROW LEVEL SECURITY;
ALTER TABLE blobs NO FORCE ROW LEVEL SECURITY;
INSERT INTO usage_shards (tenant_id, shard, document_count, size_bytes)
  SELECT d.tenant_id, 0, count(DISTINCT d.id), coalesce(sum(b.size_bytes), 0) FROM documents d
  LEFT JOIN versions v ON v.tenant_id = d.tenant_id AND v.document_id = d.id
  LEFT JOIN blobs b ON b.tenant_id = v.tenant_id AND b.id = v.blob_id
  WHERE d.purged_at IS NULL GROUP BY d.tenant_id;
ALTER TABLE documents FORCE ROW LEVEL SECURITY;
ALTER TABLE versions FORCE ROW LEVEL SECURITY;
ALTER TABLE blobs FORCE ROW LEVEL SECURITY;
"""

#: So that a mistake in a service can't remove what is held or retained. The functions run with the rights of whoever
#: changes the row; nobody calls them by hand. Each statement in them sees what was committed before it, so the order
#: of locks decides: a hold locks its document first, and so does whatever removes one.
KEPT = """
CREATE FUNCTION keep_document() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'UPDATE' THEN
    IF OLD.retention_mode = 'compliance' AND OLD.retain_until > now() AND (
         NEW.retain_until IS NULL OR NEW.retain_until < OLD.retain_until OR NEW.retention_mode <> 'compliance') THEN
      RAISE EXCEPTION 'a retention for compliance is never shortened' USING ERRCODE = 'restrict_violation';
    END IF;
    IF NOT (OLD.deleted_at IS NULL AND NEW.deleted_at IS NOT NULL
            OR OLD.purged_at IS NULL AND NEW.purged_at IS NOT NULL) THEN
      RETURN NEW;
    END IF;
  END IF;
  IF OLD.retain_until > now() OR EXISTS (
       SELECT 1 FROM holds h
       WHERE h.tenant_id = OLD.tenant_id AND h.document_id = OLD.id AND h.released_at IS NULL) THEN
    RAISE EXCEPTION 'the document is held or retained' USING ERRCODE = 'restrict_violation';
  END IF;
  IF TG_OP = 'DELETE' THEN
    RETURN OLD;
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER keep_document BEFORE UPDATE OR DELETE ON documents FOR EACH ROW EXECUTE FUNCTION keep_document();

CREATE FUNCTION keep_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF EXISTS (
       SELECT 1 FROM documents d WHERE d.tenant_id = OLD.tenant_id AND d.id = OLD.document_id AND (
         d.retain_until > now() OR EXISTS (
           SELECT 1 FROM holds h WHERE h.tenant_id = d.tenant_id AND h.document_id = d.id AND h.released_at IS NULL))
     ) THEN
    RAISE EXCEPTION 'the version''s document is held or retained' USING ERRCODE = 'restrict_violation';
  END IF;
  IF TG_OP = 'DELETE' THEN
    RETURN OLD;
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER keep_version BEFORE UPDATE OR DELETE ON versions FOR EACH ROW EXECUTE FUNCTION keep_version();

CREATE FUNCTION keep_blob() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF EXISTS (SELECT 1 FROM versions v WHERE v.tenant_id = NEW.tenant_id AND v.blob_id = NEW.id) THEN
    RAISE EXCEPTION 'a version refers to the blob' USING ERRCODE = 'restrict_violation';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER keep_blob BEFORE UPDATE OF dead_at ON blobs FOR EACH ROW
  WHEN (OLD.dead_at IS NULL AND NEW.dead_at IS NOT NULL) EXECUTE FUNCTION keep_blob();

CREATE FUNCTION keep_hold() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'INSERT' THEN
    -- A document that is not there, or another tenant's, is left to the reference and to the policy.
    PERFORM 1 FROM documents d WHERE d.tenant_id = NEW.tenant_id AND d.id = NEW.document_id FOR UPDATE;
    IF EXISTS (SELECT 1 FROM documents d
               WHERE d.tenant_id = NEW.tenant_id AND d.id = NEW.document_id AND d.purged_at IS NOT NULL) THEN
      RAISE EXCEPTION 'a purged document can''t be held' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
  END IF;
  IF TG_OP = 'DELETE' THEN
    IF OLD.released_at IS NULL THEN
      RAISE EXCEPTION 'a hold is released, not removed' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN OLD;
  END IF;
  IF OLD.released_at IS NOT NULL OR (NEW.document_id, NEW.name, NEW.reason, NEW.placed_at, NEW.placed_by)
       IS DISTINCT FROM (OLD.document_id, OLD.name, OLD.reason, OLD.placed_at, OLD.placed_by) THEN
    RAISE EXCEPTION 'a hold is released, not changed' USING ERRCODE = 'restrict_violation';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER keep_hold BEFORE INSERT OR UPDATE OR DELETE ON holds FOR EACH ROW EXECUTE FUNCTION keep_hold();

REVOKE EXECUTE ON FUNCTION keep_document(), keep_version(), keep_blob(), keep_hold() FROM PUBLIC;
"""


def _run(statements: str) -> None:
    connection: Any = op.get_bind().connection.driver_connection
    connection.execute(statements)


def upgrade() -> None:
    _run(HOLDS)
    _run(SETTINGS)
    _run(COUNTED)
    for table, rights in TABLES.items():
        policy = TENANT_POLICY.format(table=table, rights=rights, platform_rights="SELECT, INSERT, UPDATE, DELETE")
        _run(policy)
    _run(KEPT)


def downgrade() -> None:
    raise RuntimeError("Restore a backup instead: what later versions wrote can't be put back.")
