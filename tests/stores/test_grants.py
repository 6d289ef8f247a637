"""Grants: each tenant has a prefix that nobody else has, and sees only the stores granted to it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.stores.conftest import RIGHT

from simples3dms.audit.service import Audit
from simples3dms.context import HOST
from simples3dms.db.session import Database
from simples3dms.errors import Conflict, Failure, Invalid, NotFound
from simples3dms.kit.ids import new_id
from simples3dms.storage.placement.service import Placements
from simples3dms.storage.stores.service import Stores
from simples3dms.storage.stores.values import GrantedStore, Store
from simples3dms.tenants.service import Tenants
from simples3dms.tenants.values import Tenant

pytestmark = pytest.mark.anyio


@pytest.fixture
async def globex(database: Database) -> Tenant:
    return await Tenants(database).create_tenant(HOST, "globex", "Globex")


async def _refused(failure: type[Failure], code: str, act: Any) -> None:
    with pytest.raises(failure) as caught:
        await act
    assert caught.value.problem_code == code


async def test_a_grant_is_made_once_under_the_tenants_own_prefix(
    stores: Stores, store: Store, tenant: Tenant, database: Database
) -> None:
    grants = await asyncio.gather(*(stores.grant_store(HOST, tenant.id, store.name) for _ in range(4)))
    assert set(grants) == {GrantedStore(store.id, "vault-1", "vault", f"t/{tenant.id}/")}
    assert await stores.grant_store(HOST, tenant.id, store.name, grants[0].prefix) == grants[0]
    assert await stores.list_granted_stores(tenant.id) == grants[:1]
    (event,) = await Audit(database).list_events(tenant.id)
    assert (event.action, event.details) == ("store.granted", {"name": "vault-1", "prefix": grants[0].prefix})


async def test_a_grants_prefix_never_changes(stores: Stores, store: Store, tenant: Tenant) -> None:
    await stores.grant_store(HOST, tenant.id, store.name, "acme/")
    await _refused(Conflict, "store_grant_differs", stores.grant_store(HOST, tenant.id, store.name, "other/"))
    assert (await stores.grant_store(HOST, tenant.id, store.name)).prefix == "acme/"


@pytest.mark.parametrize(
    "prefix", ["", "/", "a", "/a/", "a//", "../", "a/../b/", "./", "a/.b/", "ä/", "a b/", "a/\n", "a\0/", "a/" * 251]
)
async def test_a_bad_prefix_is_refused(stores: Stores, store: Store, tenant: Tenant, prefix: str) -> None:
    await _refused(Invalid, "store_prefix_invalid", stores.grant_store(HOST, tenant.id, store.name, prefix))


@pytest.mark.parametrize(
    ("first", "second", "free"),
    [
        ("a/", "a/", False),
        ("a/", "a/b/", False),
        ("a/b/", "a/", False),
        ("a/", "ab/", True),
        ("a/b/", "a/c/", True),
    ],
)
async def test_prefixes_of_one_store_do_not_overlap(
    stores: Stores, store: Store, tenant: Tenant, globex: Tenant, first: str, second: str, free: bool
) -> None:
    await stores.grant_store(HOST, tenant.id, store.name, first)
    act = stores.grant_store(HOST, globex.id, store.name, second)
    if free:
        assert (await act).prefix == second
    else:
        await _refused(Conflict, "store_prefix_taken", act)


async def test_prefixes_of_two_stores_in_one_bucket_do_not_overlap_either(
    stores: Stores, store: Store, tenant: Tenant, globex: Tenant
) -> None:
    await stores.add_store(HOST, "inner", "vault", {"place": "one", "prefix": "x"}, RIGHT)
    await stores.add_store(HOST, "elsewhere", "vault", {"place": "two", "prefix": "x"}, RIGHT)
    await stores.grant_store(HOST, tenant.id, store.name, "x/a/")
    await _refused(Conflict, "store_prefix_taken", stores.grant_store(HOST, globex.id, "inner", "a/"))
    await _refused(Conflict, "store_prefix_taken", stores.grant_store(HOST, globex.id, "inner", "a/b/"))
    # Not even the tenant's own: its objects would be listed twice.
    await _refused(Conflict, "store_prefix_taken", stores.grant_store(HOST, tenant.id, "inner", "a/"))
    await stores.grant_store(HOST, globex.id, "inner", "b/")
    await stores.grant_store(HOST, globex.id, "elsewhere", "a/")


async def test_of_two_tenants_at_once_one_gets_the_prefix(
    stores: Stores, store: Store, tenant: Tenant, globex: Tenant
) -> None:
    outcomes = await asyncio.gather(
        stores.grant_store(HOST, tenant.id, store.name, "a/"),
        stores.grant_store(HOST, globex.id, store.name, "a/b/"),
        return_exceptions=True,
    )
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Conflict", "GrantedStore"]


async def test_only_a_tenant_that_exists_gets_a_store(stores: Stores, store: Store) -> None:
    await _refused(NotFound, "tenant_not_found", stores.grant_store(HOST, new_id(), store.name))


async def test_a_tenant_sees_its_own_stores_only(
    stores: Stores, store: Store, tenant: Tenant, globex: Tenant, database: Database
) -> None:
    other = await stores.add_store(HOST, "vault-2", "vault", {"place": "two"}, RIGHT)
    mine = await stores.grant_store(HOST, tenant.id, store.name)
    await stores.grant_store(HOST, globex.id, other.name)
    await stores.grant_store(HOST, globex.id, store.name)
    assert await stores.list_granted_stores(tenant.id) == [mine]
    assert await stores.list_granted_stores(new_id()) == []
    assert await stores.get_granted_store(tenant.id, store.name) == mine
    assert await stores.get_granted_store(tenant.id, str(store.id)) == mine
    for unknown in (other.name, str(other.id), "nope", "", "\0"):
        await _refused(NotFound, "store_not_found", stores.get_granted_store(tenant.id, unknown))
    async with database.tenant(tenant.id) as uow:
        assert await uow.scalars("SELECT name FROM stores") == [store.name]


async def test_a_store_in_use_is_not_disabled(stores: Stores, store: Store, tenant: Tenant, database: Database) -> None:
    second = await stores.add_store(HOST, "vault-2", "vault", {"place": "two"}, RIGHT)
    for name in (store.name, second.name):
        await stores.grant_store(HOST, tenant.id, name)
    placements = Placements(database)
    await placements.set_placement(HOST, tenant.id, write=store.name, copies=[second.name])
    for name in (store.name, second.name):
        await _refused(Conflict, "store_in_use", stores.disable(HOST, name))
    await placements.set_placement(HOST, tenant.id, write=store.name)
    assert (await stores.disable(HOST, second.name)).disabled_at is not None


async def test_a_disabled_store_is_offered_no_more_but_still_works(
    stores: Stores, store: Store, tenant: Tenant, globex: Tenant
) -> None:
    await stores.grant_store(HOST, tenant.id, store.name)
    disabled = await stores.disable(HOST, store.name)
    assert await stores.disable(HOST, store.name) == disabled
    assert await stores.list_granted_stores(tenant.id) == []
    await _refused(NotFound, "store_not_found", stores.get_granted_store(tenant.id, store.name))
    await _refused(Conflict, "store_disabled", stores.grant_store(HOST, globex.id, store.name))
    assert (await stores.check_store(store.name)).ok
    assert await stores.list_stores() == [disabled]
