"""SQL of letters that are owed."""

from __future__ import annotations

from uuid import UUID

from simples3dms.db.session import UnitOfWork
from simples3dms.identity.letters.values import LetterRow


async def insert(uow: UnitOfWork, letter_id: UUID, kind: str, subject_id: UUID) -> None:
    await uow.execute(
        "INSERT INTO letters (id, kind, subject_id) VALUES (%s, %s, %s)",
        [letter_id, kind, subject_id],
    )


async def claim(uow: UnitOfWork, letter_id: UUID, *, lease_seconds: float) -> LetterRow | None:
    """The letter, unless it is sent, not due, or somebody else's now. An earlier claimant's word no longer counts."""
    return await uow.find(
        LetterRow,
        """UPDATE letters SET fence = fence + 1, attempt = attempt + 1,
             lease_until = now() + make_interval(secs => %s)
           WHERE id = %s AND state = 'pending' AND due_at <= now() AND (lease_until IS NULL OR lease_until < now())
           RETURNING id, kind, subject_id, fence, attempt""",
        [lease_seconds, letter_id],
    )


async def settle(uow: UnitOfWork, row: LetterRow) -> None:
    """It is sent, or not to be sent any more."""
    await uow.execute("DELETE FROM letters WHERE id = %s AND fence = %s", [row.id, row.fence])


async def postpone(uow: UnitOfWork, row: LetterRow, message: str, *, delay_seconds: float, is_final: bool) -> None:
    await uow.execute(
        """UPDATE letters SET lease_until = NULL, last_error = %s, due_at = now() + make_interval(secs => %s),
             state = CASE WHEN %s THEN 'needs_attention' ELSE 'pending' END WHERE id = %s AND fence = %s""",
        [message, delay_seconds, is_final, row.id, row.fence],
    )


async def list_due(uow: UnitOfWork, *, limit: int) -> list[UUID]:
    """Letters that nobody is at: their job was lost, or their worker."""
    return await uow.scalars(
        """SELECT id FROM letters WHERE state = 'pending' AND due_at <= now()
             AND (lease_until IS NULL OR lease_until < now()) ORDER BY due_at LIMIT %s""",
        [limit],
    )
