"""Waivers: an item that a migration leaves behind, by name and with a reason."""

from __future__ import annotations

from alembic import op

revision = "0017"
down_revision = "0015"
branch_labels = None
depends_on = None

WAIVERS = """
ALTER TABLE transfers DROP CONSTRAINT transfers_state_check;
ALTER TABLE transfers
  ADD CONSTRAINT transfers_state_check CHECK (state IN ('pending', 'failed', 'waived')),
  ADD COLUMN waived_reason text,
  ADD COLUMN waived_at timestamptz,
  ADD CONSTRAINT transfers_waived CHECK ((state = 'waived') = (waived_reason IS NOT NULL AND waived_at IS NOT NULL));
"""


def upgrade() -> None:
    op.execute(WAIVERS)


def downgrade() -> None:
    raise RuntimeError("Restore a backup instead: what later versions wrote can't be put back.")
