"""SQL of letters that are owed."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from simples3dms.db.session import UnitOfWork
from simples3dms.identity.letters.values import Letter, LetterRow

#: For whom it is, from what it is about: a letter itself holds neither an address nor a secret.
_LETTER: Final = """SELECT l.id, l.kind, coalesce(i.email, u.email, r.email) AS email, l.state, l.attempt, l.last_error,
    l.created_at
  FROM letters l
    LEFT JOIN invitations i ON l.kind = 'invitation' AND i.id = l.subject_id
    LEFT JOIN password_resets r ON l.kind = 'reset' AND r.id = l.subject_id
    LEFT JOIN notice_letters n ON l.kind = 'notice' AND n.id = l.subject_id
    LEFT JOIN users u ON u.id = coalesce(r.user_id, n.user_id)"""


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


async def list_unsent(uow: UnitOfWork, *, after: UUID | None, limit: int) -> list[Letter]:
    """Letters that were tried and could not be sent, oldest first."""
    return await uow.rows(
        Letter,
        f"""{_LETTER} WHERE l.last_error IS NOT NULL AND (%(after)s::uuid IS NULL OR l.id > %(after)s)
            ORDER BY l.id LIMIT %(limit)s""",
        {"after": after, "limit": limit},
    )


async def revive(uow: UnitOfWork, letter_id: UUID) -> Letter | None:
    """Due at once, with fresh attempts; None if it is not there, or somebody is just at it."""
    done = await uow.execute(
        """UPDATE letters SET state = 'pending', attempt = 0, due_at = now(), lease_until = NULL
           WHERE id = %s AND last_error IS NOT NULL AND (lease_until IS NULL OR lease_until < now())""",
        [letter_id],
    )
    return await uow.find(Letter, f"{_LETTER} WHERE l.id = %s", [letter_id]) if done else None


async def drop(uow: UnitOfWork, letter_id: UUID) -> Letter | None:
    """The letter, which is not owed any more; None if it is not there, or somebody is just at it."""
    found = await uow.find(Letter, f"{_LETTER} WHERE l.id = %s AND l.last_error IS NOT NULL", [letter_id])
    done = await uow.execute(
        """DELETE FROM letters WHERE id = %s AND last_error IS NOT NULL
           AND (lease_until IS NULL OR lease_until < now())""",
        [letter_id],
    )
    return found if done else None
