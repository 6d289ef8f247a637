"""Stores that tenants bring: by the operator's leave, behind the guard, and nobody else's business."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest
from tests.stores.conftest import RIGHT, STACK
from tests.stores.plugin import Book

from simples3dms.audit.service import Audit
from simples3dms.context import HOST, Principal
from simples3dms.crypto.keyring import Keyring
from simples3dms.crypto.sealing import SealContext, Sealed, unseal
from simples3dms.db.session import Database
from simples3dms.egress import EgressGuard, EgressPolicy
from simples3dms.errors import Conflict, Failure, Forbidden, Invalid, NotFound
from simples3dms.kit.ids import new_id
from simples3dms.storage.credentials.service import Credentials
from simples3dms.storage.placement.service import Placements
from simples3dms.storage.rollout.service import Rollouts
from simples3dms.storage.rollout.values import Attach, Change, OwnStoreRule, Reach
from simples3dms.storage.stores import places
from simples3dms.storage.stores.service import Stores
from simples3dms.storage.stores.values import Store
from simples3dms.tenants.service import Tenants
from simples3dms.tenants.values import Tenant

pytestmark = pytest.mark.anyio

OLGA = Principal(id=new_id(), name="olga@example.org")
HOSTS = ["http://127.0.0.1:9", "http://127.0.0.2:9"]
RULE = OwnStoreRule("hosted", HOSTS, [], 2, {"retry_attempts": (1, 4)})
PLACE = {"bucket": "acme"}


@pytest.fixture
async def stores(database: Database, credentials: Credentials, book: Book) -> AsyncIterator[Stores]:
    guard = EgressGuard(EgressPolicy.parse(allow="127.0.0.1:9,127.0.0.2:9"), refusal_seconds=0)
    stores = Stores(database, credentials, stack_settings=STACK, guard=guard)
    yield stores
    await stores.close()


@pytest.fixture
def rollouts(database: Database, book: Book) -> Rollouts:
    return Rollouts(database)


@pytest.fixture
async def globex(database: Database) -> Tenant:
    return await Tenants(database).create_tenant(HOST, "globex", "Globex")


@pytest.fixture
async def allowed(rollouts: Rollouts) -> None:
    """The operator lets tenants bring stores of the kind `hosted`."""
    await rollouts.set_rollout(HOST, "hosted", Change(attach=Attach.TENANTS))
    await rollouts.set_rule(HOST, RULE)


async def bring(stores: Stores, tenant: Tenant, name: str = "mine", **settings: Any) -> Store:
    return await stores.add_store(OLGA, name, "hosted", PLACE | settings, RIGHT, owner=tenant.id)


async def refused(failure: type[Failure], code: str, act: Any) -> Failure:
    with pytest.raises(failure) as caught:
        await act
    assert caught.value.problem_code == code
    return caught.value


async def test_without_the_operators_leave_nothing_is_brought_and_nothing_is_asked(
    stores: Stores, rollouts: Rollouts, tenant: Tenant, globex: Tenant, book: Book
) -> None:
    said = set()
    steps = (
        None,
        lambda: rollouts.set_rule(HOST, RULE),
        lambda: rollouts.set_rollout(HOST, "hosted", Change(Reach.CHOSEN, 0, [globex.id], Attach.TENANTS)),
        lambda: rollouts.set_rollout(HOST, "hosted", Change(Reach.OFF, attach=Attach.TENANTS)),
        lambda: rollouts.set_rollout(HOST, "hosted", Change(Reach.EVERYONE, attach=Attach.OPERATORS)),
    )
    for step in steps:
        if step is not None:
            await step()
        said.add((await refused(Invalid, "own_store_refused", bring(stores, tenant))).message)
    assert len(said) == 1, "why is the operator's affair"
    assert await rollouts.list_rules_for(tenant.id) == []
    assert book.built == []


@pytest.mark.usefixtures("allowed")
async def test_a_tenants_store_is_granted_to_it_at_once(
    stores: Stores, rollouts: Rollouts, tenant: Tenant, database: Database
) -> None:
    assert [rule.kind for rule in await rollouts.list_rules_for(tenant.id)] == ["hosted"]
    store = await bring(stores, tenant)
    assert (store.owner_tenant_id, store.name) == (tenant.id, "mine")
    (granted,) = await stores.list_granted_stores(tenant.id)
    assert (granted.id, granted.is_own, granted.prefix) == (store.id, True, f"t/{tenant.id}/")
    assert await stores.list_stores(owner=tenant.id) == [store]
    assert (await stores.check_store("mine", owner=tenant.id)).ok
    assert (await stores.probe_store(OLGA, "mine", owner=tenant.id)).verdict == "green"
    await Placements(database).set_placement(OLGA, tenant.id, write="mine")
    (placed, added) = await Audit(database).list_events(tenant.id)
    assert (added.action, added.principal_name, placed.action) == ("store.added", OLGA.name, "placement.set")


@pytest.mark.usefixtures("allowed")
async def test_its_credential_opens_for_its_owner_only(
    stores: Stores, tenant: Tenant, globex: Tenant, database: Database, keyring: Keyring
) -> None:
    store = await bring(stores, tenant)
    async with database.platform() as uow:
        row = await uow.connection.execute(
            "SELECT key_id, wrapped_key, sealed FROM credentials WHERE store_id = %s", [store.id]
        )
        sealed = Sealed(*(await row.fetchone() or ()))
    for owner in ("platform", str(globex.id)):
        with pytest.raises(Failure):
            unseal(keyring, sealed, context=SealContext(owner, "credentials", "sealed", str(store.id), 1))
    context = SealContext(str(tenant.id), "credentials", "sealed", str(store.id), 1)
    assert b"right" in unseal(keyring, sealed, context=context)


@pytest.mark.usefixtures("allowed")
async def test_s34_a_brought_store_passes_the_guard_whatever_holds_for_the_platforms(
    stores: Stores, tenant: Tenant, book: Book
) -> None:
    await stores.add_store(HOST, "ours", "hosted", {"bucket": "ours"}, RIGHT)
    assert set(book.proxies) == {None}
    book.proxies.clear()
    store = await bring(stores, tenant)
    await stores.provider(store.id)
    await stores.check_store("mine", owner=tenant.id)
    await stores.set_credential(OLGA, "mine", RIGHT, owner=tenant.id)
    await stores.provider(store.id)
    assert len(book.proxies) >= 4
    assert all(proxy is not None and "127.0.0.1" in proxy for proxy in book.proxies)


@pytest.mark.parametrize(
    "endpoint",
    [
        *("http://127.0.0.3:9", "http://127.0.0.1:10", "https://127.0.0.1:9", "http://localhost:9", "http://[::1]:9"),
        *("http://169.254.169.254", "http://10.0.0.1", "http://metadata.google.internal", "http://0x7f.1:9"),
    ],
)
@pytest.mark.usefixtures("allowed")
async def test_s34_nowhere_but_where_the_rule_says(stores: Stores, tenant: Tenant, book: Book, endpoint: str) -> None:
    with pytest.raises(Invalid) as caught:
        await bring(stores, tenant, endpoint=endpoint)
    assert caught.value.problem_code in ("own_store_host_refused", "endpoint_refused")
    assert book.built == []


async def test_s34_an_allowed_host_that_the_guard_refuses_stays_refused(
    stores: Stores, rollouts: Rollouts, tenant: Tenant, book: Book
) -> None:
    """An operator's slip in a rule opens no way into the own network."""
    await rollouts.set_rollout(HOST, "hosted", Change(attach=Attach.TENANTS))
    await rollouts.set_rule(HOST, OwnStoreRule("hosted", ["http://169.254.169.254", "http://10.0.0.1"], [], 2))
    for endpoint in ("http://169.254.169.254", "http://10.0.0.1"):
        await refused(Invalid, "endpoint_refused", bring(stores, tenant, endpoint=endpoint))
    assert book.built == []


