"""Richer placements: rules, copies that are drawn, uploads that wait for several stores."""

from __future__ import annotations

from typing import Any

from alembic import op

from simples3dms.revisions.versions.r0001_first_path import TENANT_POLICY

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

POLICIES = """
-- What rules ask of a blob, for as long as it lives. Older blobs have none, and are asked for their first version's.
ALTER TABLE blobs ADD COLUMN content_type text;
-- `store_ids`: each store that the policy names, so that one that is needed is found whatever names it.
ALTER TABLE placements
  ADD COLUMN more jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(more) = 'object'),
  ADD COLUMN store_ids uuid[] NOT NULL DEFAULT '{}';
-- A tenant of which every blob is to be looked at, since its placement wants more copies now, or may as they age.
CREATE TABLE placement_surveys (
  tenant_id uuid PRIMARY KEY REFERENCES tenants (id),
  after_seq bigint NOT NULL DEFAULT 0,
  due_at timestamptz,
  fence bigint NOT NULL DEFAULT 0
);
CREATE INDEX placement_surveys_due ON placement_surveys (due_at) WHERE due_at IS NOT NULL;
"""


def upgrade() -> None:
    connection: Any = op.get_bind().connection.driver_connection
    connection.execute(POLICIES)
    everything = "SELECT, INSERT, UPDATE, DELETE"
    connection.execute(
        TENANT_POLICY.format(table="placement_surveys", rights="SELECT, INSERT, UPDATE", platform_rights=everything)
    )


def downgrade() -> None:
    raise RuntimeError("Restore a backup instead: what later versions wrote can't be put back.")
