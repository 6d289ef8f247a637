"""Indexes: sealed columns by the key that each row names, and rows that hold an address, for whoever is erased."""

from __future__ import annotations

from alembic import op

revision = "0015"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("CREATE INDEX totp_factors_of_key ON totp_factors (key_id, user_id)")
    op.execute("CREATE INDEX identity_providers_of_key ON identity_providers (key_id, id) WHERE key_id IS NOT NULL")
    op.execute("CREATE INDEX invitations_by_email ON invitations (email)")
    op.execute("CREATE INDEX password_resets_by_email ON password_resets (email) WHERE email IS NOT NULL")
    op.execute(
        "CREATE INDEX audit_signing_keys_of_key ON audit_signing_keys (seal_key_id, key_id)"
        " WHERE seal_key_id IS NOT NULL"
    )


def downgrade() -> None:
    raise RuntimeError("Restore a backup instead: what later versions wrote can't be put back.")