async def test_kinds_that_make_no_connections_or_do_not_pass_the_guard_are_not_brought(
    stores: Stores, rollouts: Rollouts, tenant: Tenant, tmp_path: Any
) -> None:
    for kind, settings in (("local", {"path": str(tmp_path)}), ("memory", {"name": "x"})):
        await rollouts.set_rollout(HOST, kind, Change(attach=Attach.TENANTS))
        await rollouts.set_rule(HOST, OwnStoreRule(kind, ["*"], [], 5))
        act = stores.add_store(OLGA, "mine", kind, settings, {}, owner=tenant.id)
        await refused(Invalid, "own_store_refused", act)
    assert list(tmp_path.iterdir()) == [p for p in tmp_path.iterdir() if p.name.endswith("dist-info")]
    await refused(Invalid, "own_store_rule_invalid", rollouts.set_rule(HOST, OwnStoreRule("vault", ["*"], [], 5)))


async def test_region_and_number_are_the_operators_to_say(
    stores: Stores, rollouts: Rollouts, tenant: Tenant, globex: Tenant
) -> None:
    await rollouts.set_rollout(HOST, "hosted", Change(attach=Attach.TENANTS))
    await rollouts.set_rule(HOST, OwnStoreRule("hosted", HOSTS, ["here"], 1))
    await refused(Invalid, "own_store_region_refused", bring(stores, tenant, region="there"))
    outcomes = await asyncio.gather(
        *(bring(stores, tenant, f"s{n}", bucket=f"b{n}") for n in range(3)), return_exceptions=True
    )
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Conflict", "Conflict", "Store"]
    await bring(stores, globex, bucket="theirs")


