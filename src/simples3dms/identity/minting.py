"""New tokens: bounded by scopes, a tenant and an expiry, and never by less than what made them."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from simples3dms.audit.service import record
from simples3dms.context import Principal
from simples3dms.crypto.tokens import hash_token, new_token
from simples3dms.db.session import UnitOfWork
from simples3dms.identity import errors, repository
from simples3dms.identity.permissions import Permission
from simples3dms.identity.values import NewToken

_NAME: Final = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]{1,100}")
_MOST_DAYS: Final = 3650


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a token is to be bounded by; None: by no more than what its maker is bounded by."""

    scopes: Collection[str] | None = None
    tenant_id: UUID | None = None
    expires_in_days: float | None = None


UNBOUNDED: Final = Bounds()


def check_token_name(name: str) -> None:
    if not name.strip() or not _NAME.fullmatch(name):
        raise errors.token_name_invalid()


def plan_bounds(maker: Principal, asked: Bounds) -> Bounds:
    """The bounds of a token that this principal makes. Expiry is compared when it is made, by the database's clock.

    Raises Invalid (`token_expiry_invalid`, `scope_unknown`), Forbidden (`token_exceeds`).
    """
    days = asked.expires_in_days
    if days is not None and not 0 < days <= _MOST_DAYS:
        raise errors.token_expiry_invalid(_MOST_DAYS)
    scopes = maker.scopes if asked.scopes is None else frozenset(asked.scopes)
    if scopes is not None:
        unknown = sorted(scopes - set(Permission))
        if unknown or not scopes:
            raise errors.scope_unknown(unknown)
        if maker.scopes is not None and not scopes <= maker.scopes:
            raise errors.token_exceeds("scopes")
    if maker.tenant_id is not None and asked.tenant_id not in (None, maker.tenant_id):
        raise errors.token_exceeds("tenant")
    return Bounds(scopes, asked.tenant_id or maker.tenant_id, days)


async def mint(
    uow: UnitOfWork, maker: Principal, user_id: UUID, name: str, bounds: Bounds, *, by: str, may_outlive: bool = False
) -> NewToken:
    """A token of this user, within bounds that `plan_bounds` gave. `may_outlive`: it may expire after its maker.

    Raises Forbidden (`token_exceeds`), Unauthenticated (`token_invalid`) if the maker was shut out meanwhile.
    """
    # What shuts somebody out changes their row first and ends tokens then. Either it waits for this unit of work and
    # ends this token too, or this one waited for it, and sees here that its maker is out.
    users = [user_id] if maker.id is None else [maker.id, user_id]
    held = await repository.hold_users(uow, users)
    if not held or not await repository.is_in_force(uow, token_id=maker.token_id, session_id=maker.session_id):
        raise errors.token_invalid()
    token = new_token()
    row = await repository.insert_token(
        uow,
        user_id,
        name,
        hash_token(token),
        expires_in_days=bounds.expires_in_days,
        not_after=None if may_outlive else maker.expires_at,
        scopes=None if bounds.scopes is None else sorted(bounds.scopes),
        tenant_id=bounds.tenant_id,
    )
    if not may_outlive and maker.expires_at is not None and bounds.expires_in_days is not None:
        asked_until = await repository.get_time_in_days(uow, bounds.expires_in_days)
        if asked_until > maker.expires_at:
            raise errors.token_exceeds("expiry")
    details = {"name": name, "by": by, "scopes": row.scopes, "tenant_id": row.tenant_id and str(row.tenant_id)}
    await record(uow, maker, "token.created", target_type="token", target_id=str(row.id), details=details)
    return NewToken(row.id, token, row.name, row.expires_at)
