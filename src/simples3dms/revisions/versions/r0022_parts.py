"""Copies in parts: what was sent of each, for whoever goes on with it."""

from __future__ import annotations

from typing import Any

from alembic import op

from simples3dms.revisions.versions.r0001_first_path import TENANT_POLICY

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

PARTS = """
CREATE TABLE part_uploads (
  tenant_id uuid NOT NULL,
  replica_id uuid NOT NULL,
  upload_id text NOT NULL,
  part_size_bytes bigint NOT NULL CHECK (part_size_bytes > 0),
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, replica_id),
  FOREIGN KEY (tenant_id, replica_id) REFERENCES replicas (tenant_id, id) ON DELETE CASCADE
);
CREATE TABLE sent_parts (
  tenant_id uuid NOT NULL,
  replica_id uuid NOT NULL,
  number integer NOT NULL CHECK (number > 0),
  size_bytes bigint NOT NULL,
  etag text NOT NULL,
  digest bytea NOT NULL CHECK (octet_length(digest) = 32),
  PRIMARY KEY (tenant_id, replica_id, number),
  FOREIGN KEY (tenant_id, replica_id) REFERENCES part_uploads (tenant_id, replica_id) ON DELETE CASCADE
);
"""


def _run(statements: str) -> None:
    connection: Any = op.get_bind().connection.driver_connection
    connection.execute(statements)


def upgrade() -> None:
    _run(PARTS)
    everything = "SELECT, INSERT, UPDATE, DELETE"
    for table, rights in (("part_uploads", "SELECT, INSERT, DELETE"), ("sent_parts", "SELECT, INSERT, UPDATE")):
        _run(TENANT_POLICY.format(table=table, rights=rights, platform_rights=everything))


def downgrade() -> None:
    raise RuntimeError("Restore a backup instead: what later versions wrote can't be put back.")