@pytest.mark.usefixtures("allowed")
async def test_s09_nobody_else_sees_or_infers_a_tenants_store(stores: Stores, tenant: Tenant, globex: Tenant) -> None:
    store = await bring(stores, tenant)
    assert (await bring(stores, globex, bucket="other")).name == "mine", "a name is taken by its owner only"
    for owner, name in ((globex.id, str(store.id)), (None, str(store.id)), (None, "mine"), (new_id(), "mine")):
        for act in (
            stores.get_store(name, owner=owner),
            stores.get_probe(name, owner=owner),
            stores.check_store(name, owner=owner),
            stores.probe_store(HOST, name, owner=owner),
            stores.set_tuning(HOST, name, {}, owner=owner),
            stores.set_credential(HOST, name, RIGHT, owner=owner),
            stores.disable(HOST, name, owner=owner),
            stores.grant_store(HOST, globex.id, name) if owner is None else stores.get_store(name, owner=owner),
        ):
            await refused(NotFound, "store_not_found", act)
    assert await stores.list_stores() == []
    await stores.add_store(HOST, "mine", "vault", {"place": "one"}, RIGHT)
    await refused(Forbidden, "operator_required", stores.disable(OLGA, "mine"))


@pytest.mark.usefixtures("allowed")
async def test_s09_a_place_is_told_to_be_taken_only_to_whom_its_credential_opened_it(
    stores: Stores, tenant: Tenant, globex: Tenant
) -> None:
    await bring(stores, tenant)
    wrong = {"key_id": "k", "key": "wrong"}
    for bucket in ("acme", "nobodys"):
        act = stores.add_store(OLGA, "x", "hosted", {"bucket": bucket}, wrong, owner=globex.id)
        await refused(Invalid, "store_credential_refused", act)
    told = await refused(Conflict, "store_place_taken", bring(stores, globex, "x"))
    assert "mine" not in told.message
    assert "acme" not in told.message


@pytest.mark.parametrize(
    ("first", "second", "free"),
    [("", "", False), ("a", "", False), ("a", "a/b", False), ("a/b", "a", False), ("a", "ab", True)],
)
@pytest.mark.usefixtures("allowed")
async def test_f51_places_of_two_owners_do_not_overlap(
    stores: Stores, tenant: Tenant, globex: Tenant, first: str, second: str, free: bool
) -> None:
    await bring(stores, tenant, prefix=first)
    if free:
        await bring(stores, globex, prefix=second)
        return
    await refused(Conflict, "store_place_taken", bring(stores, globex, prefix=second))
    await refused(
        Conflict, "store_place_taken", stores.add_store(HOST, "ours", "hosted", PLACE | {"prefix": second}, RIGHT)
    )


