"""SQL of invitations, for the platform's unit of work."""

from __future__ import annotations

from datetime import datetime
from typing import Final
from uuid import UUID

from simples3dms.context import Principal
from simples3dms.db.session import UnitOfWork
from simples3dms.identity.invitations.values import Invitation, OpenInvitation

_SHOWN: Final = "id, email, role, created_at, expires_at, accepted_at, revoked_at"
_OPEN: Final = "accepted_at IS NULL AND revoked_at IS NULL AND expires_at > now()"


async def insert(
    uow: UnitOfWork,
    tenant_id: UUID,
    invitation_id: UUID,
    email: str,
    role: str,
    *,
    token_hash: bytes | None,
    invited_by: UUID | None,
    days: float,
) -> Invitation:
    made = await uow.find(
        Invitation,
        f"""INSERT INTO invitations (tenant_id, id, email, role, token_hash, invited_by, expires_at)
            VALUES (%s, %s, %s, %s, %s, %s, now() + make_interval(secs => %s::float8 * 86400)) RETURNING {_SHOWN}""",  # noqa: S608
        [tenant_id, invitation_id, email, role, token_hash, invited_by, days],
    )
    assert made is not None
    return made


async def set_hash(uow: UnitOfWork, invitation_id: UUID, token_hash: bytes) -> OpenInvitation | None:
    """Give an open invitation another secret: one sent before is worth nothing any more."""
    return await uow.find(
        OpenInvitation,
        f"""UPDATE invitations SET token_hash = %s WHERE id = %s AND {_OPEN}
            RETURNING tenant_id, id, email, role, invited_by""",  # noqa: S608
        [token_hash, invitation_id],
    )


async def hold_open(uow: UnitOfWork, token_hash: bytes) -> OpenInvitation | None:
    """The open invitation of this secret; nobody else uses or revokes it until the unit of work ends."""
    return await uow.find(
        OpenInvitation,
        f"SELECT tenant_id, id, email, role, invited_by FROM invitations WHERE token_hash = %s AND {_OPEN} FOR UPDATE",  # noqa: S608
        [token_hash],
    )


async def set_accepted(uow: UnitOfWork, invitation: OpenInvitation, user_id: UUID) -> None:
    await uow.execute(
        "UPDATE invitations SET accepted_at = now(), accepted_by = %s WHERE tenant_id = %s AND id = %s",
        [user_id, invitation.tenant_id, invitation.id],
    )


async def revoke(uow: UnitOfWork, tenant_id: UUID, invitation_id: UUID) -> datetime | None:
    """When it was revoked; None if there is none, or it was accepted."""
    found: datetime | None = await uow.scalar(
        """UPDATE invitations SET revoked_at = coalesce(revoked_at, now())
           WHERE tenant_id = %s AND id = %s AND accepted_at IS NULL RETURNING revoked_at""",
        [tenant_id, invitation_id],
    )
    return found


async def list_page(uow: UnitOfWork, tenant_id: UUID, *, after: UUID | None, limit: int) -> list[Invitation]:
    """Newest first."""
    return await uow.rows(
        Invitation,
        f"""SELECT {_SHOWN} FROM invitations WHERE tenant_id = %(tenant)s
              AND (%(after)s::uuid IS NULL OR id < %(after)s) ORDER BY id DESC LIMIT %(limit)s""",  # noqa: S608
        {"tenant": tenant_id, "after": after, "limit": limit},
    )


async def find_principal(uow: UnitOfWork, user_id: UUID) -> Principal | None:
    """Who invited, as they are now; None if they are disabled."""
    return await uow.find(
        Principal,
        """SELECT id, email AS name, is_operator, is_auditor, is_service FROM users
           WHERE id = %s AND disabled_at IS NULL""",
        [user_id],
    )
