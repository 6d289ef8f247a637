"""SQL of identity providers, sign-ins under way, and subjects that are users, for the platform's unit of work."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from simples3dms.crypto.sealing import Sealed
from simples3dms.db.session import UnitOfWork
from simples3dms.identity.federation.values import IdentityProvider, NewProvider, SealedSecret
from simples3dms.identity.values import Account

_SHOWN: Final = "id, name, issuer, client_id, links_by_email, creates_users, default_role, created_at, of_tenant_id"


async def insert(
    uow: UnitOfWork, provider_id: UUID, tenant_id: UUID | None, given: NewProvider, sealed: Sealed | None
) -> IdentityProvider | None:
    """The new provider, or None if the name is taken."""
    return await uow.find(
        IdentityProvider,
        f"""INSERT INTO identity_providers (id, of_tenant_id, name, issuer, client_id, key_id, wrapped_key, sealed,
              links_by_email, creates_users, default_role)
            VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING RETURNING {_SHOWN}""",  # noqa: S608
        [
            provider_id,
            tenant_id,
            given.name,
            given.issuer,
            given.client_id,
            sealed.key_id if sealed else None,
            sealed.wrapped_key if sealed else None,
            sealed.sealed if sealed else None,
            given.links_by_email,
            given.creates_users,
            given.default_role,
        ],
    )


async def find(uow: UnitOfWork, provider_id: UUID) -> IdentityProvider | None:
    return await uow.find(
        IdentityProvider,
        f"SELECT {_SHOWN} FROM identity_providers WHERE id = %s",  # noqa: S608
        [provider_id],
    )


async def find_secret(uow: UnitOfWork, provider_id: UUID) -> SealedSecret | None:
    return await uow.find(
        SealedSecret, "SELECT key_id, wrapped_key, sealed FROM identity_providers WHERE id = %s", [provider_id]
    )


async def list_of(uow: UnitOfWork, tenant_id: UUID | None) -> list[IdentityProvider]:
    """Of a tenant, or of the platform (None): few."""
    return await uow.rows(
        IdentityProvider,
        f"""SELECT {_SHOWN} FROM identity_providers WHERE of_tenant_id IS NOT DISTINCT FROM %s
            ORDER BY name LIMIT 100""",  # noqa: S608
        [tenant_id],
    )


async def delete(uow: UnitOfWork, tenant_id: UUID | None, provider_id: UUID) -> bool:
    """With it go its subjects and the sessions that it began."""
    await uow.execute("UPDATE sessions SET ended_at = now() WHERE provider_id = %s AND ended_at IS NULL", [provider_id])
    count = await uow.execute(
        "DELETE FROM identity_providers WHERE id = %s AND of_tenant_id IS NOT DISTINCT FROM %s",
        [provider_id, tenant_id],
    )
    return count == 1


async def insert_flow(uow: UnitOfWork, state_hash: bytes, provider_id: UUID) -> None:
    """A sign-in has ten minutes. A few that were never finished go."""
    await uow.execute(
        """DELETE FROM sign_in_flows WHERE state_hash IN (
             SELECT state_hash FROM sign_in_flows WHERE expires_at < now() ORDER BY expires_at LIMIT 20
             FOR UPDATE SKIP LOCKED)"""
    )
    await uow.execute(
        """INSERT INTO sign_in_flows (state_hash, provider_id, expires_at)
           VALUES (%s, %s, now() + interval '10 minutes')""",
        [state_hash, provider_id],
    )


async def take_flow(uow: UnitOfWork, state_hash: bytes) -> UUID | None:
    """Which provider the sign-in is under way at. It comes back once, whatever comes of it."""
    found: UUID | None = await uow.scalar(
        "DELETE FROM sign_in_flows WHERE state_hash = %s AND expires_at > now() RETURNING provider_id", [state_hash]
    )
    return found


async def get_now_seconds(uow: UnitOfWork) -> float:
    found: float = await uow.scalar("SELECT extract(epoch FROM clock_timestamp())::float8")
    return found


async def hold_linked(uow: UnitOfWork, provider_id: UUID, subject: str) -> Account | None:
    """The user whom the subject is, if not disabled; they stay so until the unit of work ends."""
    return await uow.find(
        Account,
        """SELECT u.id, u.email, u.password_hash, u.is_operator, u.is_auditor
           FROM external_identities e JOIN users u ON u.id = e.user_id
           WHERE e.provider_id = %s AND e.subject = %s AND u.disabled_at IS NULL FOR SHARE OF u""",
        [provider_id, subject],
    )


async def is_linked(uow: UnitOfWork, provider_id: UUID, subject: str) -> bool:
    """Whether the subject is a user, also a disabled one."""
    found = await uow.scalar(
        "SELECT 1 FROM external_identities WHERE provider_id = %s AND subject = %s", [provider_id, subject]
    )
    return found is not None


async def link(uow: UnitOfWork, provider_id: UUID, subject: str, user_id: UUID) -> bool:
    count = await uow.execute(
        """INSERT INTO external_identities (provider_id, subject, user_id) VALUES (%s, %s, %s)
           ON CONFLICT (provider_id, subject) DO NOTHING""",
        [provider_id, subject, user_id],
    )
    return count == 1
