"""Migrations and drains: how well copies are to be proven. Replicas: a provider's checksum as evidence."""

from __future__ import annotations

from alembic import op

revision = "0033"
down_revision = "0032"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table in ("migrations", "drains"):
        op.execute(
            f"""
            ALTER TABLE {table} ADD COLUMN proof text NOT NULL DEFAULT 'read-back'
              CHECK (proof ~ '^(read-back|provider-checksum|sample=[1-9][0-9]?)$')
            """
        )
    op.execute(
        """
        ALTER TABLE replicas DROP CONSTRAINT replicas_evidence_check,
          ADD CONSTRAINT replicas_evidence_check
            CHECK (evidence IN ('written', 'read-back', 'provider-checksum', 'doubted')) NOT VALID
        """
    )
    # Apart, so that it does not keep writers out.
    op.execute("ALTER TABLE replicas VALIDATE CONSTRAINT replicas_evidence_check")


def downgrade() -> None:
    raise RuntimeError("Restore a backup instead: what later versions wrote can't be put back.")
