"""Roles: owner, administrator, editor, viewer, auditor in a tenant; operator and auditor of the platform."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE users ADD COLUMN is_auditor boolean NOT NULL DEFAULT false")
    # The tables' owner is held by their policies as well, and none of them is for it.
    op.execute("ALTER TABLE members NO FORCE ROW LEVEL SECURITY, DROP CONSTRAINT members_role_check")
    op.execute("UPDATE members SET role = CASE role WHEN 'admin' THEN 'administrator' ELSE 'editor' END")
    op.execute(
        """
        ALTER TABLE members FORCE ROW LEVEL SECURITY, ADD CONSTRAINT members_role_check
          CHECK (role IN ('owner', 'administrator', 'editor', 'viewer', 'auditor'))
        """
    )


def downgrade() -> None:
    raise RuntimeError("Restore a backup instead: what later versions wrote can't be put back.")
