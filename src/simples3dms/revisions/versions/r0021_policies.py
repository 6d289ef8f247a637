"""Richer placements: rules, copies that are drawn, uploads that wait for several stores."""

from __future__ import annotations

from alembic import op

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
"""


def upgrade() -> None:
    op.execute(POLICIES)


def downgrade() -> None:
    raise RuntimeError("Restore a backup instead: what later versions wrote can't be put back.")
