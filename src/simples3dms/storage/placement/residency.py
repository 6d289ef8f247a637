"""Residency: where a tenant's documents may lie. What is new is refused elsewhere; nothing is moved by itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from uuid import UUID

from simples3dms.db.session import UnitOfWork
from simples3dms.storage.placement.values import Grant
from simples3dms.storage.rollout.errors import kind_not_enabled
from simples3dms.storage.stores import repository as stores_repository
from simples3dms.storage.stores.errors import residency_violated
from simples3dms.storage.stores.jurisdictions import is_inside


async def allowed_jurisdictions(uow: UnitOfWork, tenant_id: UUID) -> frozenset[str] | None:
    """The codes of countries and blocs that a tenant's documents may lie in; None: anywhere."""
    found = await stores_repository.find_allowed_jurisdictions(uow, tenant_id)
    return None if found is None else frozenset(found)


async def refuse_outside(uow: UnitOfWork, tenant_id: UUID, grants: Iterable[Grant]) -> None:
    """Raise Conflict (`residency_violated`) for the first store that the tenant's documents may not lie in."""
    allowed = await allowed_jurisdictions(uow, tenant_id)
    for grant in grants:
        if not is_inside(grant.jurisdiction, allowed):
            raise residency_violated(grant.name, grant.jurisdiction, allowed or ())


async def refuse_new(uow: UnitOfWork, grants: Sequence[Grant], closed: frozenset[str] = frozenset()) -> None:
    """Raise Conflict for the first store that the tenant of this unit of work may not begin to use."""
    assert uow.tenant_id is not None
    refuse_closed(closed, grants)
    await refuse_outside(uow, uow.tenant_id, grants)


def refuse_closed(closed: frozenset[str], grants: Iterable[Grant]) -> None:
    """Raise Conflict (`kind_not_enabled`) for the first store of a kind that is not there for the tenant."""
    for grant in grants:
        if grant.kind in closed:
            raise kind_not_enabled(grant.kind)
