"""Residency's one door: whoever puts a tenant's documents somewhere asks here."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol
from uuid import UUID

from simples3dms.db.session import UnitOfWork
from simples3dms.storage.stores import errors, repository
from simples3dms.storage.stores.jurisdictions import is_inside
from simples3dms.tenants.repository import lock_residency, share_residency


class Located(Protocol):
    """A store, a grant, or a store that is about to be made."""

    @property
    def name(self) -> str: ...

    @property
    def jurisdiction(self) -> str | None: ...


async def allowed_jurisdictions(uow: UnitOfWork, tenant_id: UUID) -> frozenset[str] | None:
    """The codes of countries and blocs that a tenant's documents may lie in; None: anywhere."""
    found = await repository.find_allowed_jurisdictions(uow, tenant_id)
    return None if found is None else frozenset(found)


async def held_jurisdictions(uow: UnitOfWork, tenant_id: UUID) -> frozenset[str] | None:
    """The same, for whoever decides by it where documents go: another list waits until this unit of work has ended, and
    then finds what it put there."""
    await share_residency(uow, tenant_id)
    return await allowed_jurisdictions(uow, tenant_id)


async def lock_jurisdictions(uow: UnitOfWork, tenant_id: UUID) -> frozenset[str] | None:
    """The same, for whoever is about to set another list: it waits for all who decide by this one."""
    await lock_residency(uow, tenant_id)
    return await allowed_jurisdictions(uow, tenant_id)


async def refuse_outside(uow: UnitOfWork, tenant_id: UUID, places: Iterable[Located]) -> None:
    """Raise Conflict (`residency_violated`) for the first store that the tenant's documents may not lie in."""
    allowed = await held_jurisdictions(uow, tenant_id)
    for place in places:
        if not is_inside(place.jurisdiction, allowed):
            raise errors.residency_violated(place.name, place.jurisdiction, allowed or ())
