"""Stores: probe and tuning. Replicas: evidence taken back. Migrations: whether the target held copies before."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        ALTER TABLE stores
          ADD COLUMN tuning jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(tuning) = 'object'),
          ADD COLUMN probe jsonb CHECK (probe IS NULL OR jsonb_typeof(probe) = 'array'),
          ADD COLUMN probe_verdict text CHECK (probe_verdict IN ('green', 'amber', 'red', 'unreachable')),
          ADD COLUMN probed_at timestamptz
        """
    )
    op.execute(
        """
        ALTER TABLE replicas DROP CONSTRAINT replicas_evidence_check,
          ADD CONSTRAINT replicas_evidence_check CHECK (evidence IN ('written', 'read-back', 'doubted'))
        """
    )
    op.execute("UPDATE replicas SET evidence = 'doubted' WHERE state IN ('suspect', 'missing')")
    # For the watchdog: replicas that are to be copied anew.
    op.execute("CREATE INDEX replicas_doubtful ON replicas (tenant_id, blob_id) WHERE state IN ('suspect', 'missing')")
    op.execute("ALTER TABLE migrations ADD COLUMN target_was_copy boolean NOT NULL DEFAULT false")


def downgrade() -> None:
    raise RuntimeError("Restore a backup instead: what later versions wrote can't be put back.")
