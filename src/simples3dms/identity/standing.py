"""Whose token or session it is, and what they may do in the tenant that is asked for: all of it by one statement, as
each request asks it."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from simples3dms.context import PLATFORM, Principal
from simples3dms.db.session import Database
from simples3dms.identity import repository
from simples3dms.identity.permissions import OF_TENANT, Permission, rights_of
from simples3dms.identity.values import Recognised, Role
from simples3dms.tenants.service import parse_name
from simples3dms.tenants.values import Tenant


@dataclass(frozen=True, slots=True)
class Standing:
    """Who asks; and, where a tenant was named and is there, that tenant and what they may do in it."""

    principal: Principal
    tenant: Tenant | None
    rights: frozenset[Permission]


async def find_of_token(database: Database, token_hash: bytes, tenant: str | None) -> Standing | None:
    """None unless the token is good. `tenant`: a short name or id; the same work is done where there is none."""
    found = await repository.find_by_token(database, token_hash, *_named(tenant))
    return None if found is None else _standing(found)


async def find_of_session(
    database: Database, secret_hash: bytes, tenant: str | None, *, idle_seconds: float
) -> Standing | None:
    """As `find_of_token`, of a browser's session."""
    found = await repository.find_by_session(database, secret_hash, *_named(tenant), idle_seconds=idle_seconds)
    return None if found is None else _standing(found)


def _named(tenant: str | None) -> tuple[str | None, UUID | None]:
    return (None, None) if tenant is None else parse_name(tenant)


def _standing(found: Recognised) -> Standing:
    principal = Principal(
        found.user_id,
        found.email,
        found.is_operator,
        found.is_auditor,
        found.is_service,
        scopes=None if found.scopes is None else frozenset(found.scopes),
        tenant_id=found.only_tenant_id,
        session_id=found.session_id,
        token_id=found.token_id,
        expires_at=found.expires_at,
    )
    if found.tenant_id is None:
        return Standing(principal, None, rights_within(principal, PLATFORM, None))
    tenant = Tenant(
        found.tenant_id,
        found.slug,
        found.name,
        found.created_at,
        found.suspended_at,
        found.suspension_reason,
        found.deleting_at,
    )
    return Standing(principal, tenant, rights_within(principal, tenant.id, found.role))


def rights_within(principal: Principal, tenant_id: UUID, role: str | None) -> frozenset[Permission]:
    """What the principal, with this role there, may do in the tenant: nothing in any but the one it is bound to."""
    if principal.tenant_id not in (None, tenant_id):
        return frozenset()
    return rights_of(principal, Role(role) if role else None) & OF_TENANT