@pytest.mark.usefixtures("allowed")
async def test_f51_a_mark_in_the_place_tells_two_spellings_of_it_apart(
    stores: Stores, tenant: Tenant, globex: Tenant
) -> None:
    alias = "http://127.0.0.2:9"
    store = await bring(stores, tenant)
    await refused(Conflict, "store_place_taken", bring(stores, globex, endpoint=alias))
    await refused(
        Conflict,
        "store_place_taken",
        stores.add_store(HOST, "ours", "hosted", PLACE | {"endpoint": alias}, RIGHT),
    )
    provider = await stores.provider(store.id)
    mark = await places.find_mark(provider)
    assert mark == places.mark_of(tenant.id)
    assert str(tenant.id).encode() not in mark
    # The owner itself is not kept out by its own mark: it may bring the place again after a loss of the records.
    await places.claim_place(provider, tenant.id)


@pytest.mark.usefixtures("allowed")
async def test_f51_nothing_is_removed_where_somebody_else_has_marked_the_place(
    stores: Stores, tenant: Tenant, globex: Tenant, store: Store
) -> None:
    mine = await bring(stores, tenant)
    provider = await stores.provider(mine.id)
    await provider.put(places.MARK_KEY, places.mark_of(globex.id))
    assert not await stores.is_place_ours(mine.id)
    await refused(Conflict, "store_place_taken", stores.set_credential(OLGA, "mine", RIGHT, owner=tenant.id))
    await refused(Conflict, "store_place_taken", stores.prove(mine, RIGHT))
    await provider.put(places.MARK_KEY, places.mark_of(tenant.id))
    await stores.prove(mine, RIGHT)
    assert await stores.is_place_ours(mine.id)
    assert await stores.is_place_ours(store.id), "the platform's own has none"


@pytest.mark.usefixtures("allowed")
async def test_a_tenant_tunes_within_the_operators_bounds(
    stores: Stores, rollouts: Rollouts, tenant: Tenant, store: Store
) -> None:
    await bring(stores, tenant)
    tuned = await stores.set_tuning(OLGA, "mine", {"retry_attempts": 4}, owner=tenant.id)
    assert tuned.tuning == {"retry_attempts": 4}
    for tuning in ({"retry_attempts": 5}, {"most_concurrent": 4}, {"retry_attempts": True}, {"read_only": True}):
        failure = await refused(
            Invalid, "store_settings_invalid", stores.set_tuning(OLGA, "mine", tuning, owner=tenant.id)
        )
        assert failure.extra["fields"][0]["field"] == next(iter(tuning))  # type: ignore[index]
    act = stores.add_store(OLGA, "too", "hosted", {"bucket": "b"}, RIGHT, {"bytes_per_second": 9e9}, owner=tenant.id)
    await refused(Invalid, "store_settings_invalid", act)
    await rollouts.remove_rule(HOST, "hosted")
    act = stores.set_tuning(OLGA, "mine", {}, owner=tenant.id)
    await refused(Invalid, "own_store_refused", act)
    assert (await stores.check_store("mine", owner=tenant.id)).ok, "what was brought goes on working"


@pytest.mark.usefixtures("allowed")
async def test_a_tenant_disables_its_own_store_when_nothing_needs_it(
    stores: Stores, tenant: Tenant, store: Store, database: Database
) -> None:
    mine = await bring(stores, tenant)
    await stores.grant_store(HOST, tenant.id, store.name)
    placements = Placements(database)
    await placements.set_placement(OLGA, tenant.id, write="mine")
    await refused(Conflict, "store_in_use", stores.disable(OLGA, "mine", owner=tenant.id))
    await placements.set_placement(OLGA, tenant.id, write=store.name)
    assert (await stores.disable(OLGA, str(mine.id), owner=tenant.id)).disabled_at is not None
    assert [granted.name for granted in await stores.list_granted_stores(tenant.id)] == [store.name]


@pytest.mark.usefixtures("allowed")
async def test_a_name_means_one_store_within_a_tenant(stores: Stores, tenant: Tenant, store: Store) -> None:
    await bring(stores, tenant)
    await stores.add_store(HOST, "mine", "vault", {"place": "two"}, RIGHT)
    await refused(Conflict, "store_name_taken", stores.grant_store(HOST, tenant.id, "mine"))
    await stores.grant_store(HOST, tenant.id, store.name)
    await refused(Conflict, "store_name_taken", bring(stores, tenant, store.name, bucket="b"))
    await refused(Conflict, "store_exists", bring(stores, tenant, "mine", bucket="b"))


