"""SQL of password resets, for the platform's unit of work."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from simples3dms.db.session import UnitOfWork
from simples3dms.identity.values import Account


async def request(uow: UnitOfWork, reset_id: UUID, email: str) -> None:
    """That somebody asked; who it is, is looked up when the letter is written."""
    await uow.execute(
        "INSERT INTO password_resets (id, email, expires_at) VALUES (%s, %s, now() + interval '1 hour')",
        [reset_id, email],
    )


async def find_email(uow: UnitOfWork, reset_id: UUID) -> str | None:
    found: str | None = await uow.scalar(
        "SELECT email FROM password_resets WHERE id = %s AND expires_at > now() AND used_at IS NULL", [reset_id]
    )
    return found


async def insert(uow: UnitOfWork, reset_id: UUID, user_id: UUID, token_hash: bytes, *, hours: float) -> datetime:
    """A reset that a person hands over; when it runs out."""
    found: datetime = await uow.scalar(
        """INSERT INTO password_resets (id, user_id, token_hash, expires_at)
           VALUES (%s, %s, %s, now() + make_interval(secs => %s::float8 * 3600)) RETURNING expires_at""",
        [reset_id, user_id, token_hash, hours],
    )
    return found


async def set_hash(uow: UnitOfWork, reset_id: UUID, user_id: UUID, token_hash: bytes) -> None:
    """Give it a secret, in place of one sent before; from now on it is good for an hour."""
    await uow.execute(
        """UPDATE password_resets SET user_id = %s, token_hash = %s,
             expires_at = now() + interval '1 hour' WHERE id = %s""",
        [user_id, token_hash, reset_id],
    )


async def delete(uow: UnitOfWork, reset_id: UUID) -> None:
    await uow.execute("DELETE FROM password_resets WHERE id = %s", [reset_id])


async def hold_account(uow: UnitOfWork, token_hash: bytes) -> Account | None:
    """Whose reset it is, if it may be used now; nobody else uses it until the unit of work ends."""
    return await uow.find(
        Account,
        """SELECT u.id, u.email, u.password_hash, u.is_operator, u.is_auditor
           FROM password_resets r JOIN users u ON u.id = r.user_id
           WHERE r.token_hash = %s AND r.used_at IS NULL AND r.expires_at > now()
             AND u.disabled_at IS NULL AND NOT u.is_service FOR UPDATE OF r""",
        [token_hash],
    )


async def end_all(uow: UnitOfWork, user_id: UUID) -> None:
    """All of a user's are used up with one."""
    await uow.execute("UPDATE password_resets SET used_at = now() WHERE user_id = %s AND used_at IS NULL", [user_id])


async def prune(uow: UnitOfWork) -> None:
    """Drop a few that ran out long ago."""
    await uow.execute(
        """DELETE FROM password_resets WHERE id IN (
             SELECT id FROM password_resets WHERE expires_at < now() - interval '168 hours'
             ORDER BY expires_at LIMIT 20 FOR UPDATE SKIP LOCKED)"""
    )
