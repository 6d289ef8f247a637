"""Grants: which tenant may use which store of the platform, under which prefix; given and taken back by operators."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final
from uuid import UUID

from simples3dms.audit.service import record
from simples3dms.context import Principal
from simples3dms.db.session import Database, UnitOfWork
from simples3dms.identity.service import require_operator
from simples3dms.storage.rollout.service import refuse_closed
from simples3dms.storage.stores import errors, places, repository
from simples3dms.storage.stores.jurisdictions import is_inside
from simples3dms.storage.stores.residency import allowed_jurisdictions, refuse_outside
from simples3dms.storage.stores.values import GrantedStore, Store
from simples3dms.tenants import repository as tenants_repository
from simples3dms.tenants.service import not_found as tenant_not_found

NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_PREFIX: Final = re.compile(r"(?=.{2,500}\Z)([A-Za-z0-9_-][A-Za-z0-9._-]*/)+")


class Grants:
    """The half of `Stores` that is about who may use them."""

    _database: Database

    async def grant_store(
        self, principal: Principal, tenant_id: UUID, store_name: str, prefix: str | None = None
    ) -> GrantedStore:
        """Let a tenant use a store, under a prefix that nobody else has in that bucket. For operators.

        An existing grant is returned as it is; one that was taken back is in force again, under its own prefix. Raises
        NotFound (`store_not_found`, `tenant_not_found`), Invalid (`store_prefix_invalid`), Conflict
        (`store_prefix_taken`, `store_grant_differs`, `store_disabled`, `store_draining`, `store_name_taken`,
        `kind_not_enabled`, `residency_violated`).
        """
        require_operator(principal)
        store = await self.get_store(store_name)
        wanted = own_prefix(tenant_id) if prefix is None else prefix
        if not _PREFIX.fullmatch(wanted):
            raise errors.prefix_invalid()
        async with self._database.platform() as uow:
            await repository.lock_places(uow)
            if await tenants_repository.find(uow, tenant_id=tenant_id) is None:
                raise tenant_not_found()
            existing = await repository.find_grant(uow, tenant_id, store.id)
            revoked = await repository.find_grant(uow, tenant_id, store.id, revoked=True)
            for held in (existing, revoked):
                if held is not None and prefix not in (None, held.prefix):
                    raise errors.granted_differently(held.prefix)
            if existing is not None:
                return existing
            await _refuse_ungrantable(uow, tenant_id, store)
            if revoked is not None:
                wanted = revoked.prefix
                await repository.set_revoked(uow, tenant_id, store.id, revoked=False)
            else:
                if await repository.has_granted_name(uow, tenant_id, store.name):
                    raise errors.name_taken(store.name)
                await places.refuse_prefix_taken(uow, store, wanted)
                await repository.insert_grant(uow, tenant_id, store.id, wanted)
            await _record(uow, principal, "store.granted", store, tenant_id, wanted)
            granted = await repository.find_grant(uow, tenant_id, store.id)
        assert granted is not None
        return granted

    async def revoke_grant(self, principal: Principal, tenant_id: UUID, store_name: str) -> None:
        """Let a tenant use a store no more. For operators. Its prefix stays its own.

        Raises NotFound (`store_not_found`, `store_not_granted`), Conflict (`store_grant_in_use`, with `needs`) while
        a replica, a debt, the placement or a migration of the tenant needs it.
        """
        require_operator(principal)
        store = await self.get_store(store_name)
        async with self._database.platform() as uow:
            grant = await repository.lock_grant(uow, tenant_id, store.id)
            if grant is None:
                raise errors.not_granted(store.name)
            needs = await repository.list_needs(uow, tenant_id, store.id)
            if needs:
                raise errors.grant_in_use(store.name, needs)
            await repository.set_revoked(uow, tenant_id, store.id, revoked=True)
            await _record(uow, principal, "store.revoked", store, tenant_id, grant.prefix)

    async def list_granted_stores(self, tenant_id: UUID) -> list[GrantedStore]:
        """The stores that the tenant may use; disabled ones are left out."""
        async with self._database.tenant(tenant_id) as uow:
            allowed = await allowed_jurisdictions(uow, tenant_id)
            granted = await repository.list_granted(uow)
        return [replace(store, is_outside=not is_inside(store.jurisdiction, allowed)) for store in granted]

    async def get_granted_store(self, tenant_id: UUID, name_or_id: str) -> GrantedStore:
        """Raises NotFound (`store_not_found`), also for a store that others use."""
        for granted in await self.list_granted_stores(tenant_id):
            if granted.name == name_or_id or granted.id == as_uuid(name_or_id):
                return granted
        raise errors.not_found()

    async def get_store(self, name_or_id: str, *, owner: UUID | None = None) -> Store:
        """Of the platform, or of the tenant that is its owner. Raises NotFound (`store_not_found`)."""
        name = name_or_id if NAME.fullmatch(name_or_id) else None
        async with self._database.platform() if owner is None else self._database.tenant(owner) as uow:
            store = await repository.find(uow, owner=owner, name=name, store_id=as_uuid(name_or_id))
        if store is None:
            raise errors.not_found()
        return store


def own_prefix(tenant_id: UUID) -> str:
    """The prefix that a tenant has in a store unless it was given another."""
    return f"t/{tenant_id}/"


def as_uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


async def _refuse_ungrantable(uow: UnitOfWork, tenant_id: UUID, store: Store) -> None:
    held = await repository.lock(uow, store.id)
    if held is None or held.disabled_at is not None:
        raise errors.disabled(store.name)
    if await repository.is_draining(uow, store.id):
        raise errors.draining(store.name)
    await refuse_closed(uow, tenant_id, store.kind)
    await refuse_outside(uow, tenant_id, [held])


async def _record(
    uow: UnitOfWork, principal: Principal, action: str, store: Store, tenant_id: UUID, prefix: str
) -> None:
    await record(
        uow,
        principal,
        action,
        target_type="store",
        target_id=str(store.id),
        tenant_id=tenant_id,
        details={"name": store.name, "prefix": prefix},
    )