@pytest.mark.usefixtures("allowed")
async def test_the_database_lets_a_tenant_touch_its_own_stores_only(
    stores: Stores, tenant: Tenant, globex: Tenant, store: Store, database: Database
) -> None:
    mine, theirs = await bring(stores, tenant), await bring(stores, globex, bucket="theirs")
    await stores.grant_store(HOST, tenant.id, store.name)
    async with database.tenant(tenant.id) as uow:
        assert set(await uow.scalars("SELECT id FROM stores")) == {mine.id, store.id}
        assert await uow.execute("UPDATE stores SET disabled_at = now() WHERE id = %s", [theirs.id]) == 0
        assert await uow.execute("UPDATE stores SET disabled_at = now() WHERE id = %s", [store.id]) == 0
        assert await uow.execute("UPDATE stores SET tuning = '{}'") == 1
    for statement in (
        "SELECT 1 FROM credentials",
        "INSERT INTO credentials SELECT * FROM credentials",
        "DELETE FROM credentials",
        "UPDATE stores SET settings = '{}'",
        "UPDATE stores SET owner_tenant_id = NULL",
        "UPDATE stores SET jurisdiction = 'DE'",
        "INSERT INTO stores (id, name, kind, settings) VALUES (gen_random_uuid(), 'x', 'x', '{}')",
        "DELETE FROM stores",
        "SELECT 1 FROM kind_rollouts",
        "SELECT 1 FROM own_store_rules",
        "UPDATE store_grants SET revoked_at = NULL",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            async with database.tenant(tenant.id) as uow:
                await uow.execute(statement)  # type: ignore[arg-type]


async def test_a_grant_is_taken_back_when_nothing_needs_it(
    stores: Stores, tenant: Tenant, store: Store, database: Database
) -> None:
    second = await stores.add_store(HOST, "vault-2", "vault", {"place": "two"}, RIGHT)
    grants = [await stores.grant_store(HOST, tenant.id, one.name) for one in (store, second)]
    placements = Placements(database)
    await placements.set_placement(HOST, tenant.id, write=store.name, copies=[second.name])
    for name in (store.name, second.name):
        failure = await refused(Conflict, "store_grant_in_use", stores.revoke_grant(HOST, tenant.id, name))
        assert failure.extra["needs"] == ["its placement names it"]
    await placements.set_placement(HOST, tenant.id, write=store.name)
    await stores.revoke_grant(HOST, tenant.id, second.name)
    await refused(NotFound, "store_not_granted", stores.revoke_grant(HOST, tenant.id, second.name))
    assert await stores.list_granted_stores(tenant.id) == grants[:1]
    async with database.tenant(tenant.id) as uow:
        assert await uow.scalars("SELECT name FROM stores") == [store.name]
    act = placements.set_placement(HOST, tenant.id, write=second.name)
    await refused(Invalid, "placement_invalid", act)
    # Its prefix is nobody else's, and the tenant gets it back.
    assert await stores.grant_store(HOST, tenant.id, second.name) == grants[1]
    await placements.set_placement(HOST, tenant.id, write=second.name)


async def test_a_placement_and_a_revocation_at_once_do_not_both_win(
    stores: Stores, tenant: Tenant, store: Store, database: Database
) -> None:
    placements = Placements(database)
    await stores.grant_store(HOST, tenant.id, store.name)
    for _ in range(5):
        outcomes = await asyncio.gather(
            placements.set_placement(HOST, tenant.id, write=store.name),
            stores.revoke_grant(HOST, tenant.id, store.name),
            return_exceptions=True,
        )
        won = [not isinstance(outcome, BaseException) for outcome in outcomes]
        assert won.count(True) == 1, outcomes
        async with database.platform() as uow:
            await uow.execute("DELETE FROM placements")
        await stores.grant_store(HOST, tenant.id, store.name)
