"""SQL of sessions. The database's clock says whether one is valid."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from simples3dms.db.session import UnitOfWork
from simples3dms.identity.sessions.values import Session, Visitor

_SHOWN: Final = "id, created_at, last_seen_at, expires_at, address, agent, method"
_VALID: Final = "ended_at IS NULL AND expires_at > now() AND last_seen_at > now() - make_interval(secs => %(idle)s)"


async def insert(
    uow: UnitOfWork,
    session_id: UUID,
    user_id: UUID,
    secret_hash: bytes,
    *,
    visitor: Visitor,
    method: str,
    lifetime_seconds: float,
    tenant_id: UUID | None,
    provider_id: UUID | None,
) -> None:
    await uow.execute(
        """INSERT INTO sessions (id, user_id, secret_hash, expires_at, address, agent, method, only_tenant_id,
             provider_id)
           VALUES (%s, %s, %s, now() + make_interval(secs => %s), %s, %s, %s, %s, %s)""",
        [
            session_id,
            user_id,
            secret_hash,
            lifetime_seconds,
            visitor.address,
            visitor.agent,
            method,
            tenant_id,
            provider_id,
        ],
    )


async def list_valid(uow: UnitOfWork, user_id: UUID, *, idle_seconds: float) -> list[Session]:
    return await uow.rows(
        Session,
        f"SELECT {_SHOWN} FROM sessions WHERE user_id = %(user)s AND {_VALID} ORDER BY id DESC LIMIT 1000",  # noqa: S608
        {"user": user_id, "idle": idle_seconds},
    )


async def set_secret(uow: UnitOfWork, session_id: UUID, secret_hash: bytes) -> float | None:
    """Put the session under a new secret; how many seconds it may still live, None if it has ended."""
    found: float | None = await uow.scalar(
        """UPDATE sessions SET secret_hash = %s WHERE id = %s AND ended_at IS NULL
           RETURNING extract(epoch FROM expires_at - now())::float8""",
        [secret_hash, session_id],
    )
    return found


async def end(uow: UnitOfWork, user_id: UUID, session_id: UUID) -> bool:
    """Whether it was one of the user's, ended by now."""
    count = await uow.execute(
        "UPDATE sessions SET ended_at = coalesce(ended_at, now()) WHERE id = %s AND user_id = %s",
        [session_id, user_id],
    )
    return count == 1


async def end_by_secret(uow: UnitOfWork, secret_hash: bytes) -> None:
    await uow.execute("UPDATE sessions SET ended_at = now() WHERE secret_hash = %s AND ended_at IS NULL", [secret_hash])


async def end_all(uow: UnitOfWork, user_id: UUID, *, but: UUID | None = None) -> int:
    """End all sessions of a user, but one if it is given; how many were in force."""
    return await uow.execute(
        "UPDATE sessions SET ended_at = now() WHERE user_id = %s AND ended_at IS NULL AND id IS DISTINCT FROM %s",
        [user_id, but],
    )


async def prune(uow: UnitOfWork, user_id: UUID) -> None:
    """Drop those of a user that ended or ran out long ago: the audit remembers them."""
    await uow.execute(
        """DELETE FROM sessions WHERE user_id = %s
             AND LEAST(expires_at, coalesce(ended_at, 'infinity')) < now() - interval '720 hours'""",
        [user_id],
    )
